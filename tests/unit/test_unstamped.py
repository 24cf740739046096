"""A redriven message without room for a stamp reaches the execution that sent it, and triage of its event stays bounded."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from holdfast.domain.errors import Failure, Misconfigured, Unavailable
from holdfast.domain.letters import (
    MAX_MESSAGE_BYTES,
    SNAPSHOT_PREFIX,
    DeadLetter,
    Message,
    TriageStamp,
    parse_document,
    redriven,
)
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.redrive_records import REDRIVE_PREFIX
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan, Replayer
from tests.custody import TEN_ATTRIBUTES
from tests.unit.samples import PERSONAL, quiet_body, record
from tests.world import LIMITS, Raw, World, dead

EVENT = quiet_body()
AS_LARGE_AS_SQS_ALLOWS = EVENT[:-1] + " " * (MAX_MESSAGE_BYTES - len(EVENT.encode())) + "}"
WITHOUT_ROOM = {
    "ten attributes": record(EVENT, attributes=TEN_ATTRIBUTES),
    "1 MiB": record(AS_LARGE_AS_SQS_ALLOWS),
}
LETTER = WITHOUT_ROOM["ten attributes"]
OUTAGE = Failure.of(Unavailable("down"))


class Outage(World):
    """A pipeline whose events table refuses ``event-1`` for now. Every message of it reaches the dead-letter queue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store.refusals["event-1"] = OUTAGE
        self.left: list[Raw] = []

    def die(self, sent: list[Raw]) -> None:
        """Process messages, which fail, and take them in from the dead-letter queue."""
        for raw in sent:
            assert self.process(raw) == [raw["messageId"]]
        letters = [*self.left, *map(dead, sent)]
        kept = self.take_in(*letters)
        self.left = [raw for raw in letters if raw["messageId"] in kept]

    def run_all(self) -> None:
        """Run executions and take in what was left in the queue, until nothing is left to do."""
        for _ in range(20):
            for name in self.executions.running:
                self.triage(name, *[self.die] * 20)
            self.die([])
            if not self.left and not self.executions.running:
                return
        raise AssertionError("triage does not end")

    @property
    def archived(self) -> list[Any]:
        return [parse_document(self.objects.texts[key]) for key in self.keys(ARCHIVE_PREFIX)]

    @property
    def records(self) -> list[str]:
        return self.keys(REDRIVE_PREFIX)

    def fresh_executions(self) -> list[str]:
        """The executions that start with no redrives."""
        return [name for name, given in self.executions.inputs.items() if not given["redrives"]]


@pytest.fixture
def world() -> Outage:
    return Outage()


# -- one dead event, one execution -----------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", WITHOUT_ROOM.values(), ids=WITHOUT_ROOM)
def test_an_outage_gives_one_execution_max_retries_redrives_and_one_archive_object(world: Outage, letter: Raw) -> None:
    world.die([letter])
    (name,) = world.executions.running
    states = world.triage(name, *[world.die] * 20)
    assert list(world.executions.inputs) == [name]
    assert states.count("Redrive") == world.output(name)["redrives"] == LIMITS.max_retries
    (document,) = world.archived
    assert document["verdict"]["category"] == "EXHAUSTED"
    assert document["verdict"]["evidence"]["redriveOutcome"] == "DEAD_LETTERED_AGAIN"
    assert document["message"]["body"] == letter["body"]
    assert document["message"]["messageAttributes"] == letter["messageAttributes"]
    assert world.left == []
    world.assert_nothing_in_custody()


def test_an_event_that_is_stored_after_a_redrive_is_recovered(world: Outage) -> None:
    world.die([LETTER])
    (name,) = world.executions.running

    def recover(sent: list[Raw]) -> None:
        world.store.refusals.clear()
        world.process_all(sent)

    world.triage(name, world.die, recover)
    assert world.output(name)["outcome"] == "RECOVERED"
    assert world.archived == []
    world.assert_nothing_in_custody()


def test_a_record_holds_the_stamp_and_nothing_of_the_message(world: Outage) -> None:
    world.die([LETTER])
    world.run_all()
    assert len(world.records) == 2 * LIMITS.max_retries
    for key in world.records:
        stamp = TriageStamp.read(world.objects.texts[key])
        assert stamp
        assert stamp.write() == world.objects.texts[key]
        assert PERSONAL not in key + world.objects.texts[key]


def test_a_message_with_room_has_no_record_and_is_not_looked_up(world: Outage) -> None:
    world.die([record(EVENT)])
    world.run_all()
    assert len(world.archived) == 1
    assert world.records == []
    assert "objects.list" not in world.journal.calls


