"""The scenarios of docs/capacity.md: ``python -m benchmarks.scenarios`` prints its tables and draws its pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.burst import RESULTS
from benchmarks.capacity import (
    Arrivals,
    Forecast,
    Outage,
    System,
    dollars,
    error_against_the_engine,
    genesys_calls_per_minute,
    simulate,
)
from local.engine import ROOT

IMAGES = ROOT / "docs" / "img"
MINUTE, HOUR = 60.0, 3_600.0
#: A batch: 50 ms for hand-over and answer, 10 ms for each request of up to 25 events to the table, 2 ms of CPU for an
#: event of 10 KB at 512 MB.
HAND_OVER_SECONDS, STORE_SECONDS, STORE_EVENTS, CPU_SECONDS = 0.05, 0.01, 25, 0.002
#: A campaign launch.
LAUNCH_MINUTES = 10
#: The outage begins after an hour. What Genesys held back meanwhile comes at ten times the rate: nobody publishes how
#: fast it is sent again.
OUTAGE_BEGINS, OUTAGE_ENDS, HORIZON = HOUR, 5 * HOUR, 48 * HOUR
RESEND_FACTOR = 10
#: The share of events that name a user.
NAMING = 0.6
#: A picture needs no more than each so many-th step.
THIN = 120


@dataclass(frozen=True, slots=True)
class Scale:
    """A rate of events, the parameters for it, and how many agents there are."""

    rate: int
    users: int
    parameters: Mapping[str, int]

    def system(self, **more: int) -> System:
        """The pipeline with these parameters."""
        chosen = {**self.parameters, **more}
        batch = chosen["BatchSize"]
        return System(
            concurrency=chosen["MaxConcurrency"],
            batch_size=batch,
            seconds_per_batch=seconds_per_batch(batch),
            max_receives=chosen.get("MaxReceiveCount", 5),
            backoff_cap=chosen.get("BackoffCapSeconds", 300),
        )


def seconds_per_batch(batch: int) -> float:
    """How long a batch of this size takes."""
    return HAND_OVER_SECONDS + math.ceil(batch / STORE_EVENTS) * STORE_SECONDS + batch * CPU_SECONDS


#: Every receive counts, so the buffer holds an event through four hours of outage only if it may be received often.
PATIENT = {"MaxReceiveCount": 100, "BackoffCapSeconds": 900}
#: EnrichmentPolicy, the share of events that fail in an outage, and parameters on top of those of the scale.
POLICIES: tuple[tuple[str, float, Mapping[str, int]], ...] = (
    ("best-effort", 0.0, {}),
    ("required, defaults", NAMING, {}),
    ("required, patient", NAMING, PATIENT),
)
SCALES = (
    Scale(10_000, 500, {"MaxConcurrency": 10, "BatchSize": 10}),
    Scale(100_000, 5_000, {"MaxConcurrency": 10, "BatchSize": 500}),
    Scale(1_000_000, 20_000, {"MaxConcurrency": 100, "BatchSize": 500}),
)


def launch(scale: Scale) -> Forecast:
    """A campaign launch: the rate for ten minutes, out of nothing."""
    per_second = scale.rate / MINUTE
    end = LAUNCH_MINUTES * MINUTE
    return simulate(lambda now: per_second if now < end else 0.0, scale.system(), seconds=end + 2 * MINUTE)


def outage(scale: Scale, *, affected: float, **more: int) -> Forecast:
    """The API cannot look up users for four hours, and events go on coming."""
    steady = scale.rate / MINUTE
    arrivals: Arrivals = lambda now: steady if now < OUTAGE_ENDS + HOUR else 0.0  # noqa: E731 - as short as it gets
    down = Outage(OUTAGE_BEGINS, OUTAGE_ENDS, affected)
    return simulate(arrivals, scale.system(**more), down, seconds=HORIZON, step=10)


def wave(scale: Scale) -> Forecast:
    """Genesys sends nothing for four hours, then everything that it held, on top of what is new."""
    steady = scale.rate / MINUTE
    held = steady * (OUTAGE_ENDS - OUTAGE_BEGINS)
    wave_ends = OUTAGE_ENDS + held / (steady * RESEND_FACTOR)

    def arrivals(now: float) -> float:
        if now < OUTAGE_BEGINS or wave_ends <= now < wave_ends + 2 * HOUR:
            return steady
        return steady * (RESEND_FACTOR + 1) if OUTAGE_ENDS <= now < wave_ends else 0.0

    return simulate(arrivals, scale.system(), seconds=wave_ends + 3 * HOUR, step=5)


def launches() -> list[dict[str, str]]:
    """The table of the launches."""
    rows = []
    for scale in SCALES:
        system, seen = scale.system(), launch(scale)
        bill = sum(dollars(seen, system).values()) / seen.arrived[-1] * 1_000_000
        calls = genesys_calls_per_minute(scale.rate / MINUTE, system, scale.users, share=NAMING)
        rows.append(
            {
                "events a minute": f"{scale.rate:,}",
                "parameters": ", ".join(f"`{name}={value}`" for name, value in scale.parameters.items()),
                "a full batch": f"{system.seconds_per_batch * 1000:.0f} ms",
                "capacity a minute": f"{system.events_per_second * MINUTE:,.0f}",
                "busy": f"{math.ceil(seen.busy[LAUNCH_MINUTES * 60 - 1])}",
                "most that wait": f"{max(seen.backlog):,.0f}",
                "oldest": f"{max(seen.age):.0f} s",
                "a million costs": f"${bill:.2f}",
                "look-ups a minute": f"{calls:,.0f} of {scale.users:,} agents",
            }
        )
    return rows


def outages() -> list[dict[str, str]]:
    """The table of the outages of the API."""
    rows = []
    for scale in SCALES:
        for name, affected, more in POLICIES:
            seen = outage(scale, affected=affected, **more)
            drained = seen.drained_after(OUTAGE_ENDS)
            bill = dollars(seen, scale.system(**more))
            rows.append(
                {
                    "events a minute": f"{scale.rate:,}",
                    "policy": name,
                    "most in the buffer": _short(max(seen.backlog)),
                    "in flight": _short(max(seen.in_flight)),
                    "dead letters waiting": _short(max(seen.dead)),
                    "executions": _short(seen.executions),
                    "archived": _short(seen.archived),
                    "all done after": "not in 43 h" if math.isinf(drained) else f"{drained / HOUR:.1f} h",
                    "triage costs": f"${bill['triage']:,.0f}",
                }
            )
    return rows


def waves() -> list[dict[str, str]]:
    """The table of the waves."""
    rows = []
    for scale in SCALES:
        seen = wave(scale)
        rows.append(
            {
                "events a minute": f"{scale.rate:,}",
                "wave a minute": f"{scale.rate * (RESEND_FACTOR + 1):,}",
                "most that wait": _short(max(seen.backlog)),
                "oldest": f"{max(seen.age) / MINUTE:.0f} min",
                "busy": f"{max(seen.busy):.0f}",
            }
        )
    return rows


def _short(value: float) -> str:
    if value < 1:
        return "0"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows as a table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])


# -- pictures ----------------------------------------------------------------------------------------------------


def draw() -> None:
    """Draw what the page shows."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "holdfast", "font.size": 9})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    IMAGES.mkdir(parents=True, exist_ok=True)
    _draw_outages()
    _draw_waves()


