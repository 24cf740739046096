"""Whatever happens beside, twice, late or not at all: each event ends in exactly one effect, or in the archive.

The real domain over the fakes; triage walks the real definition (:mod:`tests.contract.asl`), and a test says what
happens *meanwhile*, while an execution waits for the outcome of its redrive.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.envelope import format_time
from holdfast.domain.errors import Misconfigured, Rejected, Throttled, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, Message
from holdfast.domain.ports import Execution
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan, Replayer
from holdfast.domain.triage import REPLAYED_TAG
from tests.fakes import (
    NOW,
    FakeExecutions,
    FakeObjects,
)
from tests.unit.samples import ACD_START, body, quiet_body, record
from tests.world import Aborted, Raw, World, dead


def letter(message_id: str = "message-1", text: str | None = None) -> Raw:
    return dead(record(text or quiet_body(), message_id))


def name_of(message_id: str, generation: int = 0) -> str:
    return execution_name(ACD_START, "event-1", message_id, generation)


def nothing(_sent: list[Raw]) -> None:
    """The redriven message is not heard of."""


def aborted(_sent: list[Raw]) -> None:
    raise Aborted


NAME = name_of("message-1")


@pytest.fixture
def world() -> World:
    return World()


# -- stored, and the answer fails ----------------------------------------------------------------------------------


def test_an_answer_that_fails_once_comes_again_and_the_event_is_stored_once(world: World) -> None:
    world.take_in(letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.journal.fail("executions.succeed", Unavailable("down"))
        assert world.process(*sent) == ["sent-1"]
        assert world.process(*sent) == []

    entered = world.triage(NAME, meanwhile)
    assert entered[-3:] == ["Decide", "SettleRecovered", "Recovered"]
    assert list(world.store.items) == ["event-1"]
    assert world.announced == ["Recovered"]
    world.at_rest()


def test_an_event_that_is_stored_and_whose_answer_never_gets_through_dies_and_is_recovered(world: World) -> None:
    world.take_in(letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.journal.break_down("executions.succeed", Unavailable("down"))
        for _ in range(5):
            assert world.process(*sent) == ["sent-1"]
        assert world.take_in(*map(dead, sent)) == []

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.output(NAME)["messageIds"] == ["message-1", "sent-1"]
    assert world.announced == ["Recovered"]
    world.at_rest()


@pytest.mark.parametrize("error", [Rejected("invalid token"), RuntimeError("a defect")])
def test_an_answer_that_fails_for_good_is_told_by_the_table_at_the_time_out(world: World, error: Exception) -> None:
    world.take_in(letter())
    world.journal.break_down("executions.succeed", error)
    world.triage(NAME)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    world.at_rest()


# -- sent, and it looked as if not ---------------------------------------------------------------------------------


def test_a_redrive_whose_answer_was_lost_is_sent_again_and_has_one_effect(world: World) -> None:
    world.take_in(letter())
    world.journal.lose_answer("queue.send", Unavailable("timed out"))
    world.triage(NAME, world.all_goes_well)
    assert [json.loads(out.message_attributes["Triage"]["StringValue"])["taskToken"] for out in world.queue.sent] == [
        "token-1",
        "token-2",
    ]
    assert len(world.store.items) == 1
    assert world.announced == ["Recovered"]
    world.at_rest()


def test_a_copy_of_a_lost_send_that_dies_waits_for_the_execution_and_then_has_its_own_story(world: World) -> None:
    world.take_in(letter())
    world.journal.lose_answer("queue.send", Unavailable("timed out"))
    copies: list[Raw] = []

    def meanwhile(sent: list[Raw]) -> None:
        copies.extend(sent)
        assert world.take_in(dead(sent[0])) == ["sent-1"], "its token is dead and its execution runs"
        assert world.process(sent[1]) == []

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.take_in(dead(copies[0])) == []
    assert world.executions.running == [name_of("sent-1")]
    assert world.triage(name_of("sent-1")) == ["Classify", "Decide", "SettleRecovered", "Recovered"]
    assert len(world.store.items) == 1
    world.at_rest()


def test_a_redrive_that_cannot_be_sent_waits_for_the_next_round_and_sends_then(world: World) -> None:
    world.take_in(letter())
    world.journal.fail("queue.send", Misconfigured("access denied"))
    entered = world.triage(NAME)
    assert entered.count("Redrive") == 2
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    world.at_rest()


# -- silence, then death, then success -----------------------------------------------------------------------------


def test_a_late_death_after_a_time_out_is_taken_in_and_a_late_success_is_the_only_effect(world: World) -> None:
    world.take_in(letter())
    late: list[Raw] = []
    world.triage(NAME, late.extend)
    assert world.output(NAME)["category"] == "UNCONFIRMED"
    world.at_rest()

    assert world.take_in(*map(dead, late)) == []
    second = name_of("sent-1")
    assert world.executions.inputs[second]["redrives"] == 1, "the rounds of the first execution are carried over"
    assert world.triage(second)[-1] == "Recovered"
    assert len(world.store.items) == 1
    assert len(world.keys(ARCHIVE_PREFIX)) == 1, "what was archived stays, and stored comes before archived"
    assert world.announced == ["Archived", "Recovered"]
    world.at_rest()


def test_a_success_between_the_time_out_and_the_question_recovers_the_letter(world: World) -> None:
    world.take_in(letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.executions.waiting.clear()
        assert world.process(*sent) == [], "nobody waits any more, and the event is stored all the same"

    world.triage(NAME, meanwhile)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.announced == ["Recovered"]
    world.at_rest()


def test_a_success_after_the_archive_makes_no_second_effect(world: World) -> None:
    world.take_in(letter())
    late: list[Raw] = []
    world.triage(NAME, late.extend)
    assert world.process(*late) == []
    assert world.process(*late) == []
    assert list(world.store.items) == ["event-1"]
    world.at_rest()


# -- evidence, and then no execution -------------------------------------------------------------------------------


def test_a_throttled_start_leaves_the_message_and_the_second_delivery_starts_once(world: World) -> None:
    world.journal.fail("executions.start", Throttled("slow"))
    assert world.take_in(letter()) == ["message-1"]
    assert len(world.keys(SNAPSHOT_PREFIX)) == 1
    assert world.take_in(letter()) == []
    assert world.executions.running == [NAME]
    world.triage(NAME)
    world.at_rest()


def test_evidence_whose_message_never_comes_again_is_adopted(world: World) -> None:
    world.journal.fail("executions.start", Throttled("slow"))
    world.take_in(letter())
    assert world.sweep().adopted == 1
    world.triage(NAME)
    assert world.announced == ["Recovered"]
    world.at_rest()


# -- the intake, twice ---------------------------------------------------------------------------------------------


def batch() -> list[Raw]:
    return [letter(f"message-{n}", quiet_body(f"event-{n}")) for n in range(8)]


def test_a_batch_that_is_delivered_twice_starts_each_execution_once(world: World) -> None:
    assert world.take_in(*batch()) == []
    assert world.take_in(*batch()) == []
    assert len(world.executions.running) == len(world.keys(SNAPSHOT_PREFIX)) == 8


def test_a_batch_that_is_delivered_again_after_the_end_leaves_nothing_behind(world: World) -> None:
    world.take_in(*batch())
    for name in world.executions.running:
        world.triage(name)
    assert world.take_in(*batch()) == []
    assert len(world.store.items) == len(world.announced) == 8
    world.at_rest()


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Let the threads of a test take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@dataclass
class AtOnce(FakeObjects):
    """A bucket whose every conditional write is one step, as in S3; both workers reach it at the same time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    gate: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def create(self, key: str, text: str) -> bool:
        self.gate.wait(timeout=5)
        with self.lock:
            return super().create(key, text)


