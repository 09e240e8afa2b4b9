"""Addresses with secrets: refused as parameters, never saved, found however they are written."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import nbformat
import pytest

from d2i_helpers.errors import SettingsError
from d2i_helpers.privacy import secrets_in_force as secrets_in_force_module
from d2i_helpers.privacy.redaction import REDACTED, Redactor
from d2i_helpers.privacy.safe_words import shown_setting
from d2i_helpers.privacy.secrets_in_force import secrets_in_force
from d2i_helpers.runs.engine import execute
from d2i_helpers.runs.plan import saved_parameters
from d2i_helpers.settings import load_secrets, load_settings
from d2i_helpers.settings.addresses import database_address, odbc_pairs, odbc_value, web_address

WORD = "Canary-7"  # stands in every secret here
PLAIN = f"{WORD}-plain"
HARD = f"a/b#c?d e{WORD};f}}g%h+i&j=k\"l'm<n\\oü"
ODBC = "DRIVER={ODBC Driver 18 for SQL Server};SERVER=srv\\one;DATABASE=HDM;UID=svc"
# every way to write a secret into the address of a database, as {name: (address, secret)}
DATABASES: dict[str, tuple[str, str]] = {
    "plain": (f"postgresql+psycopg://svc:{PLAIN}@h/d", PLAIN),
    "encoded": (f"postgresql+psycopg://svc:{quote(HARD, safe='')}@h/d", HARD),
    "encoded with plus": (f"mssql+pyodbc://svc:one+{PLAIN}%21@h:5432/d", f"one+{PLAIN}!"),
    "slash": (f"postgresql+psycopg://svc:one/{PLAIN}@h/d", f"one/{PLAIN}"),
    "hash": (f"postgresql+psycopg://svc:one#{PLAIN}@h/d", f"one#{PLAIN}"),
    "question mark": (f"postgresql+psycopg://svc:one?{PLAIN}@h/d", f"one?{PLAIN}"),
    "blank": (f"mssql+pyodbc://svc:one {PLAIN}@h/d?driver=X", f"one {PLAIN}"),
    "colon": (f"postgresql://svc:one:{PLAIN}@h/d", f"one:{PLAIN}"),
    "at": (f"postgresql://svc:one@{PLAIN}@h/d", PLAIN),
    "at and slash": (f"postgresql://svc:one@two/{PLAIN}@h/d", PLAIN),
    "at and question mark": (f"postgresql://svc:one@two?{PLAIN}@h/d", PLAIN),
    "without a user": (f"postgresql://:{PLAIN}@h/d", PLAIN),
    "as a port": (f"postgresql://svc:{PLAIN}", PLAIN),
    "as sqlplus does": (f"oracle+oracledb://svc/{PLAIN}@h:1521/?service_name=x", PLAIN),
    "password in the query": (f"postgresql://svc@h/d?password={PLAIN}", PLAIN),
    "sslpassword": (f"postgresql://svc@h/d?sslmode=require&sslpassword={PLAIN}", PLAIN),
    "capitals": (f"mssql+pyodbc://svc@h/d?driver=X&PassWord={quote_plus(HARD)}", HARD),
    "encoded name": (f"postgresql://svc@h/d?p%61ssword={PLAIN}", PLAIN),
    "wallet": (f"oracle+oracledb://svc@h/?service_name=x&wallet_password={PLAIN}", PLAIN),
    "unknown name": (f"postgresql://svc@h/d?whatever={PLAIN}", PLAIN),
    "no name": (f"postgresql://svc@h/d?{PLAIN}", PLAIN),
    "twice": (f"postgresql://svc@h/d?host=a&host=b;pw={PLAIN}", f"b;pw={PLAIN}"),
    "within the driver": (f"mssql+pyodbc://svc@h/d?driver=X;PWD={PLAIN}", f"X;PWD={PLAIN}"),
    "fragment": (f"postgresql://svc@h/d?sslmode=require#{PLAIN}", f"require#{PLAIN}"),
    "options": (f"postgresql://svc@h/d?options=-cmy.key%3D{PLAIN}", f"-cmy.key={PLAIN}"),
    "ODBC": (f"mssql+pyodbc:///?odbc_connect={ODBC};PWD={PLAIN}", PLAIN),
    "ODBC encoded": (f"mssql+pyodbc:///?odbc_connect={quote_plus(f'{ODBC};PWD={PLAIN}')}", PLAIN),
    "ODBC in braces": (
        f"mssql+pyodbc:///?odbc_connect={quote_plus(f'{ODBC};Pwd={odbc_value(HARD)};Encrypt=yes')}",
        HARD,
    ),
    "ODBC, blanks": (f"mssql+pyodbc:///?odbc_connect={ODBC}; Pass word = {PLAIN}", PLAIN),
    "ODBC, not closed": (f"mssql+pyodbc:///?odbc_connect={ODBC};PWD={{{PLAIN}", PLAIN),
    "ODBC, cut at &": (f"mssql+pyodbc:///?odbc_connect={ODBC};PWD=a&{PLAIN}", PLAIN),
    "cipher": (f"sqlite+pysqlcipher://:{PLAIN}@/folder/file.sqlite", PLAIN),
    "unread": (f"postgresql://svc@[::1]{PLAIN}/d", PLAIN),
    "line break": (f"postgresql://svc@h/d\n{PLAIN}", PLAIN),
}  # fmt: skip
OTHERS: dict[str, tuple[str, str, str]] = {
    "proxy": ("proxy", f"http://svc:{PLAIN}@proxy:8080", PLAIN),
    "proxy, encoded": ("proxy", f"http://svc:{quote(HARD, safe='')}@proxy:8080", HARD),
    "proxy, no scheme": ("proxy", f"svc:{PLAIN}@proxy:8080", PLAIN),
    "proxy, token": ("proxy", f"http://{PLAIN}@proxy:8080", PLAIN),
    "proxy, slash": ("proxy", f"http://svc:12/{PLAIN}@proxy:8080", PLAIN),
    "API, login": ("api_base_url", f"https://svc:{PLAIN}@api.example.org/v1", PLAIN),
    "API, key": ("api_base_url", f"https://api.example.org/v1?subscription-key={PLAIN}", PLAIN),
    "API, fragment": ("api_base_url", f"https://api.example.org/v1#{PLAIN}", PLAIN),
    "token, code": ("token_url", f"https://login.example.org/token?code={PLAIN}", PLAIN),
    "webhook, login": ("webhook_url", f"https://svc:{PLAIN}@hooks.example.org/a", PLAIN),
    "webhook, sig": ("webhook_url", f"https://hooks.example.org/a?sig={PLAIN}", PLAIN),
}


def forms(secret: str) -> set[str]:
    """The secret as it may stand in a file of a record."""
    encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    low = {"".join(_low(part) for part in _pieces(text)) for text in encoded}
    found = {secret, *encoded, *low, repr(secret)[1:-1], ascii(secret)[1:-1]}
    found |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {html.escape(secret), html.escape(secret, quote=False), odbc_value(secret)[1:-1]}
    found |= {
        json.dumps(html.escape(repr(secret)[1:-1]))[1:-1],
        quote_plus(odbc_value(secret))[3:-3],
    }
    found |= {base64.b64encode(f"{u}:{secret}".encode()).decode() for u in ("u", "us", "svc")}
    return found


def _pieces(text: str) -> list[str]:
    return [text[:1]] if not text else [p for p in text.replace("%", "\0%").split("\0") if p]


def _low(piece: str) -> str:
    return piece[:3].lower() + piece[3:] if piece.startswith("%") else piece


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting in the environment, and a project folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("D2I_"):
            monkeypatch.delenv(name)
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_extract.ipynb").touch()
    (tmp_path / "params" / "demo.yaml").write_text("# defaults only")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_profile(name: str, address: str) -> None:
    Path("params/demo.yaml").write_text(f"{name}: {json.dumps(address)}\n", encoding="utf-8")
    load_settings()


def in_notebook(name: str, address: str) -> None:
    load_settings({name: address})


def in_overrides(name: str, address: str) -> None:
    load_settings({"overrides": {name: address}})


def on_command_line(name: str, address: str) -> None:
    load_settings(None, **{name: address})


PLACES = [in_profile, in_notebook, in_overrides, on_command_line]
CASES = [
    *(pytest.param("database_url", *case, id=f"database: {name}")
      for name, case in DATABASES.items()),
    *(pytest.param(*case, id=name) for name, case in OTHERS.items()),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("name", "address", "secret"), CASES)
def test_an_address_with_a_secret_is_no_parameter(
    place: Callable[[str, str], None], name: str, address: str, secret: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        place(name, address)
    assert WORD not in str(caught.value)


@pytest.mark.parametrize("in_dotenv", [True, False])
@pytest.mark.parametrize(("name", "address", "secret"), CASES)
def test_in_the_environment_only_harmless_parts_are_saved_and_the_rest_is_searched_for(
    name: str, address: str, secret: str, in_dotenv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"D2I_{name.upper()}"
    if not in_dotenv:
        monkeypatch.setenv(variable, address)
    elif not set("\n'\\") & set(address):
        Path(".env").write_text(f"{variable}='{address}'\n", encoding="utf-8")
    try:
        settings = load_settings()
    except SettingsError as error:  # nobody could use such an address
        assert WORD not in str(error)
        return
    if in_dotenv and not Path(".env").is_file():
        return
    assert getattr(settings, name) == address
    assert WORD not in json.dumps(saved_parameters(settings))
    assert WORD not in shown_setting(name, address)
    for known in (settings, None):  # as the runner and as a kernel see it
        redactor = Redactor((), secrets_in_force(load_secrets(), known))
        for form in forms(secret):
            clean, hits = redactor.redact(f"before {form} after")
            assert hits, form
            assert WORD not in clean and clean.startswith("before ")


@pytest.mark.parametrize(
    ("address", "saved"),
    [
        ("postgresql+psycopg://svc:pw@db.example.org:5433/ssd?sslmode=require",
         "postgresql+psycopg://db.example.org:5433/ssd?sslmode=require"),
        ("mssql+pyodbc://@SRV\\one/HDM?driver=ODBC+Driver+18+for+SQL+Server&Trusted_Connection=yes"
         "&Encrypt=yes&TrustServerCertificate=no&ApplicationIntent=ReadOnly",
         "mssql+pyodbc://SRV\\one/HDM?driver=ODBC Driver 18 for SQL Server&Trusted_Connection=yes"
         "&Encrypt=yes&TrustServerCertificate=no&ApplicationIntent=ReadOnly"),
        (f"mssql+pyodbc:///?odbc_connect={ODBC}",
         "mssql+pyodbc:///?odbc_connect=DRIVER=ODBC Driver 18 for SQL Server;SERVER=srv\\one;"
         "DATABASE=HDM;…"),
        ("oracle+oracledb://svc@h:1521/?service_name=ssd", "oracle+oracledb://h:1521/"
         "?service_name=ssd"),
        ("postgresql://svc@[2001:db8::1]:5432/d", "postgresql://[2001:db8::1]:5432/d"),
        ("postgresql://svc@h/d?options=-csearch_path%3Dssd", "postgresql://h/d"
         "?options=-csearch_path=ssd"),
        ("sqlite:///some folder/O'Neil@home/ssd.sqlite",
         "sqlite:///some folder/O'Neil@home/ssd.sqlite"),
    ],
)  # fmt: skip
def test_what_is_harmless_is_saved(address: str, saved: str) -> None:
    assert database_address(address).saved == saved


@pytest.mark.parametrize("place", PLACES)
def test_an_address_without_a_secret_is_a_parameter(place: Callable[[str, str], None]) -> None:
    place("database_url", f"mssql+pyodbc:///?odbc_connect={ODBC};Encrypt=yes")
    place("database_url", "postgresql+psycopg://some.body@h/d?sslrootcert=/etc/ca.pem")
    place("proxy", "http://proxy.example.org:8080")
    place("token_url", "https://login.example.org/7f0c-TENANT/oauth2/v2.0/token")


def test_addresses_of_the_web_keep_host_and_harmless_path() -> None:
    api = "https://api.example.org:8443/children-in-social-care-data-receiver-test/1"
    assert web_address(api, path_is_harmless=True).saved == api
    assert web_address("http://svc:pw@proxy:8080/").saved == "http://proxy:8080"
    assert web_address("https://hooks.example.org/services/T0/abc").saved == (
        "https://hooks.example.org/…"
    )


def test_a_variable_of_other_software_is_searched_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_URL", "amqp://svc:pa%2Fss-word@h/x")
    monkeypatch.setenv("OTHER_PROXY", "http://svc:proxy-word@h:1")
    monkeypatch.setenv("OTHER_ODBC", "DSN=x;UID=y;PWD={a;b}}c-word}")
    monkeypatch.setenv("OTHER_PAGE", "https://example.org/documentation?language=children")
    found = secrets_in_force(load_secrets())
    assert {"pa/ss-word", "pa%2Fss-word", "proxy-word", "a;b}c-word"} <= set(found)
    assert not {"documentation", "children"} & set(found)


def test_secrets_are_known_even_where_the_parameters_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise SettingsError("The file cannot be read.")

    monkeypatch.setattr(secrets_in_force_module, "parameters_in_environment", fail)
    monkeypatch.setenv("D2I_CLIENT_SECRET", "secret-of-the-client")
    assert "secret-of-the-client" in secrets_in_force(load_secrets())


def test_the_hint_says_where_the_secret_belongs() -> None:
    for name, address, expected in (
        ("database_url", DATABASES["sslpassword"][0], "or the whole address as D2I_DATABASE_URL"),
        ("webhook_url", OTHERS["webhook, sig"][1], "set D2I_WEBHOOK_URL in"),
        ("api_base_url", OTHERS["API, key"][1], "set D2I_CLIENT_SECRET in"),
    ):
        with pytest.raises(SettingsError) as caught:
            load_settings({name: address})
        assert expected in caught.value.hint


def test_the_login_of_a_proxy_is_found_as_its_header_writes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("D2I_PROXY_USER", "svc")
    monkeypatch.setenv("D2I_PROXY_PASSWORD", "pw1")
    header = base64.b64encode(b"svc:pw1").decode()
    clean = Redactor((), secrets_in_force(load_secrets())).redact(f"Basic {header}")[0]
    assert clean.startswith(f"Basic {REDACTED}") and header not in clean


@pytest.mark.parametrize("where", ["database_url", "overrides"])
def test_papermill_keeps_no_notebook_with_such_a_parameter(bare: Path, where: str) -> None:
    parameters = nbformat.v4.new_code_cell('profile = "demo"\noverrides = {}')
    parameters.metadata.tags = ["parameters"]
    source, copy = bare / "tiny.ipynb", bare / "copy.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters]), source)
    address = DATABASES["sslpassword"][0]
    given = {"overrides": {"database_url": address}} if where == "overrides" else {where: address}
    with pytest.raises(SettingsError, match="holds a password"):
        execute(source, copy, given)
    assert not copy.exists()


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("A=1;b = two words ;", [("A", "1"), ("b", "two words")]),
        ("PWD={a;b}}c};X=", [("PWD", "a;b}c"), ("X", "")]),
        (";;A={};B==c", [("A", ""), ("B", "=c")]),
        ("", []),
    ],
)
def test_a_connection_string_of_odbc_is_read_by_its_rules(
    text: str, pairs: list[tuple[str, str]]
) -> None:
    assert odbc_pairs(text) == pairs


@pytest.mark.parametrize("text", ["PWD={open", "no equals sign", "A={b}c;D=e"])
def test_a_broken_connection_string_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match="not an ODBC"):
        odbc_pairs(text)