def _draw_outages() -> None:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    scale = SCALES[1]
    for axis, (name, affected, more) in zip(axes, POLICIES, strict=True):
        seen = outage(scale, affected=affected, **more)
        hours = [now / HOUR for now in seen.times[::THIN]]
        parts = {
            "buffer": seen.backlog,
            "in flight": seen.in_flight,
            "dead-letter queue": seen.dead,
            "triage": seen.triage,
        }
        axis.stackplot(hours, [[one / 1e6 for one in part[::THIN]] for part in parts.values()], labels=parts.keys())
        axis.axvspan(OUTAGE_BEGINS / HOUR, OUTAGE_ENDS / HOUR, color="0.92", zorder=0)
        axis.set(title=name, xlabel="hours", xlim=(0, HORIZON / HOUR))
    axes[0].set_ylabel("million events in custody")
    axes[1].legend(frameon=False, loc="upper right")
    _save(figure, "capacity-outage")


def _draw_waves() -> None:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for scale in SCALES:
        seen = wave(scale)
        hours = [now / HOUR for now in seen.times[::THIN]]
        label = f"{scale.rate:,} a minute"
        axes[0].plot(hours, [1 + one for one in seen.backlog[::THIN]], label=label)
        axes[1].plot(hours, [one / MINUTE for one in seen.age[::THIN]], label=label)
    axes[0].set(
        yscale="log", ylabel="events that wait (+1)", xlabel="hours", title="the wave after four hours of silence"
    )
    axes[1].set(ylabel="age of the oldest, minutes", xlabel="hours", title="how long they wait")
    axes[1].legend(frameon=False)
    _save(figure, "capacity-wave")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    """Print and draw everything."""
    for title, rows in (("launch", launches()), ("outage", outages()), ("wave", waves())):
        print(f"\n{title}\n\n{markdown(rows)}")
    if RESULTS.exists():
        measured = json.loads(RESULTS.read_text())["slow"]
        print(f"\nagainst the engine: {error_against_the_engine(measured):+.0%} of {measured['drain_seconds']} s")
    draw()


if __name__ == "__main__":
    main()