@dataclass
class StartsAtOnce(FakeExecutions):
    """A state machine whose every start is one step, as in Step Functions; both workers reach it at the same time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    gate: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        self.gate.wait(timeout=5)
        with self.lock:
            return super().start(name, execution_input)


@pytest.mark.usefixtures("many_switches")
def test_a_batch_that_two_workers_take_in_at_the_same_time_starts_each_execution_once(world: World) -> None:
    world.objects, world.executions = AtOnce(world.journal), StartsAtOnce(world.journal)
    left: list[list[str]] = []
    workers = [threading.Thread(target=lambda: left.append(world.take_in(*batch()))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert left == [[], []]
    assert len(world.executions.running) == len(world.keys(SNAPSHOT_PREFIX)) == 8


# -- two copies of one event ---------------------------------------------------------------------------------------


def test_two_copies_of_one_event_that_are_dead_at_once_have_two_stories_and_one_effect(world: World) -> None:
    assert world.take_in(letter("message-1"), letter("message-2")) == []
    assert world.executions.running == [NAME, name_of("message-2")]

    def the_other_one_meanwhile(sent: list[Raw]) -> None:
        world.triage(name_of("message-2"))
        assert world.process(*sent) == []

    world.triage(NAME, the_other_one_meanwhile)
    assert len(world.store.items) == 1
    assert world.announced == ["Recovered", "Recovered"]
    world.at_rest()


def test_of_two_copies_one_is_archived_and_the_other_is_stored_later(world: World) -> None:
    world.take_in(letter("message-1"), letter("message-2"))
    world.triage(NAME, nothing)
    world.triage(name_of("message-2"))
    assert world.announced == ["Archived", "Recovered"]
    assert len(world.store.items) == 1
    world.at_rest()


# -- archived, and not released ------------------------------------------------------------------------------------


def test_evidence_that_the_archived_letter_could_not_release_is_released_by_the_sweep(world: World) -> None:
    world.take_in(letter(text="malformed"))
    (name,) = world.executions.running
    world.journal.fail("objects.delete", Unavailable("down"))
    world.triage(name)
    assert world.announced == ["Archived"]
    assert len(world.keys(SNAPSHOT_PREFIX)) == 1
    report = world.sweep()
    assert (report.released, report.adopted) == (1, 0)
    assert len(world.keys(ARCHIVE_PREFIX)) == 1
    world.at_rest()


def test_an_archive_whose_answer_was_lost_meets_its_own_object(world: World) -> None:
    world.take_in(letter(text="malformed"))
    (name,) = world.executions.running
    world.journal.lose_answer("objects.create", Unavailable("timed out"))
    world.triage(name)
    assert world.announced == ["Archived"]
    assert len(world.keys(ARCHIVE_PREFIX)) == 1
    world.at_rest()


def test_an_archive_that_cannot_be_written_leaves_the_evidence_and_the_next_generation_archives(world: World) -> None:
    world.take_in(letter(text="malformed"))
    (name,) = world.executions.running
    world.journal.break_down("objects.create", Unavailable("down"))
    assert world.triage(name)[-1] == "Archive"
    assert world.executions.reports[name].status is Execution.FAILED
    world.journal.heal()
    assert world.sweep().adopted == 1
    assert world.triage(f"{name}-g1")[-1] == "Archived"
    assert len(world.keys(ARCHIVE_PREFIX)) == 1
    world.at_rest()


# -- aborted by hand -----------------------------------------------------------------------------------------------


def test_an_execution_that_was_aborted_by_hand_is_followed_by_the_next_generation(world: World) -> None:
    world.take_in(letter())
    world.triage(NAME, aborted)
    assert len(world.keys(SNAPSHOT_PREFIX)) == 1
    assert world.sweep().adopted == 1
    assert world.executions.running == [name_of("message-1", 1)]
    assert world.triage(name_of("message-1", 1))[-1] == "Recovered"
    assert len(world.store.items) == 1
    world.at_rest()


def test_an_aborted_letter_that_is_stored_all_the_same_is_released_by_the_sweep(world: World) -> None:
    world.take_in(letter())

    def meanwhile(sent: list[Raw]) -> None:
        world.all_goes_well(sent)
        raise Aborted

    world.triage(NAME, meanwhile)
    report = world.sweep()
    assert (report.released, report.adopted) == (1, 0)
    world.at_rest()


def test_a_message_that_dies_after_the_abort_is_worked_on_once_and_nothing_is_left_behind(world: World) -> None:
    world.take_in(letter())
    late: list[Raw] = []

    def meanwhile(sent: list[Raw]) -> None:
        late.extend(sent)
        raise Aborted

    world.triage(NAME, meanwhile)
    assert world.take_in(*map(dead, late)) == []
    assert world.executions.running == [name_of("sent-1")]
    assert world.sweep().adopted == 0, "the letter is in the hands of the newer message's execution"
    assert world.triage(name_of("sent-1"))[-1] == "Recovered"
    assert world.keys(SNAPSHOT_PREFIX) == [], "what the aborted execution held went along"
    assert len(world.store.items) == 1
    world.at_rest()


def test_the_limits_of_a_letter_go_on_counting_after_an_abort(world: World) -> None:
    def worker_died_on(message_id: str) -> None:
        world.attempt_log.write(
            [Attempt(AttemptKey("event-1", message_id, 5), Status.STARTED, format_time(NOW), "request")]
        )

    def dies_again(sent: list[Raw]) -> None:
        worker_died_on("sent-1")
        assert world.take_in(*map(dead, sent)) == []

    world.take_in(letter())
    worker_died_on("message-1")
    world.triage(NAME, dies_again, aborted)
    assert world.sweep().adopted == 2
    assert "Redrive" not in world.triage(name_of("sent-1")), "a crash is retried twice, whoever retries"
    assert world.announced == ["Archived"]
    world.at_rest()


NO_EVENT = json.dumps({"id": "event-1", "detail-type": ACD_START, "detail": None})


def test_an_aborted_event_is_not_released_because_another_body_that_claims_its_id_was_archived(world: World) -> None:
    world.take_in(letter("message-1"))
    world.triage(NAME, aborted)
    world.take_in(letter("message-2", NO_EVENT))
    world.journal.fail("objects.delete", Unavailable("down"))
    world.triage(name_of("message-2"))
    report = world.sweep()
    assert (report.released, report.adopted) == (1, 1)
    assert world.triage(name_of("message-1", 1))[-1] == "Recovered"
    assert list(world.store.items) == ["event-1"]
    world.at_rest()


def test_two_bodies_that_claim_one_id_and_were_both_aborted_are_adopted_one_by_one(world: World) -> None:
    for message_id, text in (("message-1", NO_EVENT), ("message-2", quiet_body())):
        world.take_in(letter(message_id, text))
        world.executions.end(name_of(message_id), Execution.ABORTED)
    assert world.sweep().adopted == 2
    assert world.triage(name_of("message-1", 1))[-1] == "Archived"
    assert world.triage(name_of("message-2", 1))[-1] == "Recovered"
    world.at_rest()


# -- bodies that nobody can read -----------------------------------------------------------------------------------


def test_two_identical_malformed_bodies_are_one_letter_and_two_messages_and_both_are_archived(world: World) -> None:
    assert world.take_in(letter("message-1", "oops"), letter("message-2", "oops")) == []
    assert len({DeadLetter.of(Message.of_record(letter(m, "oops"))).event_id for m in ("message-1", "message-2")}) == 1
    first, second = world.executions.running
    world.triage(first)
    assert len(world.keys(SNAPSHOT_PREFIX)) == 1, "one must not release what the other one holds"
    world.triage(second)
    archived = [json.loads(world.objects.texts[key])["message"]["messageId"] for key in world.keys(ARCHIVE_PREFIX)]
    assert sorted(archived) == ["message-1", "message-2"]
    world.at_rest()


# -- a replay beside triage ----------------------------------------------------------------------------------------


def replay(world: World) -> str:
    """Start the replay of the one archived letter, and answer its triage execution's name."""
    (key,) = world.keys(ARCHIVE_PREFIX)
    plan = Plan.read({"prefix": "archive/", "run": "run-1", "startedAt": "2026-11-24T00:00:00Z"})
    prepared = Replayer(world.objects, world.executions, map).prepare(plan, key)
    assert prepared["action"] == "start"
    assert world.executions.start(prepared["name"], prepared["input"])
    return str(prepared["name"])


