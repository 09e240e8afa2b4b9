"""Connections that fail, proxies, certificates, tokens, pacing: the client against any server."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import traceback

import pytest
import stamina.instrumentation

from d2i_helpers.errors import ReceiverError, SettingsError, TokenError
from d2i_helpers.settings import Secrets
from d2i_helpers.staging.states import Outcome
from d2i_helpers.submit.client import Client
from d2i_helpers.submit.endpoint import Endpoint, simulated_endpoint
from tests.submit.http.harness import Wall, answer, batch, record, token_answer

RECEIPT = b'["2026-08-10_02:15:07.31_0b0e5a1e-7a54-4b39-9f3b-0a3c4d5e6f70.json"]'


def accepting(head, body):
    """A server that gives tokens and takes everything."""
    if "/token" in head.splitlines()[0]:
        return token_answer()
    return answer(200, RECEIPT)


def outcomes(result):
    return [one.outcome for one in result.results]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# ------------------------------------------------------------------------------ not reached
def dead(raw, base_url: str) -> Endpoint:
    tokens = raw(accepting)
    return simulated_endpoint(tokens.address, "000", base_url=base_url)


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("http://127.0.0.1:{port}", "refused"),
        ("http://nowhere.invalid", "name"),
    ],
)
def test_a_receiver_that_is_not_there_has_stored_nothing(raw, api_settings, base_url, words):
    endpoint = dead(raw, base_url.format(port=free_port()))
    with Client(endpoint, api_settings()) as client:
        result = client.send(batch(3))
    assert outcomes(result) == [Outcome.UNSENT] * 3
    assert isinstance(result.stop, ReceiverError)
    assert words in str(result.stop)
    assert result.requests == 3


def test_it_is_unknown_where_an_earlier_try_may_have_been_stored(raw, api_settings):
    """The receiver dies with the first request in its hands."""
    ours = []

    def dies(head, body):
        if "/token" in head:
            return token_answer()
        ours[0].close_listening()
        return None

    server = raw(dies)
    ours.append(server)
    with Client(simulated_endpoint(server.address, "000"), api_settings()) as client:
        result = client.send(batch(2))
    assert outcomes(result) == [Outcome.UNKNOWN] * 2
    assert isinstance(result.stop, ReceiverError)


def test_an_answer_that_drips_is_cut_off(raw, api_settings):
    stop = threading.Event()

    def drips(head, body):
        if "/token" in head:
            return token_answer()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[" + b" " * 10

    server = raw(drips)
    settings = api_settings(read_timeout_api=0.3, attempts=1)
    with Client(simulated_endpoint(server.address, "000"), settings) as client:
        result = client.send([record("c0")])
    stop.set()
    assert outcomes(result) == [Outcome.UNKNOWN]


def test_a_redirect_is_not_followed(raw, api_settings):
    """It would take the token along, or turn the POST into a GET."""
    elsewhere = raw(accepting)

    def redirects(head, body):
        if "/token" in head:
            return token_answer()
        return answer(307, headers=f"Location: {elsewhere.address}/children\r\n")

    server = raw(redirects)
    with Client(simulated_endpoint(server.address, "000"), api_settings()) as client:
        result = client.send([record("c0")])
    assert isinstance(result.stop, ReceiverError)
    assert outcomes(result) == [Outcome.UNKNOWN]  # "303 See Other" answers a POST that was taken
    assert elsewhere.seen == []


# ------------------------------------------------------------------------------------ request
def test_what_a_request_looks_like(raw, api_settings):
    server = raw(accepting)
    endpoint = simulated_endpoint(server.address, "816")
    with Client(endpoint, api_settings(la_code="816", user_agent="D2I-test/9")) as client:
        result = client.send([record("c0")])
    assert outcomes(result) == [Outcome.ACKNOWLEDGED]
    (token_head, token_body), (head, body) = server.seen
    form = dict(pair.split("=") for pair in token_body.decode().split("&"))
    assert form["grant_type"] == "client_credentials"
    assert form["client_id"] == endpoint.client_id
    assert form["client_secret"] == endpoint.client_secret
    assert form["scope"].endswith(".default")
    assert "User-Agent: D2I-test/9" in token_head
    lines = head.splitlines()
    assert lines[0] == (
        "POST /children-in-social-care-data-receiver-test/1/children_social_care_data/816/children"
        " HTTP/1.1"
    )
    for header in (
        "User-Agent: D2I-test/9",
        "Content-Type: application/json",
        "Accept: application/json",
        "Authorization: Bearer raw-token",
        f"SupplierKey: {endpoint.supplier_key}",
        f"Content-Length: {len(body)}",
    ):
        assert header in lines
    assert body == b"[" + record("c0") + b"]"
    assert "Szymańska".encode() in body  # UTF-8 as it is


def test_a_netrc_file_adds_no_login(raw, api_settings, tmp_path, monkeypatch):
    """Neither in the place of the token, nor to the request for one."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    proxy = raw(Proxy())
    settings = api_settings(endpoint="test", proxy=proxy.address)
    with Client(beyond_a_proxy(), settings, Secrets()) as client:
        client.send([record("c0")])
    for_token, for_documents = (head.lower() for head, _ in proxy.seen)
    assert "authorization" not in for_token
    assert "\r\nauthorization: bearer raw-token\r\n" in for_documents


