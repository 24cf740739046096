"""Failures of triage itself do not decide about a letter: unreadable records, errors of Classify, impossible tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from holdfast.adapters.dynamodb import AttemptsTable, AttemptsTableWriter
from holdfast.adapters.stepfunctions import CallbackTokens
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import AlreadyStored, Failure, Unavailable
from holdfast.domain.identity import execution_name, names_execution_of
from holdfast.domain.letters import TriageStamp, parse_document
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.processing import process_batch
from holdfast.domain.replay import ARCHIVE_PREFIX, Plan, Replayer
from holdfast.domain.triage import Archiver, TriageInput
from tests.fakes import MACHINE, NOW, FakeDeadline
from tests.unit.samples import ACD_START, quiet_body, record, stamp
from tests.world import World, dead

NAME = execution_name(ACD_START, "event-1", "message-1")
KEY = "dead-letters/event-1/message-1.json"
AT = "2026-11-23T10:00:00.000Z"
DOWN = Failure.of(Unavailable("down"))


@pytest.fixture
def world() -> World:
    return World()


def dead_letter() -> dict[str, Any]:
    return dead(record(quiet_body(), "message-1"))


# -- attempt records that cannot be read -----------------------------------------------------------------------------


def item(receive: int, **changes: Any) -> dict[str, Any]:
    """An item of the attempts table. ``None`` removes an attribute."""
    full = {
        "eventId": {"S": "event-1"},
        "attempt": {"S": f"message-1#{receive}"},
        "status": {"S": "failed"},
        "at": {"S": f"2026-11-23T10:0{receive}:00.000Z"},
        "requestId": {"S": "request-1"},
        "category": {"S": "UNAVAILABLE"},
        "errorType": {"S": "Unavailable"},
        "errorMessage": {"S": "down"},
        "permanent": {"BOOL": False},
        "retryAfter": {"N": "3"},
        **changes,
    }
    return {name: value for name, value in full.items() if value is not None}


@dataclass
class Items:
    """A DynamoDB client that returns the same items from every read."""

    items: list[dict[str, Any]]

    def get_paginator(self, _operation: str) -> Items:
        return self

    def paginate(self, **_query: Any) -> Iterator[dict[str, Any]]:
        yield {"Items": self.items}

    def batch_get_item(self, **_request: Any) -> dict[str, Any]:
        return {"Responses": {"attempts": self.items}}


UNREADABLE = [
    {"status": {"S": "postponed"}},
    {"status": None},
    {"status": {"N": "3"}},
    {"at": None},
    {"at": {"N": "1795426200640"}},
    {"requestId": None},
    {"errorType": None},
    {"errorMessage": {"NULL": True}},
    {"permanent": {"S": "no"}},
    {"retryAfter": {"N": "soon"}},
    {"attempt": {"S": "message-1#last"}},
    {"attempt": {"S": "message-1#"}},
]


@pytest.mark.parametrize("changes", UNREADABLE, ids=str)
def test_a_record_in_another_form_is_an_unreadable_attempt_of_its_message(changes: dict[str, Any]) -> None:
    first, second = AttemptsTable(Items([item(1, **changes), item(2)]), "attempts").of_event("event-1")
    assert (first.status, first.key.message_id, first.failure) == (Status.UNREADABLE, "message-1", None)
    assert second == Attempt(
        AttemptKey("event-1", "message-1", 2),
        Status.FAILED,
        "2026-11-23T10:02:00.000Z",
        "request-1",
        Failure("UNAVAILABLE", "Unavailable", "down", retry_after=3.0),
    )


@pytest.mark.parametrize("changes", [{"status": {"S": "postponed"}}, {"at": None}], ids=str)
def test_the_processor_ignores_an_unreadable_record(changes: dict[str, Any]) -> None:
    keys = [AttemptKey("event-1", "message-1", receive) for receive in (1, 2)]
    table = AttemptsTableWriter(Items([item(1), item(2, **changes)]), "attempts", 30)
    assert set(table.read(keys)) == {keys[0]}


def test_a_message_with_an_unreadable_record_is_processed(world: World) -> None:
    log = AttemptsTableWriter(Items([item(1, status={"S": "postponed"})]), "attempts", 30)
    raw = record(quiet_body(), "message-1", receives=2)
    report = process_batch([raw], replaced(world, log), FakeDeadline(), "request")
    assert report.as_response() == {"batchItemFailures": []}
    assert "event-1" in world.store.items


def replaced(world: World, log: AttemptsTableWriter) -> Any:
    @dataclass
    class Log:
        """Reads the table; writes nothing."""

        def read(self, keys: Any) -> Any:
            return log.read(keys)

        def write(self, _attempts: Any) -> None:
            pass

    services = world.processing
    object.__setattr__(services, "attempt_log", Log())
    return services


def add(
    world: World, receive: int, status: Status, failure: Failure | None = None, message_id: str = "message-1"
) -> None:
    key = AttemptKey("event-1", message_id, receive)
    world.attempt_log.attempts[key] = Attempt(key, status, "" if status is Status.UNREADABLE else AT, "", failure)


def first_verdict(world: World) -> dict[str, Any]:
    triage_input = {"eventId": "event-1", "snapshots": [KEY], "redrives": 0}
    verdict: dict[str, Any] = world.step(NAME, "Classify", triage_input, NOW)
    return verdict


def test_an_unreadable_last_record_is_evidence(world: World) -> None:
    world.take_in(dead_letter())
    add(world, 1, Status.STARTED)
    add(world, 2, Status.UNREADABLE)
    verdict = first_verdict(world)
    assert (verdict["category"], verdict["action"]) == ("UNKNOWN", "retry")
    assert verdict["evidence"]["attemptLog"] == "unreadable"
    assert "lastStatus" not in verdict["evidence"]


def test_a_verdict_rests_on_the_last_record_if_only_an_earlier_one_is_unreadable(world: World) -> None:
    world.take_in(dead_letter())
    add(world, 1, Status.UNREADABLE)
    add(world, 2, Status.FAILED, DOWN)
    verdict = first_verdict(world)
    assert (verdict["category"], verdict["evidence"]["attemptLog"]) == ("UNAVAILABLE", "unreadable")


def test_an_unreadable_record_of_another_message_of_the_event_does_not_count(world: World) -> None:
    world.take_in(dead_letter())
    add(world, 1, Status.UNREADABLE, message_id="message-0")
    add(world, 2, Status.FAILED, DOWN)
    assert first_verdict(world)["evidence"]["attemptLog"] == "read"


def test_a_letter_with_an_unreadable_record_is_redriven_archived_and_adopted_like_any_other(world: World) -> None:
    world.take_in(dead_letter())
    add(world, 1, Status.UNREADABLE)
    world.executions.end(NAME, ExecutionStatus.ABORTED)
    assert world.sweep().adopted == 1
    world.triage(f"{NAME}-g1", lambda _sent: None)
    assert world.output(f"{NAME}-g1")["category"] == "UNCONFIRMED"
    (key,) = world.keys(ARCHIVE_PREFIX)
    (attempt,) = parse_document(world.objects.texts[key])["attempts"]
    assert attempt["status"] == "unreadable"


# -- errors of Classify ----------------------------------------------------------------------------------------------


def test_a_letter_that_classify_fails_on_is_archived_and_a_replay_settles_it(world: World) -> None:
    world.take_in(dead_letter())
    world.journal.fail("objects.read", KeyError("a fault of our own code"))
    assert world.triage(NAME) == ["Classify", "Archive", "SettleArchived", "Archived"]
    output = world.output(NAME)
    assert (output["outcome"], output["rule"]) == ("ARCHIVED", "classify-failed")

    replayer = Replayer(world.objects, world.executions, map)
    plan = Plan.read({"prefix": ARCHIVE_PREFIX, "run": "run", "startedAt": "2026-11-24T00:00:00.000Z"})
    step = replayer.prepare(plan, output["archive"]["key"])
    world.executions.start(step["name"], step["input"])
    world.triage(step["name"])
    assert world.output(step["name"])["outcome"] == "RECOVERED"


def test_a_letter_that_classify_fails_on_is_recovered_if_its_event_is_stored(world: World) -> None:
    world.take_in(dead_letter())
    world.process(record(quiet_body(), "a second copy"))
    world.journal.fail("objects.read", KeyError("a fault of our own code"))
    assert world.triage(NAME) == ["Classify", "Archive", "SettleRecovered", "Recovered"]
    output = world.output(NAME)
    assert (output["outcome"], output["category"], output["archive"]) == ("RECOVERED", "ALREADY_STORED", None)
    assert world.keys(ARCHIVE_PREFIX) == []
    world.assert_nothing_in_custody()


# -- archive looks before it writes ----------------------------------------------------------------------------------

INPUT = TriageInput("event-1", (KEY,))
VERDICT = {"category": "UNCONFIRMED", "rule": "redrive-unconfirmed"}


def archive(world: World, name: str = NAME) -> dict[str, str]:
    archiver = Archiver(world.objects, world.attempt_log, world.store, "archive-bucket")
    return archiver.archive(INPUT, VERDICT, MACHINE + name, AT)


def test_a_stored_event_is_not_archived(world: World) -> None:
    world.take_in(dead_letter())
    world.process(record(quiet_body(), "a late success"))
    with pytest.raises(AlreadyStored):
        archive(world)
    assert world.keys(ARCHIVE_PREFIX) == []


def test_nothing_is_archived_while_the_events_table_cannot_be_read(world: World) -> None:
    world.take_in(dead_letter())
    world.journal.fail("eventstore.holds", Unavailable("down"))
    with pytest.raises(Unavailable):
        archive(world)
    assert world.keys(ARCHIVE_PREFIX) == []


def test_a_letter_that_this_execution_has_archived_stays_archived(world: World) -> None:
    """The first call's response was lost, and the event was stored before the second call."""
    world.take_in(dead_letter())
    first = archive(world)
    world.process(record(quiet_body(), "a late success"))
    assert archive(world) == first
    with pytest.raises(AlreadyStored):
        archive(world, f"{NAME}-g1")