def archived_with_a_late_copy(world: World) -> Raw:
    """Archive the letter as unconfirmed; its redriven message is still somewhere."""
    world.take_in(letter())
    late: list[Raw] = []
    world.triage(NAME, late.extend)
    (copy,) = late
    return copy


def test_a_replay_beside_the_triage_of_a_late_copy_has_one_effect(world: World) -> None:
    copy = archived_with_a_late_copy(world)
    name = replay(world)

    def the_late_copy_dies_meanwhile(sent: list[Raw]) -> None:
        assert world.take_in(dead(copy)) == []
        world.triage(name_of("sent-1"))
        assert world.process(*sent) == []

    world.triage(name, the_late_copy_dies_meanwhile)
    assert len(world.store.items) == 1
    assert world.announced == ["Archived", "Recovered", "Recovered"]
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert world.objects.tagged[key] == REPLAYED_TAG
    world.at_rest()


def test_a_replay_whose_event_dies_again_is_archived_again_and_the_first_object_stays(world: World) -> None:
    archived_with_a_late_copy(world)
    name = replay(world)
    world.triage(name, lambda sent: _dies(world, sent))
    assert world.output(name)["category"] == "EXHAUSTED"
    assert len(world.keys(ARCHIVE_PREFIX)) == 2
    assert world.objects.tagged == {}
    world.at_rest()


