"""Writes the second half of ``docs/promises.md`` and its picture from ``proof/results``."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.engine import ROOT
from proof.faults import cells
from proof.picture import draw
from proof.records import read_records

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "promises.md"
#: The end of the comment after which this module writes the page.
MARK = "(proof/report.py): do not edit it here. -->\n"
PICTURE = ROOT / "docs" / "img" / "chaos.png"

_FAULTS = {
    "throttled": "the service throttles the call, four times in a row; boto3 makes three attempts",
    "broken": "a server error, four times in a row",
    "reset": "the connection is reset before an answer, four times in a row",
    "lost": "the service executes the call and its answer is lost, four times in a row",
    "timeout": "no answer before boto3 times out, once",
    "denied": "the permission is missing, once",
    "gone": "the table, bucket, queue, state machine or secret does not exist, once",
    "kill before": "SIGKILL just before the call",
    "kill after": "SIGKILL just after the call, before the function has its answer",
    "exit before": "the process exits",
    "memory before": "the function runs out of memory",
    "loop before": "an endless loop, until the function's timeout",
    "concurrency 0": "the reserved concurrency is 0 for some seconds",
}

#: Network faults by microburst's actions.
_KINDS = {
    "error": "the service answers with an error (throttled, broken, denied, gone)",
    "latency": "the answer is late",
    "reset": "the connection is reset",
    "response": "the call is executed and its answer is lost",
    "timeout": "no answer before boto3 times out",
}

_INTRODUCTION = """
## What happens when something fails

`make faults` and `make chaos` run the deployed application on the local engine, with IAM enforced. A proxy (microburst,
on PyPI) stands between every function and AWS, workers are killed at chosen calls, and the Genesys stand-in fails as
the real API does.

An event is **lost** if it is in no store and in no queue after everything has finished. It is **doubled** if the stream
of the events table has more than one `INSERT` for it, or if it was published with different contents. Publication
itself is at least once: the same content may be published again.
"""

_CALLS = """
## Every call with every fault

{cells} of {all} combinations were run, with one fault each; every fault occurred at least once.
Lost: {lost}. Doubled: {doubled}. `make faults` runs them again, and `make faults ONLY='ArchiveFunction PutObject'` a
part of them.

| fault | what it is |
|---|---|
{faults}

Each row shows how the event ended. A letter that is archived as `UNKNOWN` can be replayed.

| function | call | fault | hit | how it ended | lost | doubled |
|---|---|---|---|---|---|---|
{rows}
"""

_CHAOS = """
## All faults at once

`make chaos SEED={seed} MINUTES={minutes:g}` sends events of all shapes, with copies and invalid bodies among them.
Meanwhile the network, the services, the workers, permissions, concurrency and Genesys fail at random, executions are
aborted, and the sweep runs. An audit locates every event again and again. At the end all faults are removed, and the
run waits until everything has finished.

![Where all events were at each audit](img/chaos.png)

| | |
|---|---|
{figures}

| network fault | hits |
|---|---|
{kinds}

All figures and every audit are in [`proof/results/chaos.jsonl`](../proof/results/chaos.jsonl). The same seed and
duration give the same events and the same fault plan; which call meets which fault depends on the machine.
"""


def main() -> None:
    """Write the page. The file in the argument, if there is one, becomes the stored result of the chaos run."""
    if sys.argv[1:]:
        shutil.copy(sys.argv[1], RESULTS / "chaos.jsonl")
    run, *moments = read_records(RESULTS / "chaos.jsonl")
    draw(run, moments, PICTURE)
    head, mark, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(head + mark + _INTRODUCTION + _chaos(run) + _matrix(read_records(RESULTS / "faults.jsonl")))


def _matrix(rows: Sequence[Mapping[str, Any]]) -> str:
    seen = {row["cell"]["fault"] for row in rows}
    return _CALLS.format(
        cells=len(rows),
        all=sum(1 for _ in cells()),
        lost=sum(row["lost"] for row in rows),
        doubled=sum(row["doubled"] for row in rows),
        faults=_table((name, what) for name, what in _FAULTS.items() if name in seen),
        rows=_table(_merged(rows)),
    )


def _merged(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """One line for the faults of a call that ended in the same way."""
    lines: defaultdict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        lines[row["cell"]["function"], row["cell"]["operation"], row["outcome"]].append(row)
    for (function, operation, outcome), same in lines.items():
        faults = ", ".join(row["cell"]["fault"] for row in same)
        hits, lost, doubled = (sum(row[name] for row in same) for name in ("hits", "lost", "doubled"))
        yield f"`{function}`", f"`{operation}`", faults, hits, outcome, lost, doubled


def _chaos(run: Mapping[str, Any]) -> str:
    figures = {
        "events": f"{run['events']:,}, in {run['deliveries']:,} deliveries",
        "network faults": f"{run['faults']:,}, in {run['calls']:,} calls",
        "calls that they hit": ", ".join(f"`{call}` {count:,}" for call, count in run["faultsByCall"].items()),
        "workers killed": f"{run['deadWorkers']:,}",
        "audits": f"{run['audits']}, of which {run['auditsThatMissedAnEvent']} missed an event",
        "lost": f"**{run['lost']}**",
        "doubled": f"**{run['doubled']}**",
        "stored": f"{run['stored']:,}, by {run['inserts']:,} inserts",
        "archived": f"{run['archived']:,}, valid events that triage gave up: {run['validArchived']}",
        "published": f"{run['publications']:,}, {run['publishedAgain']:,} of them again",
        "triage executions": ", ".join(f"{count:,} {status.lower()}" for status, count in run["executions"].items()),
        "circuit breaker executions": ", ".join(
            f"{count:,} {outcome.lower().replace('_', ' ')}" for outcome, count in run.get("circuitBreaker", {}).items()
        ),
        "fault plan": ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in run["injections"].items()),
    }
    return _CHAOS.format(
        seed=run["seed"],
        minutes=run["minutes"],
        figures=_table(figures.items()),
        kinds=_table((_KINDS[kind], count) for kind, count in run["faultsByKind"].items()),
    )


def _table(rows: Iterable[Iterable[Any]]) -> str:
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    main()