# -------------------------------------------------------------------------------------- token
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(401, b'{"error": "invalid_client", "error_description": "s3cret"}'), "secret is"),
        (answer(400, b'{"error": "invalid_scope"}'), "scope"),
        (answer(400, b'{"error": "s3cret"}'), "refused"),
        (answer(200, b"<html>s3cret</html>"), "not that of a token endpoint"),
        (answer(200, b"[1]"), "No access token"),
        (answer(200, b'"x"'), "No access token"),
        (answer(200, b'{"token_type": "Bearer"}'), "holds none"),
        (answer(200, b'{"access_token": "two words\\n"}'), "holds none"),
        (answer(302, headers="Location: /login\r\n"), "not that of a token endpoint (HTTP 302)"),
        (answer(401, b"<html>s3cret</html>"), "not that of a token endpoint (HTTP 401)"),
        (answer(403, b"<html>s3cret</html>"), "not that of a token endpoint (HTTP 403)"),
        (answer(404, b'{"message": "s3cret"}'), "not that of a token endpoint (HTTP 404)"),
        (answer(200, b"\xff\xfe\xfa"), "not that of a token endpoint (HTTP 200)"),
        (answer(400, b'{"error": {"code": "s3cret"}}'), "refused the request (HTTP 400)"),
        (
            answer(
                401,
                b'{"error": "invalid_client", "error_description": "AADSTS7000215: s3cret 4711"}',
            ),
            "the secret is wrong; often its id was copied instead of its value "
            "(HTTP 401, AADSTS7000215)",
        ),
        (
            answer(400, b'{"error": "invalid_request", "error_codes": [900144, 1]}'),
            "not sent (HTTP 400, AADSTS900144)",
        ),
        (
            answer(400, b'{"error": "s3cret", "error_description": "AADSTS123456789012"}'),
            "refused the request (HTTP 400)",
        ),
        (answer(200, b'{"access_token": "' + b"x" * 30_000 + b'"}'), "holds none"),
        (answer(200, '{"access_token": "tökén"}'.encode()), "holds none"),
        (answer(503, b"s3cret"), "HTTP 503"),
        (answer(407), "proxy"),
        (None, "broke"),
    ],
)
def test_a_token_that_cannot_be_had_ends_the_run(raw, api_settings, said, words):
    server = raw(lambda head, body: said)
    with Client(simulated_endpoint(server.address, "000"), api_settings()) as client:
        result = client.send(batch(2))
        with pytest.raises(TokenError):
            client.check_token()
    assert outcomes(result) == [Outcome.UNSENT] * 2
    assert isinstance(result.stop, TokenError)
    assert words in str(result.stop)
    assert result.requests == 0
    told = "".join(traceback.format_exception(result.stop))
    assert "s3cret" not in told
    asked = 3 if said is None or b" 503 " in said[:20] else 1  # what no repeat can heal, once
    assert len(server.seen) == 2 * asked


