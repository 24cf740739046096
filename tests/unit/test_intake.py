"""A dead letter leaves its queue once an execution handles it or it is settled. It never gets two executions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from holdfast.domain.errors import Throttled, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.intake import MAX_GENERATIONS, take_in
from holdfast.domain.letters import DeadLetter, Message, parse_document
from holdfast.domain.ports import ExecutionStatus
from tests.fakes import MACHINE, WorkerCrashed
from tests.unit.samples import ACD_START, PERSONAL, body, record, stamped
from tests.world import World

KEY = "dead-letters/event-1/message-1.json"
NAME = execution_name(ACD_START, "event-1", "message-1")


@pytest.fixture
def world() -> World:
    return World()


DEAD = record(body())
REDRIVEN = record(body(), attributes=stamped(execution=f"{MACHINE}execution-1", redrives=2))

# -- the first time in the dead-letter queue ------------------------------------------------------------------------


def test_the_snapshot_is_written_before_the_execution_starts(world: World) -> None:
    assert world.take_in(DEAD) == []
    assert DeadLetter.of_document(parse_document(world.objects.texts[KEY])).message == Message.of_record(DEAD)
    assert world.executions.running == [NAME]


def test_the_input_of_an_execution_contains_no_personal_data(world: World) -> None:
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


def test_a_second_delivery_of_a_dead_letter_starts_no_second_execution(world: World) -> None:
    world.take_in(DEAD)
    assert world.take_in(record(body(), receives=2)) == []
    assert list(world.executions.descriptions) == [NAME]


@pytest.mark.parametrize("text", ["oops", " ", "null", "\ud800", "[" * 100_000])
def test_an_unreadable_body_is_taken_in(world: World, text: str) -> None:
    assert world.take_in(record(text)) == []
    (name,) = world.executions.running
    assert name.startswith("unreadable-")
    (snapshot,) = world.objects.texts.values()
    assert DeadLetter.of_document(parse_document(snapshot)).message.body == text


# -- an execution with the same name exists -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [ExecutionStatus.RUNNING, ExecutionStatus.PENDING_REDRIVE])
def test_a_running_execution_keeps_its_dead_letter(world: World, status: ExecutionStatus) -> None:
    world.executions.end(NAME, status)
    assert world.take_in(DEAD) == []
    assert list(world.executions.descriptions) == [NAME]
    assert KEY in world.objects.texts


def test_the_snapshot_of_a_settled_dead_letter_is_deleted(world: World) -> None:
    world.executions.end(NAME, ExecutionStatus.SUCCEEDED, {"messageIds": ["message-1"]})
    assert world.take_in(DEAD) == []
    assert world.objects.texts == {}
    assert world.executions.running == []


@pytest.mark.parametrize("status", [ExecutionStatus.FAILED, ExecutionStatus.ABORTED, ExecutionStatus.TIMED_OUT])
def test_the_next_generation_starts_after_an_execution_that_did_not_succeed(
    world: World, status: ExecutionStatus
) -> None:
    world.executions.end(NAME, status)
    assert world.take_in(DEAD) == []
    assert world.executions.running == [f"{NAME}-g1"]
    world.executions.end(f"{NAME}-g1", status)
    world.take_in(DEAD)
    assert world.executions.running == [f"{NAME}-g2"]


def test_the_message_stays_in_its_queue_when_every_generation_exists(world: World) -> None:
    for generation in range(MAX_GENERATIONS):
        world.executions.end(execution_name(ACD_START, "event-1", "message-1", generation), ExecutionStatus.ABORTED)
    assert world.take_in(DEAD) == ["message-1"]
    assert KEY in world.objects.texts


# -- a redriven message is dead-lettered again ----------------------------------------------------------------------


def test_the_new_snapshot_is_reported_to_the_waiting_execution(world: World) -> None:
    world.executions.end("execution-1", ExecutionStatus.RUNNING)
    world.executions.waiting.add("token-1")
    assert world.take_in(REDRIVEN) == []
    cause = {"eventId": "event-1", "snapshot": KEY}
    assert world.executions.answered == [("token-1", {"error": "DeadLetteredAgain", "cause": cause})]
    assert world.executions.running == ["execution-1"]


def test_the_message_stays_in_its_queue_while_its_execution_runs_with_another_token(world: World) -> None:
    world.executions.end("execution-1", ExecutionStatus.RUNNING)
    assert world.take_in(REDRIVEN) == ["message-1"]
    assert world.executions.running == ["execution-1"]


def test_a_message_that_its_execution_has_settled_is_deleted(world: World) -> None:
    world.executions.end("execution-1", ExecutionStatus.SUCCEEDED, {"messageIds": ["message-0", "message-1"]})
    assert world.take_in(REDRIVEN) == []
    assert world.objects.texts == {}
    assert world.executions.running == []


@pytest.mark.parametrize(
    ("status", "output"),
    [
        *(
            (ExecutionStatus.SUCCEEDED, output)
            for output in (None, {}, {"messageIds": ["message-0"]}, {"messageIds": "message-1"})
        ),
        *(
            (status, None)
            for status in (
                ExecutionStatus.FAILED,
                ExecutionStatus.ABORTED,
                ExecutionStatus.TIMED_OUT,
                ExecutionStatus.ABSENT,
            )
        ),
    ],
)
def test_a_message_that_its_execution_did_not_settle_gets_a_new_execution(
    world: World, status: ExecutionStatus, output: dict[str, Any] | None
) -> None:
    world.executions.end("execution-1", status, output)
    assert world.take_in(REDRIVEN) == []
    assert world.executions.running == [NAME]
    assert world.executions.inputs[NAME]["redrives"] == 2, "redrives are carried over"


LAST_INPUT = {"eventId": "event-1", "redrives": 3, "history": ["CRASHED", "UNAVAILABLE", "CRASHED"], "firstSentAt": 1}
OLDER = "dead-letters/event-1/message-0.json"


@pytest.mark.parametrize(
    ("status", "held", "expected"),
    [
        (ExecutionStatus.ABORTED, OLDER, [OLDER, KEY]),
        (ExecutionStatus.SUCCEEDED, OLDER, [KEY]),
        (ExecutionStatus.ABORTED, "archive/category=UNKNOWN/dt=2026-11-20/x.json", [KEY]),
    ],
    ids=["aborted", "settled", "aborted replay"],
)
def test_a_new_execution_takes_over_limits_and_open_snapshots(
    world: World, status: ExecutionStatus, held: str, expected: list[str]
) -> None:
    world.executions.end("execution-1", status, {"messageIds": ["message-0"]})
    world.executions.last_inputs["execution-1"] = {**LAST_INPUT, "snapshots": [held]}
    assert world.take_in(REDRIVEN) == []
    started = world.executions.inputs[NAME]
    assert started["snapshots"] == expected
    assert {name: started[name] for name in LAST_INPUT} == LAST_INPUT


def test_the_next_generation_takes_over_the_limits(world: World) -> None:
    world.executions.end(NAME, ExecutionStatus.FAILED)
    world.executions.last_inputs[NAME] = {**LAST_INPUT, "snapshots": [KEY]}
    world.take_in(DEAD)
    started = world.executions.inputs[f"{NAME}-g1"]
    assert {name: started[name] for name in LAST_INPUT} == LAST_INPUT
    assert started["snapshots"] == [KEY]


@pytest.mark.parametrize("status", [ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED, ExecutionStatus.ABORTED])
def test_a_stamp_that_names_the_execution_of_another_event_is_ignored(world: World, status: ExecutionStatus) -> None:
    world.executions.end("execution-1", status, {"messageIds": ["message-1"]}, event_id="event-2")
    world.executions.last_inputs["execution-1"] = {**LAST_INPUT, "eventId": "event-2"}
    assert world.take_in(REDRIVEN) == []
    started = world.executions.inputs[NAME]
    assert (started["snapshots"], started["redrives"]) == ([KEY], 2)
    assert KEY in world.objects.texts


# -- faults --------------------------------------------------------------------------------------------------------


def test_only_the_messages_whose_start_was_throttled_stay_in_the_queue(world: World) -> None:
    world.journal.fail("executions.start", None, Throttled("too fast"), None, Throttled("too fast"), None)
    records = [record(body(f"event-{n}"), f"message-{n}") for n in range(5)]
    assert world.take_in(*records) == ["message-1", "message-3"]
    assert len(world.executions.running) == 3
    assert len(world.objects.texts) == 5, "every message has a snapshot"
    assert world.take_in(records[1], records[3]) == []
    assert len(world.executions.running) == 5


def test_no_execution_starts_without_a_snapshot(world: World) -> None:
    world.journal.fail("objects.create", Unavailable("down"))
    assert world.take_in(DEAD) == ["message-1"]
    assert world.executions.descriptions == {}


def test_the_snapshot_of_another_message_is_never_overwritten(world: World) -> None:
    world.take_in(DEAD)
    before = dict(world.objects.texts)
    (taken,) = take_in([record(body(time="2027-01-01T00:00:00Z"))], world.intake)
    assert taken.error
    assert taken.error.startswith("SnapshotConflict")
    assert world.objects.texts == before


def test_the_message_stays_in_its_queue_when_its_key_holds_another_object(world: World) -> None:
    world.objects.create(KEY, "not a snapshot")
    assert world.take_in(DEAD) == ["message-1"]


def test_the_message_stays_in_its_queue_when_its_snapshot_is_deleted_meanwhile(world: World) -> None:
    world.take_in(DEAD)
    world.executions.descriptions.clear()
    world.objects.read = lambda _key: None  # type: ignore[method-assign]
    assert world.take_in(DEAD) == ["message-1"]


def test_an_unexpected_error_is_reported_by_type_and_place(world: World) -> None:
    world.journal.fail("objects.create", RuntimeError(PERSONAL))
    (taken,) = take_in([DEAD], world.intake)
    assert re.fullmatch(r"RuntimeError: unexpected error at fakes.py:\d+", taken.error or "")


# -- crashes -------------------------------------------------------------------------------------------------------


def prepare(world: World, scenario: str) -> dict[str, Any]:
    """Prepare the executions of a scenario. Returns its message."""
    if scenario == "first":
        return DEAD
    if scenario == "next-generation":
        world.executions.end(NAME, ExecutionStatus.ABORTED)
        return DEAD
    if scenario == "settled":
        world.executions.end(NAME, ExecutionStatus.SUCCEEDED, {"messageIds": ["message-1"]})
        return DEAD
    if scenario == "waiting":
        world.executions.waiting.add("token-1")
        world.executions.end("execution-1", ExecutionStatus.RUNNING)
    if scenario == "settled-by-redriver":
        world.executions.end("execution-1", ExecutionStatus.SUCCEEDED, {"messageIds": ["message-1"]})
    if scenario == "failed-redriver":
        world.executions.end("execution-1", ExecutionStatus.FAILED)
    return REDRIVEN


SCENARIOS = ["first", "next-generation", "settled", "waiting", "settled-by-redriver", "failed-redriver"]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("fault", ["crash", "lost response"])
def test_an_intake_that_runs_again_after_a_crash_at_any_step_has_the_same_result(
    scenario: str, step: int, fault: str
) -> None:
    undisturbed = World()
    undisturbed.take_in(prepare(undisturbed, scenario))
    calls = undisturbed.journal.calls
    if step > len(calls):
        return

    world = World()
    dead = prepare(world, scenario)
    if fault == "crash":
        world.journal.crash_after(step)
        with pytest.raises(WorkerCrashed):
            world.take_in(dead)
    else:
        world.journal.lose_response(calls[step - 1], Unavailable("the response was lost"))
        assert world.take_in(dead) == ["message-1"]
    world.journal.reset()

    if scenario == "waiting" and step == len(calls):
        # Its execution has received the callback and runs: the message stays until that execution has ended.
        assert world.take_in(dead) == ["message-1"]
        world.executions.end("execution-1", ExecutionStatus.SUCCEEDED, {"messageIds": ["message-0", "message-1"]})
        assert world.take_in(dead) == []
        assert len(world.executions.answered) == 1
        assert world.objects.texts == {}
        return
    assert world.take_in(dead) == []
    assert world.executions.descriptions == undisturbed.executions.descriptions
    assert world.executions.answered == undisturbed.executions.answered
    assert world.objects.texts == undisturbed.objects.texts
