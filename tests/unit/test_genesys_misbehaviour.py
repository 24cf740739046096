"""What Genesys Cloud and the networks before it really answer, from public reports, and what it has to become."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from holdfast.adapters.dynamodb import AttemptsTable, AttemptsTableWriter
from holdfast.adapters.genesys.http import IDLE_READ_SECONDS
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.envelope import Event
from holdfast.domain.errors import Failure, Misconfigured, Throttled, Unavailable
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.policy import Limits
from holdfast.domain.processing import BatchReport
from holdfast.domain.triage import Archiver, Classifier, TriageInput
from holdfast.domain.users import ALL_KINDS, Entity, Kind
from local.genesys import QUEUES_PATH, WRAP_UP_CODES_PATH, GenesysStandIn, named, user
from processor.app import report
from tests.fakes import NOW, FakeAttemptLog, FakeBuffer, FakeDeadline, FakeEventStore, FakeObjects
from tests.unit.samples import body, event_of, record
from tests.unit.test_genesys import (
    ANNA,
    BEN,
    CREDENTIALS,
    MANY,
    Clock,
    Directory,
    Make,
    Vault,
    clock,
    directory,
    directory_of,
    failure_of,
    known,
    lookup,
    requests_to,
)
from tests.wire import Wire, http
from tests.world import POLICY

__all__ = ["clock", "directory", "directory_of"]
LEFT = "00000000-0000-0000-0000-00000000abcd"


@pytest.fixture
def genesys() -> Iterator[GenesysStandIn]:
    with GenesysStandIn(inactive=[LEFT]) as stand_in:
        yield stand_in


# -- the login ---------------------------------------------------------------------------------------------------------


def test_a_login_over_its_rate_is_throttled_with_growing_waits_and_the_secret_is_not_read_again(
    genesys: GenesysStandIn, directory_of: Make, clock: Clock
) -> None:
    vault = Vault(CREDENTIALS)
    directory = directory_of(genesys.url, vault)
    genesys.set_faults({"tokensPerSecond": 0})
    error = failure_of(directory)
    assert (type(error), error.category) == (Throttled, "THROTTLED_UPSTREAM")
    assert requests_to(genesys) == {"POST /oauth/token 400": 5}
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]
    assert vault.reads == 1


def test_the_retries_of_a_throttled_login_stay_within_the_deadline(
    genesys: GenesysStandIn, directory: Directory
) -> None:
    genesys.set_faults({"tokensPerSecond": 0})
    assert isinstance(failure_of(directory, seconds=0.4), Throttled)
    assert requests_to(genesys) == {"POST /oauth/token 400": 1}


def test_environments_that_start_at_once_all_get_a_token(genesys: GenesysStandIn, directory_of: Make) -> None:
    genesys.set_faults({"tokensPerSecond": 10})
    vaults = [Vault(CREDENTIALS) for _ in range(30)]
    jitter = random.Random(17)  # noqa: S311 - jitter, not a secret
    made = [directory_of(genesys.url, vault, sleep=time.sleep, rng=jitter.random) for vault in vaults]
    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(lookup, made)) == [known(ANNA)] * 30
    assert [vault.reads for vault in vaults] == [1] * 30


@pytest.mark.parametrize(
    "fault",
    [
        *({"status": status} for status in (403, 404, 405, 302, 301, 307)),
        {"status": 403, "html": True},
        {"status": 404, "html": True},
        {"status": 302, "html": True, "headers": {"Location": "https://sso.example.com/"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/oauth/token", "/api"])
def test_an_answer_that_a_setting_causes_is_misconfigured_at_the_first_try(
    genesys: GenesysStandIn, directory: Directory, fault: dict[str, Any], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    genesys.set_faults({**fault, "path": path})
    error = failure_of(directory)
    assert isinstance(error, Misconfigured)
    assert sum(count for name, count in requests_to(genesys).items() if name.endswith(str(fault["status"]))) == 1
    report(BatchReport(enrichment_failures=[Failure.of(error)]), {}, milliseconds=0)
    assert '"Misconfigured":[1.0]' in capsys.readouterr().out, "the metric that has an alarm"


@pytest.mark.parametrize("value", ["300", " 300 ", "300.0", 300, 300.5, None, "soon", True, -1, 0, {}, "nan", "inf"])
def test_the_life_of_a_token_may_be_text_or_missing(
    genesys: GenesysStandIn, directory: Directory, clock: Clock, value: Any
) -> None:
    genesys.set_faults({"expiresIn": value})
    assert lookup(directory) == known(ANNA)
    genesys.revoke()
    assert lookup(directory, BEN) == known(BEN), "a refused token is renewed whatever its expires_in"
    clock.now += 172_800
    lookup(directory, MANY[0])
    assert genesys.stats()["tokensIssued"] == 3


@pytest.mark.parametrize("wrong", ["hunter2\u2013x", "hunter2\ud800"])
def test_a_secret_with_other_characters_is_misconfigured_and_leaks_nothing(
    genesys: GenesysStandIn, directory_of: Make, wrong: str
) -> None:
    text = json.dumps({"clientId": "local-client", "clientSecret": wrong})
    error = failure_of(directory_of(genesys.url, Vault(text)))
    assert isinstance(error, Misconfigured)
    assert "hunter2" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert error.__suppress_context__ or error.__context__ is None or "hunter2" not in repr(error.__context__)


# -- waits -------------------------------------------------------------------------------------------------------------


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"retryAfter": "45.5"}, 45.5),
        ({"retryAfter": "30 "}, 30),
        ({"retryAfter": " 30"}, 30),
        ({"retryAfter": "a date"}, 100),
        ({"headers": {"inin-ratelimit-reset": "37"}}, 37),
        ({"retryAfter": "20", "headers": {"inin-ratelimit-reset": "37"}}, 20),
        ({"retryAfter": "soon", "headers": {"inin-ratelimit-reset": "37"}}, 37),
    ],
    ids=str,
)
def test_the_wait_that_was_asked_for_is_kept(
    genesys: GenesysStandIn, directory: Directory, clock: Clock, fault: dict[str, Any], seconds: float
) -> None:
    if fault.get("retryAfter") == "a date":
        fault = {"retryAfter": in_seconds(100)}
    genesys.set_faults({"status": 429, "path": "/api", **fault})
    error = failure_of(directory, seconds=10)
    assert error.retry_after == pytest.approx(seconds, abs=5)
    assert requests_to(genesys)["GET /api/v2/users 429"] == 1
    assert clock.slept == []


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e3", "Wed, 99 Oct 2026 07:28:00 GMT", "45.", "0x10", "4 5"])
def test_a_wait_that_cannot_be_read_is_none(
    genesys: GenesysStandIn, directory: Directory, clock: Clock, value: str
) -> None:
    genesys.set_faults({"status": 429, "path": "/api", "retryAfter": value})
    assert failure_of(directory, seconds=10).retry_after == 2.0, "the breaker's own wait"
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]


def test_a_date_that_is_over_means_now(genesys: GenesysStandIn, directory: Directory, clock: Clock) -> None:
    genesys.set_faults({"status": 429, "path": "/api", "times": 1, "retryAfter": in_seconds(-3_600)})
    assert lookup(directory) == known(ANNA)
    assert clock.slept == [pytest.approx(0.15)]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_ids_in_another_case_are_the_same_users(genesys: GenesysStandIn, directory: Directory) -> None:
    genesys.set_faults({"upperCase": True})
    lettered = "5f1c0a3e-0000-4000-8000-00000000000a"
    found = lookup(directory, lettered)
    assert found == {lettered: Entity(user(lettered)["name"], user(lettered)["email"])}


def test_users_on_further_pages_are_found(genesys: GenesysStandIn, directory: Directory) -> None:
    genesys.set_faults({"pageSize": 2})
    assert lookup(directory, *MANY[:5]) == known(*MANY[:5])
    assert requests_to(genesys)["GET /api/v2/users 200"] == 3


def test_an_absence_that_the_answer_does_not_prove_is_not_cached(directory_of: Make) -> None:
    page = {"entities": [{"id": ANNA, "name": "Anna"}], "total": 2, "pageCount": 1}
    with Wire(http(json.dumps(page).encode())) as server:
        directory = directory_of(server.url)
        assert lookup(directory, ANNA, BEN) == {ANNA: Entity("Anna"), BEN: None}
        server.users = http(json.dumps({"entities": [{"id": BEN, "name": "Ben"}]}).encode())
        assert lookup(directory, ANNA, BEN) == {ANNA: Entity("Anna"), BEN: Entity("Ben")}


def test_the_number_of_pages_is_bounded(directory_of: Make) -> None:
    page = {"entities": [{"id": ANNA, "name": "Anna"}], "total": 10**9, "pageCount": 10**9}
    with Wire(http(json.dumps(page).encode())) as server:
        assert lookup(directory_of(server.url), ANNA, BEN) == {ANNA: Entity("Anna"), BEN: None}
        assert server.paths.count("/api/v2/users") == 10


def test_users_who_have_left_are_found(directory: Directory) -> None:
    assert lookup(directory, LEFT) == known(LEFT)


@pytest.mark.parametrize(("kind", "path"), [(Kind.QUEUES, QUEUES_PATH), (Kind.WRAP_UP_CODES, WRAP_UP_CODES_PATH)])
def test_queues_and_wrap_up_codes_are_found_in_one_call_and_cached(
    genesys: GenesysStandIn, directory: Directory, kind: Kind, path: str
) -> None:
    wanted = {one: Entity(named(path, one)["name"]) for one in MANY[:100]}
    for _ in range(2):
        assert directory.lookup(MANY[:100], FakeDeadline(), kind) == wanted
    assert requests_to(genesys) == {"POST /oauth/token 200": 1, f"GET {path} 200": 1}
    assert directory.cached(MANY[:100]) == {}, "another kind has other entries"


def test_a_missing_permission_is_named(genesys: GenesysStandIn, directory: Directory) -> None:
    genesys.set_faults({"status": 403, "path": "/api"})
    with pytest.raises(Misconfigured, match="routing:queue:view"):
        directory.lookup([ANNA], FakeDeadline(), Kind.QUEUES)


# -- the correlation id ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"status": 403}, {"status": 401}, {"status": 302}])
def test_a_failed_answer_keeps_the_id_by_which_genesys_finds_it(
    genesys: GenesysStandIn, directory: Directory, fault: dict[str, Any]
) -> None:
    headers = {"inin-correlation-id": "5f1c0a3e-0000-4000-8000-00000000c0de"}
    genesys.set_faults({**fault, "path": "/api", "headers": headers})
    for _ in range(2):  # the second one fails at the open breaker
        error = failure_of(directory)
        assert error.correlation_id == Failure.of(error).correlation_id == "5f1c0a3e-0000-4000-8000-00000000c0de"


@pytest.mark.parametrize("odd", ["", "x" * 65, "a b", "<script>"])
def test_a_correlation_id_that_is_no_plain_word_is_left_out(
    genesys: GenesysStandIn, directory: Directory, odd: str
) -> None:
    genesys.set_faults({"status": 503, "path": "/api", "headers": {"inin-correlation-id": odd}})
    assert failure_of(directory).correlation_id is None


# -- connections -------------------------------------------------------------------------------------------------------


def test_connections_that_lead_nowhere_after_a_freeze_cost_one_fresh_try(
    genesys: GenesysStandIn, directory_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.adapters.genesys.http.IDLE_READ_SECONDS", 0.2)
    directory = directory_of(genesys.url)
    genesys.set_faults({"latencySeconds": 0.05})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: lookup(directory, one), MANY[:4]))
    genesys.set_faults()
    before = requests_to(genesys)["GET /api/v2/users 200"]
    genesys.freeze()
    assert lookup(directory, *MANY[4:8]) == known(*MANY[4:8])
    assert lookup(directory, MANY[8]) == known(MANY[8])
    assert requests_to(genesys)["GET /api/v2/users 200"] == before + 2
    assert len(directory._api._http._idle) == 1, "the other connections from before are closed"


def test_the_wait_for_an_idle_connection_is_below_three_seconds() -> None:
    assert IDLE_READ_SECONDS < 3


def test_trickling_answers_do_not_stop_later_lookups(
    genesys: GenesysStandIn, directory: Directory, clock: Clock
) -> None:
    genesys.set_faults({"trickleSeconds": 0.05})
    for _ in range(6):
        assert isinstance(failure_of(directory, seconds=0.1), Unavailable)
        clock.now += 60
    genesys.set_faults()
    assert lookup(directory) == known(ANNA)


# -- attempt record, verdict, archive ----------------------------------------------------------------------------------

CODE = "5f1c0a3e-0000-4000-8000-00000000c0de"


def test_the_correlation_id_reaches_the_attempt_record_the_verdict_and_the_archive() -> None:
    failure = Failure.of(Unavailable("the Genesys API answered 503", correlation_id=CODE))
    attempt = Attempt(AttemptKey("event-1", "message-1", 5), Status.FAILED, "2026-11-23T10:00:00.000Z", "r", failure)
    client = FakeTable()
    AttemptsTableWriter(client, "attempts", 30).write([attempt])
    assert AttemptsTable(client, "attempts").of_event("event-1") == [attempt]
    log, objects, store = FakeAttemptLog(), FakeObjects(), FakeEventStore()
    log.attempts[attempt.key] = attempt
    letter = DeadLetter.of(Message.of_record(record(body())))
    objects.create(letter.key, letter.as_json())
    triage_input = TriageInput("event-1", (letter.key,))
    verdict = Classifier(store, log, objects, FakeBuffer(), POLICY, Limits(5, 96)).classify(triage_input, NOW).as_json()
    assert verdict["evidence"]["correlationId"] == CODE
    key = Archiver(objects, log, store, "b").archive(triage_input, verdict, "arn:x:1", "2026-11-24T00:00:00.000Z")[
        "key"
    ]
    assert json.loads(objects.texts[key])["attempts"][0]["correlationId"] == CODE


class FakeTable:
    """DynamoDB with the attempt records of one event."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.items += [put["PutRequest"]["Item"] for puts in RequestItems.values() for put in puts]
        return {}

    def get_paginator(self, _operation: str) -> FakeTable:
        return self

    def paginate(self, **_: Any) -> list[Any]:
        return [{"Items": self.items}]


