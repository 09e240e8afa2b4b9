"""A SQL Server named by its parts: the URL they stand for, and what is said of wrong ones."""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from d2i_helpers import database
from d2i_helpers.errors import DatabaseError, SettingsError
from d2i_helpers.settings import Settings, load_settings
from d2i_helpers.settings.addresses import database_address

DATABASE = {"sql_server_database": "HDM"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D2I_DATABASE_URL", raising=False)


def odbc_string(settings: Settings) -> str:
    """What pyodbc is given for these settings."""
    url = make_url(settings.database_url)
    return str(url.get_dialect()().create_connect_args(url)[0][0])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"sql_server": "srv.la.local"}, "Server=srv.la.local;Database=HDM;Trusted_Connection=Yes"),
        ({"sql_server": r"srv\CMS"}, r"Server=srv\CMS;"),
        ({"sql_server": "srv", "sql_server_instance": "CMS"}, r"Server=srv\CMS;"),
        ({"sql_server": "srv,1444"}, "Server=srv,1444;"),
        ({"sql_server": "srv", "sql_server_port": 1444}, "Server=srv,1444;"),
        ({"sql_server": "srv", "sql_server_login": "d2i"}, "UID=d2i;"),
        ({"sql_server": "srv"}, "Encrypt=yes"),
        ({"sql_server": "srv", "sql_server_encrypt": "strict"}, "Encrypt=strict"),
        ({"sql_server": "srv", "sql_server_encrypt": "optional"}, "Encrypt=no"),
        ({"sql_server": "srv", "sql_server_trust_certificate": True}, "TrustServerCertificate=yes"),
        ({"sql_server": "srv", "sql_server_certificate_name": "a.b"}, "HostNameInCertificate=a.b"),
        ({"sql_server": "srv", "sql_server_intent": "read_only"}, "ApplicationIntent=ReadOnly"),
        ({"sql_server": "srv", "sql_server_driver": "ODBC Driver 17 for SQL Server"},
         "DRIVER={ODBC Driver 17 for SQL Server}"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:No driver name specified")
def test_the_parts_reach_the_driver(parts: dict[str, Any], expected: str) -> None:
    assert expected in odbc_string(load_settings(None, **DATABASE, **parts))


@pytest.mark.filterwarnings("ignore:No driver name specified")
def test_nothing_is_trusted_and_nobody_named_unless_asked() -> None:
    said = odbc_string(load_settings(None, sql_server="srv", **DATABASE))
    for word in ("TrustServerCertificate", "UID", "ApplicationIntent", "PWD"):
        assert word not in said


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"sql_server": r"srv\CMS", "sql_server_port": 1433}, "instance and a port"),
        ({"sql_server": r"srv\CMS", "sql_server_instance": "OTHER"}, "another than what stands"),
        ({"sql_server": "srv;PWD=x"}, "no name of a server"),
        ({"sql_server": "srv", "sql_server_database": None}, "no `sql_server_database`"),
        ({"sql_server": "srv", "sql_server_login": r"LA\me"}, "Windows account"),
        ({"sql_server": "srv", "database_url": "sqlite:///a.sqlite"}, "Both `database_url`"),
        ({"sql_server_port": 1433}, "no `sql_server`"),
        ({"sql_server": "srv", "sql_server_database": "a;PWD=x"}, "`sql_server_database`"),
        ({"sql_server": "srv", "sql_server_encrypt": "yes"}, "`sql_server_encrypt`"),
    ],
)
def test_a_wrong_part_is_named(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(None, **{**DATABASE, **parts})
    assert caught.value.hint
    assert "PWD=x" not in str(caught.value)


def test_an_address_in_the_environment_wins_over_the_parts_of_a_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("D2I_DATABASE_URL", "sqlite:///a.sqlite")
    settings = load_settings({"profile": "phase1_single_fake"})
    assert settings.database_url == "sqlite:///a.sqlite"


def test_parts_on_the_command_line_win_over_the_address_of_a_profile() -> None:
    settings = load_settings({"profile": "demo"}, sql_server="srv", **DATABASE)
    assert make_url(settings.database_url).host == "srv"


NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=12)


@given(
    host=NAMES,
    instance=st.none() | NAMES,
    name=st.text(string.ascii_letters + string.digits + "_$# .-", min_size=1).filter(str.strip),
    login=st.none() | st.text(string.ascii_letters + "_.@$-", min_size=1, max_size=9),
    encrypt=st.sampled_from(["mandatory", "strict", "optional"]),
)
def test_the_parts_come_back_from_the_url_and_may_be_saved(
    host: str, instance: str | None, name: str, login: str | None, encrypt: str
) -> None:
    given_parts = {
        "sql_server": host,
        "sql_server_instance": instance,
        "sql_server_database": name,
        "sql_server_login": login,
        "sql_server_encrypt": encrypt,
    }
    address = load_settings(None, **given_parts).database_url
    url = make_url(address)
    assert url.host == (f"{host}\\{instance}" if instance else host)
    assert (url.database, url.username, url.password) == (name, login, None)
    parts = database_address(address)
    assert not parts.holds_password and not parts.holds_unknown


# --------------------------------------------------------------------------------- the driver
def drivers(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyodbc", SimpleNamespace(drivers=lambda: names))


def prepared(make_settings: Callable[..., Settings], address: str) -> str:
    url = make_url(address)
    dialect = database.dialects.named("mssql")
    return str(dialect.prepare_url(url, make_settings(), create=False).query.get("driver", ""))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_newest_driver_is_taken(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["SQL Server", "ODBC Driver 9 for SQL Server", "ODBC Driver 18 for SQL Server",
             "ODBC Driver 17 for SQL Server", "SQL Server Native Client 11.0"]  # fmt: skip
    drivers(monkeypatch, names)
    newest = "ODBC Driver 18 for SQL Server"
    assert prepared(make_settings, "mssql+pyodbc://@srv/HDM") == newest
    assert prepared(make_settings, "mssql+pyodbc://@srv/HDM?driver=other") == "other"
    assert prepared(make_settings, "mssql+pyodbc://my_dsn") == ""  # it has its driver already


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_a_driver_it_is_said_what_to_install(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers(monkeypatch, ["SQL Server", "PostgreSQL Unicode"])
    with pytest.raises(DatabaseError, match="None of Microsoft's ODBC drivers") as caught:
        prepared(make_settings, "mssql+pyodbc://@srv/HDM")
    assert "ODBC Driver 18" in (caught.value.hint or "")
