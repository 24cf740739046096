"""The report of an execution says in words what each state did."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ops.execution_report import execution_report, steps

BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)
PROBE = {"received": 1, "stored": 0, "failedForNow": 1, "failedForGood": 0, "bufferEmpty": False, "error": ""}


def history(*states: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A history that enters these states with this input, a second apart."""
    return [
        {
            "timestamp": BEGAN + timedelta(seconds=number),
            "stateEnteredEventDetails": {"name": name, "input": json.dumps(data)},
        }
        for number, (name, data) in enumerate(states)
    ]


def report(*states: tuple[str, dict[str, Any]]) -> list[str]:
    console = Console(width=120, record=True, file=StringIO())
    console.print(execution_report("Title", "name", steps(history(*states))))
    return [" ".join(line.split()) for line in console.export_text().splitlines()[2:]]


def test_the_circuit_breaker_opens_probes_and_closes() -> None:
    failed = {**PROBE, "healthy": False}
    healthy = {**PROBE, "received": 11, "stored": 11, "failedForNow": 0, "healthy": True}
    lines = report(
        ("Inspect", {"manual": False}),
        ("Decide", {"step": "open"}),
        ("Open", {"step": "open"}),
        ("Wait", {"step": "wait", "delaySeconds": 55}),
        ("Probe", {"step": "wait"}),
        ("Decide", {"step": "wait", "probe": failed}),
        ("Wait", {"step": "wait", "delaySeconds": 120, "probe": failed}),
        ("Probe", {"step": "wait", "probe": failed}),
        ("Decide", {"step": "close", "probe": healthy}),
        ("Close", {"step": "close"}),
        ("ConfirmClosed", {"step": "resuming"}),
        ("AnnounceClosed", {"step": "announce"}),
        ("Closed", {"outcome": "CLOSED", "probes": 2}),
    )
    assert [line.split(" s ", 1)[1] for line in lines] == [
        "Inspect opens the circuit",
        "Decide opens the circuit",
        "Open paused processing: events wait in the buffer",
        "Wait waits 55 s for the next probe",
        "Probe not healthy: of 1 events 0 stored, 1 failed",
        "Decide the circuit stays open",
        "Wait waits 2.0 min for the next probe",
        "Probe healthy: of 11 events 11 stored, 0 failed",
        "Decide closes the circuit",
        "Close resumed processing",
        "ConfirmClosed processing runs",
        "AnnounceClosed published Circuit Breaker Closed",
        "Closed CLOSED after 2 probes",
    ]


@pytest.mark.parametrize(
    ("probe", "shown"),
    [
        ({"error": "Throttled", "healthy": False}, "not healthy: Throttled"),
        ({"received": 0, "bufferEmpty": True, "healthy": True}, "healthy: the buffer is empty"),
        ({"received": 0, "healthy": False}, "not healthy: no message is visible yet"),
    ],
)
def test_a_probe_without_events_says_why(probe: dict[str, Any], shown: str) -> None:
    line, _ = report(("Probe", {"step": "wait"}), ("Decide", {"step": "wait", "probe": PROBE | probe}))
    assert line.endswith(f"Probe {shown}")


def test_a_second_execution_says_that_processing_was_paused() -> None:
    lines = report(
        ("Inspect", {"manual": False}), ("Decide", {"step": "end"}), ("AlreadyOpen", {"outcome": "ALREADY_OPEN"})
    )
    assert lines[0].endswith("Inspect changes nothing")
    assert lines[-1].endswith("AlreadyOpen ALREADY_OPEN")


def test_a_recovered_letter_counts_its_redrives() -> None:
    settle = {"verdict": {"action": "settle"}}
    lines = report(("Decide", {}), ("SettleRecovered", settle), ("Recovered", {"outcome": "RECOVERED", "redrives": 1}))
    assert lines[0].endswith("Decide settle: the event is stored")
    assert lines[-1].endswith("Recovered RECOVERED after 1 redrive")
