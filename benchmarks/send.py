"""Records per second that the client sends on loopback, against the floor.

    python benchmarks/send.py [--records 10000] [--rounds 5] [--json]

The floor is a plain `requests` session that posts the same bodies, made beforehand, to a server
that answers at once and reads nothing but lengths. The client posts to the same server: tokens,
receipts, an outcome for every record and the log of attempts come on top. The simulated receiver is
measured too: it validates, merges and stores what it gets. Pacing is off. All take turns, so that a
machine that is busy for a moment slows all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import requests

from d2i_helpers.demo import receiver
from d2i_helpers.settings import load_settings
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import simulated_endpoint

BATCH = 100
RECEIPT = "2026-08-10_02:15:07.31_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"


def record(number: int) -> bytes:
    """A good record of about 4,500 bytes, the size of a child with some episodes."""
    plans = [
        {
            "child_in_need_plan_id": f"p{number}-{n}",
            "start_date": "2026-01-05",
            "end_date": "2026-02-05",
            "purge": False,
        }
        for n in range(42)
    ]
    episode = {
        "social_care_episode_id": f"e{number}",
        "referral_date": "2026-01-05",
        "child_in_need_plans": plans,
        "purge": False,
    }
    return orjson.dumps(
        {
            "la_child_id": f"c{number}",
            "purge": False,
            "child_details": {"sex": "F", "ethnicity": "WBRI", "purge": False},
            "social_care_episodes": [episode],
        }
    )


# ---------------------------------------------------------------------- the server of the floor
class AtOnce(asyncio.Protocol):
    """Answers every request as soon as its last byte is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.seen = transport, bytearray()

    def data_received(self, data: bytes) -> None:
        self.seen += data
        end = self.seen.find(b"\r\n\r\n")
        if end < 0:
            return
        length = int(re.search(rb"content-length: (\d+)", self.seen[:end].lower())[1])
        if len(self.seen) < end + 4 + length:
            return
        status, content = self.answer(end)
        body = orjson.dumps(content)
        self.seen.clear()
        self.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    def answer(self, end: int) -> tuple[bytes, object]:
        """Status, further headers, and content for the request whose headers end there."""
        if b"/token" in self.seen[: self.seen.find(b"\r\n")]:
            return b"200 OK", {"access_token": "t", "token_type": "Bearer", "expires_in": 3600}
        return b"200 OK", [RECEIPT] * self.seen.count(b'"la_child_id"', end)

    def write(self, answer: bytes) -> None:
        self.transport.write(answer)


async def serve_at_once(protocol: Callable[[], AtOnce] = AtOnce) -> None:
    """Serve until standard input ends; says the port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


# ------------------------------------------------------------------------------------- measuring
def floor(url: str, bodies: list[bytes]) -> Callable[[], None]:
    """Posts finished bodies, looks at the status only."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Content-Type"] = "application/json"

    def go() -> None:
        for body in bodies:
            assert session.post(url, data=body).status_code == 200

    return go


def client(sender: Client, batches: list[list[bytes]], in_flight: int) -> Callable[[], None]:
    """Sends batches through the client, so many at once."""

    def send(batch: list[bytes]) -> None:
        result = sender.send(batch)
        assert all(one.outcome is Outcome.ACKNOWLEDGED for one in result.results)

    def go() -> None:
        if in_flight == 1:
            for batch in batches:
                send(batch)
        else:
            with ThreadPoolExecutor(in_flight) as pool:
                list(pool.map(send, batches))

    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_at_once())
        return

    records = [record(n) for n in range(options.records)]
    batches = [records[n : n + BATCH] for n in range(0, len(records), BATCH)]
    bodies = [b"[" + b",".join(batch) + b"]" for batch in batches]
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    address = f"http://127.0.0.1:{int(server.stdout.readline())}"
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(
            None,
            receiver_store=str(Path(folder) / "receiver.sqlite"),
            pause_seconds=0,
            max_in_flight=4,
        )
        with receiver.running(settings) as simulated:
            at_once = simulated_endpoint(address, settings.la_code)
            sender, full = Client(at_once, settings), Client(simulated, settings)
            ways = {
                "floor: requests, server that answers at once": floor(address, bodies),
                "client, the same server": client(sender, batches, 1),
                "client, the same server, 4 in flight": client(sender, batches, 4),
                "client, simulated receiver": client(full, batches, 1),
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, way in ways.items():
                    start = time.perf_counter()
                    way()
                    seconds[name].append(time.perf_counter() - start)
            sender.close()
            full.close()
    server.stdin.close()
    server.wait(10)
    server.stdout.close()

    rates = {name: len(records) / statistics.median(taken) for name, taken in seconds.items()}
    best = next(iter(rates.values()))
    if options.json:
        print(json.dumps({name: round(rate) for name, rate in rates.items()}))
        return
    size = sum(map(len, records)) / len(records)
    print(f"{len(records):,} records of {size:,.0f} bytes, {BATCH} a request; median of", end=" ")
    print(f"{options.rounds}; Python {platform.python_version()}, {os.cpu_count()} cores")
    for name, rate in rates.items():
        print(f"{name:<46}{rate:>10,.0f} records/s {best / rate:>7.2f} x the floor's time")


if __name__ == "__main__":
    main()
