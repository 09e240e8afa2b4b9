"""The canary day: marks in everything that identifies, failures in every stage, and no mark out.

What gets out is every file of the run records, the console, the webhook, the ledger, the report,
the submission log and the answers in the staging rows. The short form runs a few children through
every scene; `pytest -m long tests/acceptance/test_canary.py` a thousand, on both databases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from d2i_helpers import database
from d2i_helpers.database.tables import staging_table, submission_log
from d2i_helpers.demo import simulate
from d2i_helpers.settings import Settings, load_settings, project_root
from tests.acceptance import canary
from tests.acceptance.canary import SECRET
from tests.acceptance.chain import clean

HERE = Path(__file__).parent
WAITING = (  # every child as if it had never been sent: not by the log either, which delta asks
    "update ssd_api_data_staging set submission_status = 'pending', row_state = 'new', "
    "previous_json_payload = null, previous_hash = null",
    "delete from d2i_submission_log",
)
VALIDATION = "d2i_helpers.document.validation:Validator.accepts"
SECRETS = {
    "D2I_DATABASE_PASSWORD": f"{SECRET}-database-1",
    "D2I_CLIENT_ID": f"{SECRET}-client-2",
    "D2I_CLIENT_SECRET": f"{SECRET}-client-3&/x",
    "D2I_SUPPLIER_KEY": f"{SECRET}-supplier-4",
    "D2I_PSEUDONYM_KEY": f"{SECRET}-pseudonym-key-5",
    "HTTPS_PROXY": f"http://somebody:{SECRET}-proxy-6@127.0.0.1:9",
    "GH_TOKEN": f"{SECRET}-token-7",
}


class Echo(BaseHTTPRequestHandler):
    """A receiver that quotes what it got, and a webhook that keeps it."""

    status = 400
    hooked: list[str] = []  # noqa: RUF012 - one server a test
    posted = 0  # documents, since somebody asked

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2).decode()
            self.rfile.readline()
        status, kind, answer = self._answer(body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("X-Request-Id", "echo-1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer(self, body: str) -> tuple[int, str, bytes]:
        if "hook" in self.path:
            self.hooked.append(body)
            return 200, "text/plain", b"ok"
        if "token" in self.path:
            token = {"access_token": f"{SECRET}-bearer-8", "token_type": "Bearer", "expires_in": 9}
            return 200, "application/json", json.dumps(token).encode()
        Echo.posted += 1
        if self.status == 400:
            error = {"error": f"bad record {body}", "errors": [{"path": "$[0]", "message": body}]}
            return 400, "application/json", json.dumps(error).encode()
        return self.status, "text/html", f"<html><h1>Error</h1><pre>{body}</pre></html>".encode()

    def log_message(self, *_: Any) -> None:
        pass


class Canary:
    """A demo whose every identifying value is a mark."""

    def __init__(self, folder: Path, url: str, children: int) -> None:
        self.folder, self.url = folder, url
        self.said: list[str] = []  # what was written to the consoles
        settings = self.settings()
        simulate.init(settings, children=children)
        self.engine = database.open_database(settings)
        self.marks = canary.plant(self.engine)

    def __enter__(self) -> Canary:
        return self

    def __exit__(self, *_: Any) -> None:
        self.engine.dispose()

    def parameters(self, **more: Any) -> dict[str, Any]:
        return {
            "outputs_dir": str(self.folder / "outputs"),
            "receiver_store": str(self.folder / "receiver.sqlite"),
            "attempts": 2, "wait_initial": 0.05, "wait_max": 0.1,
            "max_changed_share": 1, "max_deleted_share": 1,
            **more,
        }  # fmt: skip

    def settings(self, **more: Any) -> Settings:
        with _environment({**SECRETS, "D2I_DATABASE_URL": self.url}):
            return load_settings(None, **self.parameters(**more))

    def environment(self, fail: str = "", **more: str) -> dict[str, str]:
        variables = {**clean(), **SECRETS, "D2I_DATABASE_URL": self.url, "CANARY_FAIL": fail}
        path = [str(HERE / "canary_site"), str(project_root())]
        return {**variables, "PYTHONPATH": os.pathsep.join(path), **more}

    def run(
        self, stages: str, *codes: int, fail: str = "", at_once: str = "", hook: str = "",
        bypass: bool = True, **parameters: Any,
    ) -> str:  # fmt: skip
        """`d2i run`, which must end with one of the codes; what it wrote."""
        given = {**self.parameters(), **parameters}
        options = [part for k, v in given.items() for part in ("-p", f"{k}={v}")]
        loud = {
            "CANARY_LOGS": "1" if hook else "",
            "CANARY_AT_ONCE": at_once,
            "CANARY_WITHOUT_BYPASS": "" if bypass else "1",
            "D2I_WEBHOOK_URL": hook,
        }
        loud = {name: value for name, value in loud.items() if value}
        words = ("run", "--stages", stages, "--summary", "json", *options)
        return self.command(words, codes, self.environment(fail, **loud))

    def command(
        self, words: tuple[str, ...], codes: tuple[int, ...], environment: dict[str, str],
        module: str = "d2i_helpers",
    ) -> str:  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", module, *words], capture_output=True, text=True,
            env=environment, timeout=500, check=False, cwd=project_root(),
        )  # fmt: skip
        said = done.stdout + done.stderr
        self.said.append(said)
        assert done.returncode in codes, said[-3000:]
        return said

    def sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def all_wait(self) -> None:
        """Let every child wait as if nothing had been sent."""
        for statement in WAITING:
            self.sql(statement)

    # ---------------------------------------------------------------------------- what got out
    def assert_silent(self) -> None:
        """No mark, no birth date and no secret in anything that is kept or shown."""
        shown = [("console", said) for said in self.said]
        shown += [("webhook", body) for body in Echo.hooked]
        shown += list(canary.records_under(self.folder / "outputs"))
        shown += list(self._answers())
        assert len(shown) > 20
        found = {}
        for name, said in shown:
            hits = canary.found_in(said, self.marks)
            if hits:
                found.setdefault(name, hits[:3])
        assert found == {}

    def _answers(self) -> Iterator[tuple[str, str]]:
        """What the database keeps of answers, without the keys of its rows."""
        log = submission_log.c
        with database.reading(self.engine) as connection:
            for row in connection.execute(select(log.detail, log.reference, log.correlation_id)):
                yield "submission log", str(tuple(row))
            for name in ("ssd_api_data_staging", "ssd_api_data_staging_anon"):
                for said in connection.execute(select(staging_table(name).c.api_response)):
                    yield f"answers in {name}", str(said[0])

    def assert_twin_is_anonymous(self, store: Path) -> None:
        """No mark in the anonymised table, nor with the receiver that was sent it."""
        with database.reading(self.engine) as connection:
            rows = connection.execute(select(staging_table("ssd_api_data_staging_anon"))).all()
        twin = "\n".join(str(tuple(row)) for row in rows)
        assert len(rows) > 10
        held = store.read_bytes().decode("latin-1") + _wal(store)
        assert rows[0].person_id in held
        for said in (twin, held):
            hits = canary.found_in(said, self.marks)
            # a date of one child may by chance be another child's birth date
            assert [one for one in hits if not canary._DAY.fullmatch(one)] == []


def _wal(store: Path) -> str:
    beside = store.with_name(f"{store.name}-wal")
    return beside.read_bytes().decode("latin-1") if beside.is_file() else ""


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def echo() -> Iterator[str]:
    """Address of a server that echoes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Echo.hooked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refuse(engine: Engine, table: str, event: str, marked: str) -> Callable[[], None]:
    """Let the database refuse a row, quoting values in its message; gives what undoes it."""
    if engine.dialect.name == "sqlite":
        statements = [
            f"create trigger canary before {event} on {table} begin "
            f"select raise(abort, 'cannot take {marked} born 2012-05-03'); end"
        ]
        undo = ["drop trigger canary"]
    else:
        statements = [
            "create or replace function canary() returns trigger language plpgsql as $$ begin "
            "raise exception 'cannot take % of %', new, '" + marked + "' "
            "using detail = 'Failing row contains ' || new, hint = '" + marked + "', "
            "errcode = '42601'; end $$",
            f"create trigger canary before {event} on {table} "
            "for each row execute function canary()",
        ]
        undo = [f"drop trigger canary on {table}", "drop function canary()"]
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))

    def undone() -> None:
        with engine.begin() as connection:
            for statement in undo:
                connection.execute(text(statement))

    return undone


