"""The handlers: what they return to Lambda or to a state machine, their metrics, and that they log no payload."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

import archive.app
import classify.app
import dead_letter_intake.app
import evidence_sweep.app
import fan_out.app
import processor.app
import redrive.app
import replay.app
import settle.app
from holdfast.adapters import aws
from holdfast.adapters.settings import SettingsError
from holdfast.adapters.telemetry import logger
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.errors import (
    Failure,
    InvalidInput,
    Misconfigured,
    Rejected,
    SnapshotMissing,
    Throttled,
    Unavailable,
)
from holdfast.domain.fan_out import Answers, Publication, Publisher
from holdfast.domain.intake import TriageServices
from holdfast.domain.letters import DeadLetter
from holdfast.domain.ports import Deadline
from holdfast.domain.processing import ProcessorServices
from holdfast.domain.replay import Replayer
from holdfast.domain.sweep import Sweeper
from holdfast.domain.triage import Archiver, Classifier, Redriver, Settler
from holdfast.domain.users import Entity
from tests.fakes import (
    MACHINE,
    FakeAttemptLog,
    FakeBuffer,
    FakeContext,
    FakeEventStore,
    FakeExecutions,
    FakeObjects,
    FakeQueue,
    FakeTriageEvents,
    FakeUserDirectory,
)
from tests.unit.samples import PERSONAL, USER_ID, body, message, record
from tests.world import LIMITS, POLICY, World

#: Everything personal that a test sends through a handler. None of it may be in the output.
SECRETS = (*PERSONAL.split(), json.dumps(PERSONAL)[1:-1], "Anna Ito", "anna@example.com", "secret-attribute")
KEY = "dead-letters/event-1/message-1.json"
STATE = {"eventId": "event-1", "snapshots": [KEY], "redrives": 1, "history": ["UNKNOWN"], "firstSentAt": 1}
VERDICT = {"category": "UNKNOWN", "rule": "unknown-retry-once", "action": "archive", "evidence": {}}


@pytest.fixture(autouse=True)
def own_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new logger for each test, because a logger keeps the standard output of its creation."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{uuid.uuid4()}")
    logger.cache_clear()
    yield
    logger.cache_clear()


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Read what a handler wrote. Fails if it contains personal data."""

    def read() -> str:
        captured = capsys.readouterr()
        text = captured.out + captured.err
        assert [secret for secret in SECRETS if secret in text] == []
        return text

    return read


def metrics(text: str) -> dict[str, Any]:
    """The metrics in embedded metric format."""
    lines = [json.loads(line) for line in text.splitlines() if '"CloudWatchMetrics"' in line]
    return {
        name: value[0] if isinstance(value, list) else value
        for line in lines
        for name, value in line.items()
        if name not in {"_aws", "service"}
    }


def with_snapshot(text: str | None = None, **changes: Any) -> FakeObjects:
    objects = FakeObjects()
    own = {"Own": {"dataType": "String", "stringValue": "secret-attribute"}}
    letter = DeadLetter.of(message(text or body(), attributes=own, **changes))
    objects.create(letter.key, letter.as_json())
    return objects


# -- processor -----------------------------------------------------------------------------------------------------


def processing(store: FakeEventStore, user_directory: FakeUserDirectory | None = None) -> ProcessorServices:
    enrichment = Enrichment(user_directory, required=False) if user_directory else None
    return replace(World().processing, store=store, enrichment=enrichment)


def test_the_processor_reports_failed_records_and_counts_the_results(output: Callable[[], str]) -> None:
    store = FakeEventStore(refusals={"event-2": Failure.of(Throttled("store the event: ThrottlingError"))})
    user_directory = FakeUserDirectory(users={USER_ID: Entity("Anna Ito", "anna@example.com")})
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2"), record(f'oops "{PERSONAL}"', "m-3")]
    answer = processor.app.lambda_handler(
        {"Records": records}, FakeContext(), services=processing(store, user_directory)
    )
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-2"}, {"itemIdentifier": "m-3"}]}
    assert "anna@example.com" in store.items["event-1"].text
    text = output()
    counted = metrics(text)
    assert (counted["Received"], counted["Stored"], counted["Failed"], counted["Enriched"]) == (3, 1, 2, 2)
    assert (counted["FailedThrottledUpstream"], counted["FailedMalformed"]) == (1, 1)
    assert "store the event: ThrottlingError" in text


