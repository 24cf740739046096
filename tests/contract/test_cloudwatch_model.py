"""The model of CloudWatch and of AWS's metrics behaves as AWS documents it."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from tests.model.cloudwatch import Metrics, decide, evaluate, math, rule_of
from tests.model.stack import Fault, Kind, Setting, Stack

KEY = ("own", "Failures", ("function",))
DIMENSIONS = [{"Name": "FunctionName", "Value": {"Ref": "function"}}]
ALARM = {
    "Namespace": {"Fn::Sub": "Holdfast"},
    "MetricName": "Failures",
    "Dimensions": DIMENSIONS,
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 1,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}


# The tables of "Configuring how CloudWatch alarms treat missing data": the newest data point is the last one.
@pytest.mark.parametrize(
    ("points", "to_alarm", "breaching", "not_breaching"),
    [
        ("0 - X - X", 3, False, False),
        ("- - - - 0", 3, False, False),
        ("- - - - -", 3, True, False),
        ("0 X X - X", 3, True, True),
        ("- - X - -", 3, True, False),
        ("0 - X - X", 2, True, True),
        ("0 0 X 0 X", 2, True, True),
        ("0 - X - -", 2, True, False),
        ("- - - - 0", 2, True, False),
        ("- - - X -", 2, True, False),
    ],
)
def test_missing_data_points_are_filled_only_if_too_few_are_real(
    points: str, to_alarm: int, *, breaching: bool, not_breaching: bool
) -> None:
    newest_first = [{"0": False, "X": True, "-": None}[point] for point in reversed(points.split())]
    assert decide(newest_first, 3, to_alarm, missing_breaches=True) is breaching
    assert decide(newest_first, 3, to_alarm, missing_breaches=False) is not_breaching


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("FILL(none, 0) + two", 2),
        ("none + two", None),
        ("two / zero", None),
        ("MAX([FILL(none, 3), two])", 3),
        ("IF((two > 0) and (FILL(none, 0) == 0), 1, 0)", 1),
        ("IF((two > 0) and (none == 0), 1, 0)", None),
        ("100 * (two - zero) / two", 100),
    ],
)
def test_an_expression_has_no_data_where_an_operand_has_none(expression: str, expected: float | None) -> None:
    points = {"none": None, "zero": 0.0, "two": 2.0}
    assert math(ast.parse(expression, mode="eval").body, points) == expected


def test_the_rule_of_a_composite_alarm_combines_states() -> None:
    rule = rule_of({"Fn::Sub": 'ALARM("${One}") OR (ALARM("${Two}") AND NOT ALARM("${Three}"))'})
    assert rule({"One": False, "Two": True, "Three": False})
    assert not rule({"One": False, "Two": True, "Three": True})


def minutes_of_notifications(symptom: range, cause: range) -> list[int]:
    """When a composite alarm notifies that waits 2 minutes for its suppressor, and 5 after it."""
    metrics = Metrics()
    for metric, active in (("Symptom", symptom), ("Cause", cause)):
        for minute in active:
            metrics.put(("own", metric, ("function",)), minute - 1, 1)
    alarms: dict[str, dict[str, Any]] = {
        "Symptom": {**ALARM, "MetricName": "Symptom"},
        "Cause": {**ALARM, "MetricName": "Cause"},
        "Composite": {
            "AlarmRule": 'ALARM("${Symptom}")',
            "AlarmActions": ["topic"],
            "ActionsSuppressor": {"Ref": "Cause"},
            "ActionsSuppressorWaitPeriod": 120,
            "ActionsSuppressorExtensionPeriod": 300,
        },
    }
    return [one.minute for one in evaluate(alarms, metrics, 60, extra=0).notifications]


@pytest.mark.parametrize(
    ("symptom", "cause", "expected"),
    [
        (range(10, 30), range(0), [12]),
        (range(10, 11), range(0), []),
        (range(10, 30), range(11, 40), []),
        (range(10, 30), range(20, 40), [12]),
        (range(10, 30), range(5, 20), [25]),
        (range(10, 22), range(5, 20), []),
    ],
    ids=[
        "without a cause it notifies after the wait",
        "not if it ends before",
        "not if the cause follows within the wait",
        "once if the cause follows later",
        "after the extension if it outlasts the cause",
        "not if it ends within the extension",
    ],
)
def test_a_suppressor_holds_back_the_notification(symptom: range, cause: range, expected: list[int]) -> None:
    assert minutes_of_notifications(symptom, cause) == expected


def test_a_metric_alarm_notifies_each_time_that_it_changes_to_alarm() -> None:
    metrics = Metrics()
    for minute in (3, 4, 8):
        metrics.put(KEY, minute, 1)
    found = evaluate({"Alarm": {**ALARM, "AlarmActions": ["topic"]}}, metrics, 12, extra=0)
    assert [one.minute for one in found.notifications] == [4, 9]


def last_sample(stack: Stack, *key: str) -> float | None:
    samples = stack.metrics.samples.get((key[0], key[1], key[2:]), {})
    return samples[max(samples)][-1] if samples else None


def test_the_age_of_the_oldest_message_leaves_out_a_message_after_three_receives() -> None:
    stack = Stack(Setting(events_per_minute=0))
    for minute in range(30):
        stack.minute(frozenset({Fault.BUCKET_DENIES_INTAKE}), [Kind.INVALID_BODY] if minute == 0 else [])
    assert last_sample(stack, "AWS/SQS", "ApproximateAgeOfOldestMessage", "DeadLetterQueue") == 0
    assert last_sample(stack, "AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "DeadLetterQueue") == 1


@pytest.mark.parametrize("fault", [Fault.FAN_OUT_MAPPING_DISABLED, Fault.FAN_OUT_THROTTLED])
def test_a_stream_mapping_that_does_not_invoke_publishes_no_iterator_age(fault: Fault) -> None:
    stack = Stack(Setting())
    stack.minute(frozenset({fault}))
    assert last_sample(stack, "own", "Stored", "processor")
    assert last_sample(stack, "AWS/Lambda", "IteratorAge", "FanOutFunction") is None


def test_a_redriven_message_that_dies_again_starts_no_execution() -> None:
    stack = Stack(Setting(events_per_minute=0, required=True))
    for minute in range(20):
        stack.minute(frozenset({Fault.TABLE_DENIED}), [Kind.VALID] if minute == 0 else [])
    started = stack.metrics.samples[("AWS/States", "ExecutionsStarted", ("TriageStateMachine",))]
    assert sum(map(sum, started.values())) == 1


def test_our_functions_publish_no_zeros() -> None:
    stack = Stack(Setting())
    stack.minute(frozenset())
    assert last_sample(stack, "own", "Failed", "processor") is None
