"""The two endpoints of the simulated DfE API: token and children, and the faults they play."""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import datetime as dt
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from d2i_helpers.delta import Mode, apply
from d2i_helpers.demo.receiver import store as keeping
from d2i_helpers.demo.receiver.faults import Chosen, Faults
from d2i_helpers.demo.receiver.store import Received, Store
from d2i_helpers.document.validation import Validator, firewall_warnings
from d2i_helpers.payload_spec import Spec
from d2i_helpers.submit.endpoint import (
    SIMULATED_CLIENT_ID,
    SIMULATED_CLIENT_SECRET,
    SIMULATED_SUPPLIER_KEY,
)

MAX_RECORDS = 100
CORRELATION = "x-request-id"


class _Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, content: Any = None, headers: dict[str, str] | None = None):
        super().__init__(status)
        self.status, self.content, self.headers = status, content, headers


class Receiver:
    """The two endpoints of the API."""

    def __init__(
        self, store: Store, spec: Spec, la_code: str | None, merge: Mode, faults: Faults
    ) -> None:
        self._store, self._spec, self._la_code, self._merge = store, spec, la_code, merge
        self._faults = faults
        self._validator = Validator(spec)
        self._tokens: dict[str, float] = {}  # token -> when it ends, monotonic seconds

    async def token(self, request: Request) -> Response:
        """Issue a token for client credentials (OAuth2, RFC 6749, 4.4) and a scope as the DfE's."""
        seen = _seen(request)
        started = time.perf_counter()
        body = await request.body()
        chosen = self._faults.choose("token")
        try:
            response = await self._faulted(request, chosen, lambda: self._issue(request, body))
        except _Refused as refused:
            response = _error(refused)
        return self._finish(seen, response, chosen, started, len(body))

    def _issue(self, request: Request, body: bytes) -> Response:
        if request.method != "POST":
            raise _Refused(405, {"error": "invalid_request"}, {"Allow": "POST"})
        form = {
            name: values[0]
            for name, values in parse_qs(body.decode("utf-8", errors="replace")).items()
        }
        client = _basic(request.headers.get("authorization", "")) or (
            form.get("client_id", ""),
            form.get("client_secret", ""),
        )
        if form.get("grant_type") != "client_credentials":
            raise _Refused(400, {"error": "unsupported_grant_type"})
        known = (SIMULATED_CLIENT_ID, SIMULATED_CLIENT_SECRET)
        if not all(
            secrets.compare_digest(given.encode(), expected.encode())
            for given, expected in zip(client, known, strict=True)
        ):
            raise _Refused(401, {"error": "invalid_client"})
        if not form.get("scope", "").endswith("/.default"):
            raise _Refused(400, {"error": "invalid_scope"})
        token = secrets.token_urlsafe(24)
        lifetime = self._faults.token_seconds
        self._tokens[token] = time.monotonic() + lifetime
        content = {"token_type": "Bearer", "expires_in": int(lifetime), "access_token": token}
        return JSONResponse(content, headers={"Cache-Control": "no-store"})

    async def children(self, request: Request) -> Response:
        """Take a JSON array of at most 100 documents or deltas: all of them, or none."""
        seen = _seen(request)
        started = time.perf_counter()
        body = await request.body()
        records, ids = _records(body)
        chosen = self._faults.choose("children", ids)
        if records is not None:
            seen.records, seen.ids = len(records), ids

        def take() -> Response:
            self._check(request, body, records)
            if chosen.named or chosen.unnamed:
                raise _Refused(400, _errors_of(chosen))
            references = self._keep(records or [], ids)
            seen.stored = True
            return JSONResponse(references)

        try:
            response = await self._faulted(request, chosen, take)
        except _Refused as refused:
            response = _error(refused)
        return self._finish(seen, response, chosen, started, len(body))

    def _check(self, request: Request, body: bytes, records: list[Any] | None) -> None:
        """Check everything that can be wrong with a request; the first fault ends the check."""
        if request.method != "POST":
            raise _Refused(405, {"error": "only POST is allowed"}, {"Allow": "POST"})
        code = request.path_params["la_code"]
        if not (code.isdigit() and len(code) == 3) or self._la_code not in (None, code):
            raise _Refused(404, {"error": "no such authority"})
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or self._tokens.get(token, 0.0) <= time.monotonic():
            raise _Refused(401, {"error": "the token is missing, wrong or has run out"})
        if request.headers.get("supplierkey") != SIMULATED_SUPPLIER_KEY:
            raise _Refused(401, {"error": "the SupplierKey is missing or wrong"})
        wait = self._faults.too_many()
        if wait is not None:
            raise _Refused(429, {"error": "too many requests"}, {"Retry-After": wait})
        if self._faults.byte_limit is not None and len(body) > self._faults.byte_limit:
            raise _Refused(413, {"error": "too large"})
        if self._faults.firewall and firewall_warnings(body.decode("utf-8", errors="replace")):
            raise _Refused(403, {"error": "blocked"})
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _Refused(415, {"error": "the Content-Type must be application/json"})
        if records == [] or not body.strip():
            raise _Refused(204)
        if records is None:
            raise _Refused(400, {"error": "the body must be a JSON array"})
        if len(records) > MAX_RECORDS:
            raise _Refused(400, {"error": f"more than {MAX_RECORDS} records"})
        errors = self._problems(records)
        if errors:
            raise _Refused(400, {"error": "not all records are valid", "errors": errors})

    def _problems(self, records: list[Any]) -> list[dict[str, str]]:
        """Every broken rule by record; never a value."""
        errors = []
        seen: set[str] = set()
        for position, record in enumerate(records):
            problems = self._validator.partial_problems(record)
            for path, rule in problems:
                below = "" if path == "$" else path if path.startswith("[") else f".{path}"
                errors.append({"path": f"$[{position}]{below}", "message": rule})
            child = record.get("la_child_id") if isinstance(record, dict) else None
            if isinstance(child, str) and child in seen:
                message = "same la_child_id twice in one request"
                errors.append({"path": f"$[{position}].la_child_id", "message": message})
            elif isinstance(child, str):
                seen.add(child)
        return errors

    def _keep(self, records: list[Any], ids: list[str]) -> list[str]:
        """Merge and store all records in one transaction; a receipt for each, in order."""
        stamp = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d_%H:%M:%S.%f")[:-4]
        kept = []
        with self._store.storing() as storing:
            held = storing.held(ids)
            for child, message in zip(ids, records, strict=True):
                document = apply(self._spec, held.get(child), message, mode=self._merge)
                kept.append(Received(child, message, document, f"{stamp}_{uuid.uuid4()}.json"))
            storing.keep(kept)
        return [record.reference for record in kept]

    # ------------------------------------------------------------------------------- faults
    async def _faulted(
        self, request: Request, chosen: Chosen, take: Callable[[], Response]
    ) -> Response:
        """The proper answer, or what the fault makes of it."""
        play = chosen.play
        if play.delay:
            await asyncio.sleep(play.delay)
        if play.expire_tokens:
            self._tokens.clear()
        if play.drop == "before":
            return _Dropped()
        if play.status is not None and not play.store:
            return _scripted(chosen)
        response = take()
        if play.drop == "after":
            return _Dropped()
        if play.status is not None:
            return _scripted(chosen)
        return _spoiled(response, play.answer) if play.answer else response

    def _finish(
        self,
        seen: keeping.Request,
        response: Response,
        chosen: Chosen,
        started: float,
        size: int,
    ) -> Response:
        seen.status = None if isinstance(response, _Dropped) else response.status_code
        seen.bytes, seen.fault = size, chosen.name
        seen.milliseconds = round((time.perf_counter() - started) * 1000)
        self._store.log(seen)
        response.headers[CORRELATION] = seen.correlation_id
        return response