def test_the_processor_logs_no_payload_when_every_call_fails(output: Callable[[], str]) -> None:
    store, user_directory = FakeEventStore(), FakeUserDirectory()
    services = processing(store, user_directory)
    store.journal.fail_always("eventstore.store", RuntimeError(PERSONAL))
    user_directory.journal.fail_always("userdirectory.lookup", ValueError(PERSONAL))
    journal = services.queue.journal  # type: ignore[attr-defined]
    for call in ("attemptlog.write", "queue.set_visibility"):
        journal.fail_always(call, RuntimeError(PERSONAL))
    answer = processor.app.lambda_handler({"Records": [record(body())]}, FakeContext(), services=services)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert "bookkeeping failed" in output()


def test_wrong_credentials_are_logged_once_for_a_batch_although_its_events_are_stored(
    output: Callable[[], str],
) -> None:
    store, user_directory = FakeEventStore(), FakeUserDirectory()
    user_directory.journal.fail_always(
        "userdirectory.lookup", Misconfigured("the Genesys login refuses the client's credentials")
    )
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2")]
    answer = processor.app.lambda_handler(
        {"Records": records}, FakeContext(), services=processing(store, user_directory)
    )
    assert answer == {"batchItemFailures": []}
    text = output()
    assert (metrics(text)["Misconfigured"], metrics(text)["EnrichmentErrors"]) == (1, 2)
    (line,) = [line for line in map(json.loads, text.splitlines()) if line.get("message") == "users not looked up"]
    assert (line["errorMessage"], line["events"]) == ("the Genesys login refuses the client's credentials", 2)
    assert metrics(text)["errors"] == {"the Genesys login refuses the client's credentials": 2}