def test_a_message_that_cannot_carry_the_longest_stamp_is_known_to_have_no_room() -> None:
    stamp = TriageStamp("e" * 71, "arn:" + "x" * 252, 1_000, "t" * 2_048)
    for spare in range(0, 6_000, 50):
        message = Message("m", quiet_body() + " " * (MAX_MESSAGE_BYTES - len(quiet_body().encode()) - spare))
        sent = redriven(DeadLetter.of(message), stamp)
        assert sent.stamped or not message.has_room_for_stamp
    assert not Message("m", "x", TEN_ATTRIBUTES).has_room_for_stamp
    assert Message("m", "x", {**dict(list(TEN_ATTRIBUTES.items())[:9]), "Triage": {}}).has_room_for_stamp


# -- other messages with the same event id ---------------------------------------------------------------------------


def test_two_copies_of_one_event_have_an_execution_each_and_one_effect(world: Outage) -> None:
    copy = LETTER | {"messageId": "message-2"}
    world.die([LETTER, copy])
    first, second = world.executions.running

    def recover(sent: list[Raw]) -> None:
        world.store.refusals.clear()
        world.process_all(sent)

    def die_beside_the_other(sent: list[Raw]) -> None:
        world.die(sent)
        world.triage(second, world.die, recover)

    world.triage(first, world.die, die_beside_the_other)
    assert [world.output(name)["outcome"] for name in (first, second)] == ["RECOVERED", "RECOVERED"]
    assert len(world.executions.inputs) == 2
    assert list(world.store.items) == ["event-1"]
    world.assert_nothing_in_custody()


def test_another_body_with_the_same_event_id_has_its_own_execution(world: Outage) -> None:
    other = record(EVENT + " ", "message-2", attributes=TEN_ATTRIBUTES)
    world.die([LETTER])
    (name,) = world.executions.running
    world.triage(name, lambda sent: world.die([*sent, other]))
    world.run_all()
    assert len(world.fresh_executions()) == 2
    assert [document["message"]["body"] for document in world.archived] == [EVENT, EVENT + " "]
    world.assert_nothing_in_custody()


def test_a_copy_that_was_sent_before_the_redrive_is_not_taken_for_its_message(world: Outage) -> None:
    copy = dead(LETTER | {"messageId": "message-2"})
    world.die([LETTER])
    (name,) = world.executions.running
    world.journal.fail("objects.create", None, Unavailable("the id of the sent message is not recorded"))

    def die_after_a_copy(sent: list[Raw]) -> None:
        assert world.take_in(copy) == []
        world.die(sent)

    states = world.triage(name, die_after_a_copy, *[world.die] * 20)
    assert states.count("Redrive") == LIMITS.max_retries
    assert len(world.fresh_executions()) == 2


# -- crashes and faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 40))
def test_a_crash_at_any_point_of_triage_loses_nothing_and_starts_nothing_anew(world: Outage, number: int) -> None:
    world.die([LETTER])
    world.journal.reset()
    world.journal.crash_after(number)
    (name,) = world.executions.running

    def die_without_crash(sent: list[Raw]) -> None:
        world.journal.reset()
        world.die(sent)

    world.triage(name, *[die_without_crash] * 20)
    world.run_all()
    assert world.fresh_executions() == [name]
    assert {document["message"]["body"] for document in world.archived} == {EVENT}
    world.assert_nothing_in_custody()


@pytest.mark.parametrize("number", range(1, 12))
def test_a_crash_at_any_point_of_the_intake_reports_a_returned_message_once(world: Outage, number: int) -> None:
    world.die([LETTER])
    (name,) = world.executions.running

    def crash_then_die(sent: list[Raw]) -> None:
        world.journal.reset()
        world.journal.crash_after(number)
        try:
            world.take_in(*map(dead, sent))
        except BaseException:  # noqa: BLE001 - the crash
            world.journal.reset()
            world.left += map(dead, sent)
        world.journal.reset()
        world.die([])  # the queue delivers what was not deleted again

    states = world.triage(name, crash_then_die, *[world.die] * 20)
    world.run_all()
    assert states.count("Redrive") == LIMITS.max_retries
    assert world.fresh_executions() == [name]
    world.assert_nothing_in_custody()


@pytest.mark.parametrize("error", [Unavailable("down"), Misconfigured("denied"), RuntimeError("a defect")])
def test_a_message_that_was_sent_is_not_sent_again_if_its_id_cannot_be_recorded(
    world: Outage, error: Exception
) -> None:
    world.die([LETTER])
    (name,) = world.executions.running
    world.journal.fail("objects.create", None, error)
    states = world.triage(name, *[world.die] * 20)
    assert states.count("Redrive") == len(world.queue.sent) == LIMITS.max_retries
    assert list(world.executions.inputs) == [name]


def test_nothing_is_sent_without_a_record(world: Outage) -> None:
    world.die([LETTER])
    (name,) = world.executions.running
    world.journal.fail_always("objects.create", Unavailable("down"))
    world.triage(name)
    assert world.queue.sent == []
    assert world.keys(SNAPSHOT_PREFIX)


