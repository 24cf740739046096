"""A dead letter leaves its queue only once an execution owns it or it is settled, and it gets one story only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast.domain.errors import Throttled, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.intake import MAX_GENERATIONS, Generations, Intake, Taken, as_response, take_in
from holdfast.domain.letters import DeadLetter, Message, parse_document
from holdfast.domain.ports import Execution
from tests.fakes import MACHINE, FakeExecutions, FakeObjects, Journal, WorkerCrashed
from tests.unit.samples import ACD_START, PERSONAL, body, record, stamp, stamped

KEY = "dead-letters/event-1/message-1.json"
NAME = execution_name(ACD_START, "event-1", "message-1")


@dataclass
class World:
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        self.objects = FakeObjects(self.journal)
        self.executions = FakeExecutions(self.journal)

    def take_in(self, *records: dict[str, Any]) -> list[Taken]:
        return take_in(records, Intake(Generations(self.objects, self.executions), self.executions))

    def left(self, *records: dict[str, Any]) -> list[str]:
        """The message ids that stay in the dead-letter queue."""
        return [one["itemIdentifier"] for one in as_response(self.take_in(*records))["batchItemFailures"]]


@pytest.fixture
def world() -> World:
    return World()


DEAD = record(body())
REDRIVEN = record(body(), attributes=stamped(execution=f"{MACHINE}execution-1", redrives=2))

# -- the first death -----------------------------------------------------------------------------------------------


def test_evidence_is_confirmed_before_the_execution_starts(world: World) -> None:
    assert world.left(DEAD) == []
    assert world.journal.calls == ["objects.create", "executions.start"]
    assert DeadLetter.of_document(parse_document(world.objects.texts[KEY])).message == Message.of_record(DEAD)
    assert world.executions.running == [NAME]


def test_the_execution_gets_a_pointer_and_metadata_and_nothing_personal(world: World) -> None:
    world.take_in(DEAD)
    assert world.executions.inputs[NAME] == {
        "schemaVersion": 2,
        "eventId": "event-1",
        "detailType": ACD_START,
        "messageId": "message-1",
        "snapshots": [KEY],
        "redrives": 0,
        "firstSentAt": 1795428000000,
    }
    assert PERSONAL not in json.dumps(world.executions.inputs[NAME], ensure_ascii=False)


def test_the_input_does_not_depend_on_the_receive(world: World) -> None:
    world.take_in(DEAD)
    again = World()
    again.take_in(record(body(), receives=7))
    assert world.executions.inputs == again.executions.inputs


def test_a_second_delivery_of_the_same_dead_letter_meets_the_first_one_s_execution(world: World) -> None:
    world.take_in(DEAD)
    assert world.left(record(body(), receives=2)) == []
    assert list(world.executions.reports) == [NAME]


@pytest.mark.parametrize("text", ["oops", " ", "null", "\ud800", "[" * 100_000])
def test_a_body_that_nobody_can_read_is_taken_in_all_the_same(world: World, text: str) -> None:
    assert world.left(record(text)) == []
    (name,) = world.executions.running
    assert name.startswith("unreadable-")
    (evidence,) = world.objects.texts.values()
    assert DeadLetter.of_document(parse_document(evidence)).message.body == text


# -- the name is taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Execution.RUNNING, Execution.PENDING_REDRIVE])
def test_an_execution_that_works_on_the_letter_keeps_it(world: World, status: Execution) -> None:
    world.executions.end(NAME, status)
    assert world.left(DEAD) == []
    assert list(world.executions.reports) == [NAME]
    assert KEY in world.objects.texts


def test_an_execution_that_succeeded_has_settled_it_and_the_new_evidence_goes(world: World) -> None:
    world.executions.end(NAME, Execution.SUCCEEDED, {"messageIds": ["message-1"]})
    assert world.left(DEAD) == []
    assert world.objects.texts == {}
    assert world.executions.running == []


@pytest.mark.parametrize("status", [Execution.FAILED, Execution.ABORTED, Execution.TIMED_OUT])
def test_an_execution_that_ended_otherwise_is_followed_by_the_next_generation(world: World, status: Execution) -> None:
    world.executions.end(NAME, status)
    assert world.left(DEAD) == []
    assert world.executions.running == [f"{NAME}-g1"]
    world.executions.end(f"{NAME}-g1", status)
    world.take_in(DEAD)
    assert world.executions.running == [f"{NAME}-g2"]


def test_generations_end_somewhere_and_the_message_stays(world: World) -> None:
    for generation in range(MAX_GENERATIONS):
        world.executions.end(execution_name(ACD_START, "event-1", "message-1", generation), Execution.ABORTED)
    assert world.left(DEAD) == ["message-1"]
    assert KEY in world.objects.texts


# -- dead again ----------------------------------------------------------------------------------------------------


def test_the_execution_that_waits_is_told_with_the_new_evidence(world: World) -> None:
    world.executions.waiting.add("token-1")
    assert world.left(REDRIVEN) == []
    cause = {"eventId": "event-1", "snapshot": KEY}
    assert world.executions.answered == [("token-1", {"error": "DeadLetteredAgain", "cause": cause})]
    assert world.journal.calls == ["objects.create", "executions.fail"]
    assert world.executions.running == []


def test_a_dead_token_of_a_running_execution_leaves_the_message_for_later(world: World) -> None:
    world.executions.end("execution-1", Execution.RUNNING)
    assert world.left(REDRIVEN) == ["message-1"]
    assert world.executions.running == ["execution-1"]


def test_a_dead_token_of_an_execution_that_settled_this_message_is_done(world: World) -> None:
    world.executions.end("execution-1", Execution.SUCCEEDED, {"messageIds": ["message-0", "message-1"]})
    assert world.left(REDRIVEN) == []
    assert world.objects.texts == {}
    assert world.executions.running == []


@pytest.mark.parametrize("output", [None, {}, {"messageIds": ["message-0"]}, {"messageIds": "message-1"}])
def test_a_dead_token_of_an_execution_that_settled_another_message_starts_a_new_one(
    world: World, output: dict[str, Any] | None
) -> None:
    world.executions.end("execution-1", Execution.SUCCEEDED, output)
    assert world.left(REDRIVEN) == []
    assert world.executions.running == [NAME]
    assert world.executions.inputs[NAME]["redrives"] == 2, "the attempts are carried over"


@pytest.mark.parametrize("status", [Execution.FAILED, Execution.ABORTED, Execution.TIMED_OUT, Execution.ABSENT])
def test_a_dead_token_of_an_execution_that_is_gone_starts_a_new_one(world: World, status: Execution) -> None:
    world.executions.end("execution-1", status)
    assert world.left(REDRIVEN) == []
    assert world.executions.running == [NAME]
    assert world.executions.inputs[NAME]["redrives"] == 2


SPENT = {
    "eventId": "event-1",
    "snapshots": ["dead-letters/event-1/message-0.json"],
    "redrives": 3,
    "history": ["CRASHED", "UNAVAILABLE", "CRASHED"],
    "firstSentAt": 1795000000000,
}


def test_what_an_execution_spent_before_it_ended_goes_on_counting_in_the_one_that_follows(world: World) -> None:
    world.executions.end("execution-1", Execution.ABORTED)
    world.executions.last_inputs["execution-1"] = SPENT
    assert world.left(REDRIVEN) == []
    started = world.executions.inputs[NAME]
    assert started["snapshots"] == ["dead-letters/event-1/message-0.json", KEY], "it releases all of it in the end"
    assert (started["redrives"], started["history"], started["firstSentAt"]) == (3, SPENT["history"], 1795000000000)


def test_the_next_generation_of_a_name_goes_on_counting_too(world: World) -> None:
    world.executions.end(NAME, Execution.FAILED)
    world.executions.last_inputs[NAME] = {**SPENT, "snapshots": [KEY]}
    world.take_in(DEAD)
    started = world.executions.inputs[f"{NAME}-g1"]
    assert (started["snapshots"], started["redrives"], started["history"]) == ([KEY], 3, SPENT["history"])


def test_evidence_that_an_execution_has_settled_is_not_taken_over(world: World) -> None:
    world.executions.end("execution-1", Execution.SUCCEEDED, {"messageIds": ["message-0"]})
    world.executions.last_inputs["execution-1"] = SPENT
    world.take_in(REDRIVEN)
    started = world.executions.inputs[NAME]
    assert (started["snapshots"], started["redrives"]) == ([KEY], 3)


def test_a_replayed_letter_s_archive_object_is_no_evidence_to_take_over(world: World) -> None:
    world.executions.end("execution-1", Execution.ABORTED)
    archived = "archive/category=UNKNOWN/dt=2026-11-20/x.json"
    world.executions.last_inputs["execution-1"] = {**SPENT, "snapshots": [archived]}
    world.take_in(REDRIVEN)
    assert world.executions.inputs[NAME]["snapshots"] == [KEY]


@pytest.mark.parametrize("status", [Execution.RUNNING, Execution.SUCCEEDED, Execution.ABORTED])
def test_an_execution_of_another_letter_that_a_stamp_names_says_nothing_about_this_one(
    world: World, status: Execution
) -> None:
    world.executions.end("execution-1", status, {"messageIds": ["message-1"]}, event_id="event-2")
    world.executions.last_inputs["execution-1"] = {**SPENT, "eventId": "event-2"}
    assert world.left(REDRIVEN) == []
    started = world.executions.inputs[NAME]
    assert (started["snapshots"], started["redrives"]) == ([KEY], 2)
    assert KEY in world.objects.texts


def test_a_stamp_of_another_letter_is_no_stamp(world: World) -> None:
    world.executions.waiting.add("token-1")
    assert world.left(record(body("event-1"), attributes=stamped("event-2"))) == []
    assert world.executions.answered == []
    assert world.executions.inputs[NAME]["redrives"] == 0


# -- what cannot be handed over ------------------------------------------------------------------------------------


def test_a_throttled_start_leaves_exactly_those_messages(world: World) -> None:
    world.journal.fail("executions.start", None, Throttled("too fast"), None, Throttled("too fast"), None)
    records = [record(body(f"event-{n}"), f"message-{n}") for n in range(5)]
    assert world.left(*records) == ["message-1", "message-3"]
    assert len(world.executions.running) == 3
    assert len(world.objects.texts) == 5, "evidence stands for all of them"
    assert world.left(records[1], records[3]) == []
    assert len(world.executions.running) == 5


def test_without_evidence_nothing_starts(world: World) -> None:
    world.journal.fail("objects.create", Unavailable("down"))
    assert world.left(DEAD) == ["message-1"]
    assert world.executions.reports == {}


def test_evidence_of_another_message_under_the_same_key_is_never_overwritten(world: World) -> None:
    world.take_in(DEAD)
    before = dict(world.objects.texts)
    (taken,) = world.take_in(record(body(time="2027-01-01T00:00:00Z")))
    assert taken.error
    assert taken.error.startswith("SnapshotConflict")
    assert world.objects.texts == before


def test_evidence_that_is_no_evidence_keeps_the_message_in_its_queue(world: World) -> None:
    world.objects.create(KEY, "scribble")
    assert world.left(DEAD) == ["message-1"]


def test_evidence_that_vanishes_while_it_is_compared_keeps_the_message_in_its_queue(world: World) -> None:
    world.take_in(DEAD)
    world.executions.reports.clear()
    read = world.objects.read
    world.objects.read = lambda _key: None  # type: ignore[method-assign]
    assert world.left(DEAD) == ["message-1"]
    world.objects.read = read  # type: ignore[method-assign]
    assert world.left(DEAD) == []


def test_after_an_unforeseen_error_the_message_stays_and_the_log_has_type_and_place(world: World) -> None:
    world.journal.fail("objects.create", RuntimeError(PERSONAL))
    (taken,) = world.take_in(DEAD)
    assert re.fullmatch(r"RuntimeError: unexpected error at fakes.py:\d+", taken.error or "")


# -- the intake dies -----------------------------------------------------------------------------------------------


def prepare(world: World, story: str) -> dict[str, Any]:
    """The state of the world before a message of this story arrives."""
    if story == "first":
        return DEAD
    if story == "next-generation":
        world.executions.end(NAME, Execution.ABORTED)
        return DEAD
    if story == "settled":
        world.executions.end(NAME, Execution.SUCCEEDED, {"messageIds": ["message-1"]})
        return DEAD
    if story == "waiting":
        world.executions.waiting.add("token-1")
        world.executions.end("execution-1", Execution.RUNNING)
    if story == "settled-elsewhere":
        world.executions.end("execution-1", Execution.SUCCEEDED, {"messageIds": ["message-1"]})
    if story == "orphan":
        world.executions.end("execution-1", Execution.FAILED)
    return REDRIVEN


STORIES = ["first", "next-generation", "settled", "waiting", "settled-elsewhere", "orphan"]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("fault", ["died", "answer lost"])
def test_an_intake_that_dies_after_any_step_and_runs_again_tells_one_story(story: str, step: int, fault: str) -> None:
    undisturbed = World()
    undisturbed.take_in(prepare(undisturbed, story))
    calls = undisturbed.journal.calls
    if step > len(calls):
        return

    world = World()
    dead = prepare(world, story)
    if fault == "died":
        world.journal.crash_after(step)
        with pytest.raises(WorkerCrashed):
            world.take_in(dead)
    else:
        world.journal.lose_response(calls[step - 1], Unavailable("the answer was lost"))
        assert world.left(dead) == ["message-1"]
    world.journal.reset()

    if story == "waiting" and step == len(calls):
        # It was told, and is running again: the message waits until that execution has ended.
        assert world.left(dead) == ["message-1"]
        world.executions.end("execution-1", Execution.SUCCEEDED, {"messageIds": ["message-0", "message-1"]})
        assert world.left(dead) == []
        assert len(world.executions.answered) == 1
        assert world.objects.texts == {}
        return
    assert world.left(dead) == []
    assert world.executions.reports == undisturbed.executions.reports
    assert world.executions.answered == undisturbed.executions.answered
    assert world.objects.texts == undisturbed.objects.texts


def test_the_stamp_s_letter_is_the_one_that_the_body_names() -> None:
    assert stamp().event_id == DeadLetter.of(Message.of_record(DEAD)).event_id
