"""The states of a triage execution. The events table is the proof, and custody moves before a snapshot is deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import (
    Failure,
    HoldfastError,
    InvalidInput,
    SnapshotMissing,
    Unavailable,
)
from holdfast.domain.letters import TRIAGE_ATTRIBUTE, DeadLetter, TriageStamp, parse_document
from holdfast.domain.ports import StorableEvent
from holdfast.domain.processing import Record
from holdfast.domain.triage import (
    Archiver,
    Classifier,
    Redriver,
    Settler,
    TriageInput,
    archive_key,
)
from tests.fakes import MACHINE, NOW, FakeBuffer
from tests.unit.samples import ACD_START, PERSONAL, body, message, stamped
from tests.world import LIMITS, POLICY, World

KEY = "dead-letters/event-1/message-1.json"
MOVED = {"DeadLetterQueueSourceArn": "arn:aws:sqs:eu-central-1:123456789012:buffer"}
SINCE = (NOW - timedelta(hours=2)).isoformat()
VERDICT = {
    "category": "REJECTED",
    "rule": "rejected-downstream",
    "action": "archive",
    "fingerprint": "f",
    "evidence": {},
}
ARN = f"{MACHINE}acd-start-x"


class TriageWorld(World):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.buffer = FakeBuffer()
        self.classifier = Classifier(self.store, self.attempt_log, self.objects, self.buffer, POLICY, LIMITS)
        self.archiver = Archiver(self.objects, self.attempt_log, self.store, "archive-bucket")
        self.redriver = Redriver(self.objects, self.queue)
        self.settler = Settler(self.objects, self.objects, self.triage_events)

    def add_snapshot(self, text: str, message_id: str = "message-1", **changes: Any) -> TriageInput:
        """Write the snapshot of a dead letter."""
        letter = DeadLetter.of(message(text, message_id, **changes))
        self.objects.create(letter.key, letter.as_json())
        return TriageInput.read({"eventId": letter.event_id, "snapshots": [letter.key], "inTriageSince": SINCE})

    def add_attempt(
        self, receives: int, status: Status, failure: Failure | None = None, message_id: str = "message-1"
    ) -> None:
        key = AttemptKey("event-1", message_id, receives)
        self.attempt_log.attempts[key] = Attempt(key, status, f"2026-11-23T11:0{receives}:00.000Z", "request", failure)

    def store_event(self) -> None:
        record = Record.of({"messageId": "m", "receiptHandle": "r", "body": body()})
        assert not isinstance(record.event, Failure)
        self.store.items[record.event_id] = None  # type: ignore[assignment]  # only its key matters


@pytest.fixture
def world() -> TriageWorld:
    return TriageWorld()


# -- the input of a state ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [{}, {**dict.fromkeys(("redrives", "history", "redriveOutcome", "firstSentAt", "replayOf")), "new": 1}]
)
def test_missing_null_and_unknown_fields_are_ignored(more: dict[str, Any]) -> None:
    assert TriageInput.read({"eventId": "event-1", "snapshots": [KEY], **more}) == TriageInput("event-1", (KEY,))


def test_an_input_with_all_fields_is_read() -> None:
    triage_input = TriageInput.read(
        {
            "schemaVersion": 2,
            "eventId": "event-1",
            "snapshots": ["old", KEY],
            "redrives": 2,
            "history": ["UNKNOWN", "CRASHED"],
            "redriveOutcome": "DEAD_LETTERED_AGAIN",
            "redrivenAt": "2026-11-23T11:00:00.000Z",
            "inTriageSince": "2026-11-23T10:00:00.000Z",
            "execution": ARN,
            "replayOf": {"key": "archive/x"},
        }
    )
    assert triage_input == TriageInput(
        event_id="event-1",
        snapshots=("old", KEY),
        redrives=2,
        history=("UNKNOWN", "CRASHED"),
        redrive_outcome="DEAD_LETTERED_AGAIN",
        redriven_at=NOW - timedelta(hours=1),
        in_triage_since=NOW - timedelta(hours=2),
        execution=ARN,
        replay=True,
    )
    assert triage_input.newest_snapshot == KEY


VALID = {"eventId": "event-1", "snapshots": [KEY]}


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"eventId": "event-1"}, {"eventId": "event-1", "snapshot": KEY}),
        *(VALID | {"eventId": wrong} for wrong in ("", 5)),
        *(VALID | {"snapshots": wrong} for wrong in ([], [5], [KEY, None])),
        *(VALID | {"redrives": wrong} for wrong in ("many", -1, 1.5, 10**400)),
        *(VALID | {"inTriageSince": wrong} for wrong in ([1], "yesterday", 5)),
        VALID | {"execution": 5},
        *(VALID | {"history": wrong} for wrong in ("UNKNOWN", [None])),
        VALID | {"redriveOutcome": 1},
    ],
    ids=str,
)
def test_a_wrong_input_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TriageInput.read(data)


@pytest.mark.parametrize(
    "step",
    [
        lambda world, triage_input: world.classifier.classify(triage_input, NOW),
        lambda world, triage_input: world.redriver.redrive(triage_input, ARN, "token"),
        lambda world, triage_input: world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT),
    ],
    ids=["classify", "redrive", "archive"],
)
def test_a_missing_snapshot_or_one_of_another_event_is_an_error(
    world: TriageWorld, step: Callable[[TriageWorld, TriageInput], Any]
) -> None:
    triage_input = world.add_snapshot(body())
    with pytest.raises(SnapshotMissing, match="another event"):
        step(world, TriageInput("event-2", triage_input.snapshots))
    world.objects.texts.clear()
    with pytest.raises(SnapshotMissing, match="does not exist"):
        step(world, triage_input)


# -- classify ------------------------------------------------------------------------------------------------------


def category(world: TriageWorld, triage_input: TriageInput) -> str:
    return world.classifier.classify(triage_input, NOW).category


@pytest.mark.parametrize("call", ["eventstore.holds", "objects.read"])
def test_classify_fails_when_the_table_or_the_snapshot_cannot_be_read(world: TriageWorld, call: str) -> None:
    triage_input = world.add_snapshot(body())
    world.journal.fail_always(call, Unavailable("down"))
    with pytest.raises(Unavailable):
        world.classifier.classify(triage_input, NOW)


def test_the_age_counts_from_the_start_of_triage(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    assert world.classifier.classify(triage_input, NOW).evidence.age_hours == 2.0
    assert world.classifier.classify(triage_input, NOW + timedelta(hours=94)).category == "EXPIRED"
    unknown = TriageInput(triage_input.event_id, triage_input.snapshots)
    assert world.classifier.classify(unknown, NOW).evidence.age_hours == 0.0


def test_a_verdict_contains_no_personal_data(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body(), attributes={"Secret": {"dataType": "String", "stringValue": PERSONAL}})
    assert "Zoë" not in json.dumps(world.classifier.classify(triage_input, NOW).as_json(), ensure_ascii=False)


@pytest.mark.parametrize("code", ["x" * 2_600, "a\u2028b", f"{PERSONAL}", ""])
def test_an_error_code_of_eventbridge_that_is_no_plain_word_reaches_no_verdict(world: TriageWorld, code: str) -> None:
    attributes = {"ERROR_CODE": {"dataType": "String", "stringValue": code}}
    verdict = world.classifier.classify(world.add_snapshot(body(), attributes=attributes), NOW).as_json()
    assert (verdict["category"], verdict["evidence"]["errorCode"]) == ("UNDELIVERED", "unreadable-code")


def test_an_error_code_of_eventbridge_is_evidence(world: TriageWorld) -> None:
    attributes = {"ERROR_CODE": {"dataType": "String", "stringValue": "NO_PERMISSIONS"}}
    verdict = world.classifier.classify(world.add_snapshot(body(), attributes=attributes), NOW)
    assert verdict.evidence.error_code == "NO_PERMISSIONS"


# -- redrive -------------------------------------------------------------------------------------------------------


def test_a_redrive_sends_the_exact_message_with_a_stamp_of_its_execution(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body(), attributes={"Own": {"dataType": "Number", "stringValue": "1"}})
    sent = world.redriver.redrive(TriageInput("event-1", triage_input.snapshots, redrives=2), ARN, "token-2")
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


def test_a_redrive_sends_the_newest_snapshot(world: TriageWorld) -> None:
    old, new = world.add_snapshot(body(), "message-1"), world.add_snapshot(body(), "message-2", attributes=stamped())
    world.redriver.redrive(TriageInput("event-1", old.snapshots + new.snapshots), ARN, "token")
    assert world.queue.sent[0].message_attributes.keys() == {"Triage"}


def test_a_redrive_returns_whether_the_stamp_fits(world: TriageWorld) -> None:
    full = {f"a{n}": {"dataType": "String", "stringValue": "x"} for n in range(10)}
    assert world.redriver.redrive(world.add_snapshot(body(), attributes=full), ARN, "token")["stamped"] is False


# -- archive -------------------------------------------------------------------------------------------------------

ARCHIVED_AT = "2026-11-23T12:34:56.789Z"


def test_an_archive_object_contains_message_verdict_and_attempts(world: TriageWorld) -> None:
    text, own = " " + body(), {"Own": {"dataType": "String", "stringValue": "x"}}
    triage_input = world.add_snapshot(text, attributes=own)
    world.add_attempt(2, Status.FAILED, Failure.of(Unavailable("down")))
    world.add_attempt(1, Status.STARTED, message_id="message-0")
    key = world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)["key"]
    assert key == "archive/category=REJECTED/dt=2026-11-23/f/acd-start-x.json"
    document = json.loads(world.objects.texts[key])
    attempts = document.pop("attempts")
    assert [attempt["messageId"] for attempt in attempts] == ["message-0", "message-1"]
    assert attempts[1]["errorType"] == "Unavailable"
    assert document == {
        "schemaVersion": 2,
        "eventId": "event-1",
        "verdict": VERDICT,
        "event": {
            "id": "event-1",
            "source": json.loads(text)["source"],
            "detailType": ACD_START,
            "time": "2026-11-23T10:00:00Z",
        },
        "executionArn": ARN,
        "archivedAt": ARCHIVED_AT,
        "message": message(text, attributes=own).as_json(),
    }


@pytest.mark.parametrize("text", ["oops", " ", "null", "\ud800", '"\u2028"'])
def test_an_unreadable_body_is_archived_unchanged(world: TriageWorld, text: str) -> None:
    key = world.archiver.archive(world.add_snapshot(text), VERDICT, ARN, ARCHIVED_AT)["key"]
    document = json.loads(world.objects.texts[key])
    assert (document["message"]["body"], document["event"]) == (text, None)
    assert DeadLetter.of_document(parse_document(world.objects.texts[key])).message.body == text


def test_a_retry_finds_the_archive_object_of_the_first_call(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    first = world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)["key"]
    before = world.objects.texts[first]
    world.add_attempt(3, Status.FAILED)
    assert world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)["key"] == first
    assert world.objects.texts[first] == before


@pytest.mark.parametrize("text", ['{"executionArn": "another"}', "not JSON", "[]", ""])
def test_an_archive_object_of_another_execution_is_an_error(world: TriageWorld, text: str) -> None:
    triage_input = world.add_snapshot(body())
    world.objects.create(archive_key(VERDICT, ARCHIVED_AT, ARN), text)
    with pytest.raises(SnapshotMissing):
        world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)


def test_a_letter_is_archived_without_attempts_when_the_attempt_log_is_unreadable(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    world.journal.fail_always("attemptlog.of_event", Unavailable("down"))
    key = world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)["key"]
    assert json.loads(world.objects.texts[key])["attempts"] == []


def test_the_snapshot_stays_when_the_archive_object_cannot_be_written(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    world.journal.fail("objects.create", Unavailable("down"))
    with pytest.raises(Unavailable):
        world.archiver.archive(triage_input, VERDICT, ARN, ARCHIVED_AT)
    assert list(world.objects.texts) == [KEY]


# -- a replayed archive object that expires ------------------------------------------------------------------------


EXPIRED = TriageInput(
    "event-1", ("archive/category=UNKNOWN/dt=2026-11-20/x.json",), 1, ("UNKNOWN",), "STORED", replay=True
)


def test_a_stored_event_is_recovered_although_its_archive_object_expired_during_the_redrive(world: TriageWorld) -> None:
    world.store_event()
    assert world.classifier.classify(EXPIRED, NOW).action == "settle"


@pytest.mark.parametrize(
    "changes", [{"redrive_outcome": None}, {"event_id": "event-2"}], ids=["not sent", "not stored"]
)
def test_a_missing_snapshot_is_an_error_unless_a_redrive_stored_the_event(
    world: TriageWorld, changes: dict[str, Any]
) -> None:
    world.store_event()
    with pytest.raises(SnapshotMissing):
        world.classifier.classify(replace(EXPIRED, **changes), NOW)


# -- settle --------------------------------------------------------------------------------------------------------


def settle(world: TriageWorld, triage_input: TriageInput, outcome: str = "ARCHIVED") -> tuple[dict[str, Any], bool]:
    return world.settler.settle(triage_input, outcome, VERDICT, None)


@pytest.mark.parametrize(
    ("outcome", "published"), [("RECOVERED", "Dead Letter Recovered"), ("ARCHIVED", "Dead Letter Archived")]
)
def test_all_snapshots_are_deleted_and_the_outcome_is_published(
    world: TriageWorld, outcome: str, published: str
) -> None:
    first, second = world.add_snapshot(body(), "message-1"), world.add_snapshot(body(), "message-2")
    output, released = settle(world, TriageInput("event-1", first.snapshots + second.snapshots), outcome)
    assert released
    assert (output["outcome"], output["messageIds"]) == (outcome, ["message-1", "message-2"])
    assert world.objects.texts == {}
    assert world.triage_events.published == [(published, output)]


def test_settle_succeeds_when_snapshots_cannot_be_deleted(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    world.journal.fail("objects.delete", Unavailable("down"))
    _, released = settle(world, triage_input)
    assert not released
    assert len(world.triage_events.published) == 1


def test_settle_fails_when_the_outcome_cannot_be_published_and_can_be_repeated(world: TriageWorld) -> None:
    triage_input = world.add_snapshot(body())
    world.journal.fail("triageevents.publish", Unavailable("down"))
    with pytest.raises(HoldfastError):
        settle(world, triage_input)
    assert settle(world, triage_input)[1]


@pytest.mark.parametrize(("outcome", "tags"), [("RECOVERED", {"replayed": "true"}), ("ARCHIVED", None)])
def test_a_replayed_archive_object_stays_and_is_tagged_once_its_event_is_stored(
    world: TriageWorld, outcome: str, tags: dict[str, str] | None
) -> None:
    archived = "archive/category=UNKNOWN/dt=2026-11-20/x.json"
    world.objects.create(archived, "{}")
    again = world.add_snapshot(body(), "message-2")
    settle(world, TriageInput("event-1", (archived, *again.snapshots), replay=True), outcome)
    assert list(world.objects.texts) == [archived]
    assert world.objects.tagged.get(archived) == tags


# -- a redrive without an outcome ----------------------------------------------------------------------------------


def silent(world: TriageWorld, **changes: Any) -> TriageInput:
    """An execution whose redrive had no outcome before its timeout."""
    data = {"redriveOutcome": "SILENT", "redrives": 1, "redrivenAt": SINCE, "inTriageSince": SINCE, "execution": ARN}
    key = world.add_snapshot(body()).newest_snapshot
    return TriageInput.read({"eventId": "event-1", "snapshots": [key], **data, **changes})


@pytest.mark.parametrize(
    ("paused", "holds", "rule", "action"),
    [
        (True, True, "processing-paused", "wait"),
        (True, False, "processing-paused", "wait"),
        (False, True, "still-in-buffer", "wait"),
        (False, False, "redrive-unconfirmed", "archive"),
    ],
)
def test_a_redrive_without_an_outcome_is_unconfirmed_only_if_the_message_cannot_be_processed_any_more(
    world: TriageWorld, paused: bool, holds: bool, rule: str, action: str
) -> None:
    world.buffer.is_paused, world.buffer.holds = paused, holds
    verdict = world.classifier.classify(silent(world), NOW)
    assert (verdict.rule, verdict.action, verdict.category) == (rule, action, "UNCONFIRMED")


def test_a_wait_ends_when_the_event_is_stored(world: TriageWorld) -> None:
    world.buffer.is_paused = True
    triage_input = silent(world)
    world.store.items["event-1"] = StorableEvent("event-1", "genesys.cloud", "topic", None, None, NOW, "{}")
    assert world.classifier.classify(triage_input, NOW).rule == "already-stored"


@pytest.mark.parametrize("paused", [True, False])
def test_a_wait_ends_after_the_longest_time_in_triage(world: TriageWorld, paused: bool) -> None:
    world.buffer.is_paused, world.buffer.holds = paused, True
    verdict = world.classifier.classify(silent(world), NOW + timedelta(hours=LIMITS.max_age_hours))
    assert (verdict.rule, verdict.action) == ("outcome-too-late", "archive")


@pytest.mark.parametrize("outcome", [None, "DEAD_LETTERED_AGAIN", "STORED", "NOT_SENT"])
def test_the_buffer_is_read_only_after_a_redrive_without_an_outcome(world: TriageWorld, outcome: str | None) -> None:
    world.buffer = FakeBuffer(world.journal, is_paused=True)
    world.classifier = replace(world.classifier, buffer=world.buffer)
    world.classifier.classify(silent(world, redriveOutcome=outcome), NOW)
    assert not [call for call in world.journal.calls if call.startswith("buffer.")]


def test_a_buffer_that_cannot_be_read_gives_no_verdict(world: TriageWorld) -> None:
    world.classifier = replace(world.classifier, buffer=FakeBuffer(world.journal))
    world.journal.fail_always("buffer.paused", Unavailable("down"))
    with pytest.raises(Unavailable):
        world.classifier.classify(silent(world), NOW)


def died_late(world: TriageWorld, execution: str, message_id: str = "sent-1") -> DeadLetter:
    """The redriven message reached the dead-letter queue after the timeout, and the intake wrote its snapshot."""
    stamp = TriageStamp("event-1", execution, 1, "token")
    attribute = {TRIAGE_ATTRIBUTE: {"dataType": "String", "stringValue": stamp.write()}}
    letter = DeadLetter.of(message(body(), attributes=attribute, message_id=message_id))
    world.objects.create(letter.key, letter.as_json())
    return letter


def test_a_message_that_died_after_the_timeout_of_its_redrive_counts_as_dead_lettered_again(world: TriageWorld) -> None:
    world.buffer.is_paused = True
    triage_input, letter = silent(world), died_late(world, ARN)
    verdict = world.classifier.classify(triage_input, NOW)
    assert verdict.late_snapshot == letter.key
    assert verdict.as_json()["lateSnapshot"] == letter.key
    assert verdict.evidence.redrive_outcome == "DEAD_LETTERED_AGAIN"
    assert verdict.action == "retry"


def test_a_snapshot_of_another_execution_of_the_event_is_not_taken(world: TriageWorld) -> None:
    triage_input = silent(world)
    died_late(world, ARN + "-of-a-second-copy")
    assert world.classifier.classify(triage_input, NOW).late_snapshot == ""


def test_a_snapshot_that_cannot_be_read_is_not_taken(world: TriageWorld) -> None:
    triage_input = silent(world)
    world.objects.create("dead-letters/event-1/broken.json", "oops")
    assert world.classifier.classify(triage_input, NOW).rule == "redrive-unconfirmed"