def test_a_message_stays_in_the_queue_while_its_record_cannot_be_read(world: Outage) -> None:
    world.die([LETTER])
    (name,) = world.executions.running

    def fail_once(sent: list[Raw]) -> None:
        world.journal.fail("objects.list", Unavailable("down"))
        world.die(sent)
        assert len(world.left) == 1
        world.die([])

    world.triage(name, fail_once, *[world.die] * 20)
    assert list(world.executions.inputs) == [name]
    assert len(world.archived) == 1


def test_a_message_that_returns_after_its_execution_ended_continues_its_count(world: Outage) -> None:
    world.die([LETTER])
    (name,) = world.executions.running
    late: list[Raw] = []
    world.triage(name, world.die, late.extend)
    assert world.output(name)["category"] == "UNCONFIRMED"
    world.die(late)
    (again,) = world.executions.running
    assert world.executions.inputs[again]["redrives"] == 2


def test_an_execution_that_was_stopped_has_a_next_generation_with_its_redrives(world: Outage) -> None:
    world.die([LETTER])
    (name,) = world.executions.running

    def stop(sent: list[Raw]) -> None:
        world.executions.waiting.clear()
        world.executions.end(name, ExecutionStatus.ABORTED)
        world.executions.last_inputs[name] = dict(world.executions.inputs[name]) | {"redrives": 1}
        world.die(sent)

    world.triage(name, stop)
    (again,) = (other for other in world.executions.inputs if other != name)
    assert world.executions.inputs[again]["redrives"] == 1
    assert len(world.executions.inputs[again]["snapshots"]) == 2


# -- replay and sweep ------------------------------------------------------------------------------------------------


@pytest.fixture
def replayed(world: Outage) -> str:
    """The execution of a replay of the archived letter."""
    world.die([LETTER])
    world.run_all()
    plan = Plan.read({"prefix": ARCHIVE_PREFIX, "run": "run", "startedAt": "2026-12-01T00:00:00Z"})
    made = Replayer(world.objects, world.executions, map).prepare(plan, world.keys(ARCHIVE_PREFIX)[0])
    world.executions.start(made["name"], made["input"])
    return str(made["name"])


def test_a_replay_redrives_once_and_archives_once_again(world: Outage, replayed: str) -> None:
    executions = len(world.executions.inputs)
    states = world.triage(replayed, world.die)
    assert states.count("Redrive") == 1
    assert world.output(replayed)["outcome"] == "ARCHIVED"
    assert world.archived[-1]["verdict"]["evidence"]["redriveOutcome"] == "DEAD_LETTERED_AGAIN"
    assert len(world.archived) == 2
    assert len(world.executions.inputs) == executions
    world.assert_nothing_in_custody()


def test_the_sweep_leaves_a_returned_message_of_a_running_replay_alone(world: Outage, replayed: str) -> None:
    swept = []

    def die_and_sweep(sent: list[Raw]) -> None:
        world.die(sent)
        swept.append(world.sweep())

    world.triage(replayed, die_and_sweep)
    assert [(report.left, report.adopted, report.failed) for report in swept] == [(1, 0, 0)]


# -- bodies that were changed on the way -----------------------------------------------------------------------------


def altered(letter: Raw) -> Raw:
    return letter | {"md5OfBody": hashlib.md5(b"what SQS received", usedforsecurity=False).hexdigest()}


def test_a_verdict_and_the_archive_show_that_the_body_is_not_the_one_that_sqs_received(world: Outage) -> None:
    letter = altered(record(EVENT))
    world.die([letter])
    world.run_all()
    (document,) = world.archived
    assert document["verdict"]["evidence"]["bodyAltered"] is True
    assert document["message"]["body"] == EVENT


def test_the_archive_object_of_a_changed_body_has_the_md5_of_the_original(world: Outage) -> None:
    letter = altered(record("no JSON"))
    world.take_in(dead(letter))
    world.run_all()
    (document,) = world.archived
    assert document["message"]["md5OfBody"] == letter["md5OfBody"]
    assert document["verdict"]["evidence"]["bodyAltered"] is True
    assert Message.of_json(document["message"]).body_altered


@pytest.mark.parametrize("known", [True, False])
def test_an_exact_body_and_one_without_a_known_md5_are_not_marked(world: Outage, known: bool) -> None:
    md5 = hashlib.md5(EVENT.encode(), usedforsecurity=False).hexdigest()
    world.die([record(EVENT) | ({"md5OfBody": md5} if known else {})])
    world.run_all()
    (document,) = world.archived
    assert "bodyAltered" not in document["verdict"]["evidence"]
    assert "md5OfBody" not in document["message"]


def test_an_unreadable_first_snapshot_is_no_error(world: Outage) -> None:
    world.die([record(EVENT)])
    (name,) = world.executions.running

    def die_and_lose_the_first(sent: list[Raw]) -> None:
        world.die(sent)
        world.objects.texts[f"{SNAPSHOT_PREFIX}event-1/message-1.json"] = "no JSON"

    states = world.triage(name, die_and_lose_the_first, *[world.die] * 20)
    assert states[-1] == "Archived"
    assert world.archived[0]["verdict"]["category"] == "EXHAUSTED"
