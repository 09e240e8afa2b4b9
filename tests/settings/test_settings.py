"""Settings: where a value comes from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2i_helpers.cli import read_parameters
from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import Unreadable, parse_yaml
from d2i_helpers.kernel_protocol import WITHOUT_KEYRING_VARIABLE
from d2i_helpers.settings import (
    Secrets,
    Settings,
    as_declared,
    has_keyring,
    load_secrets,
    load_settings,
    project_root,
)
from d2i_helpers.settings.model import PATHS, WEB_ADDRESSES, declared
from d2i_helpers.settings.parameters_page import parameters_page


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting in the environment, and a project folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("D2I_"):
            monkeypatch.delenv(name)
    (tmp_path / "params").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_extract.ipynb").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "demo") -> None:
    text = text or "# defaults only\n"  # an empty file is refused
    (folder / "params" / f"{name}.yaml").write_text(text, encoding="utf-8")


def test_parameter_wins_over_environment_over_dotenv_over_profile_over_default(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare, "batch_size: 10\nchunk_size: 10\nattempts: 10\nfake_children: 10\n")
    (bare / ".env").write_text("D2I_CHUNK_SIZE=20\nD2I_ATTEMPTS=19\nD2I_FAKE_CHILDREN=20\n")
    monkeypatch.setenv("D2I_ATTEMPTS", "15")
    monkeypatch.setenv("D2I_FAKE_CHILDREN", "30")
    found = load_settings({"fake_children": 40})
    assert (found.batch_size, found.chunk_size, found.attempts) == (10, 20, 15)
    assert found.fake_children == 40
    assert found.max_in_flight == Settings().max_in_flight


def test_a_notebooks_globals_give_parameters_and_overrides(bare: Path) -> None:
    write(bare, "")
    names = {"__name__": "x", "engine": object(), "phase": "full", "la_code": None,
             "overrides": {"batch_size": 7}}  # fmt: skip
    found = load_settings(names)
    assert (found.phase, found.batch_size, found.la_code) == ("full", 7, "000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phas: full", "Did you mean `phase`"),
        ("phase: sideways", "'delta' or 'full'"),
        ("max_deleted_share: 2", "max_deleted_share"),
        ("client_secret: x", "secret"),
        ("- a list", "name: value"),
        ("a: [", "not valid YAML"),
        ("database_url: nonsense", "not a URL"),
        ("database_url: postgresql://u:canary@h/d", "holds a password"),
        ("proxy: http://u:canary@h:1", "holds a password"),
        ("staging_table: a;drop", "letters, digits"),
        ("staging_table: t\nanon_table: T", "two tables"),
        ('person_ids: ","', "has commas and no entry"),
        ('la_code: "\u0668\u0661\u0662"', "la_code"),
        ("staging_table: dbo.t", "without its schema, which goes into `staging_schema`"),
        ("anon_table: dbo.t", "without its schema, which goes into `staging_schema`"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_without_the_value(
    bare: Path, text: str, said: str
) -> None:
    write(bare, text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_password_may_stand_in_the_environment(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare, "")
    monkeypatch.setenv("D2I_DATABASE_URL", "postgresql+psycopg://u:pw@h/d")
    assert load_settings().database_url.endswith("@h/d")


@pytest.mark.parametrize(
    "given",
    ["A1, B2", ["A1", "B2"], ("A1", "B2"), [" A1", "B2 "], '["A1", "B2 "]', "[A1, B2]"],
)
def test_person_ids_may_be_a_text_or_a_list(bare: Path, given: object) -> None:
    write(bare, "")
    assert load_settings({"person_ids": given}).person_ids == ("A1", "B2")


@pytest.mark.parametrize("given", [None, "", "today"])
def test_the_run_date_is_today_unless_given(bare: Path, given: object) -> None:
    write(bare, "")
    assert load_settings(None, run_date=given).today == dt.date.today()
    assert load_settings(None, run_date="2026-03-31").today == dt.date(2026, 3, 31)


def test_secrets_come_from_the_environment_dotenv_and_files_and_are_masked(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_CLIENT_SECRET", "canary-1")
    (bare / ".env").write_text("D2I_SUPPLIER_KEY=canary-2\n")
    (bare / "secrets").mkdir()
    (bare / "secrets" / "D2I_PSEUDONYM_KEY").write_text("canary-3")
    monkeypatch.setenv("D2I_SECRETS_DIR", str(bare / "secrets"))
    found = load_secrets()
    assert set(found.values()) == {"canary-1", "canary-2", "canary-3"}
    assert "canary" not in repr(found) + str(found)


@pytest.mark.parametrize("name", ["D2I_LEDGER_KEY.txt", "d2i_ledgerkey", "D2I_CLIENT_SECRT"])
def test_a_slip_in_the_name_of_a_secrets_file_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (bare / "secrets").mkdir()
    (bare / "secrets" / name).write_text("canary")
    (bare / "secrets" / "D2I_OF_OTHER_SOFTWARE").write_text("canary")
    monkeypatch.setenv("D2I_SECRETS_DIR", str(bare / "secrets"))
    with pytest.raises(SettingsError, match="did you mean D2I_") as caught:
        load_secrets()
    assert "canary" not in str(caught.value) and "OTHER" not in str(caught.value)
    right = {"D2I_CLIENT_SECRT": "D2I_CLIENT_SECRET"}.get(name, "D2I_LEDGER_KEY")
    (bare / "secrets" / right).write_text("canary-1")  # so the other is an old copy
    assert set(load_secrets().values()) == {"canary-1"}


# ------------------------------------------------------------------------ text stays as it is typed
TEXTS = sorted(name for name in Settings.model_fields if declared(name) == "text")
LISTS = sorted(name for name in Settings.model_fields if declared(name) == "list")
# what YAML 1.1 or Python's own reading of numbers would turn into something else
RETYPED = (
    "0123",
    "010",
    "1:30",
    "NO",
    "on",
    "2026-01-05",
    "1e3",
    "0x1F",
    "1_000",
    ".5",
    "+7",
    "1.0",
)
FREE = [
    name
    for name in TEXTS
    if Settings.model_fields[name].annotation in (str, str | None)
    and name not in {"profile", "la_code", "database_url", *WEB_ADDRESSES}
]


def as_yaml(name: str, typed: str) -> str:
    return f"{name}: {typed}\n"


@pytest.mark.parametrize("typed", RETYPED)
@pytest.mark.parametrize("name", FREE)
def test_text_in_a_profile_is_what_was_typed_or_is_refused(
    bare: Path, name: str, typed: str
) -> None:
    write(bare, as_yaml(name, typed))
    try:
        assert getattr(load_settings(), name) == typed
    except SettingsError as error:  # a table's name, a code of three figures
        assert f"`{name}`" in str(error)


def test_every_parameter_is_text_a_list_or_of_a_type_that_is_known() -> None:
    other = {declared(name) for name in Settings.model_fields} - {"text", "list"}
    assert other == {"bool", "date", "float", "int"}
    assert {"allow_fewer_rows", "care_worker_roles", "person_ids"} == set(LISTS)
    assert len(FREE) >= 15


@pytest.mark.parametrize("name", LISTS)
def test_entries_of_a_list_are_what_was_typed(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(bare, f"{name}: [{', '.join(RETYPED)}]\n")
    assert getattr(load_settings(), name) == RETYPED
    write(bare, "")
    monkeypatch.setenv(f"D2I_{name.upper()}", ",".join(RETYPED))
    assert getattr(load_settings(), name) == RETYPED
    monkeypatch.setenv(f"D2I_{name.upper()}", f"[{', '.join(RETYPED)}]")
    assert getattr(load_settings(), name) == RETYPED
    typed = as_declared(name, f"[{', '.join(RETYPED)}]")
    assert getattr(load_settings(None, **{name: typed}), name) == RETYPED


@pytest.mark.parametrize("given", [123, 1.5, True, dt.date(2026, 1, 5)])
@pytest.mark.parametrize("name", [*TEXTS, *LISTS])
def test_what_is_no_text_is_refused_where_text_is_declared(
    bare: Path, name: str, given: object
) -> None:
    """As papermill's `-p` and `-y` hand it over: what was typed is lost by then."""
    if name in {"la_code", "live_la_code"} and given == 123:
        return
    write(bare, "")
    for value in (given, [given]) if name in LISTS else (given,):
        with pytest.raises(SettingsError, match=r"(?i)quote it"):
            load_settings({name: value})


