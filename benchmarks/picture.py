"""The measurements as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOURS = {
    "holdfast": "#1f77b4",
    "threaded": "#9aa5b1",
    "per_event": "#c9ced6",
    "powertools": "#e3b778",
    "floor": "#444",
}


def draw(detail: dict[str, Any], path: Path) -> None:
    """Latency of a batch, and CPU of an event, side by side."""
    # Text stays text, and the same numbers give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "holdfast", "font.size": 9})
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = ("1 KB, known users", "10 KB, known users", "10 KB, unknown users", "250 KB, known users")
    _bars(
        left, {kind: detail["latency_ms"][kind] for kind in kinds}, ("holdfast", "threaded", "per_event", "powertools")
    )
    left.set_title("latency of a batch of ten, ms (API 50 ms, DynamoDB 5 ms)")
    _bars(right, detail["cpu_ms_per_event"], ("floor", "holdfast", "threaded", "per_event", "powertools"))
    right.set_title("CPU of an event, ms (users known)")
    left.set_xlim(left=1)
    right.set_xlim(left=0.01)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _bars(axes: Axes, groups: dict[str, dict[str, float]], names: tuple[str, ...]) -> None:
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [group + number * height for group in range(len(groups))]
        values = [group[name] for group in groups.values()]
        bars = axes.barh(places, values, height * 0.9, color=_COLOURS[name], label=name)
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7)
    axes.set_yticks([group + 0.4 - height / 2 for group in range(len(groups))], list(groups))
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