class _Dropped(Response):
    """Drop the connection: no answer, or (with ``sent``) only its beginning."""

    def __init__(self, sent: bytes | None = None) -> None:
        super().__init__(b"")
        self._sent = sent

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Write the beginning of the answer, if any, and cut the connection."""
        transport = scope["state"]["transport"]  # put there by receiver.Protocol
        if self._sent is None:
            transport.abort()
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"100000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._sent, "more_body": True})
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def _scripted(chosen: Chosen) -> Response:
    play = chosen.play
    named = ", ".join(f"$[{position}]" for position in chosen.positions)
    body = (play.body or "").replace("{positions}", named)
    return Response(body, status_code=play.status or 500, headers=dict(play.headers))


def _spoiled(response: Response, answer: str) -> Response:
    """A 200 that is wrong, or sent, in the way that the fault asks for."""
    if response.status_code != 200:
        return response
    body = bytes(response.body)
    if answer in _REWRITTEN:
        body = orjson.dumps(_REWRITTEN[answer](orjson.loads(body)))
        return Response(body, media_type="application/json")
    if answer == "lines":
        return Response("\n".join(orjson.loads(body)), media_type="text/plain")
    if answer == "marked":
        return Response(codecs.BOM_UTF8 + body, media_type="application/json")
    if answer == "utf16":
        text = body.decode().encode("utf-16")
        return Response(text, headers={"Content-Type": "application/json; charset=utf-16"})
    if answer == "empty":
        return Response(b"", media_type="application/json")
    if answer == "truncated":
        return _Dropped(body[:-3])
    if answer == "endless":
        return StreamingResponse(_blanks(), media_type="application/json")
    return HTMLResponse("<html><body>Thank you, your data has arrived.</body></html>")


# how a fault changes the JSON of a good answer
_REWRITTEN: dict[str, Callable[[Any], Any]] = {
    "fewer": lambda receipts: receipts[:-1],
    "more": lambda receipts: [*receipts, receipts[-1]],
    "words": lambda receipts: ["accepted"] * len(receipts),
    "one_word": lambda receipts: [*receipts[:-1], "rejected"],
    "wrapped": lambda content: orjson.dumps(content).decode(),
}


async def _blanks() -> AsyncIterator[bytes]:
    """The beginning of an answer that never ends."""
    while True:
        yield b" "
        await asyncio.sleep(0.02)


def _errors_of(chosen: Chosen) -> dict[str, Any]:
    """The errors of the records that a fault refuses."""
    if not chosen.named:
        return {"error": "the body is malformed"}
    errors = [
        {"path": f"$[{position}].child_details.sex", "message": "not in code list"}
        for position in chosen.named
    ]
    return {"error": "not all records are valid", "errors": errors}


# ------------------------------------------------------------------------------------- reading
def _seen(request: Request) -> keeping.Request:
    return keeping.Request(
        method=request.method, path=request.url.path, correlation_id=str(uuid.uuid4())
    )


def _records(body: bytes) -> tuple[list[Any] | None, list[str]]:
    """The records of a body (None where it is no JSON array), and the id of each ("" for none)."""
    try:
        content = orjson.loads(body)
    except ValueError:
        return None, []
    if not isinstance(content, list):
        return None, []
    ids = (record.get("la_child_id") if isinstance(record, dict) else None for record in content)
    return content, [child if isinstance(child, str) else "" for child in ids]


def _basic(header: str) -> tuple[str, str] | None:
    """Client id and secret of an HTTP Basic header, which RFC 6749 (2.3.1) allows as well."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, word = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote_plus(name), unquote_plus(word)


def _error(refused: _Refused) -> Response:
    if refused.content is None:
        return Response(status_code=refused.status, headers=refused.headers)
    return JSONResponse(refused.content, status_code=refused.status, headers=refused.headers)