@pytest.mark.parametrize("name", [*TEXTS, *LISTS])
def test_bytes_that_are_no_letters_are_refused(bare: Path, name: str) -> None:
    """As a command line brings them whose terminal is not in UTF-8; no record could be written."""
    write(bare, "")
    # a profile is looked for, and addresses are read, before anything else is asked
    said = None if name in {"profile", "database_url", "proxy"} else f"`{name}`.*UTF-8"
    with pytest.raises(SettingsError, match=said):
        load_settings(None, **{name: b"Si\xe2n".decode("utf-8", "surrogateescape")})


@pytest.mark.parametrize("given", [1, 12, 99, 1000, -209])
def test_a_number_is_an_la_code_only_where_it_has_lost_nothing(bare: Path, given: int) -> None:
    write(bare, "")
    assert load_settings({"la_code": 209}).la_code == "209"
    with pytest.raises(SettingsError, match="quote it"):
        load_settings({"la_code": given})
    write(bare, "la_code: 012\n")
    assert load_settings().la_code == "012"
    write(bare, "la_code: 12\n")
    with pytest.raises(SettingsError, match="la_code"):
        load_settings()


plain = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20
).map(str.strip)


@given(plain.filter(lambda text: text and " #" not in text and ", " not in text))
def test_a_plain_scalar_comes_back_as_typed_or_is_refused(typed: str) -> None:
    try:
        read = parse_yaml(f"name: {typed}")
    except Unreadable:
        return
    if typed[0] in "#&*!|>{[\"'" or typed in ("~", "null", "Null", "NULL"):
        return  # YAML's own signs
    assert read == {"name": typed}


