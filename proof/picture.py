"""Custody over time as a picture, from the report of a chaos run: ``python -m proof.picture .local/chaos.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path("docs/img/chaos.svg")
_BANDS = (
    ("stored", "#2a9d8f", "stored"),
    ("archived", "#8d6cab", "archived"),
    ("in_triage", "#e9a23b", "in triage (evidence in the bucket)"),
    ("in_queue", "#5aa5d6", "in a queue"),
)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw where all events were at each audit, and what was done to the application meanwhile."""
    moments = report["moments"]
    minutes = [moment["seconds"] / 60 for moment in moments]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    custody, waiting, faults = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    _stack(custody, minutes, moments, _BANDS)
    custody.plot(minutes, [moment["sent"] for moment in moments], color="black", linewidth=1, label="sent")
    custody.set_title(
        f"{report['events']:,} events, {report['fired']:,} faults, {report['deaths']:,} dead workers: "
        f"lost {report['lost']}, doubled {report['doubled']}  (seed {report['seed']})"
    )
    custody.set_ylabel("events")
    _stack(waiting, minutes, moments, _BANDS[2:])
    waiting.set_ylabel("in custody")
    faults.plot(minutes, [moment["fired"] for moment in moments], color="#c1443c", label="faults that hit, in all")
    faults.set_ylabel("faults")
    faults.set_xlabel("minutes")
    for axes in (custody, waiting, faults):
        axes.axvline(report["minutes"], color="grey", linestyle=":", linewidth=1)
        axes.legend(loc="upper left", fontsize="small")
        axes.margins(x=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "holdfast"}):  # the same picture from the same figures
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _stack(
    axes: Axes, minutes: list[float], moments: list[dict[str, Any]], bands: tuple[tuple[str, str, str], ...]
) -> None:
    rows = [[moment[name] for moment in moments] for name, _, _ in bands]
    axes.stackplot(minutes, rows, colors=[colour for _, colour, _ in bands], labels=[label for _, _, label in bands])


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), PICTURE)
