"""What a run says of itself: its notices, the summary after it, and the webhook for that."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from d2i_helpers.notebook import display
from d2i_helpers.runs import ledger, outcome, records, summary
from d2i_helpers.runs.records import RunRecord, StageRecord


class Hook(ThreadingHTTPServer):
    """A webhook that keeps what it gets and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.got: list[Any] = []
        self.answer, self.trickles = 200, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/key"


class Answering(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.got.append(json.loads(self.rfile.read(length)))
        if self.server.trickles.is_set():
            self.wfile.write(b"HTTP/1.1 200 ")
            while self.server.trickles.is_set():  # a byte now and then, and never an end
                self.wfile.write(b"O")
                time.sleep(0.02)
            return
        self.send_response(self.server.answer)
        self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.trickles.clear()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    run_id = "20260810T020000-00aa"
    stage = StageRecord("submit", "04_submit.ipynb", "completed", counts={"sent": 3})
    made = RunRecord(tmp_path / run_id, run_id, "demo", {"phase": "delta"}, {}, [stage])
    records.create(made)
    ledger.append(tmp_path, ledger.STARTED, made)
    return made


def test_the_webhook_gets_counts_and_the_ledgers_head_and_no_path(
    hook: Hook, record: RunRecord
) -> None:
    assert summary.post(hook.url, record, None, None) is None
    (got,) = hook.got
    assert got["run_id"] == got["record"] == record.run_id
    assert got["stages"][0]["counts"] == {"sent": 3}
    assert got["ledger"]["entry"] == 1
    assert str(record.folder.parent) not in json.dumps(got)
    assert "parameters" not in got


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_told(hook: Hook, record: RunRecord, status: int) -> None:
    hook.answer = status
    assert summary.post(hook.url, record, None, None) == f"The webhook answered {status}."
    assert len(hook.got) == 1  # a redirect is not followed: it would hand the summary on


def test_an_answer_without_an_end_does_not_hold_the_run(
    hook: Hook, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "WEBHOOK_SECONDS", 0.3)
    hook.trickles.set()
    said = summary.post(hook.url, record, None, None)
    assert said == "The webhook did not answer within 0.3 seconds."


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/key", "the connection was refused, or there is no way there"),
        ("hooks.example.org/key", "an address is not one of http or https"),
        ("http://[::1/key", "an address is not one of http or https"),
        ("http://exa\x00mple.invalid:port/key", "an address is not one of http or https"),
    ],
)
def test_a_webhook_that_is_not_there_is_told_without_its_address(
    record: RunRecord, url: str, why: str
) -> None:
    assert summary.post(url, record, None, None) == f"The webhook could not be reached ({why})."


def test_a_missing_ca_bundle_is_told(record: RunRecord, tmp_path: Path) -> None:
    said = summary.post("https://127.0.0.1:9/key", record, None, tmp_path / "ca.pem")
    assert said == "The webhook could not be reached (there is no such file as `ca_bundle` names)."


def test_a_notice_of_a_notebook_reaches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stage marks for the console; the rest of its notices stays in the notebook."""
    published: list[dict[str, Any]] = []

    class Shell:
        class display_pub:
            @staticmethod
            def publish(data: dict[str, Any], **_: Any) -> None:
                published.append(data)

    monkeypatch.setattr("IPython.get_ipython", Shell)
    display.notices(["a column is taken as empty"], for_console=["30 of 30 values: Z99 9ZZ"])
    display.notices([], for_console=[])
    display.counts("Children", {"in_cohort": 3})
    assert "taken as empty" in published[0]["text/plain"]
    copy = tmp_path / "01_extract.ipynb"
    copy.write_text(json.dumps({"cells": [{"outputs": [{"data": one} for one in published]}]}))
    stage = StageRecord("extract", copy.name)
    assert outcome.take_counts(stage, copy) == ["30 of 30 values: …"]  # no value even so
    assert stage.details == {"Children": {"in_cohort": 3}}