@given(plain.filter(lambda text: text and text[0] not in "\"'["))
def test_text_on_a_command_line_stays_as_typed(typed: str) -> None:
    given = as_declared("user_agent", typed)
    assert given == typed


@pytest.mark.parametrize(
    "text", ["run_date: 20260105", "run_date: 5/1/2026", "live_approved_on: 05-01-2026"]
)
def test_a_day_is_written_in_one_way_only(bare: Path, text: str) -> None:
    write(bare, text)
    with pytest.raises(SettingsError, match="YYYY-MM-DD"):
        load_settings()


def test_a_name_that_stands_twice_is_refused_with_its_line(bare: Path) -> None:
    write(bare, "phase: delta\nbatch_size: 3\nphase: full\n")
    with pytest.raises(SettingsError, match=r"demo\.yaml, line 3, holds `phase` twice"):
        load_settings()


def test_an_entry_of_a_list_that_is_null_is_to_be_quoted(bare: Path) -> None:
    write(bare, "person_ids: [A1, null]\n")
    with pytest.raises(SettingsError, match="in quotes"):
        load_settings()
    write(bare, 'person_ids: [A1, "null"]\n')
    assert load_settings().person_ids == ("A1", "null")


def test_overrides_that_came_as_text_are_refused_with_how_to_give_them(bare: Path) -> None:
    write(bare, "")
    with pytest.raises(SettingsError, match=r"-y '\{overrides"):
        load_settings({"overrides": '{"phase": "full"}'})


# ----------------------------------------------------------------------------- encodings and paths
@pytest.mark.parametrize("name", ["params/demo.yaml", ".env"])
def test_a_file_is_read_in_what_its_mark_says_and_otherwise_in_utf8(bare: Path, name: str) -> None:
    lines = {"params/demo.yaml": "live_approver: Siân £\n", ".env": "D2I_LIVE_APPROVER=Siân £\n"}
    write(bare, "")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (bare / name).write_bytes(lines[name].encode(encoding))
        assert load_settings().live_approver == "Siân £"
    for encoding, said in (("cp1252", "ANSI"), ("utf-16-le", "UTF-16")):
        (bare / name).write_bytes(f"# a\n{lines[name]}".encode(encoding))
        with pytest.raises(SettingsError, match=rf"{Path(name).name}.*not UTF-8.*{said}"):
            load_settings()


