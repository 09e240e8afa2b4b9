"""The simulated DfE API as an ASGI application: token, children, and a view for people and tests.

It stands in for the real API, as far as that is known (docs/receiver.md says how far). It stores
and merges what it receives, refuses what the schema refuses, and plays faults when told to.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from d2i_helpers.delta import Mode
from d2i_helpers.demo.receiver.endpoints import Receiver
from d2i_helpers.demo.receiver.faults import Faults
from d2i_helpers.demo.receiver.pages import home_page, openapi, openapi_page
from d2i_helpers.demo.receiver.store import Store
from d2i_helpers.payload_spec import Spec
from d2i_helpers.submit.endpoint import LOOPBACK, SIMULATED_BASE_PATH

_PATH = "/children_social_care_data/{la_code}/children"
_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(
    store: Store,
    spec: Spec,
    *,
    la_code: str | None = None,
    merge: Mode = "merge",
    faults: Faults | None = None,
) -> Starlette:
    """The application over an open store.

    Args:
        la_code: the only authority that is served; None: any code of three digits.
        merge: how a partial block is applied, see `delta.apply`.
    """
    receiver = Receiver(store, spec, la_code, merge, faults or Faults())
    routes = [
        Route("/{tenant}/oauth2/v2.0/token", receiver.token, methods=_ALL_METHODS),
        Route(SIMULATED_BASE_PATH + _PATH, receiver.children, methods=_ALL_METHODS),
        Route(_PATH, receiver.children, methods=_ALL_METHODS),
    ]
    pages: dict[str, Callable[[Request], Response]] = {
        "/": lambda request: HTMLResponse(home_page(store)),
        "/docs": lambda request: HTMLResponse(openapi_page(spec)),
        "/openapi.json": lambda request: JSONResponse(openapi(spec)),
        "/admin/documents": lambda request: _documents(store),
        "/admin/documents/{child_id}": functools.partial(_document, store),
        "/admin/received/{child_id}": functools.partial(_received, store),
        "/admin/requests": functools.partial(_requests, store),
    }
    routes += [Route(path, _on_loopback(page), methods=["GET"]) for path, page in pages.items()]
    return Starlette(routes=routes)


def _on_loopback(
    page: Callable[[Request], Response],
) -> Callable[[Request], Awaitable[Response]]:
    """Serve a page to this machine only; the Host header is checked too, against DNS rebinding."""

    async def answer(request: Request) -> Response:
        host = request.client.host if request.client else ""
        if host not in LOOPBACK or request.url.hostname not in LOOPBACK:
            return JSONResponse({"error": "open on loopback only"}, status_code=403)
        return page(request)

    return answer


def _documents(store: Store) -> Response:
    parts = [orjson.dumps(child) + b":" + text for child, text in store.documents()]
    return Response(b"{" + b",".join(parts) + b"}", media_type="application/json")


def _document(store: Store, request: Request) -> Response:
    text = store.document(request.path_params["child_id"])
    if text is None:
        return JSONResponse({"error": "nothing is held of this child"}, status_code=404)
    return Response(text, media_type="application/json")


def _received(store: Store, request: Request) -> Response:
    return JSONResponse(store.received(request.path_params["child_id"]))


def _requests(store: Store, request: Request) -> Response:
    """Query parameters: ``last=20``, ``since=<id>``, ``child=<la_child_id>``."""
    query = request.query_params
    try:
        last = int(query["last"]) if "last" in query else None
        since = int(query.get("since", 0))
    except ValueError:
        return JSONResponse({"error": "last and since are numbers"}, status_code=400)
    return JSONResponse(store.requests(last=last, since=since, child_id=query.get("child")))
