"""Steps that happen twice, late, in parallel or not at all: an event is stored once, or its dead letter is archived.

The domain code runs over the fakes, and triage follows its definition (:mod:`tests.contract.asl`). A function named
``meanwhile`` runs while an execution waits for the outcome of its redrive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.envelope import format_time
from holdfast.domain.errors import Misconfigured, Rejected, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, Message
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan, Replayer
from holdfast.domain.triage import REPLAYED_TAG
from tests.fakes import NOW
from tests.unit.samples import ACD_START, body, quiet_body, record
from tests.world import Aborted, Raw, World, dead, received


def dead_letter(message_id: str = "message-1", text: str | None = None) -> Raw:
    return dead(record(text or quiet_body(), message_id))


def name_of(message_id: str, generation: int = 0) -> str:
    return execution_name(ACD_START, "event-1", message_id, generation)


def nothing(_sent: list[Raw]) -> None:
    """The redriven message is neither stored nor dead-lettered."""


def aborted(_sent: list[Raw]) -> None:
    raise Aborted


NAME = name_of("message-1")


@pytest.fixture
def world() -> Iterator[World]:
    """A pipeline in which nothing may be left in custody at the end of a test."""
    made = World()
    yield made
    made.assert_nothing_in_custody()


# -- the event is stored, but its execution does not receive the outcome -------------------------------------------


def test_a_failed_callback_is_repeated_and_the_event_is_stored_once(world: World) -> None:
    world.take_in(dead_letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.journal.fail("executions.succeed", Unavailable("down"))
        assert world.process(*sent) == ["sent-1"]
        assert world.process(*sent) == []

    entered = world.triage(NAME, meanwhile)
    assert entered[-3:] == ["Decide", "SettleRecovered", "Recovered"]
    assert list(world.store.items) == ["event-1"]
    assert world.outcomes == ["Recovered"]


def test_a_stored_event_whose_callbacks_all_fail_is_recovered_when_it_is_dead_lettered_again(world: World) -> None:
    world.take_in(dead_letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.journal.fail_always("executions.succeed", Unavailable("down"))
        for _ in range(5):
            assert world.process(*sent) == ["sent-1"]
        assert world.take_in(*map(dead, sent)) == []

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.output(NAME)["messageIds"] == ["message-1", "sent-1"]
    assert world.outcomes == ["Recovered"]


@pytest.mark.parametrize("error", [Rejected("invalid token"), RuntimeError("a defect")])
def test_after_a_permanent_callback_error_the_execution_finds_the_event_in_the_table(
    world: World, error: Exception
) -> None:
    world.take_in(dead_letter())
    world.journal.fail_always("executions.succeed", error)
    world.triage(NAME)
    assert world.output(NAME)["category"] == "ALREADY_STORED"


# -- the response to a redrive is lost -----------------------------------------------------------------------------


def test_a_redrive_that_is_sent_twice_stores_the_event_once(world: World) -> None:
    world.take_in(dead_letter())
    world.journal.lose_response("queue.send", Unavailable("timed out"))
    world.triage(NAME, world.process_all)
    assert [json.loads(out.message_attributes["Triage"]["StringValue"])["taskToken"] for out in world.queue.sent] == [
        "token-1",
        "token-2",
    ]
    assert len(world.store.items) == 1
    assert world.outcomes == ["Recovered"]


def test_the_dead_lettered_copy_of_a_repeated_redrive_gets_an_execution_after_the_first_one_ends(world: World) -> None:
    world.take_in(dead_letter())
    world.journal.lose_response("queue.send", Unavailable("timed out"))
    copies: list[Raw] = []

    def meanwhile(sent: list[Raw]) -> None:
        copies.extend(sent)
        assert world.take_in(dead(sent[0])) == ["sent-1"], "its token is invalid and its execution is running"
        assert world.process(sent[1]) == []

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.take_in(dead(copies[0])) == []
    assert world.executions.running == [name_of("sent-1")]
    assert world.triage(name_of("sent-1")) == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert len(world.store.items) == 1


def test_a_redrive_that_cannot_be_sent_is_repeated_after_a_delay(world: World) -> None:
    world.take_in(dead_letter())
    world.journal.fail("queue.send", Misconfigured("access denied"))
    entered = world.triage(NAME)
    assert entered.count("Redrive") == 2
    assert world.output(NAME)["category"] == "ALREADY_STORED"


# -- the outcome of a redrive comes after its timeout --------------------------------------------------------------


def archived_unconfirmed(world: World) -> Raw:
    """Archive the dead letter as UNCONFIRMED. Returns its redriven message."""
    world.take_in(dead_letter())
    late: list[Raw] = []
    world.triage(NAME, late.extend)
    assert world.output(NAME)["category"] == "UNCONFIRMED"
    return late[0]


def test_a_message_that_is_dead_lettered_after_the_timeout_gets_a_new_execution(world: World) -> None:
    late = archived_unconfirmed(world)
    world.assert_nothing_in_custody()
    assert world.take_in(dead(late)) == []
    second = name_of("sent-1")
    assert world.executions.inputs[second]["redrives"] == 1, "the redrives of the first execution are carried over"
    assert world.triage(second)[-1] == "Recovered"
    assert len(world.store.items) == 1
    assert len(world.keys(ARCHIVE_PREFIX)) == 1, "the archive object stays"
    assert world.outcomes == ["Archived", "Recovered"]


def test_an_event_that_is_stored_after_the_timeout_and_before_classify_is_recovered(world: World) -> None:
    world.take_in(dead_letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.executions.waiting.clear()
        assert world.process(*sent) == [], "the event is stored although no execution waits"

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.outcomes == ["Recovered"]


def test_an_event_that_is_processed_after_it_was_archived_is_stored_once(world: World) -> None:
    late = archived_unconfirmed(world)
    assert world.process(late) == []
    assert world.process(late) == []
    assert list(world.store.items) == ["event-1"]


# -- the intake receives a batch twice -----------------------------------------------------------------------------


def batch() -> list[Raw]:
    return [dead_letter(f"message-{n}", quiet_body(f"event-{n}")) for n in range(8)]


def test_a_batch_that_is_delivered_again_after_its_executions_ended_changes_nothing(world: World) -> None:
    world.take_in(*batch())
    for name in world.executions.running:
        world.triage(name)
    assert world.take_in(*batch()) == []
    assert len(world.store.items) == len(world.outcomes) == 8


@pytest.mark.parametrize(("fake", "call"), [("objects", "create"), ("executions", "start")])
def test_two_workers_that_take_in_the_same_batch_start_each_execution_once(fake: str, call: str) -> None:
    """The second worker takes in the whole batch during a call of the first one."""
    world = World()
    target = getattr(world, fake)
    original = getattr(target, call)

    def after_the_other_worker(*arguments: Any) -> Any:
        setattr(target, call, original)
        assert world.take_in(*batch()) == []
        return original(*arguments)

    setattr(target, call, after_the_other_worker)
    assert world.take_in(*batch()) == []
    assert len(world.executions.running) == len(world.keys(SNAPSHOT_PREFIX)) == 8


# -- two copies of one event ---------------------------------------------------------------------------------------


def test_two_dead_letters_of_one_event_have_two_executions_and_store_the_event_once(world: World) -> None:
    assert world.take_in(dead_letter("message-1"), dead_letter("message-2")) == []
    assert world.executions.running == [NAME, name_of("message-2")]

    def meanwhile(sent: list[Raw]) -> None:
        world.triage(name_of("message-2"))
        assert world.process(*sent) == []

    world.triage(NAME, meanwhile)
    assert len(world.store.items) == 1
    assert world.outcomes == ["Recovered", "Recovered"]


def test_after_a_failed_archive_write_the_next_generation_archives_the_dead_letter(world: World) -> None:
    world.take_in(dead_letter(text="malformed"))
    (name,) = world.executions.running
    world.journal.fail_always("objects.create", Unavailable("down"))
    assert world.triage(name)[-1] == "Archive"
    assert world.executions.descriptions[name].status is ExecutionStatus.FAILED
    world.journal.reset()
    assert world.sweep().adopted == 1
    assert world.triage(f"{name}-g1")[-1] == "Archived"
    assert len(world.keys(ARCHIVE_PREFIX)) == 1


# -- aborted executions --------------------------------------------------------------------------------------------


def test_a_message_that_is_dead_lettered_after_an_abort_takes_over_all_snapshots(world: World) -> None:
    world.take_in(dead_letter())
    world.triage(NAME, aborted)
    assert world.take_in(dead(received(world.queue.sent[0], "sent-1"))) == []
    assert world.executions.running == [name_of("sent-1")]
    assert world.sweep().adopted == 0, "the execution of the newer message handles the snapshot"
    assert world.triage(name_of("sent-1"))[-1] == "Recovered"
    assert world.keys(SNAPSHOT_PREFIX) == [], "the snapshots of the aborted execution are deleted too"
    assert len(world.store.items) == 1


def test_the_retry_limits_of_a_category_include_redrives_of_aborted_executions(world: World) -> None:
    def worker_crashed_on(message_id: str) -> None:
        world.attempt_log.write(
            [Attempt(AttemptKey("event-1", message_id, 5), Status.STARTED, format_time(NOW), "request")]
        )

    def fails_again(sent: list[Raw]) -> None:
        worker_crashed_on("sent-1")
        assert world.take_in(*map(dead, sent)) == []

    world.take_in(dead_letter())
    worker_crashed_on("message-1")
    world.triage(NAME, fails_again, aborted)
    assert world.sweep().adopted == 2
    assert "Redrive" not in world.triage(name_of("sent-1")), "a crash is retried twice, over all executions"
    assert world.outcomes == ["Archived"]


NOT_AN_EVENT = json.dumps({"id": "event-1", "detail-type": ACD_START, "detail": None})


def test_the_sweep_adopts_an_event_although_another_body_with_its_id_was_archived(world: World) -> None:
    world.take_in(dead_letter("message-1"))
    world.triage(NAME, aborted)
    world.take_in(dead_letter("message-2", NOT_AN_EVENT))
    world.journal.fail("objects.delete", Unavailable("down"))
    world.triage(name_of("message-2"))
    report = world.sweep()
    assert (report.released, report.adopted) == (1, 1)
    assert world.triage(name_of("message-1", 1))[-1] == "Recovered"
    assert list(world.store.items) == ["event-1"]


def test_the_sweep_adopts_two_bodies_with_one_id_separately(world: World) -> None:
    for message_id, text in (("message-1", NOT_AN_EVENT), ("message-2", quiet_body())):
        world.take_in(dead_letter(message_id, text))
        world.executions.end(name_of(message_id), ExecutionStatus.ABORTED)
    assert world.sweep().adopted == 2
    assert world.triage(name_of("message-1", 1))[-1] == "Archived"
    assert world.triage(name_of("message-2", 1))[-1] == "Recovered"


def test_two_messages_with_the_same_malformed_body_are_both_archived(world: World) -> None:
    assert world.take_in(dead_letter("message-1", "oops"), dead_letter("message-2", "oops")) == []
    assert (
        len({DeadLetter.of(Message.of_record(dead_letter(m, "oops"))).event_id for m in ("message-1", "message-2")})
        == 1
    )
    first, second = world.executions.running
    world.triage(first)
    assert len(world.keys(SNAPSHOT_PREFIX)) == 1, "the first execution keeps the snapshot of the second one"
    world.triage(second)
    archived = [json.loads(world.objects.texts[key])["message"]["messageId"] for key in world.keys(ARCHIVE_PREFIX)]
    assert sorted(archived) == ["message-1", "message-2"]


# -- a replay during triage ----------------------------------------------------------------------------------------


def replay(world: World) -> str:
    """Start the replay of the only archived letter. Returns the name of its triage execution."""
    (key,) = world.keys(ARCHIVE_PREFIX)
    plan = Plan.read({"prefix": "archive/", "run": "run-1", "startedAt": "2026-11-24T00:00:00Z"})
    prepared = Replayer(world.objects, world.executions, map).prepare(plan, key)
    assert prepared["action"] == "start"
    assert world.executions.start(prepared["name"], prepared["input"])
    return str(prepared["name"])


def test_a_replay_and_a_late_redriven_message_store_the_event_once(world: World) -> None:
    copy = archived_unconfirmed(world)
    name = replay(world)

    def meanwhile(sent: list[Raw]) -> None:
        assert world.take_in(dead(copy)) == []
        world.triage(name_of("sent-1"))
        assert world.process(*sent) == []

    world.triage(name, meanwhile)
    assert len(world.store.items) == 1
    assert world.outcomes == ["Archived", "Recovered", "Recovered"]
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert world.objects.tagged[key] == REPLAYED_TAG


def test_a_replay_that_fails_writes_a_second_archive_object(world: World) -> None:
    archived_unconfirmed(world)
    name = replay(world)
    world.triage(name, lambda sent: _fails_every_receive(world, sent))
    assert world.output(name)["category"] == "EXHAUSTED"
    assert len(world.keys(ARCHIVE_PREFIX)) == 2
    assert world.objects.tagged == {}


# -- outages -------------------------------------------------------------------------------------------------------


def _fails_every_receive(world: World, sent: list[Raw]) -> None:
    """Every receive of the messages fails, and SQS moves them to the dead-letter queue."""
    for raw in sent:
        for receive in range(1, 6):
            again = {**raw, "attributes": {**raw["attributes"], "ApproximateReceiveCount": str(receive)}}
            world.journal.fail("eventstore.store", Unavailable("down"))
            assert world.process(again) == [raw["messageId"]]
        assert world.take_in(dead(raw)) == []


def test_an_outage_longer_than_five_redrives_ends_in_the_archive_with_all_attempts(world: World) -> None:
    first = record(body(), "message-1")
    _fails_every_receive(world, [first])
    entered = world.triage(NAME, *[lambda sent: _fails_every_receive(world, sent)] * 5)
    assert entered.count("Redrive") == 5
    assert world.output(NAME)["category"] == "EXHAUSTED"
    assert len(world.output(NAME)["messageIds"]) == 6
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert len(json.loads(world.objects.texts[key])["attempts"]) == 30


def test_an_outage_that_ends_before_the_fifth_redrive_recovers_the_event(world: World) -> None:
    _fails_every_receive(world, [record(body(), "message-1")])
    world.triage(NAME, *[lambda sent: _fails_every_receive(world, sent)] * 4)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.keys(ARCHIVE_PREFIX) == []