# -- task tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["t" * 2_049, "t" * 100_000, "tökën", "\ud800"], ids=lambda token: str(len(token)))
def test_a_task_token_that_cannot_be_one_makes_the_stamp_no_stamp(world: World, token: str) -> None:
    text = TriageStamp("event-1", MACHINE + NAME, 1, token).write()
    assert TriageStamp.read(text) is None
    raw = dead(record(quiet_body(), "m", attributes={"Triage": {"dataType": "String", "stringValue": text}}))
    assert world.take_in(raw) == []
    assert len(world.executions.running) == 1


@pytest.mark.parametrize("execution", ["\ud800", "exécution", "x" * 2_049])
def test_an_execution_that_cannot_be_one_makes_the_stamp_no_stamp(execution: str) -> None:
    assert TriageStamp.read(TriageStamp("event-1", execution, 1, "token").write()) is None


def test_a_task_token_of_the_longest_form_is_read() -> None:
    longest = TriageStamp("event-1", MACHINE + NAME, 1, "t" * 2_048)
    assert TriageStamp.read(longest.write()) == longest


@pytest.mark.parametrize("operation", ["send_task_success", "send_task_failure"])
def test_a_token_that_step_functions_refuses_as_a_value_is_a_dead_token(operation: str) -> None:
    class Refuses:
        def __getattr__(self, called: str) -> Any:
            assert called == operation

            def call(**_parameters: str) -> None:
                raise ClientError({"Error": {"Code": "ValidationException", "Message": "taskToken"}}, called)

            return call

    tokens = CallbackTokens(Refuses())
    answered = tokens.succeed("t", {}) if operation == "send_task_success" else tokens.fail("t", "E", {})
    assert answered is False


def test_the_name_of_an_execution_says_which_event_it_handles() -> None:
    plan = Plan.read({"prefix": ARCHIVE_PREFIX, "run": "run", "startedAt": AT})
    for name in (NAME, f"{NAME}-g1", MACHINE + NAME, plan.execution_name("event-1", 2)):
        assert names_execution_of(name, "event-1")
        assert not names_execution_of(name, "event-2")


def test_a_stamp_of_an_execution_with_any_name_is_followed_if_it_handles_this_event(world: World) -> None:
    """An operator may start an execution by hand, with a name of his own."""
    world.executions.end("by-hand", ExecutionStatus.RUNNING)
    world.executions.waiting.add("token-1")
    text = stamp(execution="by-hand").write()
    raw = dead(record(quiet_body(), "m", attributes={"Triage": {"dataType": "String", "stringValue": text}}))
    assert world.take_in(raw) == []
    assert [token for token, _ in world.executions.answered] == ["token-1"]
