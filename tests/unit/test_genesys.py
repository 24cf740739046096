"""The Genesys directory, against a stand-in on the loopback interface: few calls, and none against a closed door."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3

from holdfast.adapters.genesys import ANSWER_BYTES_LIMIT, CACHE_SECONDS, GenesysUserDirectory, Urls
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import HoldfastError, Misconfigured, Throttled, Unavailable
from holdfast.domain.users import User
from local.genesys import GenesysStandIn, user
from tests.fakes import FakeDeadline
from tests.wire import Script, Wire, http

ANNA, BEN, GONE = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
SECRET = "local-secret"


class Clock:
    """Monotonic seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Vault:
    """Secrets Manager: the texts given, one after the other, the last one for ever."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.reads = 0

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: ARG002, N803 - boto3's name
        self.reads += 1
        return {"SecretString": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}


Make = Callable[..., GenesysUserDirectory]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def genesys() -> Iterator[GenesysStandIn]:
    with GenesysStandIn(missing=[GONE]) as stand_in:
        yield stand_in


@pytest.fixture
def directory_of(clock: Clock) -> Iterator[Make]:
    made: list[GenesysUserDirectory] = []

    def make(url: str, vault: Vault | None = None, **more: Any) -> GenesysUserDirectory:
        vault = vault or Vault(json.dumps({"clientId": "local-client", "clientSecret": SECRET}))
        secret = CredentialsSecret(vault, "arn:secret")
        options = {"clock": clock, "sleep": clock.sleep, "rng": lambda: 0.5, **more}
        made.append(GenesysUserDirectory(Urls.of("unused", url, url), secret, **options))
        return made[-1]

    yield make
    for directory in made:
        directory._pool.clear()


@pytest.fixture
def directory(genesys: GenesysStandIn, directory_of: Make) -> GenesysUserDirectory:
    return directory_of(genesys.url)


def lookup(directory: GenesysUserDirectory, *ids: str, seconds: float = 60) -> dict[str, User | None]:
    return dict(directory.lookup(ids or (ANNA,), FakeDeadline(seconds)))


def failure_of(directory: GenesysUserDirectory, *ids: str, seconds: float = 60) -> HoldfastError:
    with pytest.raises(HoldfastError) as caught:
        lookup(directory, *ids, seconds=seconds)
    return caught.value


def asked(genesys: GenesysStandIn) -> dict[str, int]:
    return dict(genesys.stats()["requests"])


def known(user_id: str) -> User:
    made = user(user_id)
    return User(made["name"], made["email"])


# -- few calls -----------------------------------------------------------------------------------------------------


def test_all_unknown_users_are_asked_for_in_one_call(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    assert lookup(directory, ANNA, BEN, ANNA) == {ANNA: known(ANNA), BEN: known(BEN)}
    assert asked(genesys) == {"POST /oauth/token 200": 1, "GET /api/v2/users 200": 1}


def test_nobody_asked_for_is_no_call(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    assert dict(directory.lookup([], FakeDeadline())) == {}
    assert asked(genesys) == {}


def test_users_and_their_absence_are_cached(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    assert lookup(directory, ANNA, GONE) == {ANNA: known(ANNA), GONE: None}
    for _ in range(3):
        assert lookup(directory, ANNA, GONE) == {ANNA: known(ANNA), GONE: None}
    assert asked(genesys)["GET /api/v2/users 200"] == 1
    assert directory.usage() == {"ApiCalls": 2, "CacheHits": 6}
    assert dict(directory.usage()) == {}, "since it was asked last"


def test_what_is_cached_ends(genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock) -> None:
    lookup(directory)
    clock.now += CACHE_SECONDS + 1
    lookup(directory)
    assert asked(genesys)["GET /api/v2/users 200"] == 2


def test_an_entry_that_ends_while_it_is_looked_at_is_asked_for_again(
    genesys: GenesysStandIn, directory_of: Make
) -> None:
    class Hurrying(Clock):
        def __call__(self) -> float:
            self.now += CACHE_SECONDS / 4
            return self.now

    directory = directory_of(genesys.url, clock=Hurrying())
    for _ in range(8):
        assert lookup(directory) == {ANNA: known(ANNA)}


@pytest.mark.parametrize(("count", "calls"), [(99, 1), (100, 1), (101, 2), (250, 3)])
def test_a_call_asks_for_at_most_a_hundred_users(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, count: int, calls: int
) -> None:
    ids = [str(uuid.UUID(int=number + 10)) for number in range(count)]
    assert lookup(directory, *ids) == {user_id: known(user_id) for user_id in ids}
    assert asked(genesys)["GET /api/v2/users 200"] == calls


# -- the token -----------------------------------------------------------------------------------------------------


def test_a_token_serves_until_a_minute_before_its_end(directory_of: Make, clock: Clock) -> None:
    with GenesysStandIn(token_seconds=300) as genesys:
        directory = directory_of(genesys.url)
        lookup(directory, ANNA)
        clock.now += 239
        lookup(directory, BEN)
        assert genesys.stats()["tokensIssued"] == 1
        clock.now += 1
        lookup(directory, GONE)
        assert genesys.stats()["tokensIssued"] == 2


def test_a_401_in_the_middle_of_a_token_s_life_costs_one_new_token_and_no_event(
    genesys: GenesysStandIn, directory: GenesysUserDirectory
) -> None:
    lookup(directory, ANNA)
    genesys.revoke()
    assert lookup(directory, BEN) == {BEN: known(BEN)}
    assert genesys.stats()["tokensIssued"] == 2


def test_an_api_that_refuses_a_fresh_token_is_misconfigured_after_one_renewal(
    genesys: GenesysStandIn, directory: GenesysUserDirectory
) -> None:
    genesys.set_faults({"status": 401, "path": "/api"})
    assert isinstance(failure_of(directory), Misconfigured)
    assert asked(genesys) == {"POST /oauth/token 200": 2, "GET /api/v2/users 401": 2}


def test_a_wrong_secret_is_misconfigured_and_no_storm(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    genesys.set_faults({"rejectCredentials": True})
    for _ in range(10):
        assert isinstance(failure_of(directory), Misconfigured)
    assert asked(genesys) == {"POST /oauth/token 401": 1}


def test_a_secret_that_was_rotated_is_read_again_and_no_event_fails(
    genesys: GenesysStandIn, directory_of: Make
) -> None:
    vault = Vault(json.dumps({"clientId": "local-client", "clientSecret": "old"}), genesys.credentials)
    assert lookup(directory_of(genesys.url, vault)) == {ANNA: known(ANNA)}
    assert asked(genesys)["POST /oauth/token 401"] == 1
    assert vault.reads == 2


def test_concurrent_lookups_ask_for_one_token(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    found: dict[str, User | None] = {}
    ids = [str(uuid.UUID(int=number + 10)) for number in range(8)]
    genesys.set_faults({"latencySeconds": 0.05, "path": "/oauth/token"})
    threads = [threading.Thread(target=lambda one=one: found.update(lookup(directory, one))) for one in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {user_id: known(user_id) for user_id in ids}
    assert genesys.stats()["tokensIssued"] == 1


# -- failures ------------------------------------------------------------------------------------------------------


def test_429_with_retry_after_means_no_call_before_that(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock
) -> None:
    genesys.set_faults({"status": 429, "retryAfter": 120, "path": "/api"})
    error = failure_of(directory)
    assert isinstance(error, Throttled)
    assert error.retry_after == 120
    calls = asked(genesys)
    for passed in (0, 60, 59.9):
        clock.now += passed
        again = failure_of(directory)
        assert isinstance(again, Throttled)
        assert again.retry_after == pytest.approx(1_120 - clock.now)
    assert asked(genesys) == calls
    assert clock.slept == [], "the lambda does not wait two minutes"
    genesys.set_faults()
    clock.now += 0.2
    assert lookup(directory) == {ANNA: known(ANNA)}


def test_429_with_a_short_retry_after_is_waited_for(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock
) -> None:
    genesys.set_faults({"status": 429, "retryAfter": 2, "times": 1, "path": "/api"})
    assert lookup(directory) == {ANNA: known(ANNA)}
    assert clock.slept == [pytest.approx(2.15)]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_5xx_is_tried_three_times_with_growing_jittered_waits(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock, status: int
) -> None:
    genesys.set_faults({"status": status, "path": "/api"})
    assert isinstance(failure_of(directory), Unavailable)
    assert asked(genesys)[f"GET /api/v2/users {status}"] == 3
    assert clock.slept == [pytest.approx(0.15), pytest.approx(0.3)]


def test_a_short_outage_is_ridden_out(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    genesys.set_faults({"status": 503, "times": 2})
    assert lookup(directory) == {ANNA: known(ANNA)}


def test_after_giving_up_calls_fail_at_once_and_one_probe_finds_out(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock
) -> None:
    genesys.set_faults({"status": 503, "path": "/api"})
    failure_of(directory)
    for pause in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        before = asked(genesys)["GET /api/v2/users 503"]
        clock.now += pause - 0.1
        again = failure_of(directory)
        assert isinstance(again, Unavailable)
        assert again.retry_after == pytest.approx(0.1)
        assert asked(genesys)["GET /api/v2/users 503"] == before
        clock.now += 0.2
        failure_of(directory)
        assert asked(genesys)["GET /api/v2/users 503"] == before + 1, "a probe is one call"
    genesys.set_faults()
    clock.now += 31
    assert lookup(directory) == {ANNA: known(ANNA)}
    genesys.set_faults({"status": 503, "path": "/api"})
    assert failure_of(directory, BEN).retry_after == 2.0, "the pauses begin anew"


def test_what_the_api_shows_from_before_is_answered_while_the_door_is_closed(
    genesys: GenesysStandIn, directory: GenesysUserDirectory
) -> None:
    lookup(directory, ANNA)
    genesys.set_faults({"status": 503})
    failure_of(directory, BEN)
    assert lookup(directory, ANNA) == {ANNA: known(ANNA)}


def test_a_failing_second_chunk_fails_the_lookup_and_keeps_the_first(
    genesys: GenesysStandIn, directory: GenesysUserDirectory
) -> None:
    ids = sorted(str(uuid.UUID(int=number + 10)) for number in range(101))
    lookup(directory, ANNA)
    ask = directory._ask
    calls: list[int] = []

    def second_fails(user_ids: Any, deadline: Any) -> Any:
        calls.append(len(user_ids))
        if len(calls) == 2:
            genesys.set_faults({"status": 503})
        return ask(user_ids, deadline)

    directory._ask = second_fails  # type: ignore[method-assign]
    assert isinstance(failure_of(directory, *ids), Unavailable)
    assert set(lookup(directory, *ids[:100]).values()) == {known(user_id) for user_id in ids[:100]}


@pytest.mark.parametrize("fault", [{"down": True}, {"latencySeconds": 0.3}])
def test_a_lost_connection_or_a_time_out_is_unavailable_and_names_no_host(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, fault: dict[str, Any]
) -> None:
    genesys.set_faults(fault)
    error = failure_of(directory, seconds=0.2 if "latencySeconds" in fault else 60)
    assert isinstance(error, Unavailable)
    assert "127.0.0.1" not in str(error)


def test_a_refused_connection_is_unavailable(directory_of: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        directory = directory_of(f"http://127.0.0.1:{unused.getsockname()[1]}")
        error = failure_of(directory)
    assert isinstance(error, Unavailable)
    assert str(error) == "the Genesys API did not answer: NewConnectionError"


def test_without_time_nobody_is_called(genesys: GenesysStandIn, directory: GenesysUserDirectory) -> None:
    assert isinstance(failure_of(directory, seconds=0), Unavailable)
    assert asked(genesys) == {}


def test_a_wait_that_does_not_fit_is_not_begun(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, clock: Clock
) -> None:
    genesys.set_faults({"status": 503, "retryAfter": 5})
    failure_of(directory, seconds=5)
    assert clock.slept == []


@pytest.mark.parametrize(("status", "kind"), [(403, Misconfigured), (404, Misconfigured)])
def test_a_decision_of_the_api_is_not_asked_for_again(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, status: int, kind: type[HoldfastError]
) -> None:
    genesys.set_faults({"status": status, "path": "/api"})
    assert type(failure_of(directory)) is kind
    assert asked(genesys)[f"GET /api/v2/users {status}"] == 1


# -- odd answers ---------------------------------------------------------------------------------------------------

TOKEN = (200, {"Content-Type": "application/json"}, '{"access_token": "token-x", "expires_in": 300}')
Answer = tuple[int, dict[str, str], str]


@pytest.fixture
def scripted() -> Iterator[Callable[..., str]]:
    servers: list[ThreadingHTTPServer] = []

    def serve(users: Answer | Callable[[str], Answer], token: Answer = TOKEN) -> str:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                paths.append(self.path.partition("?")[0])
                answer = token if self.path.startswith("/oauth") else users
                status, headers, content = answer(self.path) if callable(answer) else answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_POST = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        paths: list[str] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.paths = paths  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    serve.servers = servers  # type: ignore[attr-defined]
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "users",
    [
        (200, {"Content-Type": "text/html"}, "<html>Please log in</html>"),
        (200, {}, ""),
        (200, {}, "[]"),
        (200, {}, "null"),
        (200, {}, "{}"),
        (200, {}, '{"entities": {}}'),
        (200, {}, "[" * 100_000),
        (302, {"Location": "/elsewhere"}, "{}"),
        (301, {"Location": "http://203.0.113.1/"}, '{"entities": []}'),
        (304, {}, ""),
    ],
)
def test_what_is_not_the_api_s_own_json_is_no_answer_of_it(
    scripted: Callable[..., str], directory_of: Make, users: Answer
) -> None:
    url = scripted(users)
    assert isinstance(failure_of(directory_of(url)), Unavailable)
    assert scripted.servers[0].paths == ["/oauth/token", "/api/v2/users"]  # type: ignore[attr-defined]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "script",
    [
        Script((HEAD + b"Content-Length: 1000\r\n\r\n{", b" "), pause=0.02, endless=True),
        Script((HEAD, b"x"), pause=0.02, endless=True),
        Script((b"HTTP/1.1 100 Continue\r\n\r\n",), pause=0.02, endless=True),
        Script((b"",), pause=0.02, endless=True),
    ],
    ids=["its body byte by byte", "its headers byte by byte", "continue for ever", "nothing"],
)
def test_an_answer_that_trickles_is_given_up_when_the_time_is_over(directory_of: Make, script: Script) -> None:
    with Wire(script) as wire:
        error = failure_of(directory_of(wire.url), seconds=0.1)
        assert isinstance(error, Unavailable), "the read time-out would let it go on for ever"


BOMB = gzip.compress(b"[" + b" " * 64 * 1024 * 1024 + b"]")


@pytest.mark.parametrize(
    "script",
    [
        http(b'{"entities": []' + b" " * ANSWER_BYTES_LIMIT + b"}"),
        http(BOMB, Content_Encoding="gzip"),
        Script((HEAD + b"\r\n", b" " * 65_536), endless=True),
    ],
    ids=["too large", "too large once it is unpacked", "without an end"],
)
def test_an_answer_that_is_too_large_is_not_read_to_its_end(directory_of: Make, script: Script) -> None:
    with Wire(script) as wire:
        directory = directory_of(wire.url)
        tracemalloc.start()
        try:
            answered = directory._answer("GET", f"{wire.url}/api/v2/users", {}, None, urllib3.Timeout(5))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert ANSWER_BYTES_LIMIT < len(answered.content) <= ANSWER_BYTES_LIMIT + 65_536
        assert peak < 4 * ANSWER_BYTES_LIMIT
        assert isinstance(failure_of(directory), Unavailable)


def test_half_a_surrogate_pair_in_a_name_does_not_make_the_event_unwritable(
    scripted: Callable[..., str], directory_of: Make
) -> None:
    entities = json.dumps({"entities": [{"id": ANNA, "name": "A\ud800", "email": "\udfff"}]})
    directory = directory_of(scripted((200, {}, entities)))
    assert lookup(directory, ANNA) == {ANNA: User("A?", "?")}


def test_a_token_of_any_length_of_life_is_renewed_after_two_days_at_the_latest(
    scripted: Callable[..., str], directory_of: Make, clock: Clock
) -> None:
    token = '{"access_token": "x", "expires_in": %s}' % ("9" * 400)
    directory = directory_of(scripted((200, {}, '{"entities": []}'), token=(200, {}, token)))
    lookup(directory, ANNA)
    clock.now += 172_800
    lookup(directory, BEN)
    assert scripted.servers[0].paths.count("/oauth/token") == 2  # type: ignore[attr-defined]


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
        '{"access_token": "x"}',
        '{"access_token": "x", "expires_in": "1"}',
    ],
)
def test_a_login_without_a_token_is_unavailable(scripted: Callable[..., str], directory_of: Make, content: str) -> None:
    url = scripted((200, {}, '{"entities": []}'), token=(200, {}, content))
    assert isinstance(failure_of(directory_of(url)), Unavailable)


def test_one_id_that_the_api_refuses_costs_the_others_nothing(scripted: Callable[..., str], directory_of: Make) -> None:
    entities = json.dumps({"entities": [{"id": user_id, "name": user_id} for user_id in (ANNA, BEN)]})

    def refusing(path: str) -> Answer:
        return (400, {}, "{}") if GONE in path else (200, {}, entities)

    directory = directory_of(scripted(refusing))
    assert lookup(directory, ANNA, BEN, GONE) == {ANNA: User(ANNA, None), BEN: User(BEN, None), GONE: None}
    assert lookup(directory, GONE) == {GONE: None}, "the refused id is remembered as absent"


def test_entities_that_are_no_users_are_passed_over(scripted: Callable[..., str], directory_of: Make) -> None:
    entities = [None, "x", {}, {"id": 5}, {"id": ANNA, "name": None, "email": 7}, {"id": BEN, "name": "Ben"}]
    directory = directory_of(scripted((200, {}, json.dumps({"entities": entities}))))
    assert lookup(directory, ANNA, BEN, GONE) == {ANNA: User(None, None), BEN: User("Ben", None), GONE: None}


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("", 2.0), ("soon", 2.0), ("-5", 2.0), ("1.5", 2.0), ("7", 7.0), ("9" * 400, 604_800.0)],
)
def test_retry_after_is_seconds_and_bounded(
    scripted: Callable[..., str], directory_of: Make, retry_after: str, seconds: float
) -> None:
    url = scripted((503, {"Retry-After": retry_after}, "{}"))
    error = failure_of(directory_of(url), seconds=1)
    assert error.retry_after == seconds


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{}, {"rejectCredentials": True}, {"status": 503}, {"status": 401, "path": "/api"}, {"down": True}]
)
def test_neither_secret_nor_token_nor_name_reaches_an_error_a_log_or_a_repr(
    genesys: GenesysStandIn, directory: GenesysUserDirectory, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    lookup(directory, BEN)
    token = directory._token
    directory._token = ""
    genesys.set_faults(fault)
    told = [repr(directory), repr(vars(directory)["_secret"])]
    try:
        lookup(directory, ANNA)
    except HoldfastError as error:
        told += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    for text in (caplog.text, *told):
        assert SECRET not in text
        assert token not in text
        assert known(BEN).email not in text


def test_the_hosts_of_a_region_follow_from_its_domain() -> None:
    assert Urls.of("mypurecloud.de") == Urls("https://api.mypurecloud.de", "https://login.mypurecloud.de")
    assert Urls.of("mypurecloud.de", "http://a", "http://l") == Urls("http://a", "http://l")
