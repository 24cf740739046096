"""Writes ``docs/faults.md`` and its picture from what the last runs found (``proof/results``)."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local.engine import ROOT
from proof.faults import cells
from proof.picture import draw

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "faults.md"
PICTURE = ROOT / "docs" / "img" / "chaos.svg"

_FAULTS = {
    "throttled": "the service asks for fewer calls, four times in a row: boto3 tries three times. (The processor's "
    "`BatchExecuteStatement` has a direct try before these, so there every fault hits once more.)",
    "broken": "a server error, four times in a row",
    "reset": "the connection is reset before an answer, four times in a row",
    "lost": "the service does what it was asked for, and the answer is lost, four times in a row",
    "timeout": "no answer for longer than boto3 waits, once",
    "denied": "the permission is missing, once",
    "gone": "the table, bucket, queue, state machine or secret is not there, once",
    "kill before": "SIGKILL just before the call",
    "kill after": "SIGKILL just after the call, before anybody has seen its answer",
    "exit before": "the process ends itself",
    "memory before": "no memory is left",
    "loop before": "an endless loop, until the function's time-out",
    "concurrency 0": "the function may not run at all for some seconds",
}

#: What the chaos run calls its faults of the network: by what microburst did.
_KINDS = {
    "error": "the service answers with an error (throttled, broken, denied, gone)",
    "latency": "the answer is late",
    "reset": "the connection is reset",
    "response": "what was asked for is done, and the answer is lost",
    "timeout": "no answer for longer than boto3 waits",
}

_INTRODUCTION = """# What happens when something fails

Written by `make faults` and `make chaos`; do not edit. Both run the deployed application on the local engine, with IAM
enforced. A proxy (microburst, on PyPI) stands between every function and AWS, workers
die at chosen calls, and the stand-in for Genesys fails as the real one does.

**Lost** is an event that is in no store and in no queue once everything has come to rest. **Doubled** is an event for
which the events table's stream has more than one `INSERT` (an item came into being twice), or that was published with
more than one content under its id. Publication itself is at least once: the same content may come again.
"""

_CALLS = """
## Every call, every fault

{cells} of {all} cells were played, one fault each; each of these faults hit at least once. Lost: {lost}.
Doubled: {doubled}. Run it again with `make faults`, or a part of it with
`make faults ONLY='ArchiveFunction PutObject'`.

| fault | what it is |
|---|---|
{faults}

Each line says how the story ended in which the call was made. A valid event that Classify could not judge is archived
as `UNKNOWN`, for a person: it can be replayed.

| function | call | fault | hit | how it ended | lost | doubled |
|---|---|---|---|---|---|---|
{rows}
"""

_CHAOS = """
## Everything at once

`make chaos SEED={seed} MINUTES={minutes:g}`: events of all shapes, copies and nonsense among them, while the network,
the services, the workers, permissions, concurrency and Genesys fail at random; executions are aborted, the sweep runs.
An audit looks for every event again and again. When the time is over everything is healed, and the run ends when
everything has come to rest.

![Where all events were at each audit](img/chaos.svg)

| | |
|---|---|
{figures}

| fault of the network | hits |
|---|---|
{kinds}

| call | hits |
|---|---|
{calls}

All figures and every audit are in [`proof/results/chaos.json`](../proof/results/chaos.json). Seed and time make the
same traffic, the same weather and the same strikes again; what meets what is up to the machine.
"""


_AUDIT = """
## Audit a stack of your own

`make audit IDS=ids.txt` (one event id a line, `-` for standard input) says for each event whether it is stored,
archived (and where), or in triage (and in which execution). With `STACK=holdfast` it looks at a stack on AWS, with the
credentials of your shell. It only reads, and never receives a message. What is in no store is compared with what the
queues hold: more than that in two looks a minute apart is loss, and the exit status is 1.

`make audit FROM=2026-11-24T08:00 TO=2026-11-24T09:00` needs no ids: it holds what the executions of that time tell
against the table, the archive and the evidence.
"""


def main() -> None:
    """Write the page; a file that is named as an argument becomes the chaos run that it tells."""
    if sys.argv[1:]:
        shutil.copy(sys.argv[1], RESULTS / "chaos.json")
    report = json.loads((RESULTS / "chaos.json").read_text())
    draw(report, PICTURE)
    PAGE.write_text(
        _INTRODUCTION + _chaos(report) + _matrix(json.loads((RESULTS / "faults.json").read_text())) + _AUDIT
    )


def _matrix(rows: list[Mapping[str, Any]]) -> str:
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


def _chaos(report: Mapping[str, Any]) -> str:
    figures = {
        "events": f"{report['events']:,}, in {report['deliveries']:,} deliveries",
        "faults of the network that hit": f"{report['fired']:,}, in {report['calls']:,} calls",
        "workers that died": f"{report['deaths']:,}",
        "audits": f"{report['audits']}, of which {report['auditsThatMissedAnEvent']} missed an event",
        "lost": f"**{report['lost']}**",
        "doubled": f"**{report['doubled']}**",
        "stored": f"{report['stored']:,}, by {report['inserts']:,} inserts",
        "archived": f"{report['archived']:,}, {report['validArchived']} of them valid events that triage gave up",
        "published": f"{report['publications']:,}, {report['publishedAgain']:,} of them again",
        "triage executions": ", ".join(f"{count:,} {status.lower()}" for status, count in report["executions"].items()),
        "disturbances": ", ".join(
            f"{name.replace('_', ' ')} {count}" for name, count in report["disturbances"].items()
        ),
    }
    return _CHAOS.format(
        seed=report["seed"],
        minutes=report["minutes"],
        figures=_table(figures.items()),
        kinds=_table((_KINDS[kind], count) for kind, count in report["firedByKind"].items()),
        calls=_table((f"`{call}`", count) for call, count in report["firedByCall"].items()),
    )


def _table(rows: Iterable[Iterable[Any]]) -> str:
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    main()