@pytest.mark.parametrize(
    "busy",
    [
        answer(400, b'{"error": "temporarily_unavailable", "error_description": "AADSTS90033"}'),
        answer(200, b'{"error": "temporarily_unavailable"}'),
        answer(400, b'\xef\xbb\xbf{"error": "server_error"}'),
        answer(408),
        answer(429),
        answer(503, b"<html>"),
        answer(200, b"{")[:-1],  # cut off
    ],
)
def test_a_token_endpoint_that_cannot_answer_now_is_asked_again(raw, api_settings, busy):
    answers = [busy, token_answer()]
    server = raw(lambda head, body: None if not answers else answers.pop(0))
    settings = api_settings(read_timeout_api=0.3)
    with Client(simulated_endpoint(server.address, "000"), settings) as client:
        assert client.check_token() > 0
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("said", "lifetime"),
    [
        ("3599", 3599 - 60),
        ('"3599"', 3599 - 60),
        ("3599.5", 3599.5 - 60),
        ("40", 30),
        ("1e400", None),
        ('"1e400"', None),
        ("-1e400", None),
        ("NaN", None),
        ("Infinity", None),
        ("9" * 5000, None),
        ("-5", 0),
        ("0", 0),
        ("null", None),
        ("true", None),
        ('"soon"', None),
        ("[1]", None),
        ("{}", None),
    ],
)
def test_a_lifetime_of_any_kind(raw, api_settings, said, lifetime):
    wall = Wall()
    body = f'{{"access_token": "raw-token", "expires_in": {said}}}'.encode()
    server = raw(lambda head, _: answer(200, body if "/token" in head else RECEIPT))
    endpoint = simulated_endpoint(server.address, "000")
    with Client(endpoint, api_settings(), now=wall.now, sleep=wall.sleep) as client:
        left = client.check_token()
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    assert left == (float("inf") if lifetime is None else pytest.approx(lifetime))


@pytest.mark.parametrize(
    "written",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: json.dumps(text).encode(),
        lambda text: json.dumps("\ufeff" + text).encode("utf-16-le"),
    ],
)
def test_a_token_that_is_readable_is_read(raw, api_settings, written):
    body = written('{"access_token": "raw-token", "expires_in": 3599, "token_type": "Bearer"}')
    server = raw(lambda head, _: answer(200, body if "/token" in head else RECEIPT))
    with Client(simulated_endpoint(server.address, "000"), api_settings()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    assert "Authorization: Bearer raw-token" in server.seen[-1][0]


def test_a_token_endpoint_that_is_not_there_ends_the_run(api_settings):
    endpoint = simulated_endpoint(f"http://127.0.0.1:{free_port()}", "000")
    with Client(endpoint, api_settings()) as client:
        result = client.send(batch(2))
    assert isinstance(result.stop, TokenError)
    assert "refused" in str(result.stop)


def test_a_busy_token_endpoint_is_asked_again(raw, api_settings):
    answers = [answer(503), answer(429, headers="Retry-After: 1\r\n"), token_answer()]

    def busy(head, body):
        return answers.pop(0) if "/token" in head else answer(200, RECEIPT)

    with Client(simulated_endpoint(raw(busy).address, "000"), api_settings()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    assert answers == []


def test_one_token_serves_until_shortly_before_its_end(raw, api_settings):
    wall = Wall()
    server = raw(accepting)
    endpoint = simulated_endpoint(server.address, "000")
    with Client(endpoint, api_settings(), now=wall.now, sleep=wall.sleep) as client:

        def tokens_after(seconds: float) -> int:
            wall.time += seconds
            client.send([record("c0")])
            return sum("/token" in head.splitlines()[0] for head, _ in server.seen)

        assert tokens_after(0) == 1
        assert tokens_after(3500) == 1
        assert tokens_after(41) == 2  # 59 seconds are left of 3600


def test_a_token_of_unknown_lifetime_is_kept(raw, api_settings):
    wall = Wall()

    def answering(head, body):
        return token_answer(expires_in=None) if "/token" in head else answer(200, RECEIPT)

    server = raw(answering)
    endpoint = simulated_endpoint(server.address, "000")
    with Client(endpoint, api_settings(), now=wall.now, sleep=wall.sleep) as client:
        client.send([record("c0")])
        wall.time += 100_000
        client.send([record("c0")])
    assert len(server.seen) == 3


# ------------------------------------------------------------------------------------- pacing
def test_the_pause_between_requests(raw, api_settings):
    wall = Wall()
    server = raw(accepting)
    settings = api_settings(pause_seconds=2.5)
    endpoint = simulated_endpoint(server.address, "000")
    with Client(endpoint, settings, steady=wall.now, sleep=wall.sleep) as client:
        for _ in range(3):
            client.send([record("c0")])
    assert wall.sleeps == [2.5, 2.5]  # none before the first


def test_a_clock_that_is_set_back_makes_no_pause_longer(raw, api_settings):
    wall = Wall()
    server = raw(accepting)
    settings = api_settings(pause_seconds=2.5)
    endpoint = simulated_endpoint(server.address, "000")
    with Client(endpoint, settings, now=wall.now, sleep=wall.sleep) as client:
        client.send([record("c0")])
        wall.time -= 3600
        client.send([record("c0")])
    assert all(seconds <= 2.5 for seconds in wall.sleeps)


@pytest.fixture
def waits():
    """Seconds of each wait before a retry."""
    noted: list[float] = []
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([lambda details: noted.append(details.wait_for)])
    yield noted
    stamina.instrumentation.set_on_retry_hooks(before)


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("1", 0.3, 0.3),  # never longer than wait_max
        ("0", 0.02, 0.03),  # as without it
        ("Fri, 01 Jan 2027 00:00:10 GMT\r\nDate: Fri, 01 Jan 2027 00:00:00 GMT", 0.3, 0.3),
    ],
)
def test_retry_after_decides_the_wait(raw, api_settings, waits, asked, least, most):
    answers = [answer(429, headers=f"Retry-After: {asked}\r\n"), answer(200, RECEIPT)]

    def busy(head, body):
        return token_answer() if "/token" in head else answers.pop(0)

    settings = api_settings(wait_initial=0.02, wait_max=0.3)
    with Client(simulated_endpoint(raw(busy).address, "000"), settings) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    (wait,) = waits
    assert least <= wait <= most


def test_waits_grow_up_to_the_cap(raw, api_settings, waits):
    server = raw(lambda head, body: token_answer() if "/token" in head else answer(503))
    settings = api_settings(attempts=5, wait_initial=0.01, wait_max=0.05)
    with Client(simulated_endpoint(server.address, "000"), settings) as client:
        client.send([record("c0")])
    for wait, least in zip(waits, [0.01, 0.02, 0.04, 0.05], strict=True):
        assert least <= round(wait, 9) <= min(0.05, least + 0.005)


def test_a_retry_after_holds_the_other_threads_too(raw, api_settings):
    wall = Wall()
    answers = [answer(429, headers="Retry-After: 60\r\n"), *[answer(200, RECEIPT)] * 2]

    def busy(head, body):
        return token_answer() if "/token" in head else answers.pop(0)

    settings = api_settings(wait_max=0.2, attempts=1)
    endpoint = simulated_endpoint(raw(busy).address, "000")
    with Client(endpoint, settings, steady=wall.now, sleep=wall.sleep) as client:
        client._wait_for(_again(client))
        client.send([record("c1")])
    assert wall.sleeps[0] == pytest.approx(0.2)


def _again(client):
    from d2i_helpers.submit.client import _Again
    from d2i_helpers.submit.outcomes import verdict
    from d2i_helpers.submit.transport import Answer

    busy = Answer(429, headers={"retry-after": "60"})
    return _Again(verdict(busy, 1), busy)


def test_several_threads_share_a_client(start):
    faults = {"faults": [{"every": 7, "status": 503}, {"every": 11, "drop": "after"}]}
    # threads take turns by chance: with few attempts, one batch could meet a fault each time
    client, served = start(faults, max_in_flight=4, attempts=12)
    results = {}

    def send(number):
        results[number] = client.send([record(f"t{number}-{n}") for n in range(5)])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served.documents()) == 24 * 5
    tokens = [r for r in served.get("/admin/requests") if r["path"].endswith("/token")]
    assert len(tokens) == 1
    assert {o for result in results.values() for o in outcomes(result)} == {Outcome.ACKNOWLEDGED}


# ------------------------------------------------------------------------------------ proxies
class Proxy:
    """Answers of an HTTP proxy to plain requests (absolute addresses in the first line)."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login

    def __call__(self, head, body):
        if self.login:
            wanted = "proxy-authorization: basic " + base64.b64encode(self.login.encode()).decode()
            if wanted.lower() not in head.lower():
                return answer(407, headers='Proxy-Authenticate: Basic realm="p"\r\n')
        assert head.split()[1].startswith("http://")
        return accepting(head, body)


def beyond_a_proxy() -> Endpoint:
    """Addresses that only a proxy could reach."""
    return Endpoint(
        "http://api.invalid/1", "http://login.invalid/token", "x/.default", "000", "i", "s", "k"
    )


def test_token_and_documents_go_through_the_proxy(raw, api_settings):
    proxy = raw(Proxy())
    settings = api_settings(endpoint="test", proxy=proxy.address)
    with Client(beyond_a_proxy(), settings, Secrets()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    first_lines = [head.splitlines()[0] for head, _ in proxy.seen]
    assert first_lines == [
        "POST http://login.invalid/token HTTP/1.1",
        "POST http://api.invalid/1/children_social_care_data/000/children HTTP/1.1",
    ]


def test_the_proxy_of_the_profile_goes_before_that_of_the_environment(
    raw, api_settings, monkeypatch
):
    proxy = raw(Proxy())
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "api.invalid")
    settings = api_settings(endpoint="test", proxy=proxy.address)
    with Client(beyond_a_proxy(), settings, Secrets()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]


def test_a_proxy_of_the_environment_is_used_and_never_for_loopback(raw, api_settings, monkeypatch):
    proxy, server = raw(Proxy()), raw(accepting)
    monkeypatch.setenv("http_proxy", proxy.address)
    with Client(beyond_a_proxy(), api_settings(endpoint="test"), Secrets()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    assert len(proxy.seen) == 2
    with Client(simulated_endpoint(server.address, "000"), api_settings()) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]
    assert len(proxy.seen) == 2


def test_a_proxy_that_wants_a_login(raw, api_settings):
    proxy = raw(Proxy(login="jo@la:p@ss/word"))
    settings = api_settings(endpoint="test", proxy=proxy.address)
    with Client(beyond_a_proxy(), settings, Secrets()) as client:
        refused = client.send([record("c0")])
    assert isinstance(refused.stop, TokenError)
    assert "D2I_PROXY_USER" in str(refused.stop)
    login = Secrets(proxy_user="jo@la", proxy_password="p@ss/word")
    with Client(beyond_a_proxy(), settings, login) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]


@pytest.mark.parametrize("tunnelled", ["token", "documents", "neither"])
@pytest.mark.parametrize(
    ("offered", "words"),
    [
        (["Negotiate", "NTLM"], "takes only Windows logins"),
        (["NTLM TlRMTVNTUAA="], "takes only Windows logins"),
        (["Kerberos, Negotiate"], "takes only Windows logins"),
        (['Digest realm="Basic, too", nonce="x"'], "takes no Basic login"),
        (["Negotiate", 'Basic realm="p, NTLM"'], "wants a login"),
        ([], "wants a login"),
    ],
)
def test_what_logins_a_proxy_takes_is_told(raw, api_settings, tunnelled, offered, words):
    def proxy(head, body):
        wanted = {"token": "CONNECT login", "documents": "CONNECT api"}.get(tunnelled, "POST http")
        if head.startswith(wanted):
            lines = [f"Proxy-Authenticate: {scheme}\r\n" for scheme in offered]
            return answer(407, b"<html>", "Connection: close\r\n" + "".join(lines))
        return accepting(head, body)

    server = raw(proxy)
    token, api = (("https" if tunnelled == where else "http") for where in ("token", "documents"))
    endpoint = Endpoint(
        f"{api}://api.invalid/1", f"{token}://login.invalid/token", "x/.default", "000", *"isk"
    )
    settings = api_settings(endpoint="test", proxy=server.address)
    login = Secrets(proxy_user="LA\\svc", proxy_password="p@ss:w/rd#1%")
    with Client(endpoint, settings, login) as client:
        result = client.send([record("c0")])
    assert outcomes(result) == [Outcome.UNSENT]
    assert words in str(result.stop)
    assert ("px or cntlm" in str(result.stop)) == (words != "wants a login")
    assert len(server.seen) == (2 if tunnelled == "documents" else 1)  # no repeat would help
    for secret in ("svc", "p@ss", "TlRM"):
        assert secret not in str(result.stop)


def test_a_proxy_that_refuses_the_tunnel(raw, api_settings):
    """HTTPS goes through CONNECT; its refusal comes before anything of ours was sent."""
    proxy = raw(
        lambda head, body: answer(407) if head.startswith("CONNECT") else accepting(head, body)
    )
    endpoint = Endpoint(
        "https://api.invalid", "http://login.invalid/token", "x/.default", "000", "i", "s", "k"
    )
    settings = api_settings(endpoint="test", proxy=proxy.address)
    with Client(endpoint, settings, Secrets()) as client:
        result = client.send([record("c0")])
    assert outcomes(result) == [Outcome.UNSENT]
    assert "D2I_PROXY_USER" in str(result.stop)
    assert result.requests == 1


def test_a_proxy_that_is_not_there(api_settings):
    settings = api_settings(endpoint="test", proxy=f"http://127.0.0.1:{free_port()}")
    with Client(beyond_a_proxy(), settings, Secrets()) as client:
        result = client.send([record("c0")])
    assert outcomes(result) == [Outcome.UNSENT]
    assert "proxy" in str(result.stop)


# --------------------------------------------------------------------------------- certificates
@pytest.fixture
def https(raw, tls):
    server = raw(accepting, tls)
    return f"https://127.0.0.1:{server.port}"


def encrypted(raw, https: str) -> Endpoint:
    return Endpoint(https, raw(accepting).address + "/token", "x/.default", "000", "i", "s", "k")


def test_a_certificate_that_is_not_trusted_ends_the_run(raw, https, api_settings):
    with Client(encrypted(raw, https), api_settings(endpoint="test")) as client:
        result = client.send(batch(2))
    assert outcomes(result) == [Outcome.UNSENT] * 2
    assert "ca_bundle" in str(result.stop)
    assert result.requests == 1  # trying again would not help


def test_the_same_for_the_token(https, api_settings):
    endpoint = Endpoint(https, https + "/token", "x/.default", "000", "i", "s", "k")
    with Client(endpoint, api_settings(endpoint="test")) as client:
        result = client.send(batch(2))
    assert isinstance(result.stop, TokenError)
    assert "ca_bundle" in str(result.stop)


def test_a_ca_bundle_makes_it_trusted(https, api_settings, certificate, monkeypatch):
    # the profile's bundle counts, not that of the environment
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/at/all.pem")
    endpoint = Endpoint(https, https + "/token", "x/.default", "000", "i", "s", "k")
    settings = api_settings(endpoint="test", ca_bundle=str(certificate / "cert.pem"))
    with Client(endpoint, settings) as client:
        assert outcomes(client.send([record("c0")])) == [Outcome.ACKNOWLEDGED]


def test_a_ca_bundle_that_is_not_there_is_told_at_once(api_settings):
    settings = api_settings(endpoint="test", ca_bundle="/nowhere/at/all.pem")
    with pytest.raises(SettingsError, match=r"all\.pem"):
        Client(beyond_a_proxy(), settings, Secrets())


# ------------------------------------------------------------------------------------- privacy
def test_no_secret_and_no_body_in_what_is_told(raw, api_settings, caplog, capfd):
    """Errors, logs and reprs, with answers that echo everything that was sent."""
    caplog.set_level(logging.DEBUG)
    said = []

    def echoes(head, body):
        if "/token" in head.splitlines()[0]:
            return token_answer(access_token="tok3n")
        status = (400, 500, 403, 200, 404)[len(said) % 5]
        said.append(status)
        return answer(status, b"[0].child_details.surname: " + head.encode() + body)

    server = raw(echoes)
    endpoint = Endpoint(
        server.address, server.address + "/token", "x/.default", "000", "cl1ent", "s3cret", "k3y"
    )
    told = [repr(endpoint), str(endpoint)]
    for _ in range(6):
        with Client(endpoint, api_settings(endpoint="test", attempts=1)) as client:
            told.append(repr(client))
            result = client.send([record("c0"), record("c1")])
            told.append(repr(result))
            if result.stop is not None:
                told += traceback.format_exception(result.stop)
    told += [caplog.text, *capfd.readouterr()]
    everything = "\n".join(told)
    secrets = ("tok3n", "s3cret", "k3y", "cl1ent")
    for word in (*secrets, "Szyma", "Brien", "2014-05-06", "AB1", "Zofia"):
        assert word not in everything
    assert set(said) == {400, 500, 403, 200, 404}