# -- a batch -----------------------------------------------------------------------------------------------------------


def events_of(*bodies_of: dict[str, Any]) -> dict[str, Event]:
    return {f"event-{n}": event_of(body(f"event-{n}", detail={"eventBody": one})) for n, one in enumerate(bodies_of)}


def test_customers_in_a_free_dictionary_cost_no_call(genesys: GenesysStandIn, directory: Directory) -> None:
    customers = [{"userId": ANNA, "attributes": {"userId": f"customer-{n:04}"}} for n in range(100)]
    enriched = Enrichment(directory, required=True).enrich(events_of(*customers), FakeDeadline())
    assert (enriched.complete, enriched.failures) == (100, [])
    assert requests_to(genesys) == {"POST /oauth/token 200": 1, "GET /api/v2/users 200": 1}


def test_a_batch_makes_one_call_per_kind_and_a_warm_one_makes_none(
    genesys: GenesysStandIn, directory: Directory
) -> None:
    one = {"userId": ANNA, "queueId": BEN, "wrapupCode": MANY[0], "evaluator": {"id": MANY[1]}}
    enrichment = Enrichment(directory, required=True, kinds=ALL_KINDS)
    for _ in range(2):
        enriched = enrichment.enrich(events_of(one, {**one, "queueId": MANY[2]}, {"note": 1}), FakeDeadline())
        assert (enriched.complete, enriched.failures) == (2, [])
    event = enriched.events["event-0"]
    assert isinstance(event, Event)
    assert event.payload["queueName"] == named(QUEUES_PATH, BEN)["name"]
    assert event.payload["wrapupCodeName"] == named(WRAP_UP_CODES_PATH, MANY[0])["name"]
    assert event.payload["evaluator"]["name"] == user(MANY[1])["name"]
    assert requests_to(genesys) == {
        "POST /oauth/token 200": 1,
        "GET /api/v2/users 200": 1,
        f"GET {QUEUES_PATH} 200": 1,
        f"GET {WRAP_UP_CODES_PATH} 200": 1,
    }


def test_a_kind_that_cannot_be_looked_up_fails_only_the_events_that_need_it(
    genesys: GenesysStandIn, directory: Directory
) -> None:
    genesys.set_faults({"status": 403, "path": QUEUES_PATH})
    events = events_of({"userId": ANNA}, {"userId": ANNA, "queueId": BEN})
    enriched = Enrichment(directory, required=False, kinds=ALL_KINDS).enrich(events, FakeDeadline())
    assert (enriched.complete, [failure.category for failure in enriched.failures]) == (1, ["MISCONFIGURED"])
    second = enriched.events["event-1"]
    assert isinstance(second, Event)
    assert second.payload["userName"] == user(ANNA)["name"]
    assert second.envelope["detail"]["enrichmentError"] == "MISCONFIGURED"
    calls = requests_to(genesys)
    assert lookup(directory, BEN) == known(BEN), "the users are looked up while the queues are refused"
    with pytest.raises(Misconfigured):
        directory.lookup([MANY[0]], FakeDeadline(), Kind.QUEUES)
    assert requests_to(genesys)[f"GET {QUEUES_PATH} 403"] == calls[f"GET {QUEUES_PATH} 403"] == 1
