"""``holdfast status``: what it reads, what it shows, and which step it names."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.pause import ProcessingState
from ops.screen import to_json
from ops.status import Alarm, Depth, LoggedFailure, Pause, StackStatus, add_advice, collect, render
from tests.commands import AnsweringStack, assert_screen, screen_of

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
CAUSE = LoggedFailure(
    function="classify",
    message="verdict",
    category="MISCONFIGURED",
    fingerprint="0123456789abcdef",
    count=412,
    first=NOW - timedelta(hours=3),
    last=NOW - timedelta(minutes=2),
    what="the Genesys login refuses the client's credentials",
    runbook="operations.md#misconfigured",
)
RECEIVES = replace(CAUSE, function="processor", message="record failed", fingerprint="", count=48_600)
PUBLICATION = replace(
    CAUSE,
    function="fan-out",
    message="event not published",
    category="",
    fingerprint="",
    what="NotAuthorizedForSourceException",
    runbook="operations.md#fan-out-failure",
)
HEALTHY = StackStatus(
    stack="holdfast",
    region="eu-west-1",
    at=NOW,
    processing=ProcessingState.RUNNING,
    concurrency=10,
    pause=None,
    buffer=Depth(0, 3, 0, None),
    dead_letters=Depth(0, 0, 0, None),
    in_triage=0,
    more_in_triage=False,
    archived={},
    fan_out_lag=0.8,
    alarms=(),
    failures=(),
)
PAUSE = Pause(
    by_hand=False,
    reason="EverythingFailsAlarm",
    since=NOW - timedelta(minutes=31),
    next_probe_at=NOW + timedelta(minutes=4),
    probes=5,
    execution="e1",
)


def row(**fields: str) -> list[dict[str, str]]:
    return [{"field": name, "value": value} for name, value in fields.items()]


def answers(**changes: Any) -> dict[str, Any]:
    """A stack with two letters in triage, one cause and one alarm."""
    mapping = {
        "UUID": "u",
        "State": "Enabled",
        "EventSourceArn": "arn:aws:sqs:eu-west-1:123456789012:buffer",
        "ScalingConfig": {"MaximumConcurrency": 10},
    }
    attributes = {
        "ApproximateNumberOfMessages": "7",
        "ApproximateNumberOfMessagesNotVisible": "3",
        "ApproximateNumberOfMessagesDelayed": "0",
    }
    alarm = {"AlarmName": "holdfast-DeadLetterAlarm-1ABC", "AlarmActions": ["topic"], "StateUpdatedTimestamp": NOW}
    return {
        "lambda.list_event_source_mappings": {"EventSourceMappings": [mapping]},
        "sqs.get_queue_attributes": {"Attributes": attributes},
        "cloudwatch.get_metric_data": {
            "MetricDataResults": [
                {"Id": "buffer", "Timestamps": [NOW - timedelta(minutes=2)], "Values": [90.0]},
                {"Id": "fan_out", "Timestamps": [NOW - timedelta(minutes=20)], "Values": [500.0]},
                {"Id": "archived_INVALID", "Timestamps": [NOW, NOW - timedelta(hours=9)], "Values": [1.0, 2.0]},
            ]
        },
        "cloudwatch.describe_alarms": {
            "CompositeAlarms": [
                alarm,
                {**alarm, "AlarmName": "holdfast-BufferAgeAlarm-1", "ActionsSuppressedBy": "Alarm"},
            ],
            "MetricAlarms": [{**alarm, "AlarmName": "holdfast-DeadLetterMetricAlarm-1", "AlarmActions": []}],
        },
        "stepfunctions.list_executions": lambda **request: {
            "executions": [] if request["stateMachineArn"].endswith("breaker") else [{"executionArn": "a"}] * 2
        },
        "logs.start_query": {"queryId": "q"},
        "logs.get_query_results": {
            "status": "Complete",
            "results": [
                row(
                    **{"@log": "123456789012:/aws/lambda/holdfast/classify"},
                    message="verdict",
                    category="MISCONFIGURED",
                    rule="misconfigured",
                    action="retry",
                    fingerprint="0123",
                    lines="3",
                    events="2",
                    first="1795680000000",
                    last="2026-11-26 11:58:00.000",
                ),
                row(
                    **{"@log": "123456789012:/aws/lambda/holdfast/processor"},
                    lines="4",
                    events="0",
                    first="1795680000000",
                    last="1795680000000",
                ),
                row(
                    **{"@log": "123456789012:/aws/lambda/holdfast/classify"},
                    message="verdict",
                    action="settle",
                    lines="9",
                    events="9",
                    first="1795680000000",
                    last="1795680000000",
                ),
            ],
        },
        **changes,
    }


def collected(**changes: Any) -> tuple[StackStatus, AnsweringStack]:
    stack = AnsweringStack(answers(**changes))
    return collect(stack, NOW, sleep=lambda _seconds: None), stack  # type: ignore[arg-type]


def test_a_status_is_read_with_at_most_twelve_calls() -> None:
    _, stack = collected()
    assert stack.calls.total() + 1 <= 12  # the stack itself was described before


def test_a_status_of_a_paused_stack_is_read_with_at_most_twelve_calls() -> None:
    def listed(stateMachineArn: str, **_: Any) -> Any:  # noqa: N803 - boto3's name
        running = [{"executionArn": f"{stateMachineArn}:e1", "startDate": NOW}]
        return {"executions": running if stateMachineArn.endswith("breaker") else []}

    data = {"manual": False, "reason": "EverythingFailsAlarm", "openedAt": "2026-11-26T11:29:00Z", "probes": 5}
    data["nextProbeAt"] = "2026-11-26T12:04:00Z"
    mapping = answers()["lambda.list_event_source_mappings"]["EventSourceMappings"][0] | {"State": "Disabled"}
    status, stack = collected(
        **{
            "lambda.list_event_source_mappings": {"EventSourceMappings": [mapping]},
            "stepfunctions.list_executions": listed,
            "stepfunctions.get_execution_history": {
                "events": [{"type": "x"}, {"stateEnteredEventDetails": {"input": json.dumps(data)}}]
            },
        }
    )
    assert status.pause == replace(PAUSE, execution="e1")
    assert stack.calls.total() + 1 <= 12


def test_a_status_has_what_the_services_report() -> None:
    status, _ = collected()
    assert status.processing is ProcessingState.RUNNING
    assert status.buffer == Depth(7, 3, 0, 90.0)
    assert status.dead_letters.oldest is None
    assert (status.in_triage, status.more_in_triage) == (2, False)
    assert status.archived == {"INVALID": 3}
    assert status.fan_out_lag is None  # the last batch is older than 15 minutes
    assert [alarm.name for alarm in status.alarms] == ["DeadLetterAlarm"]
    assert status.failures
    letters, crashes = status.failures  # verdicts after which nothing has to be done are left out
    assert (letters.about_letters, letters.count, letters.first) == (True, 2, datetime(2026, 11, 26, 8, 0, tzinfo=UTC))
    assert (crashes.function, crashes.count, crashes.what) == ("processor", 4, "crashed or timed out")
    assert crashes.runbook == "operations.md#processor-errors"
    assert not status.healthy


def test_a_log_query_that_takes_long_leaves_the_failures_out() -> None:
    status, _ = collected(**{"logs.get_query_results": {"status": "Running", "results": []}})
    assert status.failures is None
    assert "The log query has not ended in time" in screen_of(render(status))


def test_a_missing_mapping_is_the_first_thing_to_mend() -> None:
    status, _ = collected(**{"lambda.list_event_source_mappings": {"EventSourceMappings": []}})
    assert (status.processing, status.command) == (None, "holdfast verify --config-only")
    assert not status.healthy


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, ""),
        ({"processing": ProcessingState.PAUSED}, "holdfast resume"),
        ({"processing": ProcessingState.PAUSED, "pause": replace(PAUSE, by_hand=True, reason="r")}, "holdfast resume"),
        ({"processing": ProcessingState.PAUSED, "pause": PAUSE}, ""),
        ({"alarms": (Alarm("BufferAgeAlarm", NOW, "operations.md#buffer-age"),), "failures": (CAUSE,)}, ""),
        (
            {"alarms": (Alarm("DeadLetterAlarm", NOW, "x"),), "failures": (CAUSE,), "in_triage": 1},
            "holdfast letters --fingerprint 0123456789abcdef",
        ),
        ({"failures": (CAUSE,), "in_triage": 1}, "holdfast letters --fingerprint 0123456789abcdef"),
        ({"processing": ProcessingState.STARTING}, "holdfast status"),
    ],
)
def test_the_next_command_fits_the_state(changes: dict[str, Any], command: str) -> None:
    assert add_advice(replace(HEALTHY, **changes)).command == command


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        (
            {"processing": ProcessingState.PAUSED, "pause": PAUSE, "failures": (CAUSE, RECEIVES)},
            f"Correct the cause: {CAUSE.what} (operations.md#misconfigured). A probe then resumes processing.",
        ),
        (
            {
                "alarms": (Alarm("FanOutFailureAlarm", NOW, "operations.md#fan-out-failure"),),
                "failures": (PUBLICATION,),
            },
            "FanOutFailureAlarm is active: NotAuthorizedForSourceException. See operations.md#fan-out-failure.",
        ),
    ],
)
def test_the_next_step_names_what_failed(changes: dict[str, Any], step: str) -> None:
    assert add_advice(replace(HEALTHY, **changes)).next == step


@pytest.mark.usefixtures("utc")
def test_the_screen_of_a_bad_day_fits_80_columns() -> None:
    bad = add_advice(
        replace(
            HEALTHY,
            processing=ProcessingState.PAUSED,
            pause=PAUSE,
            buffer=Depth(48_211, 0, 12, 1_860.0),
            in_triage=1_000,
            more_in_triage=True,
            archived={"EXHAUSTED": 3, "INVALID": 12},
            fan_out_lag=None,
            alarms=(Alarm("ProcessingPausedAlarm", NOW - timedelta(minutes=29), "operations.md#processing-paused"),),
            failures=(RECEIVES, CAUSE),
        )
    )
    assert_screen(render(bad), "status-bad-day")


@pytest.mark.usefixtures("utc")
def test_the_screen_of_a_good_day_is_short() -> None:
    assert_screen(render(add_advice(HEALTHY)), "status-good-day")


def test_json_has_every_field_with_times_in_utc() -> None:
    found = json.loads(to_json(replace(HEALTHY, pause=PAUSE, failures=(CAUSE,))))
    assert found["pause"]["nextProbeAt"] == "2026-11-26T12:04:00.000Z"
    assert found["failures"][0]["count"] == 412
    assert found["inTriage"] == 0