def short_week(day: Canary, echo: str) -> None:
    """The scenes that differ most: a row quoted everywhere, a whole day, a refusing database."""
    marked = next(iter(day.marks.ids.values()))
    # nobody is staged yet: the search knows no cohort
    loud = {"hook": f"{echo}/hook/{SECRET}-webhook-9"}
    assert "failed with ExceptionGroup" in day.run("extract", 10, fail=VALIDATION, **loud)
    store = day.folder / "anonymous.sqlite"
    twin = {"source": "anonymised", "receiver_store": store, "log_level": "info"}
    day.run("extract,anonymise,delta,submit", 0, **twin)
    day.assert_twin_is_anonymous(store)
    undo = refuse(day.engine, "ssd_api_data_staging", "update", marked)
    day.run("delta", 4)
    undo()
    break_one(day, marked)
    Echo.status, Echo.posted = 400, 0
    address = {"api_base_url": f"{echo}/x", "token_url": f"{echo}/token"}
    day.run("delta,submit", 9, 20, **loud, **address)
    assert Echo.posted > 0


def long_week(day: Canary, echo: str) -> None:
    """Every stage fails in every way."""
    marked = next(iter(day.marks.ids.values()))
    loud = {"hook": f"{echo}/hook/{SECRET}-webhook-9"}
    fail_in_extract(day, marked, loud)
    fail_in_anonymise(day, marked)
    fail_in_delta(day, marked)
    fail_in_submit(day, marked, echo, loud)
    # in the runner's own process, which holds the identities for its search; it keeps the console
    # that it was given, so what is written past every guard is not caught (docs/privacy.md)
    day.sql("delete from d2i_identifiers_taken")  # else it reads nobody who did not change
    day.run("delta", 1, fail="d2i_helpers.privacy.identities:_texts_of", bypass=False)
    for words in (("check",), ("runs", "list"), ("runs", "show"), ("runs", "report")):
        options = [part for k, v in day.parameters().items() for part in ("-p", f"{k}={v}")]
        day.command((*words, *options), (0, 7, 9, 16), day.environment())
    headless(day, "explore_payloads", 1)  # at the broken row
    day.run("extract", 0)
    for name in ("explore_payloads", "review_runs"):
        headless(day, name)
    headless(day, "simulate_changes", 1)  # an SSD with marks is none that it made