def test_metrics_have_the_namespace_of_the_stack(output: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Holdfast/mine")
    processor.app.lambda_handler({"Records": [record(body())]}, FakeContext(), services=processing(FakeEventStore()))
    assert '"Namespace":"Holdfast/mine"' in output()


def test_the_processor_defers_records_when_only_the_time_for_its_report_is_left(output: Callable[[], str]) -> None:
    store = FakeEventStore()
    answer = processor.app.lambda_handler({"Records": [record(body())]}, FakeContext(3_000), services=processing(store))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert store.items == {}
    assert metrics(output())["FailedDeferred"] == 1


# -- dead-letter intake --------------------------------------------------------------------------------------------


def test_the_intake_reports_the_messages_that_stay_in_the_queue_and_logs_each_result(output: Callable[[], str]) -> None:
    world = World()
    world.journal.fail("executions.start", None, Throttled("start triage: ThrottlingException"))
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2")]
    answer = dead_letter_intake.app.lambda_handler({"Records": records}, FakeContext(), services=world.intake)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-2"}]}
    text = output()
    levels = {line["eventId"]: line["level"] for line in map(json.loads, text.splitlines()) if "eventId" in line}
    assert levels == {"event-1": "INFO", "event-2": "ERROR"}
    assert "left in the queue" in text
    assert (metrics(text)["DeadLettersTaken"], metrics(text)["DeadLettersLeft"]) == (1, 1)


# -- states of triage ------------------------------------------------------------------------------------------


def classifier(objects: FakeObjects) -> Classifier:
    return Classifier(FakeEventStore(), FakeAttemptLog(), objects, FakeBuffer(), POLICY, LIMITS)


def test_classify_returns_a_verdict_without_personal_data(output: Callable[[], str]) -> None:
    verdict = classify.app.lambda_handler(
        {**STATE, "firstSentAt": 0, "history": []}, FakeContext(), services=classifier(with_snapshot())
    )
    assert (verdict["category"], verdict["action"]) == ("UNKNOWN", "retry")
    assert [secret for secret in SECRETS if secret in json.dumps(verdict, ensure_ascii=False)] == []
    assert metrics(output())["Category"] == "UNKNOWN"


def test_redrive_sends_the_message_and_returns_its_new_id(output: Callable[[], str]) -> None:
    queue = FakeQueue()
    event = {**STATE, "execution": f"{MACHINE}x", "taskToken": "token"}
    answer = redrive.app.lambda_handler(event, FakeContext(), services=Redriver(with_snapshot(), queue))
    assert answer == {"messageId": "sent-1", "stamped": True}
    assert queue.sent[0].body == body()
    assert "redriven" in output()


@pytest.mark.parametrize(
    ("category", "given_up"), [("UNKNOWN", True), ("MALFORMED", False), ("INVALID", False), ("REJECTED", False)]
)
def test_archive_returns_the_place_and_counts_letters_that_a_retry_could_have_helped(
    output: Callable[[], str], category: str, given_up: bool
) -> None:
    objects = with_snapshot()
    event = {**STATE, "verdict": {**VERDICT, "category": category}, "execution": f"{MACHINE}x"}
    answer = archive.app.lambda_handler(
        {**event, "archivedAt": "2026-11-23T12:00:00.000Z"},
        FakeContext(),
        services=Archiver(objects, FakeAttemptLog(), FakeEventStore(), "archive-bucket"),
    )
    assert answer == {"bucket": "archive-bucket", "key": f"archive/category={category}/dt=2026-11-23/none/x.json"}
    assert answer["key"] in objects.texts
    expected = {"LettersArchived", "LettersGivenUp"} if given_up else {"LettersArchived"}
    assert {"LettersArchived", "LettersGivenUp"} & metrics(output()).keys() == expected


@pytest.mark.parametrize("place", [None, {"bucket": "b", "key": "k"}])
def test_settle_returns_and_publishes_the_output_of_the_execution(
    output: Callable[[], str], place: dict[str, str] | None
) -> None:
    triage_events = FakeTriageEvents()
    outcome = "ARCHIVED" if place else "RECOVERED"
    event = {**STATE, "outcome": outcome, "verdict": VERDICT, **({"archive": place} if place else {})}
    answer = settle.app.lambda_handler(
        event, FakeContext(), services=Settler(with_snapshot(), with_snapshot(), triage_events)
    )
    assert answer == {
        "outcome": outcome,
        "eventId": "event-1",
        "category": "UNKNOWN",
        "rule": "unknown-retry-once",
        "redrives": 1,
        "messageIds": ["message-1"],
        "archive": place,
    }
    assert triage_events.published[0][1] == answer
    assert metrics(output()).get("LettersRecovered") == (None if place else 1)


@pytest.mark.parametrize("app", [classify, redrive, archive, settle])
def test_a_state_without_an_event_is_refused(app: Any) -> None:
    with pytest.raises(InvalidInput):
        app.app.lambda_handler({}, FakeContext(), services=object())


# -- the sweep -----------------------------------------------------------------------------------------------------


def test_a_manual_sweep_includes_young_snapshots_and_returns_a_report(output: Callable[[], str]) -> None:
    executions = FakeExecutions()
    objects = with_snapshot()
    services = Sweeper(TriageServices(objects, executions), FakeEventStore())
    report = evidence_sweep.app.lambda_handler({"olderThanHours": 0}, FakeContext(900_000), services=services)
    assert (report["seen"], report["adopted"], report["finished"]) == (1, 1, True)
    (name,) = executions.running
    text = output()
    assert metrics(text)["SnapshotsAdopted"] == 1
    (adopted,) = [line for line in map(json.loads, text.splitlines()) if line.get("message") == "snapshots adopted"]
    assert (adopted["eventId"], adopted["step"]) == ("event-1", f"started {name}")


def test_the_sweep_logs_an_error_for_each_event_that_it_could_not_decide_on(output: Callable[[], str]) -> None:
    objects = with_snapshot()
    objects.create("dead-letters/event-9/x.json", "not a snapshot")
    services = Sweeper(TriageServices(objects, FakeExecutions()), FakeEventStore())
    report = evidence_sweep.app.lambda_handler({"olderThanHours": 0}, FakeContext(900_000), services=services)
    (line,) = [line for line in map(json.loads, output().splitlines()) if line.get("level") == "ERROR"]
    assert (report["failed"], line["eventId"]) == (1, "event-9")
    assert line["error"] in report["errors"][0]


def test_a_scheduled_sweep_needs_no_input() -> None:
    services = Sweeper(TriageServices(FakeObjects(), FakeExecutions()), FakeEventStore())
    assert evidence_sweep.app.lambda_handler({"source": "aws.scheduler"}, FakeContext(), services=services)["seen"] == 0


@pytest.mark.parametrize("hours", ["24", None, -1, True, [1], 1e300, math.inf, math.nan])
def test_a_sweep_with_wrong_input_is_refused(hours: Any) -> None:
    with pytest.raises(InvalidInput):
        evidence_sweep.app.lambda_handler({"olderThanHours": hours}, FakeContext())


# -- fan-out -------------------------------------------------------------------------------------------------------


class Bus:
    """A bus that refuses events with these ids."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.published: list[str] = []

    def publish_all(self, publications: Sequence[Publication], _deadline: Deadline) -> Answers:
        self.published += [one.event_id for one in publications if one.event_id not in self.refused]
        reasons = dict.fromkeys(self.refused, "publish events: ThrottlingException")
        return Answers([one for one in publications if one.event_id in self.refused], reasons=reasons)


class Table:
    """A table with two pages."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []

    def received_between(self, begin: str, end: str, start_at: str | None) -> Iterator[tuple[list[Any], str | None]]:
        self.requests.append((begin, end, start_at))
        pages: list[tuple[list[Any], str | None]] = [([image("event-1")], "event-1"), ([image("event-2")], None)]
        yield from pages[1:] if start_at else pages


def image(event_id: str) -> dict[str, Any]:
    return {"eventId": {"S": event_id}, "detailType": {"S": "topic"}, "event": {"S": body(event_id)}}


def inserted(event_id: str) -> dict[str, Any]:
    return {"eventName": "INSERT", "dynamodb": {"SequenceNumber": f"at-{event_id}", "NewImage": image(event_id)}}


def services(bus: Bus, objects: FakeObjects | None = None) -> Any:
    return Publisher(bus=bus, table=Table(), archive=objects or FakeObjects())


def republish(request: Any, publisher: Any, milliseconds: int = 60_000) -> Any:
    return fan_out.app.lambda_handler({"republish": request}, FakeContext(milliseconds), services=publisher)


def test_the_stream_comes_again_from_the_first_event_that_the_bus_refused(output: Callable[[], str]) -> None:
    bus = Bus("event-2", "event-4")
    removed = {"eventName": "REMOVE", "dynamodb": {}}
    records = [inserted("event-1"), removed, *(inserted(f"event-{number}") for number in (2, 3, 4))]
    answer = fan_out.app.lambda_handler({"Records": records}, FakeContext(), services=services(bus))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "at-event-2"}]}
    assert bus.published == ["event-1", "event-3"]
    text = output()
    assert metrics(text)["PublicationsRefused"] == 2
    assert metrics(text)["errors"] == {"publish events: ThrottlingException": 2}
    lines = [line for line in map(json.loads, text.splitlines()) if line.get("message") == "event not published"]
    assert [(line["eventId"], line["errorMessage"]) for line in lines] == [
        ("event-2", "publish events: ThrottlingException"),
        ("event-4", "publish events: ThrottlingException"),
    ]


FOREIGN = [
    *({"eventId": {"S": PERSONAL}, **rest} for rest in ({}, {"detailType": {"S": ""}}, {"detailType": {"N": "5"}})),
    *({"note": {"S": PERSONAL}}, {"eventId": {"N": "5"}, "detailType": {"S": "t"}}, {"eventId": PERSONAL}, {"x": {}}),
    {**image("event-9"), "eventPacked": {"B": "AAAA"}},
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_an_item_that_the_processor_did_not_write_is_set_aside_alone(
    output: Callable[[], str], foreign: dict[str, Any]
) -> None:
    bus = Bus()
    aside = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "17", "NewImage": foreign}}
    records = [inserted("event-1"), aside, inserted("event-2")]
    answer = fan_out.app.lambda_handler({"Records": records}, FakeContext(), services=services(bus))
    assert answer == {"batchItemFailures": []}
    assert bus.published == ["event-1", "event-2"]
    text = output()
    assert metrics(text)["ItemsSetAside"] == 1
    logged = next(json.loads(line) for line in text.splitlines() if "set aside" in line)
    assert (logged["sequenceNumber"], logged["hasKey"]) == ("17", "eventId" in foreign)


def test_an_event_that_eventbridge_never_accepts_is_logged_with_its_id(output: Callable[[], str]) -> None:
    class Strict(Bus):
        def publish_all(self, publications: Sequence[Publication], _deadline: Deadline) -> Answers:
            return Answers(invalid=list(publications), reasons={"event-1": "publish events: MalformedDetail"})

    fan_out.app.lambda_handler({"Records": [inserted("event-1")]}, FakeContext(), services=services(Strict()))
    (line,) = [json.loads(line) for line in output().splitlines() if "set aside" in line]
    assert (line["level"], line["eventId"]) == ("ERROR", "event-1")
    assert line["errorMessage"] == "publish events: MalformedDetail"
    assert line["message"] == "event set aside: EventBridge does not accept it"