def test_a_replay_that_is_aborted_leaves_its_letter_in_the_archive(world: World) -> None:
    archived_with_a_late_copy(world)
    name = replay(world)
    world.triage(name, aborted)
    assert len(world.keys(ARCHIVE_PREFIX)) == 1
    world.at_rest()


# -- all rounds ----------------------------------------------------------------------------------------------------


def _dies(world: World, sent: list[Raw]) -> None:
    """Every receive of the redriven message fails with an outage, and SQS moves it."""
    for raw in sent:
        for receive in range(1, 6):
            received = {**raw, "attributes": {**raw["attributes"], "ApproximateReceiveCount": str(receive)}}
            world.journal.fail("eventstore.store", Unavailable("down"))
            assert world.process(received) == [raw["messageId"]]
        assert world.take_in(dead(raw)) == []


def test_an_outage_of_five_rounds_ends_in_the_archive_with_every_message_settled(world: World) -> None:
    first = record(body(), "message-1")
    _dies(world, [first])
    entered = world.triage(NAME, *[lambda sent: _dies(world, sent)] * 5)
    assert entered.count("Redrive") == 5
    assert world.output(NAME)["category"] == "EXHAUSTED"
    assert len(world.output(NAME)["messageIds"]) == 6
    (key,) = world.keys(ARCHIVE_PREFIX)
    assert len(json.loads(world.objects.texts[key])["attempts"]) == 30
    world.at_rest()


def test_an_outage_that_ends_in_the_fifth_round_recovers_the_letter(world: World) -> None:
    _dies(world, [record(body(), "message-1")])
    world.triage(NAME, *[lambda sent: _dies(world, sent)] * 4)
    assert world.output(NAME)["category"] == "ALREADY_STORED"
    assert world.keys(ARCHIVE_PREFIX) == []
    world.at_rest()
