"""The style of the benchmark pictures, and the picture of ``make bench``."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from local.engine import ROOT

_COLOURS = {
    "holdfast": "#1f77b4",
    "threaded": "#9aa5b1",
    "per_event": "#c9ced6",
    "powertools": "#e3b778",
    "floor": "#444",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, name: str) -> None:
    """Write ``docs/img/NAME.png``."""
    figure.savefig(ROOT / "docs" / "img" / f"{name}.png", dpi=130, metadata={"Software": None})


def draw_performance(detail: dict[str, Any]) -> None:
    """Draw the latency of a batch and the CPU time of an event side by side."""
    figure = new_figure(10, 3.6)
    left, right = figure.subplots(1, 2)
    batches = ("1 KB, known users", "10 KB, known users", "10 KB, unknown users", "250 KB, known users")
    latency = {batch: detail["latency_ms"][batch] for batch in batches}
    _bars(left, latency, ("holdfast", "threaded", "per_event", "powertools"))
    _bars(right, detail["cpu_ms_per_event"], ("floor", "holdfast", "threaded", "per_event", "powertools"))
    left.set(title="latency of a batch of ten, ms (API 50 ms, DynamoDB 5 ms)")
    right.set(title="CPU per event, ms (known users)")
    left.set_xlim(left=1)
    right.set_xlim(left=0.01)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    save(figure, "performance")


def draw_memory(memory: dict[str, dict[str, dict[str, float]]]) -> None:
    """Draw duration and cost over the memory size, a panel for each function."""
    figure = new_figure(10, 2.8)
    for axes, (name, by_size) in zip(figure.subplots(1, len(memory)), memory.items(), strict=True):
        labels = [size.removesuffix(" MB") for size in by_size]
        durations = [one["batch_ms"] for one in by_size.values()]
        costs = [one["dollars_per_million"] for one in by_size.values()]
        axes.plot(labels, durations, "o-", color=_COLOURS["holdfast"], label="ms for a batch")
        axes.set(title=name.replace("_", "-"), xlabel="MB")
        axes.set_ylim(bottom=0)
        right = axes.twinx()
        right.plot(labels, costs, "s--", color=_COLOURS["powertools"], label="dollars for a million records")
        right.set_ylim(bottom=0)
        right.spines["right"].set_visible(True)
        lines = [*axes.get_lines(), *right.get_lines()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    save(figure, "memory")


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
