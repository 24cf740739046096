"""The states of a triage execution: proof is the table, custody moves before anything is let go."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from typing import Any

import pytest

from holdfast.domain.attempts import Attempt, AttemptKey, Status, in_order, of_message
from holdfast.domain.errors import (
    Failure,
    HoldfastError,
    InvalidInput,
    Rejected,
    SnapshotMissing,
    Throttled,
    Unavailable,
)
from holdfast.domain.letters import DeadLetter, parse_document
from holdfast.domain.policy import Limits, Policy
from holdfast.domain.processing import Record
from holdfast.domain.triage import (
    Archiver,
    Classifier,
    Redriver,
    Settler,
    TriageInput,
    archive_key,
    load_letter,
)
from tests.fakes import (
    MACHINE,
    NOW,
    FakeAttemptLog,
    FakeEventStore,
    FakeObjects,
    FakeQueue,
    FakeTriageEvents,
    Journal,
)
from tests.unit.samples import ACD_START, PERSONAL, body, message, stamped

KEY = "dead-letters/event-1/message-1.json"
MOVED = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-central-1:123456789012:buffer"}
DEAD_SINCE = int(NOW.timestamp() * 1000) - 7_200_000
VERDICT = {
    "category": "REJECTED",
    "rule": "rejected-downstream",
    "action": "archive",
    "fingerprint": "f",
    "evidence": {},
}
ARN = f"{MACHINE}acd-start-x"
POLICY = Policy(files("holdfast.domain").joinpath("triage_policy.json").read_text())


@dataclass
class World:
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        self.store = FakeEventStore(self.journal)
        self.attempt_log = FakeAttemptLog(self.journal)
        self.objects = FakeObjects(self.journal)
        self.queue = FakeQueue(self.journal)
        self.triage_events = FakeTriageEvents(self.journal)
        self.classifier = Classifier(self.store, self.attempt_log, self.objects, POLICY, Limits(5, 96))
        self.archiver = Archiver(self.objects, self.attempt_log, "archive-bucket")
        self.redriver = Redriver(self.objects, self.queue)
        self.settler = Settler(self.objects, self.objects, self.triage_events)

    def keep(self, text: str, message_id: str = "message-1", **changes: Any) -> TriageInput:
        """Put a letter into custody."""
        letter = DeadLetter.of(message(text, message_id, **changes))
        self.objects.create(letter.key, letter.as_json())
        return TriageInput.read({"eventId": letter.event_id, "snapshots": [letter.key], "firstSentAt": DEAD_SINCE})

    def note(
        self, receives: int, status: Status, failure: Failure | None = None, message_id: str = "message-1"
    ) -> None:
        key = AttemptKey("event-1", message_id, receives)
        self.attempt_log.attempts[key] = Attempt(key, status, f"2026-11-23T11:0{receives}:00.000Z", "request", failure)

    def store_event(self) -> None:
        record = Record.of({"messageId": "m", "receiptHandle": "r", "body": body()})
        assert not isinstance(record.event, Failure)
        self.store.items[record.event_id] = None  # type: ignore[assignment]  # that it is there is all that is asked


@pytest.fixture
def world() -> World:
    return World()


# -- what a state is told ------------------------------------------------------------------------------------------


def test_an_input_of_an_older_definition_is_read() -> None:
    assert TriageInput.read({"eventId": "event-1", "snapshots": [KEY]}) == TriageInput("event-1", (KEY,))


def test_missing_and_null_fields_count_as_nothing_yet() -> None:
    nothing = dict.fromkeys(("redrives", "history", "redriveOutcome", "firstSentAt", "replayOf"))
    assert TriageInput.read({"eventId": "event-1", "snapshots": [KEY], **nothing, "novelty": 1}) == TriageInput(
        "event-1", (KEY,)
    )


def test_a_full_input_is_read() -> None:
    case = TriageInput.read(
        {
            "schemaVersion": 2,
            "eventId": "event-1",
            "snapshots": ["old", KEY],
            "redrives": 2,
            "history": ["UNKNOWN", "CRASHED"],
            "redriveOutcome": "DEAD_LETTERED_AGAIN",
            "firstSentAt": 5,
            "replayOf": {"key": "archive/x"},
        }
    )
    assert case == TriageInput(
        "event-1", ("old", KEY), 2, ("UNKNOWN", "CRASHED"), "DEAD_LETTERED_AGAIN", 5, replay=True
    )
    assert case.newest_snapshot == KEY


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"eventId": "", "snapshots": [KEY]},
        {"eventId": 5, "snapshots": [KEY]},
        {"eventId": "event-1"},
        {"eventId": "event-1", "snapshots": []},
        {"eventId": "event-1", "snapshot": KEY},
        {"eventId": "event-1", "snapshots": [KEY, None]},
    ],
)
def test_an_input_that_names_no_letter_or_no_evidence_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TriageInput.read(data)


def test_a_missing_or_foreign_snapshot_is_reported_as_such(world: World) -> None:
    case = world.keep(body())
    with pytest.raises(SnapshotMissing, match="another event"):
        load_letter(world.objects, TriageInput("event-2", case.snapshots))
    world.objects.texts.clear()
    with pytest.raises(SnapshotMissing, match="does not exist"):
        load_letter(world.objects, case)


# -- classify ------------------------------------------------------------------------------------------------------


def category(world: World, case: TriageInput) -> str:
    return world.classifier.classify(case, NOW).category


def test_a_stored_event_is_recovered_whatever_else_is_known(world: World) -> None:
    case = world.keep(body(), system=MOVED)
    world.note(5, Status.FAILED, Failure.of(Rejected("too large")))
    world.store_event()
    for redrive in (None, "DEAD_LETTERED_AGAIN", "STORED", "SILENT", "NOT_SENT"):
        asked = TriageInput(case.event_id, case.snapshots, redrives=99, redrive_outcome=redrive)
        assert category(world, asked) == "ALREADY_STORED"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"id": "event-1", "detail": None}), "INVALID"),
        ('{"id": "event-1", "source": "s", "detail-type": "t", "detail": {"attributes": {"n": 1e400}}}', "MALFORMED"),
    ],
)
def test_a_body_that_is_no_event_is_not_recovered_by_the_stored_event_whose_id_it_claims(
    world: World, text: str, expected: str
) -> None:
    world.store_event()
    assert category(world, world.keep(text)) == expected


def test_an_unreadable_body_is_malformed(world: World) -> None:
    assert category(world, world.keep("oops")) == "MALFORMED"


def test_the_last_attempt_of_this_message_decides_not_another_message_s(world: World) -> None:
    case = world.keep(body(), system=MOVED)
    world.note(9, Status.FAILED, Failure.of(Rejected("too large")), message_id="message-0")
    assert category(world, case) == "NEVER_RAN"
    world.note(4, Status.FAILED, Failure.of(Unavailable("down")))
    assert category(world, case) == "UNAVAILABLE"
    world.note(5, Status.STARTED)
    assert category(world, case) == "CRASHED"


def test_what_the_upstream_asked_for_is_in_the_verdict(world: World) -> None:
    case = world.keep(body())
    world.note(1, Status.FAILED, Failure.of(Throttled("slow", retry_after=120.0)))
    assert world.classifier.classify(case, NOW).as_json()["retryAfterSeconds"] == 120.0


def test_an_undelivered_event_is_told_by_eventbridge_s_attributes(world: World) -> None:
    rule = {"ERROR_CODE": {"dataType": "String", "stringValue": "NO_PERMISSIONS"}}
    verdict = world.classifier.classify(world.keep(body(), attributes=rule), NOW)
    assert (verdict.category, verdict.evidence.error_code) == ("UNDELIVERED", "NO_PERMISSIONS")


def test_a_ledger_that_is_down_leaves_a_gap_and_no_failure(world: World) -> None:
    case = world.keep(body(), system=MOVED)
    world.journal.fail_always("attemptlog.of_event", Unavailable("down"))
    verdict = world.classifier.classify(case, NOW)
    assert (verdict.category, verdict.action, verdict.evidence.attempt_log) == ("UNKNOWN", "retry", "unreadable")


@pytest.mark.parametrize("call", ["eventstore.holds", "objects.read"])
def test_a_table_or_bucket_that_cannot_be_asked_decides_nothing(world: World, call: str) -> None:
    case = world.keep(body())
    world.journal.fail_always(call, Unavailable("down"))
    with pytest.raises(Unavailable):
        world.classifier.classify(case, NOW)


def test_the_age_counts_from_the_letter_s_first_death(world: World) -> None:
    case = world.keep(body())
    assert world.classifier.classify(case, NOW).evidence.age_hours == 2.0
    assert world.classifier.classify(case, NOW + timedelta(hours=94)).category == "EXPIRED"
    unknown = TriageInput(case.event_id, case.snapshots)
    assert world.classifier.classify(unknown, NOW).evidence.age_hours == 0.0


def test_a_verdict_holds_nothing_of_the_payload(world: World) -> None:
    case = world.keep(body(), attributes={"Secret": {"dataType": "String", "stringValue": PERSONAL}})
    assert "Zoë" not in json.dumps(world.classifier.classify(case, NOW).as_json(), ensure_ascii=False)


def test_attempts_are_told_in_the_order_in_which_they_happened(world: World) -> None:
    for receives in (3, 1, 2):
        world.note(receives, Status.FAILED)
    found = world.attempt_log.of_event("event-1")
    assert [attempt.key.receive_count for attempt in in_order(found)] == [1, 2, 3]
    assert [attempt.key.receive_count for attempt in of_message(found, "message-1")] == [1, 2, 3]
    assert of_message(found, "another") == []


# -- redrive -------------------------------------------------------------------------------------------------------


def test_the_exact_message_goes_back_with_a_stamp_that_finds_the_execution(world: World) -> None:
    case = world.keep(body(), attributes={"Own": {"dataType": "Number", "stringValue": "1"}})
    sent = world.redriver.redrive(TriageInput("event-1", case.snapshots, redrives=2), ARN, "token-2")
    assert sent == {"messageId": "sent-1", "stamped": True}
    (outgoing,) = world.queue.sent
    assert outgoing.body == body()
    assert outgoing.message_attributes["Own"] == {"DataType": "Number", "StringValue": "1"}
    assert json.loads(outgoing.message_attributes["Triage"]["StringValue"]) == {
        "eventId": "event-1",
        "execution": ARN,
        "redrives": 2,
        "taskToken": "token-2",
    }


def test_the_newest_evidence_is_the_one_that_is_sent(world: World) -> None:
    old, new = world.keep(body(), "message-1"), world.keep(body(), "message-2", attributes=stamped())
    world.redriver.redrive(TriageInput("event-1", old.snapshots + new.snapshots), ARN, "token")
    assert world.journal.calls[-2:] == ["objects.read", "queue.send"]
    assert world.queue.sent[0].message_attributes.keys() == {"Triage"}


def test_a_stamp_that_does_not_fit_is_told(world: World) -> None:
    full = {f"a{n}": {"dataType": "String", "stringValue": "x"} for n in range(10)}
    assert world.redriver.redrive(world.keep(body(), attributes=full), ARN, "token")["stamped"] is False


def test_a_redrive_that_cannot_be_sent_fails_by_its_name(world: World) -> None:
    case = world.keep(body())
    world.journal.fail("queue.send", Throttled("slow"))
    with pytest.raises(Throttled):
        world.redriver.redrive(case, ARN, "token")


# -- archive -------------------------------------------------------------------------------------------------------

ARCHIVED_AT = "2026-11-23T12:34:56.789Z"


def test_the_archive_object_is_the_contract_s(world: World) -> None:
    text = " " + body()
    case = world.keep(text, attributes={"Own": {"dataType": "String", "stringValue": "x"}})
    world.note(2, Status.FAILED, Failure.of(Unavailable("down")))
    world.note(1, Status.STARTED, message_id="message-0")
    key = world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)["key"]
    assert key == "archive/category=REJECTED/dt=2026-11-23/acd-start-x.json"
    document = json.loads(world.objects.texts[key])
    assert list(document) == [
        "schemaVersion", "eventId", "verdict", "attempts", "event", "executionArn", "archivedAt", "message",
    ]  # fmt: skip
    assert document["schemaVersion"] == 2
    assert document["verdict"] == VERDICT
    assert [attempt["messageId"] for attempt in document["attempts"]] == ["message-0", "message-1"]
    assert document["attempts"][1]["errorType"] == "Unavailable"
    assert document["event"] == {
        "id": "event-1",
        "source": json.loads(text)["source"],
        "detailType": ACD_START,
        "time": "2026-11-23T10:00:00Z",
    }
    assert (document["executionArn"], document["archivedAt"]) == (ARN, ARCHIVED_AT)
    assert (
        document["message"] == message(text, attributes={"Own": {"dataType": "String", "stringValue": "x"}}).as_json()
    )


@pytest.mark.parametrize("text", ["oops", " ", "null", "\ud800", '"\u2028"'])
def test_a_body_that_nobody_can_read_is_archived_to_the_byte(world: World, text: str) -> None:
    key = world.archiver.archive(world.keep(text), VERDICT, ARN, ARCHIVED_AT)["key"]
    document = json.loads(world.objects.texts[key])
    assert (document["message"]["body"], document["event"]) == (text, None)
    assert DeadLetter.of_document(parse_document(world.objects.texts[key])).message.body == text


def test_a_retry_meets_its_own_object_and_the_first_write_stands(world: World) -> None:
    case = world.keep(body())
    first = world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)["key"]
    before = world.objects.texts[first]
    world.note(3, Status.FAILED)
    assert world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)["key"] == first
    assert world.objects.texts[first] == before


@pytest.mark.parametrize("standing", ['{"executionArn": "another"}', "scribble", "[]", ""])
def test_an_object_of_another_execution_is_refused(world: World, standing: str) -> None:
    case = world.keep(body())
    world.objects.create(archive_key("REJECTED", ARCHIVED_AT, ARN), standing)
    with pytest.raises(SnapshotMissing):
        world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)


def test_the_same_input_gives_the_same_bytes(world: World) -> None:
    case = world.keep(body())
    key = world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)["key"]
    first = world.objects.texts.pop(key)
    world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)
    assert world.objects.texts[key] == first


def test_an_archive_without_its_history_is_better_than_none(world: World) -> None:
    case = world.keep(body())
    world.journal.fail_always("attemptlog.of_event", Unavailable("down"))
    key = world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)["key"]
    assert json.loads(world.objects.texts[key])["attempts"] == []


def test_an_archive_that_cannot_be_written_fails_and_the_evidence_stays(world: World) -> None:
    case = world.keep(body())
    world.journal.fail("objects.create", Unavailable("down"))
    with pytest.raises(Unavailable):
        world.archiver.archive(case, VERDICT, ARN, ARCHIVED_AT)
    assert list(world.objects.texts) == [KEY]


# -- settle --------------------------------------------------------------------------------------------------------


def settle(world: World, case: TriageInput, outcome: str = "ARCHIVED") -> tuple[dict[str, Any], bool]:
    return world.settler.settle(case, outcome, VERDICT, None)


@pytest.mark.parametrize(
    ("outcome", "published"), [("RECOVERED", "Dead Letter Recovered"), ("ARCHIVED", "Dead Letter Archived")]
)
def test_all_snapshots_are_deleted_and_the_outcome_is_published(world: World, outcome: str, published: str) -> None:
    first, second = world.keep(body(), "message-1"), world.keep(body(), "message-2")
    output, released = settle(world, TriageInput("event-1", first.snapshots + second.snapshots), outcome)
    assert released
    assert (output["outcome"], output["messageIds"]) == (outcome, ["message-1", "message-2"])
    assert world.objects.texts == {}
    assert world.triage_events.published == [(published, output)]


def test_snapshots_that_cannot_be_deleted_do_not_fail_the_letter(world: World) -> None:
    case = world.keep(body())
    world.journal.fail("objects.delete", Unavailable("down"))
    _, released = settle(world, case)
    assert not released
    assert len(world.triage_events.published) == 1


def test_a_failed_publication_fails_and_can_be_repeated(world: World) -> None:
    case = world.keep(body())
    world.journal.fail("triageevents.publish", Unavailable("down"))
    with pytest.raises(HoldfastError):
        settle(world, case)
    assert settle(world, case)[1]


@pytest.mark.parametrize(("outcome", "tags"), [("RECOVERED", {"replayed": "true"}), ("ARCHIVED", None)])
def test_a_replayed_archive_object_stays_and_is_tagged_once_its_event_is_stored(
    world: World, outcome: str, tags: dict[str, str] | None
) -> None:
    archived = "archive/category=UNKNOWN/dt=2026-11-20/x.json"
    world.objects.create(archived, "{}")
    again = world.keep(body(), "message-2")
    settle(world, TriageInput("event-1", (archived, *again.snapshots), replay=True), outcome)
    assert list(world.objects.texts) == [archived]
    assert world.objects.tagged.get(archived) == tags
