"""The synthetic events of ``holdfast verify``: what each look accepts, and what happens to the alarm."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from holdfast.domain.envelope import Event as ValidEvent
from holdfast.domain.envelope import examine
from holdfast.domain.identity import event_digest
from holdfast.domain.letters import MAX_MESSAGE_BYTES
from ops import synthetic
from ops.checks import CheckResult, Finding, NotCheckedError
from ops.errors import CommandError
from ops.synthetic import Expectation, Observation, SyntheticEvent, Trial, check_with_events
from ops.template import DeployedTemplate
from tests.commands import AnsweringStack

IDS = {"DeadLetterAlarm": "holdfast-DeadLetterAlarm-1", "BufferQueue": "https://sqs/1/buffer"}
TEMPLATE = {
    "Resources": {
        "DeadLetterAlarm": {"Type": "AWS::CloudWatch::CompositeAlarm"},
        "BufferQueue": {"Type": "AWS::SQS::Queue"},
    }
}
NAME = "Verify-{}-" + "0" * 32


class Pages:
    """A paginator with one page."""

    def __init__(self, **page: Any) -> None:
        self.page = page

    def paginate(self, **_: Any) -> list[Any]:
        return [self.page]


def trial(slept: list[float] | None = None, parameters: dict[str, str] | None = None, **answers: Any) -> Trial:
    """A trial on a stack with these answers: ``dynamodb__get_item`` is ``dynamodb.get_item``."""
    stack = AnsweringStack({name.replace("__", "."): answer for name, answer in answers.items()})
    stack_id = "arn:aws:cloudformation:eu-west-1:123456789012:stack/holdfast/1"
    declared = DeployedTemplate(TEMPLATE, parameters or {}, IDS, stack_id, lambda *_: "")
    return Trial(stack, declared, sleep=(slept if slept is not None else []).append, run_id="r")


def named(run: Trial, name: str) -> SyntheticEvent:
    return run._valid_event(name)


def stored(event: SyntheticEvent, **changes: Any) -> dict[str, Any]:
    envelope = {**json.loads(event.body), **changes}
    return {"Item": {"event": {"S": json.dumps(envelope)}, "receivedAt": {"S": "1"}}}


def test_the_events_are_what_their_names_say() -> None:
    run = trial()
    assert isinstance(examine(run._valid_event("copy").body).content, ValidEvent)
    assert examine(json.dumps(run._envelope("invalid", detail="no object"))).kind == "INVALID"
    large = run._large_body()
    assert (examine(large).kind, len(large.encode())) == ("INVALID", MAX_MESSAGE_BYTES)
    assert len(large.encode()) > len(large), "it has characters of several bytes"


def test_an_event_that_is_stored_with_another_detail_is_found() -> None:
    event = named(trial(), "copy")
    assert trial(dynamodb__get_item={})._check_stored(event) is None
    assert trial(dynamodb__get_item=stored(event))._check_stored(event) == Observation("stored once")
    changed = trial(dynamodb__get_item=stored(event, detail={}))._check_stored(event)
    assert changed
    assert changed.problem == "the stored event has another detail"


@pytest.mark.parametrize(
    ("answer", "after", "problem"),
    [
        ({"batchItemFailures": []}, "1", ""),
        ({"batchItemFailures": []}, "2", "the second copy changed the item"),
        ({"batchItemFailures": [{"itemIdentifier": "x"}]}, "1", "the processor failed on the second copy"),
    ],
)
def test_a_second_copy_that_changes_the_item_is_found(answer: Any, after: str, problem: str) -> None:
    event = named(trial(), "copy")
    items = [stored(event), stored(event)]
    items[1]["Item"]["receivedAt"]["S"] = after
    run = trial(
        dynamodb__get_item=lambda **_: items.pop(0),
        lambda__invoke=lambda **_: {"Payload": io.BytesIO(json.dumps(answer).encode())},
    )
    seen = run._check_second_copy(event)
    assert seen
    assert seen.problem == problem


def archive(event: SyntheticEvent, status: str, category: str, body: str) -> Trial:
    """A stack with one execution and one archive object."""
    name = NAME.format(event_digest(event.event_id))
    key = f"archive/category={category}/dt=2026-11-26/f/{name}.json"
    execution = {"name": name, "startDate": datetime.now(UTC)}
    document = json.dumps({"message": {"body": body}}).encode()
    return trial(
        stepfunctions__get_paginator=lambda _: Pages(executions=[execution]),
        stepfunctions__describe_execution=lambda **_: {"status": status},
        s3__get_paginator=lambda _: Pages(Contents=[{"Key": key}]),
        s3__get_object=lambda **_: {"Body": io.BytesIO(document)},
    )


@pytest.mark.parametrize(
    ("status", "category", "body", "problem"),
    [
        ("SUCCEEDED", "INVALID", None, ""),
        ("SUCCEEDED", "INVALID", "x", "the archived body differs"),
        ("SUCCEEDED", "UNKNOWN", None, "it is not archived as INVALID"),
        ("ABORTED", "INVALID", None, "ended as ABORTED"),
    ],
)
def test_a_letter_is_archived_exactly_and_by_an_execution_that_succeeded(
    status: str, category: str, body: str | None, problem: str
) -> None:
    event = named(trial(), "invalid")
    seen = archive(event, status, category, body or event.body)._check_archived(event, "INVALID")
    assert seen
    assert problem in seen.problem
    assert bool(seen.problem) is bool(problem)
    assert archive(event, "RUNNING", category, event.body)._check_archived(event, "INVALID") is None


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"EventBusName": "aws.partner/genesys.com/x"}, "partner bus"), ({"DetailTypes": "v2.x"}, "other topics")],
)
def test_no_event_is_put_on_a_bus_where_it_cannot_reach_the_buffer(parameters: dict[str, str], reason: str) -> None:
    expected = trial(parameters=parameters)._put_on_bus()
    with pytest.raises(NotCheckedError, match=reason):
        expected.observe()


def test_what_does_not_follow_in_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_SECONDS", -1.0)
    found = trial()._wait_for(Expectation("x", "It follows", lambda: None))
    assert (found.result, found.seen.startswith("it was not seen within")) == (CheckResult.FAIL, True)


# -- the alarm -------------------------------------------------------------------------------------------------------


def alarms(*states: str, enabled: bool = True) -> tuple[list[str], dict[str, Any]]:
    """The changes to an alarm that has these states, one after the other, and the answers."""
    changes, left = [], list(states)

    def described(**_: Any) -> Any:
        state = left.pop(0) if len(left) > 1 else left[0]
        return {"CompositeAlarms": [{"StateValue": state, "ActionsEnabled": enabled}], "MetricAlarms": []}

    return changes, {
        "cloudwatch__describe_alarms": described,
        "cloudwatch__disable_alarm_actions": lambda **_: changes.append("off"),
        "cloudwatch__enable_alarm_actions": lambda **_: changes.append("on"),
        "stepfunctions__get_paginator": lambda _: Pages(executions=[]),
    }


@pytest.fixture(autouse=True)
def in_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "is_local", lambda _: False)


def test_the_alarm_is_enabled_after_it_has_changed_and_its_suppressor_had_its_time() -> None:
    changes, answers = alarms("OK", "OK", "OK", "ALARM")
    slept: list[float] = []
    with trial(slept, **answers)._without_actions("DeadLetterAlarm", "alarm", 150) as found:
        assert changes == ["off"]
    assert (changes, slept) == (["off", "on"], [10, 10, 150])
    assert [one.result for one in found] == [CheckResult.PASS]


def test_an_alarm_that_was_active_before_is_not_waited_for() -> None:
    changes, answers = alarms("ALARM")
    with trial(**answers)._without_actions("DeadLetterAlarm", "alarm") as found:
        pass
    assert ([one.result for one in found], changes) == ([CheckResult.NOT_CHECKED], ["off", "on"])


def test_an_alarm_that_does_not_see_the_letters_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_ALARM_SECONDS", -1.0)
    changes, answers = alarms("OK")
    with trial(**answers)._without_actions("DeadLetterAlarm", "alarm") as found:
        pass
    assert (found[0].result, changes) == (CheckResult.FAIL, ["off", "on"])


@pytest.mark.parametrize(("enabled", "expected"), [(True, ["off", "on"]), (False, ["off"])])
def test_an_interruption_leaves_the_alarm_as_it_was(enabled: bool, expected: list[str]) -> None:
    changes, answers = alarms("OK", enabled=enabled)
    with pytest.raises(KeyboardInterrupt), trial(**answers)._without_actions("DeadLetterAlarm", "alarm"):
        raise KeyboardInterrupt
    assert changes == expected


def test_without_the_alarm_nothing_is_sent() -> None:
    with pytest.raises(CommandError, match="does not exist"):
        trial(cloudwatch__describe_alarms={"CompositeAlarms": [], "MetricAlarms": []}).perform()


def test_other_letters_that_came_meanwhile_are_named() -> None:
    other: Callable[[str], Pages] = lambda _: Pages(  # noqa: E731 - an answer
        executions=[{"name": NAME.format("a" * 16), "startDate": datetime.now(UTC)}]
    )
    assert trial(stepfunctions__get_paginator=other)._check_other_letters().problem.startswith("1 came")


def test_nothing_is_sent_if_the_configuration_stops_every_event() -> None:
    broken = Finding("Processing", "processor-mapping", "p", "Disabled", CheckResult.FAIL)
    (found,) = check_with_events(trial(), [broken])
    assert (found.result, found.seen) == (CheckResult.NOT_CHECKED, "nothing was sent, because of processor-mapping")


def test_events_that_cannot_be_sent_are_a_finding_and_what_was_sent_is_accounted_for() -> None:
    changes, answers = alarms("ALARM")

    def refused(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutEvents")

    found = {one.name: one for one in trial(events__put_events=refused, **answers).perform()}
    assert (found["sent"].result, found["removed"].result) == (CheckResult.UNREADABLE, CheckResult.PASS)
    assert changes == ["off", "on"]