def fail_in_extract(day: Canary, marked: str, loud: dict[str, Any]) -> None:
    assert "failed with ExceptionGroup" in day.run("extract", 10, fail=VALIDATION, **loud)
    undo = refuse(day.engine, "ssd_api_data_staging", "insert", marked)
    day.run("extract", 4, **loud)
    undo()
    day.run("preflight,extract,delta,submit", 0, **loud, log_level="debug")


def fail_in_anonymise(day: Canary, marked: str) -> None:
    undo = refuse(day.engine, "ssd_api_data_staging_anon", "insert", marked)
    day.run("anonymise", 4)
    undo()
    day.run("anonymise", 10, fail=VALIDATION)
    store = day.folder / "anonymous.sqlite"
    twin = {"source": "anonymised", "receiver_store": store}
    day.run("anonymise,delta,submit", 0, log_level="debug", **twin)
    day.assert_twin_is_anonymous(store)
    break_one(day, marked)
    day.run("anonymise,delta", 20, **twin)


def fail_in_delta(day: Canary, marked: str) -> None:
    day.all_wait()
    undo = refuse(day.engine, "ssd_api_data_staging", "update", marked)
    day.run("delta", 4)
    undo()
    # not the validation: what extract's marks prove is not validated again
    day.run("delta", 10, fail="d2i_helpers.delta.stage:_Work._row")
    break_one(day, marked)
    day.run("delta", 20)


def fail_in_submit(day: Canary, marked: str, echo: str, loud: dict[str, Any]) -> None:
    address = {"api_base_url": f"{echo}/x", "token_url": f"{echo}/token"}
    for status in (400, 500, 200):
        Echo.status, Echo.posted = status, 0
        day.all_wait()
        day.run("delta,submit", 9, 20, **loud, **address)
        assert Echo.posted > 0
    day.all_wait()
    undo = refuse(day.engine, "d2i_submission_log", "insert", marked)
    day.run("delta,submit", 4)
    undo()
    day.all_wait()
    day.run("delta,submit", 10, fail="d2i_helpers.submit.transport:Wire.post", at_once="1")
    keep = "d2i_helpers.demo.receiver.store:Storing.keep"
    day.run("delta,submit", 9, 20, fail=keep, at_once="1")


def break_one(day: Canary, marked: str) -> None:
    """Malformed JSON with marks in a staging row."""
    day.sql(
        "update ssd_api_data_staging set json_payload = :broken, submission_status = 'pending' "
        "where id in (select min(id) from ssd_api_data_staging)",
        broken=f'{{"la_child_id": "{marked}", "child_details": {{"first_name": "{marked}',
    )


def headless(day: Canary, name: str, code: int = 0) -> None:
    """A notebook for people, run by papermill, which asks to show identifiers."""
    given = json.dumps({k: v for k, v in day.parameters().items() if k != "outputs_dir"})
    copy = day.folder / "outputs" / f"{name}.ipynb"
    shown = ("-p", "show_identifiers", "True") if name.startswith("explore") else ()
    words = (
        str(project_root() / "notebooks" / f"{name}.ipynb"), str(copy), "-y",
        f"overrides: {given}", *shown, "--cwd", str(project_root()), "--log-level", "DEBUG",
    )  # fmt: skip
    variables = {"JPY_SESSION_NAME": "x"}  # as a terminal in JupyterLab passes it on
    day.command(words, (code,), day.environment(**variables), module="papermill")


@pytest.mark.timeout(600)
def test_no_mark_gets_out_of_a_bad_week(tmp_path: Path, echo: str) -> None:
    with Canary(tmp_path, f"sqlite:///{tmp_path / 'ssd.sqlite'}", children=50) as day:
        short_week(day, echo)
        day.assert_silent()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_mark_gets_out_of_a_thousand_children(
    tmp_path: Path, echo: str, database_url: str
) -> None:
    with Canary(tmp_path, database_url, children=1000) as day:
        long_week(day, echo)
        day.assert_silent()


def test_the_search_for_marks_finds_them() -> None:
    """Else the tests above could not fail."""
    marks = canary.Marks()
    upn, postcode = marks.upn(), marks.postcode()
    marks.births.add("2012-05-03")
    for text_ in (
        marks.id("7"), marks.name().upper(), marks.note(), upn, upn.lower(), postcode,
        postcode.replace(" ", "").lower(), "on 03/05/2012", "date(2012, 5, 3)", "20120503",
        f"x{SECRET.lower()}-1",
    ):  # fmt: skip
        assert canary.found_in(f"before {text_}, after", marks), text_
    assert canary.found_in("2013-05-03 A123456789012 LE19 9ZZ Sq8w qzj", marks) == []
