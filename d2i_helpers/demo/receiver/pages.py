"""Pages of the simulated receiver for people: the home page and its OpenAPI description."""

from __future__ import annotations

import html
from typing import Any

from d2i_helpers.demo.receiver.store import Store
from d2i_helpers.payload_spec import Spec
from d2i_helpers.payload_spec.outputs import json_schema
from d2i_helpers.submit.endpoint import SIMULATED_BASE_PATH, SIMULATED_TOKEN_PATH

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #bbb}code{background:#eee;padding:0 .2rem}"
)
_ANSWERS = {
    "200": "all records are stored; one reference a record, in order",
    "204": "an empty body or array",
    "400": "not a JSON array, more than 100 records, or records that break the schema, each named",
    "401": "the token or the SupplierKey is missing, wrong or has run out",
    "403": "stopped by the firewall (where one is played)",
    "404": "no such authority",
    "405": "not POST",
    "413": "too large (where a limit is played)",
    "415": "the Content-Type is not application/json",
    "429": "too many requests (where a limit is played); carries Retry-After",
}
_ADMIN = {
    "/admin/documents": "JSON object from la_child_id to the document held",
    "/admin/documents/{child_id}": "the document held of one child",
    "/admin/received/{child_id}": "every message stored for one child, oldest first",
    "/admin/requests": "requests seen, oldest first; last=20, since=<id>, child=<la_child_id>",
}


def _page(title: str, *parts: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{''.join(parts)}</html>"
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    def line(tag: str, cells: list[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line("th", head) + "".join(line("td", row) for row in rows) + "</table>"


def home_page(store: Store) -> str:
    """Counts and the newest requests; no child's data."""
    counts = store.counts()
    columns = ["time", "method", "status", "records", "bytes", "stored", "fault", "milliseconds"]
    newest = reversed(store.requests(last=25))
    rows = [
        ["dropped" if request[c] is None else request[c] for c in columns] for request in newest
    ]
    return _page(
        "Simulated DfE receiver",
        "<p>It takes the place of the DfE's API for fictional children, on this machine only.</p>",
        _table(["held", "how many"], [[name, number] for name, number in counts.items()]),
        '<p><a href="/docs">What it answers</a> · <a href="/openapi.json">OpenAPI</a> · '
        '<a href="/admin/documents">documents held</a> · '
        '<a href="/admin/requests">all requests</a></p>',
        "<h2>Newest requests</h2>",
        _table(columns, rows),
    )


def openapi_page(spec: Spec) -> str:
    """The OpenAPI description as a page that loads nothing from elsewhere."""
    description = openapi(spec)
    rows = [
        [method.upper(), path, operation["summary"]]
        for path, item in description["paths"].items()
        for method, operation in item.items()
    ]
    return _page(
        "What the simulated receiver answers",
        _table(["method", "path", "what"], rows),
        "<h2>Answers to a batch of children</h2>",
        _table(["status", "when"], [[status, when] for status, when in _ANSWERS.items()]),
        '<p>The schema of a record is in <a href="/openapi.json">openapi.json</a>.</p>',
    )


def openapi(spec: Spec) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the simulated API."""
    record = {k: v for k, v in json_schema(spec, partial=True).items() if k != "$schema"}
    children = {
        "summary": "store documents or deltas of at most 100 children: all of them, or none",
        "parameters": [
            _parameter("la_code", "path", "three digits"),
            _parameter("SupplierKey", "header", "subscription key"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 100,
                        "items": {"$ref": "#/components/schemas/Record"},
                    }
                }
            },
        },
        "security": [{"token": []}],
        "responses": {status: {"description": when} for status, when in _ANSWERS.items()},
    }
    token = {
        "summary": "an access token for client credentials",
        "responses": {
            "200": {"description": "access_token, token_type, expires_in"},
            "400": {"description": "unsupported_grant_type or invalid_scope"},
            "401": {"description": "invalid_client"},
        },
    }
    flow = {"clientCredentials": {"tokenUrl": SIMULATED_TOKEN_PATH, "scopes": {}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Simulated DfE children's social care data receiver",
            "version": spec.version,
            "description": "A stand-in for tests; what the DfE's own API does may differ.",
        },
        "paths": {
            SIMULATED_BASE_PATH + "/children_social_care_data/{la_code}/children": {
                "post": children
            },
            SIMULATED_TOKEN_PATH: {"post": token},
            **{path: {"get": _admin(path, summary)} for path, summary in _ADMIN.items()},
        },
        "components": {
            "schemas": {"Record": record},
            "securitySchemes": {"token": {"type": "oauth2", "flows": flow}},
        },
    }


def _admin(path: str, summary: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": summary}}}
    if "{child_id}" in path:
        operation["parameters"] = [_parameter("child_id", "path", "la_child_id")]
    return operation


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }
