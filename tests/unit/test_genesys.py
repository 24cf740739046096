"""The Genesys client, against servers on the loopback interface."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import boto3
import certifi
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError as BotoSSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest import MonkeyPatch  # noqa: PT013 - short signatures

from holdfast.adapters.genesys import GenesysUserDirectory as Directory
from holdfast.adapters.genesys import Urls
from holdfast.adapters.genesys.http import ANSWER_BYTES_LIMIT
from holdfast.adapters.genesys.user_directory import CACHE_SECONDS
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import HoldfastError, Misconfigured, Throttled, Unavailable
from holdfast.domain.users import Entity
from local.eventually import eventually
from local.genesys import GenesysStandIn as Genesys
from local.genesys import user
from processor.app import ProcessorSettings
from tests.fakes import FakeDeadline
from tests.wire import Script, Wire, http

FUNCTIONS = Path(__file__).parents[2] / "functions"
ANNA, BEN, GONE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
MANY = sorted(str(uuid.UUID(int=number)) for number in range(10, 260))
CREDENTIALS = json.dumps({"clientId": "local-client", "clientSecret": "local-secret"})


class Clock:
    """Monotonic seconds that pass only in :meth:`sleep`."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Vault:
    """Secrets Manager with one secret: these values in order, the last one repeats."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.reads = 0

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: ARG002, N803 - boto3's name
        self.reads += 1
        return {"SecretString": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}


Make = Callable[..., Directory]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def genesys() -> Iterator[Genesys]:
    with Genesys(missing=[GONE]) as stand_in:
        yield stand_in


@pytest.fixture
def directory_of(clock: Clock, monkeypatch: MonkeyPatch) -> Make:
    for variable in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def make(url: str, vault: Vault | None = None, **more: Any) -> Directory:
        secret = CredentialsSecret(vault or Vault(CREDENTIALS), "arn:secret")
        options = {"clock": clock, "sleep": clock.sleep, "rng": lambda: 0.5, **more}
        return Directory(Urls.of("unused", url, url), secret, **options)

    return make


@pytest.fixture
def directory(genesys: Genesys, directory_of: Make) -> Directory:
    return directory_of(genesys.url)


def lookup(directory: Directory, *ids: str, seconds: float = 60) -> dict[str, Entity | None]:
    return dict(directory.lookup(ids or (ANNA,), FakeDeadline(seconds)))


def failure_of(directory: Directory, *ids: str, seconds: float = 60) -> HoldfastError:
    with pytest.raises(HoldfastError) as caught:
        lookup(directory, *ids, seconds=seconds)
    return caught.value


def requests_to(genesys: Genesys) -> dict[str, int]:
    return dict(genesys.stats()["requests"])


def known(*ids: str) -> dict[str, Entity | None]:
    return {user_id: Entity(user(user_id)["name"], user(user_id)["email"]) for user_id in ids}


# -- calls and cache -------------------------------------------------------------------------------------------------


def test_all_uncached_users_are_requested_in_one_call_and_no_users_in_none(
    genesys: Genesys, directory: Directory
) -> None:
    assert lookup(directory, ANNA, BEN, ANNA) == known(ANNA, BEN)
    assert dict(directory.lookup([], FakeDeadline())) == {}
    assert requests_to(genesys) == {"POST /oauth/token 200": 1, "GET /api/v2/users 200": 1}


def test_users_and_their_absence_are_cached_until_they_expire(
    genesys: Genesys, directory: Directory, clock: Clock
) -> None:
    for _ in range(4):
        assert lookup(directory, ANNA, GONE) == {**known(ANNA), GONE: None}
    assert requests_to(genesys)["GET /api/v2/users 200"] == 1
    assert directory.usage() == {"ApiCalls": 2, "CacheHits": 6}
    assert dict(directory.usage()) == {}, "usage counts from the last call"
    clock.now += CACHE_SECONDS + 1
    lookup(directory)
    assert requests_to(genesys)["GET /api/v2/users 200"] == 2


def test_an_entry_that_expires_during_a_lookup_is_requested_again(genesys: Genesys, directory_of: Make) -> None:
    class FastClock(Clock):
        def __call__(self) -> float:
            self.now += CACHE_SECONDS / 4
            return self.now

    directory = directory_of(genesys.url, clock=FastClock())
    for _ in range(8):
        assert lookup(directory) == known(ANNA)


@pytest.mark.parametrize(("count", "calls"), [(99, 1), (100, 1), (101, 2), (250, 3)])
def test_a_call_requests_at_most_a_hundred_users(
    genesys: Genesys, directory: Directory, count: int, calls: int
) -> None:
    assert lookup(directory, *MANY[:count]) == known(*MANY[:count])
    assert requests_to(genesys)["GET /api/v2/users 200"] == calls


# -- the token -------------------------------------------------------------------------------------------------------


def test_a_token_is_used_until_a_minute_before_its_end(directory_of: Make, clock: Clock) -> None:
    with Genesys(token_seconds=300) as genesys:
        directory = directory_of(genesys.url)
        for passed, user_id, issued in ((0, ANNA, 1), (239, BEN, 1), (1, GONE, 2)):
            clock.now += passed
            lookup(directory, user_id)
            assert genesys.stats()["tokensIssued"] == issued


def test_a_token_that_is_refused_before_its_end_is_renewed(genesys: Genesys, directory: Directory) -> None:
    lookup(directory, ANNA)
    genesys.revoke()
    assert lookup(directory, BEN) == known(BEN)
    assert genesys.stats()["tokensIssued"] == 2


def test_an_api_that_refuses_a_new_token_is_misconfigured(genesys: Genesys, directory: Directory) -> None:
    genesys.set_faults({"status": 401, "path": "/api"})
    assert isinstance(failure_of(directory), Misconfigured)
    assert requests_to(genesys) == {"POST /oauth/token 200": 2, "GET /api/v2/users 401": 2}


def test_wrong_credentials_are_misconfigured_and_sent_once(genesys: Genesys, directory: Directory) -> None:
    genesys.set_faults({"rejectCredentials": True})
    for _ in range(10):
        assert isinstance(failure_of(directory), Misconfigured)
    assert requests_to(genesys) == {"POST /oauth/token 401": 1}


def test_a_rotated_secret_is_read_again(genesys: Genesys, directory_of: Make) -> None:
    vault = Vault('{"clientId": "local-client", "clientSecret": "före"}', genesys.credentials)
    assert lookup(directory_of(genesys.url, vault)) == known(ANNA)
    assert requests_to(genesys)["POST /oauth/token 401"] == 1
    assert vault.reads == 2


def test_concurrent_lookups_request_one_token(genesys: Genesys, directory: Directory) -> None:
    genesys.set_faults({"latencySeconds": 0.05, "path": "/oauth/token"})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(partial(lookup, directory), MANY[:8])) == [known(one) for one in MANY[:8]]
    assert genesys.stats()["tokensIssued"] == 1


# -- retries and the circuit breaker -----------------------------------------------------------------------------------


def test_after_429_no_call_is_made_before_retry_after_is_over(
    genesys: Genesys, directory: Directory, clock: Clock
) -> None:
    genesys.set_faults({"status": 429, "retryAfter": 120, "path": "/api"})
    assert failure_of(directory).retry_after == 120
    calls = requests_to(genesys)
    for passed in (0, 60, 59.9):
        clock.now += passed
        error = failure_of(directory)
        assert isinstance(error, Throttled)
        assert error.retry_after == pytest.approx(1_120 - clock.now)
    assert requests_to(genesys) == calls
    assert clock.slept == [], "a wait of two minutes does not fit into the invocation"
    genesys.set_faults()
    clock.now += 0.2
    assert lookup(directory) == known(ANNA)


def test_a_short_retry_after_is_waited_for(genesys: Genesys, directory: Directory, clock: Clock) -> None:
    genesys.set_faults({"status": 429, "retryAfter": 2, "times": 1, "path": "/api"})
    assert lookup(directory) == known(ANNA)
    assert clock.slept == [pytest.approx(2.15)]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 403, 404, 405])
def test_a_transient_answer_is_retried_twice_with_growing_waits_and_one_that_a_setting_causes_is_not(
    genesys: Genesys, directory: Directory, clock: Clock, status: int
) -> None:
    error, waits = (Misconfigured, []) if status in (403, 404, 405) else (Unavailable, [0.15, 0.3])
    genesys.set_faults({"status": status, "path": "/api"})
    assert isinstance(failure_of(directory), error)
    assert requests_to(genesys)[f"GET /api/v2/users {status}"] == 1 + len(waits)
    assert clock.slept == pytest.approx(waits)


def test_the_breaker_opens_probes_once_after_each_growing_wait_and_closes(
    genesys: Genesys, directory: Directory, clock: Clock
) -> None:
    genesys.set_faults({"status": 503, "path": "/api"})
    failure_of(directory)
    for wait in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        before = requests_to(genesys)["GET /api/v2/users 503"]
        clock.now += wait - 0.1
        error = failure_of(directory)
        assert isinstance(error, Unavailable)
        assert error.retry_after == pytest.approx(0.1)
        assert requests_to(genesys)["GET /api/v2/users 503"] == before
        clock.now += 0.2
        failure_of(directory)
        assert requests_to(genesys)["GET /api/v2/users 503"] == before + 1, "a probe is one call"
    genesys.set_faults()
    clock.now += 31
    assert lookup(directory) == known(ANNA)
    genesys.set_faults({"status": 503, "path": "/api"})
    assert failure_of(directory, BEN).retry_after == 2.0, "the waits start again"


def test_cached_users_are_returned_while_the_breaker_is_open(genesys: Genesys, directory: Directory) -> None:
    lookup(directory, ANNA)
    genesys.set_faults({"status": 503})
    failure_of(directory, BEN)
    assert lookup(directory, ANNA) == known(ANNA)


@pytest.mark.parametrize("fault", [{"down": True}, {"latencySeconds": 0.3}])
def test_a_lost_connection_or_a_time_out_is_unavailable_and_its_error_contains_no_host(
    genesys: Genesys, directory: Directory, fault: dict[str, Any]
) -> None:
    genesys.set_faults(fault)
    error = failure_of(directory, seconds=0.2 if "latencySeconds" in fault else 60)
    assert isinstance(error, Unavailable)
    assert "127.0.0.1" not in str(error)


def test_a_refused_connection_is_unavailable(directory_of: Make) -> None:
    error = failure_of(directory_of("http://127.0.0.1:9"))
    assert isinstance(error, Unavailable)
    assert str(error) == "the Genesys API did not answer: ConnectionError"


def test_no_call_is_made_without_time(genesys: Genesys, directory: Directory) -> None:
    assert isinstance(failure_of(directory, seconds=0), Unavailable)
    assert requests_to(genesys) == {}


# -- unusual answers -------------------------------------------------------------------------------------------------

NO_USERS = http(b'{"entities": []}')


def entities(*found: Any) -> Script:
    return http(json.dumps({"entities": found}).encode())


@pytest.mark.parametrize(
    "users",
    [
        http(b"<html>Please log in</html>", Content_Type="text/html"),
        http(b""),
        http(b"[]"),
        http(b"null"),
        http(b"{}"),
        http(b'{"entities": {}}'),
        http(b"[" * 100_000),
    ],
)
def test_an_answer_without_the_api_s_json_is_unavailable(directory_of: Make, users: Script) -> None:
    with Wire(users) as server:
        assert isinstance(failure_of(directory_of(server.url)), Unavailable)
        assert server.paths == ["/oauth/token", "/api/v2/users"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"access_token": 5, "expires_in": 300}',
        '{"access_token": "", "expires_in": 300}',
        '{"access_token": "\u20ac", "expires_in": 300}',
        '{"access_token": "a\\r\\nX-Other: b", "expires_in": 300}',
    ],
)
def test_a_login_without_a_token_is_unavailable(directory_of: Make, content: str) -> None:
    with Wire(NO_USERS, http(content.encode())) as server:
        assert isinstance(failure_of(directory_of(server.url)), Unavailable)


def test_every_token_is_renewed_after_two_days(directory_of: Make, clock: Clock) -> None:
    with Wire(NO_USERS, http(b'{"access_token": "x", "expires_in": %s}' % (b"9" * 400))) as server:
        directory = directory_of(server.url)
        lookup(directory, ANNA)
        clock.now += 172_800
        lookup(directory, BEN)
        assert server.paths.count("/oauth/token") == 2


def test_an_id_that_the_api_rejects_is_absent_and_does_not_affect_the_others(directory_of: Make) -> None:
    found = entities(*({"id": user_id, "name": user_id} for user_id in (ANNA, BEN)))
    with Wire(lambda url: http(b"{}", "400 Bad Request") if GONE in url else found) as server:
        directory = directory_of(server.url)
        for _ in range(2):
            assert lookup(directory, ANNA, BEN, GONE) == {ANNA: Entity(ANNA, None), BEN: Entity(BEN, None), GONE: None}
        assert len(server.paths) == 6, "the second lookup is answered by the cache"


def test_a_failed_second_call_keeps_the_users_of_the_first(directory_of: Make) -> None:
    found = entities(*({"id": user_id, "name": user_id} for user_id in MANY))
    with Wire(lambda url: found if MANY[0] in url else http(b"", "503 Service Unavailable")) as server:
        directory = directory_of(server.url)
        assert isinstance(failure_of(directory, *MANY[:101]), Unavailable)
        assert lookup(directory, *MANY[:100]) == {user_id: Entity(user_id, None) for user_id in MANY[:100]}


def test_entities_that_are_not_users_are_ignored_and_half_a_surrogate_pair_is_replaced(directory_of: Make) -> None:
    users = [{"id": ANNA, "name": None, "email": 7}, {"id": BEN, "name": "Ben\ud800", "email": "\udfff"}]
    with Wire(entities(None, "x", {}, {"id": 5}, *users)) as server:
        found = lookup(directory_of(server.url), ANNA, BEN, GONE)
    assert found == {ANNA: Entity(None, None), BEN: Entity("Ben?", "?"), GONE: None}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("", 2.0), ("soon", 2.0), ("-5", 2.0), ("1.5", 2.0), ("7", 7.0), ("9" * 400, 604_800.0)],
)
def test_retry_after_is_read_as_seconds_up_to_a_week(directory_of: Make, retry_after: str, seconds: float) -> None:
    with Wire(http(b"{}", "503 Service Unavailable", Retry_After=retry_after)) as server:
        assert failure_of(directory_of(server.url), seconds=1).retry_after == seconds


# -- bounds ----------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
TRICKLES = {
    "a body byte by byte": Script((HEAD + b"Content-Length: 1000\r\n\r\n{", b" "), pause=0.02, endless=True),
    "a body up to the end of the connection": Script((HEAD + b"Connection: close\r\n\r\n{", b" "), 0.02, endless=True),
    "headers byte by byte": Script((HEAD, b"x"), pause=0.02, endless=True),
    "100 Continue again and again": Script((b"HTTP/1.1 100 Continue\r\n\r\n",), pause=0.02, endless=True),
    "nothing": Script((b"",), pause=0.02, endless=True),
}
HEALTHY = entities({"id": ANNA, "name": "Anna"})


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, private, serialization.NoEncryption()))
    return path


@contextmanager
def https(certificate: Path, users: Script) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    wire = Wire(users)
    wire.socket = context.wrap_socket(wire.socket, server_side=True)
    with wire:
        yield wire.url.replace("http:", "https:")


def assert_no_thread_is_left() -> None:
    eventually(lambda: "genesys" not in [thread.name for thread in threading.enumerate()], "no thread is left", 5)


@pytest.mark.parametrize("script", TRICKLES.values(), ids=TRICKLES)
def test_trickling_answers_end_at_the_deadline_leave_no_thread_and_do_not_stop_later_lookups(
    directory_of: Make, clock: Clock, script: Script
) -> None:
    with Wire(script) as wire:
        directory = directory_of(wire.url)
        for _ in range(10):
            began = time.monotonic()
            assert isinstance(failure_of(directory, seconds=0.1), Unavailable)
            assert time.monotonic() - began < 2
            clock.now += 60
        wire.users = HEALTHY
        assert lookup(directory) == {ANNA: Entity("Anna", None)}
        assert_no_thread_is_left()


@pytest.mark.parametrize("script", TRICKLES.values(), ids=TRICKLES)
def test_a_trickling_answer_over_tls_leaves_no_thread(
    directory_of: Make, certificate: Path, monkeypatch: MonkeyPatch, script: Script
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with https(certificate, script) as url:
        assert str(failure_of(directory_of(url), seconds=0.4)).endswith("did not answer in time")
        assert_no_thread_is_left()


@pytest.mark.parametrize(
    "script",
    [
        http(b'{"entities": []' + b" " * ANSWER_BYTES_LIMIT + b"}"),
        http(gzip.compress(b"[" + b" " * 64 * 1024 * 1024 + b"]"), Content_Encoding="gzip"),
        Script((HEAD + b"\r\n", b" " * 65_536), endless=True),
        Script((b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b" " * 65_536), endless=True),
    ],
    ids=["large", "large after unpacking", "endless", "an endless redirect"],
)
def test_an_answer_that_is_too_large_is_not_read_to_its_end(directory_of: Make, script: Script) -> None:
    with Wire(script) as wire:
        directory = directory_of(wire.url)
        tracemalloc.start()
        try:
            error = failure_of(directory)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(error, Unavailable)
    assert "larger than" in str(error)
    assert peak < 4 * ANSWER_BYTES_LIMIT


# -- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "public"),
    [({"AWS_CA_BUNDLE"}, {"REQUESTS_CA_BUNDLE"}), ({"REQUESTS_CA_BUNDLE"}, set()), (set(), set())],
)
def test_one_setting_names_the_ca_bundle_of_this_client_and_of_boto3(
    directory_of: Make, certificate: Path, monkeypatch: MonkeyPatch, own: set[str], public: set[str]
) -> None:
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in own | public:
        monkeypatch.setenv(variable, str(certificate) if variable in own else certifi.where())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    once = Config(region_name="eu-central-1", retries={"total_max_attempts": 1})
    with https(certificate, HEALTHY) as url, closing(boto3.client("sqs", endpoint_url=url, config=once)) as sqs:
        if own:
            assert lookup(directory_of(url)) == {ANNA: Entity("Anna", None)}
            sqs.list_queues()
        else:
            assert str(failure_of(directory_of(url))) == "the Genesys API did not answer: SSLError"
            with pytest.raises(BotoSSLError):
                sqs.list_queues()


def test_https_proxy_is_used_and_its_endless_answer_is_ended_too(directory_of: Make, monkeypatch: MonkeyPatch) -> None:
    with Wire(Script((b"HTTP/1.1 2", b"0"), pause=0.02, endless=True)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert str(failure_of(directory_of("https://genesys.invalid"), seconds=0.1)).endswith("did not answer in time")
        assert_no_thread_is_left()


def test_no_proxy_is_honoured(directory: Directory, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert lookup(directory) == known(ANNA)
    monkeypatch.delenv("NO_PROXY")
    assert str(failure_of(directory, BEN)) == "the Genesys API did not answer: ProxyError"


OTHERS = sorted(app.parent.name for app in FUNCTIONS.glob("*/app.py") if app.parent.name != "processor")


@pytest.mark.parametrize(
    ("code", "arn", "imported"),
    [
        ("".join(f"import {name}.app; " for name in OTHERS), "arn:secret", False),
        ("import processor.app; processor.app.production(); ", "", False),
        ("import processor.app; processor.app.production(); ", "arn:secret", True),
    ],
    ids=["the other functions", "the processor without credentials", "the processor with credentials"],
)
def test_requests_is_imported_only_where_users_are_looked_up(code: str, arn: str, imported: bool) -> None:
    settings = {field.name.upper(): "1" for field in fields(ProcessorSettings)}
    settings |= {
        "ENRICH_WITH": "users",
        "ENRICHMENT_POLICY": "required",
        "GENESYS_CREDENTIALS_SECRET_ARN": arn,
        "PYTHONPATH": str(FUNCTIONS),
    }
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", f"{code} import sys; print('requests' in sys.modules)"],
        env=settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(imported)]


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{}, {"rejectCredentials": True}, {"status": 503}, {"status": 401, "path": "/api"}, {"down": True}]
)
def test_secret_tokens_and_addresses_are_in_no_error_log_or_repr(
    genesys: Genesys, directory_of: Make, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    directory = directory_of(genesys.url)
    lookup(directory, BEN)
    genesys.set_faults(fault)
    if fault.get("rejectCredentials"):
        genesys.revoke()
    texts = [repr(directory), repr(CredentialsSecret(Vault(CREDENTIALS), "arn").get())]
    try:
        lookup(directory, ANNA)
    except HoldfastError as error:
        texts += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    for secret in ("local-secret", user(BEN)["email"], *genesys._tokens):
        assert not [text for text in (caplog.text, *texts) if secret in text]


def test_the_urls_of_a_region_follow_from_its_domain() -> None:
    assert Urls.of("mypurecloud.de") == Urls("https://api.mypurecloud.de", "https://login.mypurecloud.de")
    assert Urls.of("mypurecloud.de", "http://a", "http://l") == Urls("http://a", "http://l")
