"""The circuit breaker's state machine: which states follow from each answer of its function and of AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.asl import TaskFailed, Walk
from tests.contract.project import functions, machine, machine_text, properties, template

BY_ALARM = {"manual": False, "reason": "EverythingFailsAlarm"}
BY_HAND = {"manual": True, "reason": "maintenance"}
OPEN = {"step": "open", "openedAt": "2026-11-23T09:30:00.000Z", "waitSeconds": 60, "delaySeconds": 45, "probes": 0}
MISSING = "Lambda.ResourceNotFoundException"
#: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
HISTORY_EVENTS = 25_000
#: Wait: entered, exited. Probe: entered, scheduled, started, succeeded, exited, and one to spare. Decide: two.
EVENTS_OF_A_PROBE = 10


def walk(data: Mapping[str, Any], answers: Mapping[str, list[Any]]) -> tuple[list[str], Any, list[tuple[str, Any]]]:
    """Execute the machine. Returns the states, the output, and the task inputs."""
    left = {name: list(found) for name, found in answers.items()}
    asked: list[tuple[str, Any]] = []

    def answer(name: str, payload: Any) -> Any:
        asked.append((name, payload))
        found = left[name].pop(0) if left.get(name) else {}
        if isinstance(found, Exception):
            raise found
        return found

    run = Walk(machine("circuit_breaker"), answer)
    output = run.run(dict(data))
    return run.entered, output, asked


def test_an_incident_opens_waits_probes_and_closes() -> None:
    waits = {"step": "wait", "waitSeconds": 120, "delaySeconds": 90, "probes": 1, "probe": {"healthy": False}}
    closes = {"step": "close", "outcome": "CLOSED", "probes": 2, "probe": {"healthy": True}}
    states, output, asked = walk(
        BY_ALARM, {"Inspect": [OPEN], "Probe": [waits, closes], "ConfirmClosed": [{"step": "announce"}]}
    )
    assert [state for state in states if state != "Decide"] == [
        *("Inspect", "Open", "AnnounceOpened", "Wait", "Probe", "Wait", "Probe"),
        *("Close", "Resuming", "ConfirmClosed", "AnnounceClosed", "Closed"),
    ]
    assert output == {
        "outcome": "CLOSED",
        "manual": False,
        "reason": "EverythingFailsAlarm",
        "openedAt": OPEN["openedAt"],
        "closedAt": output["closedAt"],
        "waitSeconds": 120,
        "probes": 2,
    }
    inputs = dict(asked)
    assert inputs["Open"] == {"Uuid": "11111111-1111-4111-8111-111111111111", "Enabled": False}
    assert inputs["Close"] == {"Uuid": "11111111-1111-4111-8111-111111111111", "Enabled": True}
    assert inputs["Probe"]["waitSeconds"] == 120
    assert inputs["Probe"]["execution"].startswith("arn:aws:states:")
    assert inputs["Probe"]["startedAt"]


def test_the_opening_and_the_closing_are_published() -> None:
    closes = {"step": "close", "outcome": "CLOSED", "probes": 1}
    _, _, asked = walk(BY_ALARM, {"Inspect": [OPEN], "Probe": [closes], "ConfirmClosed": [{"step": "announce"}]})
    opened, closed = (dict(asked)[name]["Entries"][0] for name in ("AnnounceOpened", "AnnounceClosed"))
    assert opened["DetailType"] == "Circuit Breaker Opened"
    assert opened["Detail"].keys() == {"schemaVersion", "executionArn", "manual", "reason", "openedAt"}
    assert closed["DetailType"] == "Circuit Breaker Closed"
    assert closed["Detail"].keys() == opened["Detail"].keys() | {"closedAt", "outcome", "probes"}


def test_a_pause_by_hand_waits_without_probes_until_processing_is_resumed() -> None:
    still, resumed = {"step": "wait", "delaySeconds": 900}, {"step": "announce", "outcome": "RESUMED_BY_HAND"}
    states, output, _ = walk(BY_HAND, {"Inspect": [OPEN], "CheckPause": [still, resumed]})
    assert [state for state in states if state != "Decide"] == [
        *("Inspect", "Open", "AnnounceOpened", "Paused", "CheckPause", "Paused", "CheckPause"),
        *("AnnounceClosed", "Closed"),
    ]
    assert (output["outcome"], output["reason"]) == ("RESUMED_BY_HAND", "maintenance")


@pytest.mark.parametrize(
    ("outcome", "state"), [("ALREADY_OPEN", "AlreadyOpen"), ("SUPERSEDED", "Ended"), ("MAPPING_MISSING", "Ended")]
)
def test_an_execution_that_does_not_own_the_circuit_changes_nothing(outcome: str, state: str) -> None:
    states, output, asked = walk(BY_ALARM, {"Inspect": [{"step": "end", "outcome": outcome}]})
    assert states == ["Inspect", "Decide", state]
    assert output["outcome"] == outcome
    assert [name for name, _ in asked] == ["Inspect"]


@pytest.mark.parametrize("state", ["Open", "Close"])
def test_without_the_mapping_the_execution_ends(state: str) -> None:
    answers = {"Inspect": [OPEN], "Probe": [{"step": "close", "outcome": "CLOSED"}], state: [TaskFailed(MISSING)]}
    states, output, _ = walk(BY_ALARM, answers)
    assert states[-3:] == [state, "Decide", "Ended"]
    assert output["outcome"] == "MAPPING_MISSING"


@pytest.mark.parametrize("state", ["AnnounceOpened", "AnnounceClosed"])
def test_an_event_that_the_bus_refuses_does_not_stop_the_execution(state: str) -> None:
    closes = {"step": "close", "outcome": "CLOSED", "probes": 1}
    answers = {
        "Inspect": [OPEN],
        "Probe": [closes],
        "ConfirmClosed": [{"step": "announce"}],
        state: [TaskFailed("Events.InternalException")],
    }
    states, output, _ = walk(BY_ALARM, answers)
    assert (states[-1], output["outcome"]) == ("Closed", "CLOSED")
    assert output["closedAt"]


def test_closing_is_repeated_while_the_mapping_is_not_enabled() -> None:
    answers = {
        "Inspect": [OPEN],
        "Probe": [{"step": "close", "outcome": "CLOSED"}],
        "ConfirmClosed": [{"step": "resuming"}, {"step": "close"}, {"step": "announce"}],
    }
    states, _, _ = walk(BY_ALARM, answers)
    assert states.count("Close") == 2
    assert states.count("Resuming") == 3


def test_every_task_is_retried_for_three_days_except_the_announcements() -> None:
    for name, state in machine("circuit_breaker")["States"].items():
        if state["Type"] == "Task" and not name.startswith("Announce"):
            retry = state["Retry"][-1]
            assert retry["ErrorEquals"] == ["States.ALL"], name
            assert retry["MaxAttempts"] * retry["MaxDelaySeconds"] > 3 * 86_400, name


def test_an_announcement_is_given_up_before_the_first_probe_of_another_execution() -> None:
    """An execution that has resumed processing must end before the next one could take it for the owner."""
    state = machine("circuit_breaker")["States"]["AnnounceClosed"]
    (retry,) = state["Retry"]
    waits = sum(retry["IntervalSeconds"] * retry["BackoffRate"] ** number for number in range(retry["MaxAttempts"]))
    assert (retry["MaxAttempts"] + 1) * state["TimeoutSeconds"] + waits < 30


def test_the_longest_incident_fits_into_the_history_of_an_execution() -> None:
    hours = template()["Parameters"]["CircuitBreakerMaxHours"]["MaxValue"]
    shortest = 450  # half of 15 minutes is fixed
    assert hours * 3600 / shortest * EVENTS_OF_A_PROBE < HISTORY_EVENTS


def test_the_circuit_closes_before_sqs_deletes_messages() -> None:
    hours = template()["Parameters"]["CircuitBreakerMaxHours"]["MaxValue"]
    assert hours * 3600 < properties("BufferQueue")["MessageRetentionPeriod"] - 86_400


def test_a_deployment_does_not_resume_processing() -> None:
    """CloudFormation leaves ``Enabled`` alone if the template does not mention it."""
    assert "Enabled" not in functions()["ProcessorFunction"]["Events"]["Buffer"]["Properties"]


def test_the_rule_starts_the_machine_with_an_input_that_it_can_read() -> None:
    (target,) = properties("CircuitBreakerRule")["Targets"]
    assert json.loads(target["Input"]) == BY_ALARM


def test_nothing_of_the_circuit_breaker_is_deployed_when_it_is_off() -> None:
    conditional = {
        name for name, found in template()["Resources"].items() if found.get("Condition") == "HasCircuitBreaker"
    }
    prefixes = ("CircuitBreaker", "EverythingFails", "CircuitOpen")
    assert {name for name in template()["Resources"] if name.startswith(prefixes)} <= conditional


def test_the_states_contain_no_message() -> None:
    text = machine_text("circuit_breaker")
    for word in ("Body", "body", "messageId", "receiptHandle", "eventId"):
        assert word not in text
