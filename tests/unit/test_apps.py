"""The handlers are thin: they answer in the shape that Lambda or the state machine expects, and log no payload."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.resources import files
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
from holdfast.domain.fan_out import Publication, Publisher
from holdfast.domain.intake import Generations, Intake
from holdfast.domain.letters import DeadLetter
from holdfast.domain.policy import Limits, Policy
from holdfast.domain.processing import Processing
from holdfast.domain.replay import Replayer
from holdfast.domain.sweep import Sweeper
from holdfast.domain.triage import Archiver, Classifier, Redriver, Settler
from holdfast.domain.users import User
from tests.fakes import (
    MACHINE,
    NOW,
    FakeAttemptLog,
    FakeEventStore,
    FakeExecutions,
    FakeObjects,
    FakeQueue,
    FakeTriageEvents,
    FakeUserDirectory,
)
from tests.unit.samples import PERSONAL, USER_ID, body, message, record

#: Marks of everything personal that a test sends through a handler; none may be in its output.
MARKS = (*PERSONAL.split(), json.dumps(PERSONAL)[1:-1], "Anna Ito", "anna@example.com", "secret-attribute")
KEY = "dead-letters/event-1/message-1.json"
STATE = {"eventId": "event-1", "snapshots": [KEY], "redrives": 1, "history": ["UNKNOWN"], "firstSentAt": 1}
VERDICT = {"category": "UNKNOWN", "rule": "unknown-retry-once", "action": "archive", "evidence": {}}


class Context:
    """Lambda's context."""

    aws_request_id = "request-1"
    function_name = "function"

    def __init__(self, milliseconds: int = 60_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.fixture(autouse=True)
def own_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger of each test's own: it keeps the standard output that it was made with."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{uuid.uuid4()}")
    logger.cache_clear()
    yield
    logger.cache_clear()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What a handler wrote, once it is sure that nothing personal is in it."""

    def read() -> str:
        captured = capsys.readouterr()
        output = captured.out + captured.err
        assert [mark for mark in MARKS if mark in output] == []
        return output

    return read


def metrics(output: str) -> dict[str, Any]:
    """The figures in embedded metric format, one value each."""
    lines = [json.loads(line) for line in output.splitlines() if '"CloudWatchMetrics"' in line]
    return {
        name: value[0] if isinstance(value, list) else value
        for line in lines
        for name, value in line.items()
        if name not in {"_aws", "service"}
    }


def in_custody(text: str | None = None, **changes: Any) -> FakeObjects:
    objects = FakeObjects()
    own = {"Own": {"dataType": "String", "stringValue": "secret-attribute"}}
    letter = DeadLetter.of(message(text or body(), attributes=own, **changes))
    objects.create(letter.key, letter.as_json())
    return objects


# -- processor -----------------------------------------------------------------------------------------------------


def processing(store: FakeEventStore, user_directory: FakeUserDirectory | None = None) -> Processing:
    return Processing(
        store=store,
        attempt_log=FakeAttemptLog(),
        queue=FakeQueue(),
        task_tokens=FakeExecutions(),
        enrichment=Enrichment(user_directory, required=False) if user_directory else None,
        backoff_base_seconds=2,
        backoff_cap_seconds=60,
        clock=lambda: NOW,
        rng=lambda: 0.5,
    )


def test_the_processor_answers_the_failed_records_and_counts_the_rest(told: Callable[[], str]) -> None:
    store = FakeEventStore(refusals={"event-2": Failure.of(Throttled("store the event: ThrottlingError"))})
    store.journal.fail("eventstore.store", None)
    user_directory = FakeUserDirectory(users={USER_ID: User("Anna Ito", "anna@example.com")})
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2"), record(f'oops "{PERSONAL}"', "m-3")]
    answer = processor.app.lambda_handler({"Records": records}, Context(), services=processing(store, user_directory))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-2"}, {"itemIdentifier": "m-3"}]}
    assert "anna@example.com" in store.items["event-1"].text
    output = told()
    counted = metrics(output)
    assert (counted["Received"], counted["Stored"], counted["Failed"], counted["Enriched"]) == (3, 1, 2, 2)
    assert (counted["FailedThrottledUpstream"], counted["FailedMalformed"]) == (1, 1)
    assert "store the event: ThrottlingError" in output


def test_the_processor_tells_nothing_of_a_payload_even_when_everything_breaks(told: Callable[[], str]) -> None:
    store, user_directory = FakeEventStore(), FakeUserDirectory()
    services = processing(store, user_directory)
    store.journal.fail_always("eventstore.store", RuntimeError(PERSONAL))
    user_directory.journal.fail_always("userdirectory.lookup", ValueError(PERSONAL))
    for fake, call in ((services.attempt_log, "attemptlog.write"), (services.queue, "queue.set_visibility")):
        fake.journal.fail_always(call, RuntimeError(PERSONAL))  # type: ignore[attr-defined]
    answer = processor.app.lambda_handler({"Records": [record(body())]}, Context(), services=services)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert "bookkeeping failed" in told()


def test_a_wrong_setting_is_told_although_best_effort_lets_the_events_go_on(told: Callable[[], str]) -> None:
    store, user_directory = FakeEventStore(), FakeUserDirectory()
    user_directory.journal.fail_always(
        "userdirectory.lookup", Misconfigured("the Genesys login refuses the client's credentials")
    )
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2")]
    answer = processor.app.lambda_handler({"Records": records}, Context(), services=processing(store, user_directory))
    assert answer == {"batchItemFailures": []}
    output = told()
    assert (metrics(output)["Misconfigured"], metrics(output)["EnrichmentErrors"]) == (1, 2)
    assert output.count("the Genesys login refuses the client's credentials") == 1, "once for the batch"


def test_metrics_are_the_stack_s_own(told: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Holdfast/mine")
    processor.app.lambda_handler({"Records": [record(body())]}, Context(), services=processing(FakeEventStore()))
    assert '"Namespace":"Holdfast/mine"' in told()


def test_the_processor_keeps_time_for_its_report(told: Callable[[], str]) -> None:
    store = FakeEventStore()
    answer = processor.app.lambda_handler({"Records": [record(body())]}, Context(3_000), services=processing(store))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert store.items == {}
    assert metrics(told())["FailedDeferred"] == 1


# -- dead-letter intake --------------------------------------------------------------------------------------------


def test_the_intake_answers_what_has_to_stay_and_logs_what_became_of_each(told: Callable[[], str]) -> None:
    services = Intake(Generations(FakeObjects(), FakeExecutions()), FakeExecutions())
    services.generations.executions.journal.fail(
        "executions.start", None, Throttled("start triage: ThrottlingException")
    )  # type: ignore[attr-defined]
    records = [record(body("event-1"), "m-1"), record(body("event-2"), "m-2")]
    answer = dead_letter_intake.app.lambda_handler({"Records": records}, Context(), services=services)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-2"}]}
    output = told()
    assert "left in the queue" in output
    assert (metrics(output)["DeadLettersTaken"], metrics(output)["DeadLettersLeft"]) == (1, 1)


# -- the states of triage ------------------------------------------------------------------------------------------


def classifier(objects: FakeObjects) -> Classifier:
    policy = Policy(files("holdfast.domain").joinpath("triage_policy.json").read_text())
    return Classifier(FakeEventStore(), FakeAttemptLog(), objects, policy, Limits(5, 96))


def test_classify_answers_a_verdict_that_a_state_can_hold(told: Callable[[], str]) -> None:
    verdict = classify.app.lambda_handler(
        {**STATE, "firstSentAt": 0, "history": []}, Context(), services=classifier(in_custody())
    )
    assert (verdict["category"], verdict["action"]) == ("UNKNOWN", "retry")
    assert [mark for mark in MARKS if mark in json.dumps(verdict, ensure_ascii=False)] == []
    assert metrics(told())["Category"] == "UNKNOWN"


def test_redrive_sends_the_message_and_answers_its_new_id(told: Callable[[], str]) -> None:
    queue = FakeQueue()
    event = {**STATE, "execution": f"{MACHINE}x", "taskToken": "token"}
    answer = redrive.app.lambda_handler(event, Context(), services=Redriver(in_custody(), queue))
    assert answer == {"messageId": "sent-1", "stamped": True}
    assert queue.sent[0].body == body()
    assert "redriven" in told()


def test_archive_answers_the_place(told: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEMPTS_TABLE_NAME", "attempts")
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "archive-bucket")
    objects = in_custody()
    event = {**STATE, "verdict": VERDICT, "execution": f"{MACHINE}x", "archivedAt": "2026-11-23T12:00:00.000Z"}
    answer = archive.app.lambda_handler(
        event, Context(), services=Archiver(objects, FakeAttemptLog(), "archive-bucket")
    )
    assert answer == {"bucket": "archive-bucket", "key": "archive/category=UNKNOWN/dt=2026-11-23/x.json"}
    assert answer["key"] in objects.texts
    output = metrics(told())
    assert (output["LettersArchived"], output["LettersGivenUp"]) == (1, 1)


@pytest.mark.parametrize("category", ["MALFORMED", "INVALID", "REJECTED"])
def test_an_event_that_no_retry_can_fix_does_not_count_as_given_up(
    category: str, told: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTEMPTS_TABLE_NAME", "attempts")
    monkeypatch.setenv("ARCHIVE_BUCKET_NAME", "archive-bucket")
    event = {**STATE, "verdict": {**VERDICT, "category": category}, "execution": f"{MACHINE}x"}
    event["archivedAt"] = "2026-11-23T12:00:00.000Z"
    archive.app.lambda_handler(event, Context(), services=Archiver(in_custody(), FakeAttemptLog(), "archive-bucket"))
    assert {"LettersArchived", "LettersGivenUp"} & metrics(told()).keys() == {"LettersArchived"}


@pytest.mark.parametrize("place", [None, {"bucket": "b", "key": "k"}])
def test_settle_answers_the_execution_s_output(told: Callable[[], str], place: dict[str, str] | None) -> None:
    triage_events = FakeTriageEvents()
    outcome = "ARCHIVED" if place else "RECOVERED"
    event = {**STATE, "outcome": outcome, "verdict": VERDICT, **({"archive": place} if place else {})}
    answer = settle.app.lambda_handler(event, Context(), services=Settler(in_custody(), in_custody(), triage_events))
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
    assert metrics(told()).get("LettersRecovered") == (None if place else 1)


@pytest.mark.parametrize("app", [classify, redrive, archive, settle])
def test_a_state_without_a_letter_is_refused(app: Any) -> None:
    with pytest.raises(InvalidInput):
        app.app.lambda_handler({}, Context(), services=object())


@pytest.mark.parametrize(
    "odd",
    [
        {"eventId": 5},
        {"snapshots": []},
        {"snapshots": [5]},
        {"redrives": "many"},
        {"redrives": -1},
        {"redrives": 1.5},
        {"redrives": 10**400},
        {"firstSentAt": [1]},
        {"firstSentAt": math.nan},
        {"history": "UNKNOWN"},
        {"history": [None]},
        {"redriveOutcome": 1},
    ],
    ids=str,
)
def test_a_state_with_an_input_of_the_wrong_kind_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        classify.app.lambda_handler(STATE | odd, Context(), services=classifier(FakeObjects()))


@pytest.mark.parametrize("app", [classify, redrive, archive])
def test_evidence_that_is_gone_is_told_by_its_name(app: Any) -> None:
    services = {classify: classifier(FakeObjects()), redrive: Redriver(FakeObjects(), FakeQueue())}
    event = {**STATE, "verdict": VERDICT, "execution": "x", "taskToken": "t", "archivedAt": "2026-11-23"}
    with pytest.raises(SnapshotMissing):
        app.app.lambda_handler(
            event, Context(), services=services.get(app, Archiver(FakeObjects(), FakeAttemptLog(), "archive-bucket"))
        )


# -- the sweep -----------------------------------------------------------------------------------------------------


def test_the_sweep_takes_all_evidence_by_hand_and_reports(told: Callable[[], str]) -> None:
    executions = FakeExecutions()
    objects = in_custody()
    services = Sweeper(Generations(objects, executions), FakeEventStore())
    report = evidence_sweep.app.lambda_handler({"olderThanHours": 0}, Context(), services=services)
    assert (report["seen"], report["adopted"], report["finished"]) == (1, 1, True)
    assert len(executions.running) == 1
    assert metrics(told())["SnapshotsAdopted"] == 1


def test_the_schedule_s_own_event_means_a_day() -> None:
    services = Sweeper(Generations(FakeObjects(), FakeExecutions()), FakeEventStore())
    assert evidence_sweep.app.lambda_handler({"source": "aws.scheduler"}, Context(), services=services)["seen"] == 0


@pytest.mark.parametrize("hours", ["24", None, -1, True, [1], 1e300, math.inf, math.nan])
def test_a_sweep_that_was_asked_for_wrongly_is_refused(hours: Any) -> None:
    with pytest.raises(InvalidInput):
        evidence_sweep.app.lambda_handler({"olderThanHours": hours}, Context())


# -- fan-out -------------------------------------------------------------------------------------------------------


class Bus:
    """A bus that refuses the events of these ids."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.published: list[str] = []

    def publish_all(self, publications: Sequence[Publication]) -> list[Publication]:
        self.published += [one.event_id for one in publications if one.event_id not in self.refused]
        return [one for one in publications if one.event_id in self.refused]


class Table:
    """Two pages of a table."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    def received_between(self, begin: str, end: str, start_at: str | None) -> Iterator[tuple[list[Any], str | None]]:
        self.asked.append((begin, end, start_at))
        pages: list[tuple[list[Any], str | None]] = [([image("event-1")], "event-1"), ([image("event-2")], None)]
        yield from pages[1:] if start_at else pages


def image(event_id: str) -> dict[str, Any]:
    return {"eventId": {"S": event_id}, "detailType": {"S": "topic"}, "event": {"S": body(event_id)}}


def inserted(event_id: str) -> dict[str, Any]:
    return {"eventName": "INSERT", "dynamodb": {"SequenceNumber": f"at-{event_id}", "NewImage": image(event_id)}}


def services(bus: Bus, objects: FakeObjects | None = None) -> Any:
    return Publisher(bus=bus, table=Table(), archive=objects or FakeObjects())


def test_fan_out_answers_the_sequence_numbers_that_the_bus_refused(told: Callable[[], str]) -> None:
    bus = Bus("event-2")
    records = [inserted("event-1"), {"eventName": "REMOVE", "dynamodb": {}}, inserted("event-2"), inserted("event-3")]
    answer = fan_out.app.lambda_handler({"Records": records}, Context(), services=services(bus))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "at-event-2"}]}
    assert bus.published == ["event-1", "event-3"]
    assert metrics(told())["PublicationsRefused"] == 1


def test_what_the_stream_gave_up_can_be_published_again(told: Callable[[], str]) -> None:
    objects = FakeObjects()
    objects.create(
        "failure", json.dumps({"payload": json.dumps({"Records": [inserted("event-1"), inserted("event-2")]})})
    )
    bus = Bus("event-2")
    answer = fan_out.app.lambda_handler(
        {"republish": {"failure": "failure"}}, Context(), services=services(bus, objects)
    )
    assert answer == {"published": 1, "refused": ["event-2"], "startAt": None}
    told()


def test_a_range_of_the_table_can_be_published_again_page_by_page() -> None:
    bus = Bus()
    asked = {"from": "2026-11-23T10:00:00+01:00", "to": "2026-11-24T00:00:00Z"}
    whole = services(bus)
    answer = fan_out.app.lambda_handler({"republish": asked}, Context(), services=whole)
    assert answer == {"published": 2, "refused": [], "startAt": None}
    assert whole.table.asked == [("2026-11-23T09:00:00.000Z", "2026-11-24T00:00:00.000Z", None)]

    first = fan_out.app.lambda_handler({"republish": asked}, Context(0), services=services(bus))
    assert (first["published"], first["startAt"]) == (1, "event-1")
    rest = fan_out.app.lambda_handler(
        {"republish": {**asked, "startAt": "event-1"}}, Context(0), services=services(bus)
    )
    assert rest == {"published": 1, "refused": [], "startAt": None}
    assert bus.published == ["event-1", "event-2", "event-1", "event-2"]


@pytest.mark.parametrize(
    "asked",
    [
        None,
        [],
        "x",
        {},
        {"from": "2026-11-23"},
        {"from": "soon", "to": "later"},
        {"from": "2026-11-23", "to": "2026-11-24", "startAt": 5},
    ],
)
def test_a_republication_that_was_asked_for_wrongly_is_refused(asked: Any) -> None:
    with pytest.raises(InvalidInput):
        fan_out.app.lambda_handler({"republish": asked}, Context(), services=services(Bus()))


@pytest.mark.parametrize(
    "text",
    [
        "oops",
        "null",
        "[]",
        "{}",
        '{"payload": "x"}',
        '{"payload": {}}',
        '{"payload": {"Records": 5}}',
        '{"payload": {"Records": ["x"]}}',
        '{"payload": {"Records": [{"eventName": "INSERT", "dynamodb": {"NewImage": {"eventId": 5}}}]}}',
        "[" * 5_000,
    ],
)
def test_an_object_that_holds_no_failed_records_is_refused(text: str) -> None:
    objects = FakeObjects()
    objects.create("failure", text)
    with pytest.raises(InvalidInput):
        fan_out.app.lambda_handler({"republish": {"failure": "failure"}}, Context(), services=services(Bus(), objects))


def test_a_failure_that_is_not_there_is_told_by_its_name() -> None:
    with pytest.raises(SnapshotMissing):
        fan_out.app.lambda_handler({"republish": {"failure": "gone"}}, Context(), services=services(Bus()))


# -- replay --------------------------------------------------------------------------------------------------------


def test_a_replay_goes_from_plan_to_report(told: Callable[[], str]) -> None:
    objects = FakeObjects()
    replayer = Replayer(objects, FakeExecutions(), replay.app._in_parallel)
    key = "archive/category=UNKNOWN/dt=2026-11-22/x.json"
    objects.create(key, json.dumps({"eventId": "event-1", "message": message(body()).as_json()}))

    def step(name: str, **more: Any) -> dict[str, Any]:
        return replay.app.lambda_handler({"step": name, **more}, Context(), services=replayer)

    asked = {"input": {"prefix": "archive/"}, "run": "run-1", "startedAt": "2026-11-23T12:00:00Z"}
    plan = step("plan", **asked)
    assert "counts" not in plan
    prepared = step("prepare", plan=plan, key=key)
    assert prepared["action"] == "start"
    assert step("note", plan=plan, key=key, result={"outcome": "RECOVERED"}) == {}
    assert step("report", plan=plan)["counts"] == {"UNKNOWN RECOVERED": 1}
    dry = step("plan", **{**asked, "input": {"prefix": "archive/", "dryRun": True}})
    assert dry["counts"] == {"UNKNOWN": 1}
    told()


@pytest.mark.parametrize(
    "event", [{}, {"step": "dance"}, {"step": "plan", "input": "archive/", "run": "r", "startedAt": "s"}]
)
def test_a_replay_s_step_that_does_not_exist_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        replay.app.lambda_handler(event, Context(), services=Replayer(FakeObjects(), FakeExecutions(), map))


# -- the production services ---------------------------------------------------------------------------------------

VARIABLES = {
    "EVENTS_TABLE_NAME": "events",
    "ATTEMPTS_TABLE_NAME": "attempts",
    "ARCHIVE_BUCKET_NAME": "archive-bucket",
    "BUFFER_QUEUE_URL": "https://sqs/queue",
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
APPS = [
    "archive",
    "classify",
    "dead_letter_intake",
    "evidence_sweep",
    "fan_out",
    "processor",
    "redrive",
    "replay",
    "settle",
]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A function's module in an execution environment of its own."""
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


@pytest.mark.parametrize("name", APPS)
def test_every_function_is_made_from_its_environment_without_a_call(
    fresh: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    app = fresh(name)
    assert app.production() is app.production()


@pytest.mark.parametrize("name", APPS)
def test_every_function_says_what_its_environment_lacks(fresh: Callable[[str], Any], name: str) -> None:
    with pytest.raises(SettingsError, match="is missing"):
        fresh(name).production()


@pytest.mark.parametrize(
    ("policy", "arn", "enriches"), [("off", "arn", False), ("required", "", False), ("required", "arn", True)]
)
def test_enrichment_is_off_by_its_policy_or_without_a_secret(
    fresh: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, policy: str, arn: str, enriches: bool
) -> None:
    for variable, value in {**VARIABLES, "ENRICHMENT_POLICY": policy, "GENESYS_CREDENTIALS_SECRET_ARN": arn}.items():
        monkeypatch.setenv(variable, value)
    made = fresh("processor").production()
    assert (made.enrichment is not None) == enriches
    assert made.enrichment is None or made.enrichment.required == (policy == "required")


def test_an_error_of_a_handler_reaches_lambda_by_its_name() -> None:
    queue = FakeQueue()
    queue.journal.fail("queue.send", Unavailable("send to the buffer: EndpointConnectionError"), Rejected("x"))
    event = {**STATE, "execution": "x", "taskToken": "t"}
    for kind in (Unavailable, Rejected):
        with pytest.raises(kind):
            redrive.app.lambda_handler(event, Context(), services=Redriver(in_custody(), queue))
