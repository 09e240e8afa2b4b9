"""The receiver as other senders use it: requests in the shapes of D2I's published ones.

Nothing of this project's client is used: plain HTTP, as a script in Python and one in Windows
PowerShell send it, and answers read the way that they read them.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from tests.submit.http.harness import Served, batch, record


@pytest.fixture
def served(start) -> Served:
    """A receiver without faults."""
    return start()[1]


def form(served: Served) -> dict[str, str]:
    endpoint = served.endpoint
    return {
        "client_id": endpoint.client_id,
        "client_secret": endpoint.client_secret,
        "scope": endpoint.token_scope,
        "grant_type": "client_credentials",
    }


def documents(*children: bytes) -> list[Any]:
    return [json.loads(child) for child in children]


# ----------------------------------------------------------------------- a script in Python
def post_as_python(served: Served, records: list[Any]) -> requests.Response:
    """A connection a request, the body as text with \\u escapes, an agent that is no browser."""
    answer = requests.post(served.endpoint.token_url, data=form(served), timeout=10)
    answer.raise_for_status()
    headers = {
        "Authorization": f"Bearer {answer.json()['access_token'].strip()}",
        "Content-Type": "application/json",
        "SupplierKey": served.endpoint.supplier_key,
        "User-Agent": "Microsoft PowerShell/6.0.0",
    }
    return requests.post(
        served.endpoint.children_url, headers=headers, data=json.dumps(records), timeout=10
    )


def test_receipts_are_taken_apart_as_a_python_sender_does(served: Served) -> None:
    answer = post_as_python(served, documents(*batch(100)))
    assert answer.status_code == 200
    receipts = json.loads(answer.text.strip())
    assert len(receipts) == 100
    for receipt in receipts:
        day, time, name = receipt.split("_")
        stamp = dt.datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M:%S.%f")
        assert abs(stamp - dt.datetime.now(dt.UTC).replace(tzinfo=None)) < dt.timedelta(minutes=5)
        assert name.endswith(".json")
    assert len(set(receipts)) == 100
    held = served.documents()
    assert held["c0"]["child_details"]["surname"] == "O'Brien-Szymańska"  # out of its escapes


def test_bad_records_are_found_by_any_number_in_brackets(served: Served) -> None:
    """Such senders take each `[n]` of the text for a record: only those of bad ones may be there
    where the fault lies in the record's first level."""
    answer = post_as_python(served, documents(*batch(12, bad=(3, 10))))
    assert answer.status_code == 400
    assert set(re.findall(r"\[(\d+)\]", answer.text)) == {"3", "10"}
    assert served.documents() == {}


def test_a_delta_and_a_purge_in_their_shape(served: Served) -> None:
    assert post_as_python(served, documents(*batch(2))).status_code == 200
    delta = {"la_child_id": "c0", "child_details": {"sex": "M", "purge": False}}
    purge = {"la_child_id": "c1", "mis_child_id": None, "purge": True}
    answer = post_as_python(served, [delta, purge])
    assert answer.status_code == 200, answer.text
    assert served.documents().keys() == {"c0"}
    assert served.documents()["c0"]["child_details"]["sex"] == "M"


# -------------------------------------------------------------------- Windows PowerShell 5.1
@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    parts = urlsplit(served.address)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        yield connection


def post_as_powershell(
    connection: socket.socket, url: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """Head first with `Expect: 100-continue`, the body once the server says so; one connection."""
    parts = urlsplit(url)
    lines = [
        f"POST {parts.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "User-Agent: Mozilla/5.0 (Windows NT; Windows NT 10.0; en-GB) WindowsPowerShell/5.1",
        f"Host: {parts.netloc}",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
        "Connection: Keep-Alive",
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    stream = connection.makefile("rb")
    assert read_head(stream)[0] == 100
    connection.sendall(body)
    status, found = read_head(stream)
    return status, stream.read(int(found.get("content-length", 0)))


def read_head(stream: Any) -> tuple[int, dict[str, str]]:
    status = int(stream.readline().split()[1])
    found = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        found[name.lower()] = value.strip()
    return status, found


def test_requests_that_wait_for_100_continue(served: Served) -> None:
    with connected(served) as connection:
        status, body = post_as_powershell(
            connection,
            served.endpoint.token_url,
            {"Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form(served)).encode(),
        )
        assert status == 200
        headers = {
            "Authorization": f"Bearer {json.loads(body)['access_token']}",
            "SupplierKey": served.endpoint.supplier_key,
            "Content-Type": "application/json",
        }
        records = documents(record("p1", surname="O'Neil"), record("p2"))
        # ConvertTo-Json escapes apostrophes; a single record stands in brackets too
        text = json.dumps(records).replace("'", "\\u0027")
        status, body = post_as_powershell(
            connection, served.endpoint.children_url, headers, text.encode()
        )
        assert status == 200
    # the parsed list becomes one text, items parted by blanks
    items = [word for word in " ".join(json.loads(body)).split() if word.endswith(".json")]
    shape = r"\s*(\d{4}-\d{2}-\d{2})_(\d{2}:\d{2}:\d{2}\.\d{2})_(.+?)\.json\s*"
    assert len(items) == 2
    assert all(re.fullmatch(shape, item) for item in items)
    assert served.documents()["p1"]["child_details"]["surname"] == "O'Neil"