def test_the_records_of_an_on_failure_object_can_be_published_again(output: Callable[[], str]) -> None:
    objects = FakeObjects()
    payload = json.dumps({"Records": [inserted("event-1"), inserted("event-2")]})
    objects.create("failure", json.dumps({"payload": payload}))
    answer = republish({"failure": "failure"}, services(Bus("event-2"), objects))
    assert answer == {"published": 1, "refused": ["event-2"], "setAside": 0, "startAt": None}
    output()


def test_a_range_of_the_table_can_be_published_again_and_continued() -> None:
    bus = Bus()
    request = {"from": "2026-11-23T10:00:00+01:00", "to": "2026-11-24T00:00:00Z"}
    whole = services(bus)
    assert republish(request, whole) == {"published": 2, "refused": [], "setAside": 0, "startAt": None}
    assert whole.table.requests == [("2026-11-23T09:00:00.000Z", "2026-11-24T00:00:00.000Z", None)]
    first = republish(request, services(bus), milliseconds=0)
    assert (first["published"], first["startAt"]) == (1, "event-1")
    rest = republish({**request, "startAt": "event-1"}, services(bus), milliseconds=0)
    assert rest == {"published": 1, "refused": [], "setAside": 0, "startAt": None}
    assert bus.published == ["event-1", "event-2", "event-1", "event-2"]


@pytest.mark.parametrize(
    "wrong",
    [
        *(None, [], "x", {}, {"from": "2026-11-23"}, {"from": "soon", "to": "later"}),
        {"from": "2026-11-23", "to": "2026-11-24", "startAt": 5},
    ],
)
def test_a_republication_with_wrong_input_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        republish(wrong, services(Bus()))


@pytest.mark.parametrize(
    "text",
    [
        *("oops", "null", "[]", "{}", '{"payload": "x"}', '{"payload": {}}', "[" * 5_000),
        *('{"payload": {"Records": 5}}', '{"payload": {"Records": ["x"]}}'),
        '{"payload": {"Records": [{"dynamodb": "x"}]}}',
    ],
)
def test_an_object_without_failed_records_is_refused(text: str) -> None:
    objects = FakeObjects()
    objects.create("failure", text)
    with pytest.raises(InvalidInput):
        republish({"failure": "failure"}, services(Bus(), objects))


def test_a_missing_on_failure_object_is_refused() -> None:
    with pytest.raises(SnapshotMissing):
        republish({"failure": "missing"}, services(Bus()))


# -- replay --------------------------------------------------------------------------------------------------------


