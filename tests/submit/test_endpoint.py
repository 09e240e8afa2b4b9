"""Which endpoint a profile means, and what keeps it from being another by accident."""

from __future__ import annotations

import os

import pytest

from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import ENV_PREFIX, Secrets, load_settings
from d2i_helpers.submit.endpoint import endpoint_for

SECRETS = Secrets(client_id="real-id", client_secret="real-secret", supplier_key="real-key")
TEST = {
    "endpoint": "test",
    "api_base_url": "https://api.example/receiver-test/1",
    "token_url": "https://login.example/tenant/oauth2/v2.0/token",
    "token_scope": "https://example/.default",
    "la_code": "816",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def endpoint(secrets=SECRETS, **parameters):
    return endpoint_for(load_settings(None, **parameters), secrets)


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_endpoint_of_the_profile(slash):
    found = endpoint(**{**TEST, "api_base_url": TEST["api_base_url"] + slash})
    assert found.children_url == (
        "https://api.example/receiver-test/1/children_social_care_data/816/children"
    )
    assert (found.client_id, found.supplier_key) == ("real-id", "real-key")
    assert not found.on_loopback
    for secret in ("real-id", "real-secret", "real-key"):
        assert secret not in repr(found)


def test_everything_that_is_missing_is_named():
    with pytest.raises(SettingsError) as error:
        endpoint(Secrets(client_id="x"), endpoint="live", token_scope="s")
    for word in ("`api_base_url`", "`token_url`", "D2I_CLIENT_SECRET", "D2I_SUPPLIER_KEY"):
        assert word in str(error.value)
    for word in ("`token_scope`", "D2I_CLIENT_ID"):
        assert word not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example/1",
        "ftp://api.example/1",
        "api.example/1",
        "https://user:qx77@api.example/1",
        "https://api.example/1?key=1",
        "https:///1",
        "https://[bad/1",
    ],
)
@pytest.mark.parametrize("name", ["api_base_url", "token_url"])
def test_addresses_are_encrypted_and_hold_no_credentials(name, url):
    with pytest.raises(SettingsError, match=name) as error:
        endpoint(**{**TEST, name: url})
    assert "qx77" not in str(error.value)


def test_a_test_endpoint_on_this_machine_may_be_plain():
    assert endpoint(**{**TEST, "api_base_url": "http://127.0.0.1:9000/1"}).on_loopback


def test_the_simulated_one_never_gets_real_credentials():
    found = endpoint(endpoint="simulated", receiver_port=8089)
    assert found.base_url.startswith("http://127.0.0.1:8089/")
    assert found.token_url.startswith("http://127.0.0.1:8089/")
    assert {found.client_id, found.client_secret, found.supplier_key}.isdisjoint(
        {"real-id", "real-secret", "real-key"}
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"api_base_url": "https://api.example/1"},
        {"api_base_url": "http://127.0.0.1:1/1", "token_url": "https://login.example/token"},
        {"api_base_url": "https://127.0.0.1.example/1"},
    ],
)
def test_the_simulated_one_is_on_this_machine(parameters):
    with pytest.raises(SettingsError, match="this machine"):
        endpoint(endpoint="simulated", **parameters)


def test_the_simulated_one_by_hand_may_have_any_address_here():
    found = endpoint(endpoint="simulated", api_base_url="http://localhost:9000/other/1")
    assert found.base_url == "http://localhost:9000/other/1"
    assert found.token_url == "http://localhost:9000/simulated/oauth2/v2.0/token"


def test_the_simulated_one_has_no_address_before_it_is_started():
    with pytest.raises(SettingsError, match="receiver_port"):
        endpoint(endpoint="simulated")