def test_dotenv_is_taken_as_written(bare: Path) -> None:
    (bare / ".env").write_text(
        "# ours\n"
        "OTHER=$HOME\n"
        "D2I_DATABASE_PASSWORD=S3c${et}1#x\n"
        'D2I_CLIENT_SECRET="a ${HOME} # b\\n" # comment\n'
        "export D2I_CLIENT_ID = 'it\"s' \n"
        'D2I_SUPPLIER_KEY=""quoted""\r\n'
        "D2I_PROXY_USER=user # comment\n"
        'D2I_OUTPUTS_DIR="C:\\new\\today"\n',
        encoding="utf-8",
    )
    write(bare, "")
    held = load_secrets()
    assert {name: getattr(held, name).get_secret_value() for name in Secrets.model_fields
            if getattr(held, name)} == {
        "database_password": "S3c${et}1#x",
        "client_secret": "a ${HOME} # b\\n",
        "client_id": 'it"s',
        "supplier_key": '"quoted"',
        "proxy_user": "user",
    }  # fmt: skip
    assert load_settings().outputs_dir == r"C:\new\today"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("D2I_PHASE=full\nD2I_CANARY x", "line 2, is not NAME=value"),
        ("D2I_CLIENT_ID='canary", "line 1: a value begins with a quote"),
        ("D2I_PHASE=full\nD2I_PHASE=delta", "line 2: D2I_PHASE is there a second time"),
        ("D2I_DRYRUN=canary", "D2I_DRYRUN (did you mean D2I_DRY_RUN?)"),
        ("D2I_ABCDEFGH=canary", "D2I_ABCDEFGH"),
        ("D2I_CLIENT_SECRET:canary==", "line 1, is not NAME=value"),
        ("$env:D2I_CLIENT_SECRET='canary'", "line 1, is not NAME=value"),
    ],
)
def test_what_is_wrong_in_dotenv_is_said_without_its_content(
    bare: Path, text: str, said: str
) -> None:
    write(bare, "")
    (bare / ".env").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("proxy_user: !canary", "line 1, has a text that begins with `!`"),
        ("proxy_user: !!python/object:canary x", "line 1, has a text that begins with `!`"),
        ("{client_secret:canary==}", "no parameter `client_secret…`"),
        ('"phase=canary": 1\n"phase=canary": 2', "line 2, holds `phase…` twice"),
    ],
)
def test_no_text_of_a_profile_is_quoted_beyond_the_name_at_its_beginning(
    bare: Path, text: str, said: str
) -> None:
    write(bare, text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("pair", ["client_secret:canary==", "client_secret:canary", ":canary"])
def test_no_text_of_a_command_line_is_quoted_beyond_the_name_at_its_beginning(
    bare: Path, pair: str
) -> None:
    write(bare, "")
    with pytest.raises(SettingsError) as caught:
        load_settings(None, **read_parameters(None, (pair,)))
    assert "canary" not in str(caught.value)


def test_a_slip_in_a_variables_name_is_refused_and_other_softwares_are_not(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare, "")
    monkeypatch.setenv("D2I_ABCDEFGH", "x")
    assert load_settings().dry_run is False
    monkeypatch.setenv("D2I_DRYRUN", "true")
    with pytest.raises(SettingsError, match=r"D2I_DRYRUN \(did you mean D2I_DRY_RUN\?\)"):
        load_settings()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (r'"out\new\today"', "single quotes"),
        (r'"\\srv01\team\new"', "single quotes"),
        (r'"C:\Users\me"', "single quotes"),
        (r'"C:\_out"', "single quotes"),
        ("$HOME/out", "write the path out"),
        ("'%USERPROFILE%/out'", "write the path out"),
        ("~nobody-of-that-name/out", "home folder"),
    ],
)
def test_a_path_that_means_another_is_refused_with_the_cause(
    bare: Path, name: str, typed: str, said: str
) -> None:
    write(bare, as_yaml(name, typed))
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_a_path_of_windows_and_a_tilde_are_taken(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed in (r"C:\new\today", r"'C:\new\today'", r'"C:\\new\\today"'):
        write(bare, as_yaml("outputs_dir", typed))
        assert load_settings().outputs_dir == r"C:\new\today"
    monkeypatch.setenv("HOME", str(bare))
    monkeypatch.setenv("USERPROFILE", str(bare))
    write(bare, "outputs_dir: ~/records\n")
    settings = load_settings()
    assert settings.path(settings.outputs_dir) == bare / "records"


def test_every_path_that_is_used_is_looked_at() -> None:
    package = Path(__file__).parents[2] / "d2i_helpers"
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    used = set(
        re.findall(r"(?:settings|self|outputs)\.path\((?:settings|self|outputs)\.(\w+)\)", text)
    )
    assert {"outputs_dir", "ca_bundle"} <= used <= set(PATHS)


@pytest.mark.parametrize("name", WEB_ADDRESSES)
@pytest.mark.parametrize("address", ["host.example/path", "localhost:8089/x", "https:///x",
                                     "https://host:99999/", "ftp://host/x"])  # fmt: skip
def test_an_address_is_whole(bare: Path, name: str, address: str) -> None:
    write(bare, f"{name}: {address}")
    with pytest.raises(SettingsError, match=f"`{name}`.*(https://host/path|a password or a key)"):
        load_settings()


# ---------------------------------------------------------------------------------------- secrets
@pytest.mark.parametrize("name", [n for n in Secrets.model_fields if "password" not in n])
def test_blanks_and_marks_around_a_secret_go(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for typed in ("canary-1\n", " canary-1", "\ufeffcanary-1\r\n", "\u00a0canary-1\t"):
        monkeypatch.setenv(f"D2I_{name.upper()}", typed)
        assert load_secrets().values() == ["canary-1"]


@pytest.mark.parametrize("name", Secrets.model_fields)
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("can\nary", "line break"),
        ("can\x7fary", "control character"),
        ("“canary”", "curly quotes"),
        ("can\ufeffary", "byte-order mark"),
        ("canaryя", "no HTTP header can carry"),
    ],
)
def test_a_secret_that_no_header_takes_is_named_without_its_value(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str, typed: str, said: str
) -> None:
    monkeypatch.setenv(f"D2I_{name.upper()}", typed)
    if name == "database_password" and said not in ("line break", "control character"):
        assert load_secrets().values() == [typed]
        return
    with pytest.raises(SettingsError) as caught:
        load_secrets()
    assert said in str(caught.value)
    assert f"D2I_{name.upper()}" in str(caught.value)
    assert "ary" not in str(caught.value).replace("D2I_", "")


