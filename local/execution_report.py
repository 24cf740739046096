"""Tells one triage execution step by step: state, time, and what mattered there. Nothing of the event itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from local.stack import Stack

_REDRIVE = {
    "STORED": "[green]the redriven event was stored[/]",
    "DEAD_LETTERED_AGAIN": "[yellow]the redriven event died again[/]",
    "SILENT": "[yellow]nothing was heard of the redriven event in time[/]",
    "NOT_SENT": "[yellow]the event could not be sent back[/]",
}
_HOUR = 3_600
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One state that was entered, and in rich markup what came of it."""

    state: str
    at: datetime
    explanation: str


def history(stack: Stack, execution_arn: str) -> list[dict[str, Any]]:
    """An execution's history."""
    pages = stack.client("stepfunctions").get_paginator("get_execution_history")
    return [event for page in pages.paginate(executionArn=execution_arn) for event in page["events"]]


def steps(events: Iterable[Mapping[str, Any]]) -> list[Step]:
    """The steps in a history. What a state made of its input is the input of the next one."""
    entered = [(event["timestamp"], event["stateEnteredEventDetails"]) for event in events if _is_entry(event)]
    told = [
        Step(details["name"], at, _says(details["name"], _data(details), _data(following)))
        for (at, details), (_, following) in pairwise(entered)
    ]
    return told + [Step(details["name"], at, _ended(_data(details))) for at, details in entered[-1:]]


def story(title: str, name: str, told: Sequence[Step]) -> RenderableType:
    """The steps as a table of at most 100 columns, the times counted from the first one."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True, justify="right")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold", max_width=64)
    for step in told:
        seconds = (step.at - told[0].at).total_seconds()
        table.add_row(f"{step.at:%H:%M:%S} {seconds:+6.1f} s", step.state, step.explanation)
    return Group(Text.assemble((title, "bold cyan"), "\n", (name, "dim")), table)


def _is_entry(event: Mapping[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


def _data(details: Mapping[str, Any]) -> dict[str, Any]:
    data = json.loads(details.get("input") or "{}")
    return data if isinstance(data, dict) else {}


def _says(state: str, given: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    explanation = {
        "Classify": lambda: _verdict(made.get("verdict") or {}),
        "Decide": lambda: _decision(made),
        "BackOff": lambda: f"waits {_duration(given.get('delaySeconds', 0))}",
        "Redrive": lambda: _REDRIVE.get(made.get("redriveOutcome", ""), ""),
        "Archive": lambda: f"wrote [cyan]{escape((made.get('archive') or {}).get('key', ''))}[/]",
        "SettleRecovered": lambda: _settled(made),
        "SettleArchived": lambda: _settled(made),
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


def _decision(made: Mapping[str, Any]) -> str:
    action = (made.get("verdict") or {}).get("action")
    if action == "retry":
        return f"retry, round {made.get('redrives')}: delaySeconds {made.get('delaySeconds')}, jitter included"
    return {"settle": "it is processed: settle", "archive": "no retry can help: archive"}.get(str(action), "archive")


def _settled(made: Mapping[str, Any]) -> str:
    return f"released the evidence, announced [bold]{made.get('outcome', '')}[/]"


def _ended(output: Mapping[str, Any]) -> str:
    redrives = output.get("redrives", 0)
    return f"[bold green]{output.get('outcome', '')}[/] after {redrives} redrive{'s' if redrives != 1 else ''}"


def _duration(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _MINUTE:.1f} min" if seconds >= _MINUTE else f"{seconds:.0f} s"
