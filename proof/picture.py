"""Draws where all events were during a chaos run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BANDS = {
    "stored": ("stored", "#2a9d8f"),
    "archived": ("archived", "#8d6cab"),
    "in_triage": ("in triage", "#e9a23b"),
    "in_queue": ("in a queue", "#5aa5d6"),
}
_IN_PROGRESS = ("in_triage", "in_queue")


def draw(run: Mapping[str, Any], moments: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw where all events were at each audit, and how many faults there had been by then."""
    minutes = [moment["seconds"] / 60 for moment in moments]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    events, in_progress, faults = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    _stack(events, minutes, moments, tuple(_BANDS))
    events.plot(minutes, [moment["sent"] for moment in moments], color="black", linewidth=1, label="sent")
    events.set_title(
        f"{run['events']:,} events, {run['faults']:,} faults, {run['deadWorkers']:,} dead workers: "
        f"lost {run['lost']}, doubled {run['doubled']}  (seed {run['seed']})"
    )
    events.set_ylabel("events")
    _stack(in_progress, minutes, moments, _IN_PROGRESS)
    in_progress.set_ylabel("in progress")
    faults.plot(minutes, [moment["faults"] for moment in moments], color="#c1443c", label="network faults so far")
    faults.set_ylabel("faults")
    faults.set_xlabel("minutes")
    for axes in (events, in_progress, faults):
        axes.axvline(run["minutes"], color="grey", linestyle=":", linewidth=1)
        axes.legend(loc="upper left", fontsize="small")
        axes.margins(x=0)
    figure.savefig(path, metadata={"Software": None})  # the same file with every version of matplotlib


def _stack(axes: Axes, minutes: list[float], moments: Sequence[Mapping[str, Any]], bands: Sequence[str]) -> None:
    axes.stackplot(
        minutes,
        [[moment[band] for moment in moments] for band in bands],
        labels=[_BANDS[band][0] for band in bands],
        colors=[_BANDS[band][1] for band in bands],
    )
