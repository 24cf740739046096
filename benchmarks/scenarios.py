"""The scenarios of docs/performance.md: ``python -m benchmarks.scenarios`` prints the tables and draws the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks import measurements
from benchmarks.capacity import (
    LAUNCH_SECONDS,
    Forecast,
    Outage,
    Pause,
    System,
    dollars,
    error_against_the_engine,
    genesys_calls_per_minute,
    simulate,
)
from benchmarks.pictures import new_figure, save

MINUTE, HOUR = 60.0, 3_600.0
#: A batch takes 50 ms of overhead, 10 ms for each request of up to 25 events to the table, and 2 ms of CPU for an event
#: of 10 KB at 512 MB.
OVERHEAD_SECONDS, STORE_SECONDS, STORE_EVENTS, CPU_SECONDS = 0.05, 0.01, 25, 0.002
#: The outage begins after an hour. Genesys does not document how fast it resends held events; ten times the usual rate
#: is assumed.
OUTAGE_BEGINS, OUTAGE_ENDS, HORIZON = HOUR, 5 * HOUR, 48 * HOUR
RESEND_FACTOR = 10
MILLION = 1_000_000
#: The share of events that name a user.
NAMING = 0.6
#: The pictures show every 120th step.
EVERY = 120


@dataclass(frozen=True, slots=True)
class Scale:
    """A rate of events per minute, the recommended parameters for it, and the number of agents."""

    rate: int
    users: int
    parameters: Mapping[str, int]

    @property
    def per_second(self) -> float:
        """The rate in events per second."""
        return self.rate / MINUTE

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
    """The duration of a batch of this size."""
    return OVERHEAD_SECONDS + math.ceil(batch / STORE_EVENTS) * STORE_SECONDS + batch * CPU_SECONDS


#: Every receive counts towards MaxReceiveCount, so events stay in the buffer for four hours only if it is high.
LONG_BUFFERING = {"MaxReceiveCount": 100, "BackoffCapSeconds": 900}
#: EnrichmentPolicy, the share of events that fail in an outage, and parameters in addition to those of the scale.
POLICIES: tuple[tuple[str, float, Mapping[str, int]], ...] = (
    ("best-effort", 0.0, {}),
    ("required, defaults", NAMING, {}),
    ("required, long buffering", NAMING, LONG_BUFFERING),
)
SCALES = (
    Scale(10_000, 500, {"MaxConcurrency": 10, "BatchSize": 10}),
    Scale(100_000, 5_000, {"MaxConcurrency": 10, "BatchSize": 500}),
    Scale(1_000_000, 20_000, {"MaxConcurrency": 100, "BatchSize": 500}),
)


def launch(scale: Scale) -> Forecast:
    """A campaign launch: the full rate for ten minutes, with no events before."""
    return simulate(
        lambda now: scale.per_second if now < LAUNCH_SECONDS else 0.0,
        scale.system(),
        seconds=LAUNCH_SECONDS + 2 * MINUTE,
    )


def outage(scale: Scale, affected: float, more: Mapping[str, int]) -> Forecast:
    """Genesys cannot look up users for four hours and still sends events."""

    def arrivals(now: float) -> float:
        return scale.per_second if now < OUTAGE_ENDS + HOUR else 0.0

    down = Outage(OUTAGE_BEGINS, OUTAGE_ENDS, affected)
    return simulate(arrivals, scale.system(**more), down, seconds=HORIZON, step=10)


def everything_fails(scale: Scale, *, breaker: bool) -> Forecast:
    """Every event fails for four hours, and events keep coming."""

    def arrivals(now: float) -> float:
        return scale.per_second if now < OUTAGE_ENDS + HOUR else 0.0

    down = Outage(OUTAGE_BEGINS, OUTAGE_ENDS, affected=1)
    pause = Pause.in_outage(down) if breaker else None
    return simulate(arrivals, scale.system(), down, pause, seconds=HORIZON, step=10)


def million_drained(scale: Scale) -> float:
    """Seconds until a backlog of a million events is processed, while new ones arrive."""

    def arrivals(now: float) -> float:
        return scale.per_second + (MILLION if now == 0 else 0)

    return simulate(arrivals, scale.system(), seconds=HOUR).drained_after(0)


def wave(scale: Scale) -> Forecast:
    """Genesys sends no events for four hours, then all held events in addition to new ones."""
    wave_ends = OUTAGE_ENDS + (OUTAGE_ENDS - OUTAGE_BEGINS) / RESEND_FACTOR

    def arrivals(now: float) -> float:
        if now < OUTAGE_BEGINS or wave_ends <= now < wave_ends + 2 * HOUR:
            return scale.per_second
        return scale.per_second * (RESEND_FACTOR + 1) if OUTAGE_ENDS <= now < wave_ends else 0.0

    return simulate(arrivals, scale.system(), seconds=wave_ends + 3 * HOUR, step=5)


# -- tables ------------------------------------------------------------------------------------------------------


def launch_row(scale: Scale) -> dict[str, str]:
    """A row of the table of launches."""
    system, forecast = scale.system(), launch(scale)
    cost = sum(dollars(forecast, system).values()) / forecast.arrived[-1] * 1_000_000
    calls = genesys_calls_per_minute(scale.per_second, system, scale.users, share=NAMING)
    return {
        "events a minute": f"{scale.rate:,}",
        "parameters": ", ".join(f"`{name}={value}`" for name, value in scale.parameters.items()),
        "full batch": f"{system.seconds_per_batch * 1000:.0f} ms",
        "capacity a minute": f"{system.events_per_second * MINUTE:,.0f}",
        "concurrency used": f"{math.ceil(forecast.busy[round(LAUNCH_SECONDS) - 1])}",
        "largest backlog": f"{max(forecast.backlog):,.0f}",
        "longest delay": f"{max(forecast.age):.0f} s",
        "cost of a million": f"${cost:.2f}",
        "look-ups a minute": f"{calls:,.0f} of {scale.users:,} agents",
    }


def outage_row(scale: Scale, policy: str, affected: float, more: Mapping[str, int]) -> dict[str, str]:
    """A row of the table of outages."""
    forecast = outage(scale, affected, more)
    return {
        "events a minute": f"{scale.rate:,}",
        "policy": policy,
        "largest backlog": short(max(forecast.backlog)),
        "in flight": short(max(forecast.in_flight)),
        "dead letters waiting": short(max(forecast.dead)),
        "executions": short(forecast.executions),
        "archived": short(forecast.archived),
        "drained after": in_hours(forecast.drained_after(OUTAGE_ENDS)),
        "cost of triage": f"${dollars(forecast, scale.system(**more))['triage']:,.0f}",
    }


def breaker_row(scale: Scale, *, breaker: bool) -> dict[str, str]:
    """A row of the table of the circuit breaker."""
    forecast = everything_fails(scale, breaker=breaker)
    return {
        "events a minute": f"{scale.rate:,}",
        "circuit breaker": "on" if breaker else "off",
        "largest backlog": short(max(forecast.backlog)),
        "executions": short(forecast.executions),
        "archived": short(forecast.archived),
        "drained after": in_hours(forecast.drained_after(OUTAGE_ENDS)),
        "cost of triage": f"${dollars(forecast, scale.system())['triage']:,.3g}",
    }


def million_row(scale: Scale) -> dict[str, str]:
    """A row of the table of backlogs."""
    return {"events a minute": f"{scale.rate:,}", "a million drain in": f"{million_drained(scale) / MINUTE:.0f} min"}


def wave_row(scale: Scale) -> dict[str, str]:
    """A row of the table of waves."""
    forecast = wave(scale)
    return {
        "events a minute": f"{scale.rate:,}",
        "wave a minute": f"{scale.rate * (RESEND_FACTOR + 1):,}",
        "largest backlog": short(max(forecast.backlog)),
        "longest delay": f"{max(forecast.age) / MINUTE:.0f} min",
        "concurrency used": f"{max(forecast.busy):.0f}",
    }


def in_hours(drained: float) -> str:
    """How long it took to drain."""
    return "not in 43 h" if math.isinf(drained) else f"{drained / HOUR:.1f} h"


def short(value: float) -> str:
    """Three digits and a unit."""
    if value < 1:
        return "0"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def markdown(rows: list[dict[str, str]]) -> str:
    """Format rows as a Markdown table."""
    lines = [f"| {' | '.join(line)} |" for line in (rows[0], *(row.values() for row in rows))]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


# -- pictures ----------------------------------------------------------------------------------------------------


def draw_outages() -> None:
    """Draw where the events of the second scale wait in an outage, by policy."""
    figure = new_figure(11, 3.2)
    all_axes = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, (policy, affected, more) in zip(all_axes, POLICIES, strict=True):
        forecast = outage(SCALES[1], affected, more)
        parts = {
            "buffer": forecast.backlog,
            "in flight": forecast.in_flight,
            "dead-letter queue": forecast.dead,
            "triage": forecast.triage,
        }
        millions = [[amount / 1e6 for amount in part[::EVERY]] for part in parts.values()]
        axes.stackplot([now / HOUR for now in forecast.times[::EVERY]], millions, labels=parts.keys())
        axes.axvspan(OUTAGE_BEGINS / HOUR, OUTAGE_ENDS / HOUR, color="0.92", zorder=0)
        axes.set(title=policy, xlabel="hours", xlim=(0, HORIZON / HOUR))
    all_axes[0].set_ylabel("million events in progress")
    all_axes[1].legend(frameon=False, loc="upper right")
    save(figure, "capacity-outage")


def draw_waves() -> None:
    """Draw the backlog and the delay of the waves."""
    figure = new_figure(11, 3.2)
    left, right = figure.subplots(1, 2)
    for scale in SCALES:
        forecast = wave(scale)
        hours = [now / HOUR for now in forecast.times[::EVERY]]
        left.plot(hours, [1 + amount for amount in forecast.backlog[::EVERY]], label=f"{scale.rate:,} a minute")
        right.plot(hours, [age / MINUTE for age in forecast.age[::EVERY]], label=f"{scale.rate:,} a minute")
    left.set(yscale="log", ylabel="waiting events + 1", xlabel="hours", title="backlog after four hours without events")
    right.set(ylabel="age of the oldest event, minutes", xlabel="hours", title="delay")
    right.legend(frameon=False)
    save(figure, "capacity-wave")


def main() -> None:
    """Print the tables and draw the pictures."""
    tables = {
        "launch": [launch_row(scale) for scale in SCALES],
        "outage": [outage_row(scale, *policy) for scale in SCALES for policy in POLICIES],
        "circuit breaker": [breaker_row(scale, breaker=breaker) for scale in SCALES for breaker in (False, True)],
        "backlog after a pause": [million_row(scale) for scale in SCALES],
        "wave": [wave_row(scale) for scale in SCALES],
    }
    for title, rows in tables.items():
        print(f"\n{title}\n\n{markdown(rows)}")
    if measurements.BURST.exists():
        measured = measurements.read(measurements.BURST)["slow"]
        print(f"\nerror against the engine: {error_against_the_engine(measured):+.0%} of {measured['drain_seconds']} s")
    draw_outages()
    draw_waves()


if __name__ == "__main__":
    main()
