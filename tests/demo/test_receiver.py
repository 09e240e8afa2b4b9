"""The simulated receiver by its contract, its store and its life as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import jsonschema_rs
import orjson
import pytest
import requests

from d2i_helpers.demo import receiver
from d2i_helpers.errors import SettingsError
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import (
    SIMULATED_CLIENT_ID,
    SIMULATED_CLIENT_SECRET,
    SIMULATED_SCOPE,
    SIMULATED_SUPPLIER_KEY,
)
from tests.submit.http.harness import Served, batch, record, serving

RECEIPT = re.compile(r"\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d\.\d\d_[0-9a-f-]{36}\.json")


@pytest.fixture
def served(start):
    return start()[1]


def token_of(served, **changes):
    form = {
        "client_id": SIMULATED_CLIENT_ID,
        "client_secret": SIMULATED_CLIENT_SECRET,
        "scope": SIMULATED_SCOPE,
        "grant_type": "client_credentials",
        **changes,
    }
    form = {name: value for name, value in form.items() if value is not None}
    return requests.post(served.endpoint.token_url, data=form, timeout=10)


def post(served, body, *, url=None, method="POST", drop=(), **headers):
    token = token_of(served).json()["access_token"]
    given = {
        "Authorization": f"Bearer {token}",
        "SupplierKey": SIMULATED_SUPPLIER_KEY,
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    given = {name: value for name, value in given.items() if name not in drop}
    return requests.request(
        method, url or served.endpoint.children_url, data=body, headers=given, timeout=10
    )


# ------------------------------------------------------------------------------------ contract
def test_the_token_endpoint(served):
    good = token_of(served)
    assert good.status_code == 200
    assert good.json()["token_type"] == "Bearer"
    assert good.json()["expires_in"] == 3600
    basic = requests.post(
        served.endpoint.token_url,
        data={"grant_type": "client_credentials", "scope": SIMULATED_SCOPE},
        auth=(SIMULATED_CLIENT_ID, SIMULATED_CLIENT_SECRET),
        timeout=10,
    )
    assert basic.status_code == 200
    assert requests.get(served.endpoint.token_url, timeout=10).status_code == 405


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"scope": "wrong"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_the_token_endpoint_refuses(served, changes, status, error):
    answer = token_of(served, **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_success(served):
    answer = post(served, b"[" + b",".join(batch(3)) + b"]")
    assert answer.status_code == 200
    receipts = answer.json()
    assert len(set(receipts)) == 3
    assert all(RECEIPT.fullmatch(one) for one in receipts)
    assert answer.headers["x-request-id"]


ONE = b"[" + record("c0") + b"]"


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        (ONE, {"method": "GET"}, 405),
        (ONE, {"method": "PUT"}, 405),
        (ONE, {"drop": ("Authorization",)}, 401),
        (ONE, {"Authorization": "Bearer other"}, 401),
        (ONE, {"drop": ("SupplierKey",)}, 401),
        (ONE, {"SupplierKey": "other"}, 401),
        (ONE, {"Content_Type": "text/plain"}, 415),
        (ONE, {"Content_Type": "application/json; charset=utf-8"}, 200),
        (b"", {}, 204),
        (b"[]", {}, 204),
        (record("c0"), {}, 400),
        (b"[{", {}, 400),
        (b"null", {}, 400),
        (b"[1]", {}, 400),
        (b"[" + b",".join(batch(101)) + b"]", {}, 400),
        (b"[" + b",".join(batch(100)) + b"]", {}, 200),
    ],
)
def test_every_answer_of_the_contract(served, body, options, status):
    assert post(served, body, **options).status_code == status
    assert bool(served.documents()) == (status == 200)


@pytest.mark.parametrize("code", ["816", "None", "00", "0000"])
def test_another_authority_is_not_found(served, code):
    url = served.endpoint.children_url.replace("/000/", f"/{code}/")
    assert post(served, ONE, url=url).status_code == 404


def test_the_error_names_records_and_rules_and_no_value(served):
    wrong = orjson.loads(record("c2"))
    wrong["social_care_episodes"] = [
        {"social_care_episode_id": "e1", "referral_date": "2026-13-45", "purge": False},
        {"social_care_episode_id": "e1", "referral_date": "2026-01-05", "purge": False},
    ]
    records = [record("c0"), record("c1", sex="Q"), orjson.dumps(wrong), record("c0")]
    answer = post(served, b"[" + b",".join(records) + b"]")
    assert answer.status_code == 400
    named = {error["path"]: error["message"] for error in answer.json()["errors"]}
    assert named["$[1].child_details.sex"] == "not in code list"
    assert "$[2].social_care_episodes[0].referral_date" in named
    assert "$[2].social_care_episodes[1].social_care_episode_id" in named
    assert named["$[3].la_child_id"] == "same la_child_id twice in one request"
    for value in ("2026-13-45", '"Q"', "Szyma"):
        assert value not in answer.text
    assert served.documents() == {}  # all of a request, or none


# ------------------------------------------------------------------------- keeping and merging
def changed(**parts):
    return orjson.dumps({**orjson.loads(record("c0")), **parts})


def send(served, *messages):
    for message in messages:
        assert post(served, b"[" + message + b"]").status_code == 200
    return served.documents()


EPISODES = [
    {"social_care_episode_id": "e1", "referral_date": "2026-01-05", "purge": False},
    {"social_care_episode_id": "e2", "referral_date": "2026-02-05", "purge": False},
]


def test_it_merges_deltas(served):
    held = send(
        served,
        changed(social_care_episodes=EPISODES),
        changed(
            social_care_episodes=[
                {"social_care_episode_id": "e1", "purge": True},
                {**EPISODES[1], "closure_date": "2026-03-01"},
            ]
        ),
    )
    assert held["c0"]["social_care_episodes"] == [{**EPISODES[1], "closure_date": "2026-03-01"}]
    assert held == {"c0": served.get("/admin/documents/c0")}
    messages = served.get("/admin/received/c0")
    assert [len(one["message"]["social_care_episodes"]) for one in messages] == [2, 2]
    assert all(RECEIPT.fullmatch(one["reference"]) for one in messages)


def test_null_clears_a_field_when_it_merges(served):
    held = send(served, record("c0"), record("c0").replace(b'"AB1 2CD"', b"null"))
    assert "postcode" not in held["c0"]["child_details"]
    assert held["c0"]["child_details"]["surname"] == "O'Brien-Szymańska"


@pytest.mark.parametrize(("mode", "kept"), [("merge", True), ("replace", False)])
def test_how_it_applies_a_block_is_a_parameter(start, mode, kept):
    _, served = start(receiver_merge=mode)
    held = send(served, record("c0"), record("c0", postcode=None))
    assert ("postcode" in held["c0"]["child_details"]) is kept


def test_a_purge_of_the_child_removes_everything(served):
    assert send(served, record("c0"), b'{"la_child_id":"c0","purge":true}') == {}
    assert len(served.get("/admin/received/c0")) == 2
    assert requests.get(served.address + "/admin/documents/c0", timeout=10).status_code == 404


def test_it_survives_the_process(api_settings):
    settings = api_settings()
    for n in range(2):
        with serving(settings) as served:
            send(served, record(f"c{n}"))
    with serving(settings) as served:
        assert served.documents().keys() == {"c0", "c1"}
        assert [r["records"] for r in served.posts()] == [1, 1]


def test_two_servers_may_share_a_store(api_settings):
    settings = api_settings()
    with serving(settings) as one, serving(settings) as other:
        send(one, record("c0"))
        assert other.documents().keys() == {"c0"}


# ---------------------------------------------------------------------------------- admin view
def test_the_requests_seen(served):
    post(served, b"[" + b",".join([record("c0"), record("c1", sex="Q")]) + b"]")
    post(served, b"[" + record("c0") + b"]")
    first, second = served.posts()
    assert (first["status"], first["records"], first["ids"]) == (400, 2, ["c0", "c1"])
    assert (first["stored"], second["stored"]) == (False, True)
    assert second["bytes"] == len(record("c0")) + 2
    assert second["method"] == "POST"
    assert second["fault"] == ""
    assert [r["status"] for r in served.get("/admin/requests?child=c1")] == [400]
    assert served.get("/admin/requests?last=1") == [second]
    assert served.get(f"/admin/requests?since={second['id']}") == []
    assert requests.get(served.address + "/admin/requests?last=x", timeout=10).status_code == 400


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/admin/documents"])
def test_pages_are_open_on_loopback_only(served, path):
    assert requests.get(served.address + path, timeout=10).status_code == 200
    elsewhere = requests.get(served.address + path, headers={"Host": "evil.example"}, timeout=10)
    assert elsewhere.status_code == 403


def test_pages_for_people_show_no_child_and_need_nothing_from_elsewhere(served):
    send(served, record("c0-secret-id"))
    for path in ("/", "/docs"):
        page = requests.get(served.address + path, timeout=10).text
        assert "c0-secret-id" not in page
        assert "http://" not in page and "https://" not in page


def test_the_openapi_description(served):
    described = served.get("/openapi.json")
    assert described["openapi"] == "3.1.0"
    (path,) = [p for p in described["paths"] if p.endswith("/{la_code}/children")]
    assert served.endpoint.children_url.endswith(path.replace("{la_code}", "000"))
    schema = described["components"]["schemas"]["Record"]
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid(orjson.loads(record("c0")))
    assert not validator.is_valid(orjson.loads(record("c0", sex="Q")))


# ----------------------------------------------------------------------- a process of its own
def gone(address: str) -> bool:
    for _ in range(100):
        try:
            requests.get(address, timeout=1)
        except requests.ConnectionError:
            return True
        time.sleep(0.05)
    return False


def test_running_starts_and_stops_it(api_settings):
    settings = api_settings()
    with receiver.running(settings) as endpoint, Client(endpoint, settings) as client:
        served = Served(endpoint)
        assert client.send(batch(2)).results[0].reference
        assert served.documents().keys() == {"c0", "c1"}
    assert gone(served.address)
    with receiver.running(settings) as endpoint:  # and the store is still there
        assert Served(endpoint).documents().keys() == {"c0", "c1"}


def test_running_stops_it_when_the_run_fails(api_settings):
    failing = pytest.raises(RuntimeError, match="the run fails")
    with failing, receiver.running(api_settings()) as endpoint:
        address = Served(endpoint).address
        raise RuntimeError("the run fails")
    assert gone(address)


def test_it_does_not_outlive_a_run_that_is_killed(api_settings, tmp_path):
    store = tmp_path / "receiver.sqlite"
    script = (
        "import sys, time\n"
        "from d2i_helpers.demo import receiver\n"
        "from d2i_helpers.settings import load_settings\n"
        f"with receiver.running(load_settings(None, receiver_store={str(store)!r})) as endpoint:\n"
        "    print(endpoint.token_url, flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    address = parent.stdout.readline().split("/simulated/")[0]
    assert requests.get(address, timeout=10).status_code == 200
    parent.kill()
    parent.wait(10)
    parent.stdout.close()
    assert gone(address)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_receiver_by_hand_ends_with_a_signal(api_settings, tmp_path):
    script = (
        "from d2i_helpers.demo import receiver\n"
        "from d2i_helpers.settings import load_settings\n"
        f"settings = load_settings(None, receiver_store={str(tmp_path / 'r.sqlite')!r})\n"
        "receiver.serve(settings, port=0, ready=lambda address: print(address, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().strip()
    assert requests.get(address, timeout=10).status_code == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    process.stdout.close()
    assert gone(address)


def test_what_is_wrong_at_the_start_comes_back_as_it_is(api_settings, tmp_path):
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults:\n  - {stauts: 500}\n")
    running = receiver.running(api_settings(receiver_faults=str(faults)))
    with pytest.raises(SettingsError, match="stauts"), running:
        pass
    store = tmp_path / "no.sqlite"
    store.write_text("this is no database, but a text that is long enough to be looked at")
    running = receiver.running(api_settings(receiver_store=str(store)))
    with pytest.raises(SettingsError, match=r"no\.sqlite"), running:
        pass


def test_a_port_that_is_taken(api_settings):
    settings = api_settings()
    with serving(settings) as served:
        port = int(served.address.rpartition(":")[2])
        with pytest.raises(SettingsError, match=str(port)):
            receiver.serve(settings, port=port)


def test_it_starts_without_what_a_run_needs():
    """Its process is to be there at once: no pandas, SQLAlchemy, pydantic or matplotlib."""
    script = (
        "import sys\n"
        "import d2i_helpers.demo.receiver, d2i_helpers.demo.receiver.app\n"
        "heavy = {'pandas', 'sqlalchemy', 'pydantic', 'matplotlib', 'requests'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == "[]"