def test_a_secrets_folder_that_is_not_there_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2I_SECRETS_DIR", str(bare / "none"))
    with pytest.raises(SettingsError, match="D2I_SECRETS_DIR"):
        load_secrets()


def test_the_page_of_parameters_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "parameters.md"
    assert page.read_text(encoding="utf-8") == parameters_page(), "run `d2i spec docs`"


def test_the_root_is_found_from_a_folder_below(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__).parents[2]
    monkeypatch.undo()
    monkeypatch.chdir(here / "notebooks")
    assert project_root() == here


def test_a_kernel_asks_no_keyring_where_its_runner_found_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = OSError  # type: ignore[attr-defined]
    fake = types.ModuleType("keyring")
    fake.get_password = lambda *_: "of-the-keyring-1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", fake)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    assert set(load_secrets().values()) == {"of-the-keyring-1"}
    monkeypatch.setenv(WITHOUT_KEYRING_VARIABLE, "yes")
    assert load_secrets().values() == []
    monkeypatch.setenv("D2I_LEDGER_KEY", "of-the-environment")
    assert load_secrets().values() == ["of-the-environment"]


def test_a_system_without_a_keyring_is_told_from_one_with(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = types.ModuleType("keyring.backends")
    backends.fail = types.SimpleNamespace(Keyring=dict)  # type: ignore[attr-defined]
    fake = types.ModuleType("keyring")
    monkeypatch.setitem(sys.modules, "keyring", fake)
    monkeypatch.setitem(sys.modules, "keyring.backends", backends)
    for backend, usable in (({}, False), ([], True)):
        fake.get_keyring = lambda backend=backend: backend  # type: ignore[attr-defined]
        assert has_keyring() is usable
    monkeypatch.setattr(fake, "get_keyring", lambda: 1 / 0)
    assert has_keyring()  # whoever asks it is told
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not has_keyring()
