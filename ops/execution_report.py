"""Prints one execution of triage or of the circuit breaker step by step: the state, the time, and the result.

The event itself is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_REDRIVE = {
    "STORED": "[green]the redriven event was stored[/]",
    "DEAD_LETTERED_AGAIN": "[yellow]the redriven event reached the dead-letter queue again[/]",
    "SILENT": "[yellow]no outcome of the redriven event in time[/]",
    "NOT_SENT": "[yellow]the event could not be redriven[/]",
}
#: What the circuit breaker does next.
_STEPS = {
    "open": "opens the circuit",
    "wait": "the circuit stays open",
    "close": "closes the circuit",
    "resuming": "the processor does not receive yet",
    "announce": "processing runs",
    "end": "ends",
}
_DECISIONS = {
    "settle": "settle: the event is stored",
    "archive": "archive: a redrive cannot help",
    "wait": "wait: the message may still be processed",
}
_HOUR = 3_600
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One state of the execution, with its result in Rich markup."""

    state: str
    at: datetime
    explanation: str


def steps(events: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The steps in an execution's history. A state's result is the input of the next state."""
    entered = [(event["timestamp"], event["stateEnteredEventDetails"]) for event in events if _is_entry(event)]
    done = [
        Step(details["name"], at, _explain(details["name"], _data(details), _data(following)))
        for (at, details), (_, following) in pairwise(entered)
    ]
    return done + [Step(details["name"], at, _ended(_data(details))) for at, details in entered[-1:]]


def execution_report(title: str, name: str, steps: Sequence[Step]) -> RenderableType:
    """The steps as a table, with the seconds since the first step."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True, justify="right")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold", max_width=64)
    for step in steps:
        seconds = (step.at - steps[0].at).total_seconds()
        table.add_row(f"{step.at:%H:%M:%S} {seconds:+6.1f} s", step.state, step.explanation)
    return Group(Text.assemble((title, "bold cyan"), "\n", (name, "dim")), table)


def _is_entry(event: Mapping[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


def _data(details: Mapping[str, Any]) -> dict[str, Any]:
    data = json.loads(details.get("input") or "{}")
    return data if isinstance(data, dict) else {}


def _explain(state: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    explanation: dict[str, Callable[[], str]] = {
        "Classify": lambda: _verdict(after.get("verdict") or {}),
        "Decide": lambda: _decision(before if "step" in before else after),
        "BackOff": lambda: _wait(before, after),
        "BackOffUnlisted": lambda: f"waits {_duration(before.get('delaySeconds', 0))}",
        "Redrive": lambda: _REDRIVE.get(after.get("redriveOutcome", ""), ""),
        "Archive": lambda: f"wrote [cyan]{escape((after.get('archive') or {}).get('key', ''))}[/]",
        "SettleRecovered": lambda: _settled(after),
        "SettleArchived": lambda: _settled(after),
        "Inspect": lambda: "opens the circuit" if after.get("step") == "open" else "changes nothing",
        "Open": lambda: "[red]paused processing[/]: events wait in the buffer",
        "AnnounceOpened": lambda: "published [bold]Circuit Breaker Opened[/]",
        "Wait": lambda: f"waits {_duration(before.get('delaySeconds', 0))} for the next probe",
        "Paused": lambda: f"waits {_duration(before.get('delaySeconds', 0))}",
        "AwaitProcessing": lambda: "waits until the message can be processed",
        "CheckPause": lambda: _STEPS.get(after.get("step", ""), ""),
        "Probe": lambda: _probe(after.get("probe")),
        "Close": lambda: "[green]resumed processing[/]",
        "Resuming": lambda: "waits for Lambda",
        "ConfirmClosed": lambda: _STEPS.get(after.get("step", ""), ""),
        "AnnounceClosed": lambda: "published [bold]Circuit Breaker Closed[/]",
    }
    return explanation.get(state, str)()


def _verdict(verdict: Mapping[str, Any]) -> str:
    evidence = verdict.get("evidence") or {}
    why = evidence.get("lastMessage") if verdict.get("action") == "retry" else None
    lines = [
        f"[bold]{verdict.get('category', '')}[/] by rule {verdict.get('rule', '')}",
        verdict.get("explanation", ""),
    ]
    lines += [f"[dim]last failure: {escape(str(why))}[/]"] if why else []
    return "\n".join(lines)


def _probe(probe: Mapping[str, Any] | None) -> str:
    """What the processor did with the messages of a probe."""
    if not probe:
        return "no probe was made"
    mark = "[green]healthy[/]" if probe["healthy"] else "[yellow]not healthy[/]"
    if probe["error"]:
        return f"{mark}: {escape(probe['error'])}"
    if not probe["received"]:
        return f"{mark}: " + ("the buffer is empty" if probe["bufferEmpty"] else "no message is visible yet")
    failed = probe["failedForNow"] + probe["failedForGood"]
    return f"{mark}: of {probe['received']} events {probe['stored']} stored, {failed} failed"


def _decision(data: Mapping[str, Any]) -> str:
    if "step" in data:
        return _STEPS.get(data["step"], "")
    action = (data.get("verdict") or {}).get("action")
    if action == "retry":
        return f"redrive {data.get('redrives')} after {data.get('delaySeconds')} s (with jitter)"
    return _DECISIONS.get(str(action), str(action))


def _wait(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    waits = f"waits {_duration(before.get('delaySeconds', 0))}"
    reason = after.get("retriedNow")
    started_by_person = reason and reason != before.get("retriedNow")
    return f"{waits}\na person started the next redrive: {escape(str(reason))}" if started_by_person else waits


def _settled(data: Mapping[str, Any]) -> str:
    return f"published [bold]{data.get('outcome', '')}[/]"


def _ended(output: Mapping[str, Any]) -> str:
    outcome = f"[bold green]{output.get('outcome', '')}[/]"
    counted = next((name for name in ("redrives", "probes") if name in output), None)
    if counted is None:
        return outcome
    count = output[counted]
    return f"{outcome} after {count} {counted if count != 1 else counted.removesuffix('s')}"


def _duration(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _MINUTE:.1f} min" if seconds >= _MINUTE else f"{seconds:.0f} s"