def test_a_replay_runs_from_plan_to_report(
    output: Callable[[], str], fresh: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = FakeObjects()
    set_variables(monkeypatch)
    replayer = Replayer(objects, FakeExecutions(), fresh("replay").production().parallel)
    key = "archive/category=UNKNOWN/dt=2026-11-22/x.json"
    objects.create(key, json.dumps({"eventId": "event-1", "message": message(body()).as_json()}))

    def step(name: str, **more: Any) -> dict[str, Any]:
        return replay.app.lambda_handler({"step": name, **more}, FakeContext(900_000), services=replayer)

    request = {"input": {"prefix": "archive/"}, "run": "run-1", "startedAt": "2026-11-23T12:00:00Z"}
    plan = step("plan", **request)
    assert "counts" not in plan
    prepared = step("prepare", plan=plan, key=key)
    assert prepared["action"] == "start"
    assert step("note", plan=plan, key=key, result={"outcome": "RECOVERED"}) == {}
    assert step("report", plan=plan)["counts"] == {"UNKNOWN RECOVERED": 1}
    dry = step("plan", **{**request, "input": {"prefix": "archive/", "dryRun": True}})
    assert dry["counts"] == {"UNKNOWN": 1}
    output()


@pytest.mark.parametrize(
    "event", [{}, {"step": "dance"}, {"step": "plan", "input": "archive/", "run": "r", "startedAt": "s"}]
)
def test_an_unknown_step_of_a_replay_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replay.app.lambda_handler(event, FakeContext(), services=Replayer(FakeObjects(), FakeExecutions(), map))


# -- the production services ---------------------------------------------------------------------------------------

VARIABLES = {
    "EVENTS_TABLE_NAME": "events",
    "ATTEMPTS_TABLE_NAME": "attempts",
    "ARCHIVE_BUCKET_NAME": "archive-bucket",
    "BUFFER_QUEUE_URL": "https://sqs/queue",
    "PROCESSOR_MAPPING_ID": "mapping",
    "ENRICHED_BUS_NAME": "enriched",
    "TRIAGE_STATE_MACHINE_ARN": "arn:aws:states:eu-central-1:123456789012:stateMachine:triage",
    "EVENT_RETENTION_DAYS": "90",
    "ATTEMPT_RETENTION_DAYS": "30",
    "BACKOFF_BASE_SECONDS": "2",
    "BACKOFF_CAP_SECONDS": "60",
    "MAX_RETRIES": "5",
    "MAX_AGE_HOURS": "96",
    "ENRICHMENT_POLICY": "best-effort",
    "GENESYS_DOMAIN": "mypurecloud.de",
    "GENESYS_CREDENTIALS_SECRET_ARN": "arn:secret",
}
APPS = [archive, classify, dead_letter_intake, evidence_sweep, fan_out, processor, redrive, replay, settle]


def set_variables(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for variable, value in {**VARIABLES, **changes}.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a function as in a new execution environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    modules: list[Any] = []

    def make(name: str) -> Any:
        modules.append(import_module(f"{name}.app"))
        modules[-1].production.cache_clear()
        return modules[-1]

    yield make
    for module in modules:
        module.production.cache_clear()
    aws.client.cache_clear()


@pytest.mark.parametrize("name", [app.__name__ for app in APPS])
def test_every_function_creates_its_services_once_without_a_call(
    fresh: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    set_variables(monkeypatch)
    app = fresh(name)
    assert app.production() is app.production()


@pytest.mark.parametrize("name", [app.__name__ for app in APPS])
def test_every_function_names_its_missing_variables(fresh: Callable[[str], Any], name: str) -> None:
    with pytest.raises(SettingsError, match="is missing"):
        fresh(name).production()


@pytest.mark.parametrize(
    ("policy", "arn", "enriches"), [("off", "arn", False), ("required", "", False), ("required", "arn", True)]
)
def test_enrichment_is_off_without_a_policy_or_a_secret(
    fresh: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, policy: str, arn: str, enriches: bool
) -> None:
    set_variables(monkeypatch, ENRICHMENT_POLICY=policy, GENESYS_CREDENTIALS_SECRET_ARN=arn)
    made = fresh("processor").production()
    assert (made.enrichment is not None) == enriches
    assert made.enrichment is None or made.enrichment.required == (policy == "required")


def test_a_handler_raises_the_error_of_its_step() -> None:
    queue = FakeQueue()
    queue.journal.fail("queue.send", Unavailable("send to the buffer: EndpointConnectionError"), Rejected("x"))
    event = {**STATE, "execution": "x", "taskToken": "t"}
    for kind in (Unavailable, Rejected):
        with pytest.raises(kind):
            redrive.app.lambda_handler(event, FakeContext(), services=Redriver(with_snapshot(), queue))
