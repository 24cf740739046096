"""How much waits, how long, and what it costs, for any arrival curve: ``make capacity RATE=… LATENCY=… CONCURRENCY=…``.

A fluid model of the pipeline in steps of time. Events arrive in the buffer; the mapping's slots take batches from it;
what fails waits its backoff and comes again, becomes a dead letter after ``max_receives``, and is sent back by triage
after a wait that grows fourfold. Everything is a number of events per class and step, so a million events a minute cost
no more than ten. Random waits are spread evenly over their range.

Not modelled: order (SQS has none), single slow batches, and cold starts beyond the slots that come one after the other.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cost import INDEX_UNITS, MEMORY_GB, PRICES

#: Events in a second, by seconds since the beginning.
Arrivals = Callable[[float], float]

#: Five batches at once, up to 300 more a minute: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
FIRST_SLOTS, SLOTS_PER_SECOND = 5.0, 300 / 60
#: Received and not deleted; what waits its backoff is in flight too:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
IN_FLIGHT = 120_000
#: DeadLetterIntakeFunction: two at once (template.yaml) take ten letters each; an object and an execution for every one
#: of them are taken as 60 ms.
INTAKE_PER_SECOND = 2 * 10 / 0.6
#: The breaker lets nothing pass for up to 30 s (adapters/genesys.py), and a failure asks for what is left of it.
BREAKER_SECONDS = 30.0
SPREAD = 8
#: Less than this many events is none.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class System:
    """The template's parameters that decide, by their defaults there, and the time that a batch takes.

    ``seconds_per_batch`` is that of a full batch, all in: what ``BatchLatency`` tells, and the hand-over.
    """

    concurrency: int = 10
    batch_size: int = 10
    seconds_per_batch: float = 0.08
    batch_window: float = 5.0
    max_receives: int = 5
    backoff_base: float = 2.0
    backoff_cap: float = 300.0
    retry_base: float = 120.0
    retry_cap: float = 21_600.0
    max_retries: int = 5
    first_slots: float = FIRST_SLOTS

    @property
    def events_per_second(self) -> float:
        """The most that all slots together can do."""
        return self.concurrency * self.batch_size / self.seconds_per_batch

    def backoff(self, receive: int) -> tuple[float, float]:
        """The shortest and the longest wait after a failed receive: the breaker's rest, and full jitter on top."""
        return 1.0, BREAKER_SECONDS + min(self.backoff_cap, self.backoff_base * 2.0 ** (receive - 1))

    def pause(self, rounds: int) -> tuple[float, float]:
        """The shortest and the longest wait of triage before it sends a letter back: half of it is jitter."""
        longest = min(self.retry_cap, self.retry_base * 4.0**rounds)
        return longest / 2, longest


@dataclass(frozen=True, slots=True)
class Outage:
    """Genesys cannot look up users for some time.

    ``affected`` is the share of events that fail: those that name users where EnrichmentPolicy is ``required``, none
    where it is ``best-effort``.
    """

    begins: float
    ends: float
    affected: float

    def share(self, now: float, *, fresh: bool) -> float:
        """What share fails now. What failed before is what is affected, so all of it fails again."""
        if not self.begins <= now < self.ends:
            return 0.0
        return self.affected if fresh or not self.affected else 1.0


@dataclass(slots=True)
class Forecast:
    """What happens, step by step (lists) and in all (numbers). Ages in seconds, everything else in events."""

    step: float
    times: list[float] = field(default_factory=list)
    backlog: list[float] = field(default_factory=list)
    in_flight: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)
    triage: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    archived: float = 0.0
    receives: float = 0.0
    failures: float = 0.0
    invocations: float = 0.0
    executions: float = 0.0
    transitions: float = 0.0

    @property
    def waiting(self) -> float:
        """What is in custody at the end, wherever."""
        return self.backlog[-1] + self.in_flight[-1] + self.dead[-1] + self.triage[-1]

    def drained_after(self, moment: float) -> float:
        """Seconds from then until nothing waits any more; infinite if something still does at the end."""
        totals = [sum(four) for four in zip(self.backlog, self.in_flight, self.dead, self.triage, strict=True)]
        if totals[-1] >= 1:
            return math.inf
        last = max((now for now, total in zip(self.times, totals, strict=True) if total >= 1), default=0.0)
        return max(0.0, last - moment)


def simulate(
    arrivals: Arrivals, system: System, outage: Outage | None = None, *, seconds: float, step: float = 1.0
) -> Forecast:
    """Run the model for so many seconds."""
    run = _Run(system, outage or Outage(0, 0, 0), Forecast(step))
    for number in range(round(seconds / step)):
        run.advance(number, arrivals(number * step) * step)
    return run.seen


class _Run:
    """The state between two steps. A class is ``(rounds of triage, receives so far + 1)``."""

    def __init__(self, system: System, outage: Outage, seen: Forecast) -> None:
        self.seen = seen
        self._system = system
        self._outage = outage
        self._ready: dict[tuple[int, int], float] = {}
        self._coming: dict[int, dict[tuple[int, int], float]] = {}
        self._dead: dict[int, float] = {}
        self._waiting = 0.0
        self._in_triage = 0.0
        self._slots = system.first_slots
        self._begun = 0.0
        self._stored = 0.0

    def advance(self, number: int, new: float) -> None:
        now = number * self.seen.step
        for kind, amount in self._coming.pop(number, {}).items():
            self._ready[kind] = self._ready.get(kind, 0.0) + amount
            if kind[1] > 1:
                self._waiting -= amount
            else:
                self._in_triage -= amount
        self._ready[0, 1] = self._ready.get((0, 1), 0.0) + new
        served = self._serve(now, new)
        self._take_in(now)
        self._note(now, new, served)

    def _serve(self, now: float, new: float) -> float:
        """Let the slots work for one step; answers how many events they took."""
        system, seen = self._system, self.seen
        ready = sum(self._ready.values())
        slots = min(self._slots, system.concurrency)
        most = slots * system.batch_size / system.seconds_per_batch * seen.step
        served = min(ready, most, self._room(now, slots))
        full = ready > most
        self._slots = min(system.concurrency, self._slots + SLOTS_PER_SECOND * seen.step) if full else self._slots
        gathered = new / seen.step * system.batch_window / FIRST_SLOTS
        batch = system.batch_size if full else min(system.batch_size, max(1.0, gathered))
        seen.receives += served
        seen.invocations += served / batch
        for (rounds, receive), amount in list(self._ready.items()):
            taken = amount * served / ready if ready else 0.0
            self._ready[rounds, receive] = amount - taken
            if (rounds, receive) == (0, 1):
                self._begun += taken
            failed = taken * self._share(now, (rounds, receive))
            self._stored += taken - failed
            self._fail(now, rounds, receive, failed)
            seen.transitions += 4 * (taken - failed) if rounds else 0.0  # Classify, Decide, SettleRecovered, Recovered
        return served

    def _room(self, now: float, slots: float) -> float:
        """How many may be taken so that those of them that fail can wait in flight, beside the batches at work."""
        failing = sum(amount * self._share(now, kind) for kind, amount in self._ready.items())
        room = max(0.0, IN_FLIGHT - slots * self._system.batch_size - self._waiting)
        return room / failing * sum(self._ready.values()) if failing else math.inf

    def _share(self, now: float, kind: tuple[int, int]) -> float:
        return self._outage.share(now, fresh=kind == (0, 1))

    def _fail(self, now: float, rounds: int, receive: int, amount: float) -> None:
        self.seen.failures += amount
        if not amount:
            return
        if receive < self._system.max_receives:
            self._waiting += amount
            self._later(now, self._system.backoff(receive), (rounds, receive + 1), amount)
        else:
            self._dead[rounds] = self._dead.get(rounds, 0.0) + amount

    def _take_in(self, now: float) -> None:
        """Let the intake work for one step, and triage decide on what it took."""
        dead = sum(self._dead.values())
        taken_of_all = min(dead, INTAKE_PER_SECOND * self.seen.step)
        for rounds, amount in list(self._dead.items()):
            taken = amount * taken_of_all / dead if dead else 0.0
            self._dead[rounds] = amount - taken
            if not rounds:
                self.seen.executions += taken
                self.seen.transitions += taken
            if rounds >= self._system.max_retries:
                self.seen.archived += taken
                self.seen.transitions += 5 * taken  # Classify, Decide, Archive, SettleArchived, Archived
            elif taken:
                self.seen.transitions += 4 * taken  # Classify, Decide, BackOff, Redrive
                self._in_triage += taken
                self._later(now, self._system.pause(rounds), (rounds + 1, 1), taken)

    def _later(self, now: float, window: tuple[float, float], kind: tuple[int, int], amount: float) -> None:
        shortest, longest = window
        for part in range(SPREAD):
            wait = shortest + (longest - shortest) * (part + 0.5) / SPREAD
            slot = max(round((now + wait) / self.seen.step), round(now / self.seen.step) + 1)
            due = self._coming.setdefault(slot, {})
            due[kind] = due.get(kind, 0.0) + amount / SPREAD

    def _note(self, now: float, new: float, served: float) -> None:
        seen, system = self.seen, self._system
        arrived = (seen.arrived[-1] if seen.arrived else 0.0) + new
        end = now + seen.step
        seen.times.append(end)
        seen.arrived.append(arrived)
        seen.backlog.append(sum(self._ready.values()))
        seen.in_flight.append(self._waiting)
        seen.dead.append(sum(self._dead.values()))
        seen.triage.append(self._in_triage)
        seen.stored.append(self._stored)
        # Little's law: what works at once is what begins in a second, times how long it takes.
        seen.busy.append(served / seen.step * system.seconds_per_batch / system.batch_size)
        # The oldest that has not begun arrived when the arrivals reached what has begun by now.
        oldest = bisect_left(seen.arrived, self._begun + ROUNDING)
        seen.age.append(max(0.0, end - (oldest + 1) * seen.step) if self._ready[0, 1] > ROUNDING else 0.0)


# -- what it costs, and what it asks of Genesys --------------------------------------------------------------------


def dollars(forecast: Forecast, system: System, event_bytes: int = 2_048) -> dict[str, float]:
    """What the run costs at list prices (``prices.toml``); storage and logs are not in it."""
    stored = forecast.stored[-1]
    sends = forecast.arrived[-1] + forecast.transitions / 4
    units = math.ceil(event_bytes / 1024) + INDEX_UNITS
    requests = sends + 2 * forecast.receives / system.batch_size * math.ceil(system.batch_size * event_bytes / 65_536)
    seconds = forecast.receives / system.batch_size * system.seconds_per_batch
    return {
        "buses": (forecast.arrived[-1] + stored) * PRICES["eventbridge"]["event"],
        "queue": requests * PRICES["sqs"]["request"],
        "Lambda": forecast.invocations * PRICES["lambda"]["request"]
        + seconds * MEMORY_GB * PRICES["lambda"]["gigabyte_second"],
        "tables": (stored * units + 2 * forecast.failures) * PRICES["dynamodb"]["write_unit"],
        "triage": forecast.transitions * PRICES["stepfunctions"]["transition"]
        + forecast.executions * PRICES["s3"]["write"],
    }


def genesys_calls_per_minute(
    rate: float, system: System, users: int, *, share: float = 0.6, ttl: float = 3_600
) -> float:
    """Bulk look-ups a minute when the caches have filled, for a steady rate of events in a second.

    Every environment keeps its own cache. A pair of environment and user expires ``ttl`` seconds after it was asked for
    and is asked for again at the next event that names it; a batch asks once for all that it misses.
    """
    pairs = system.concurrency * users
    named = rate * share
    misses = pairs / (ttl + pairs / named) / rate
    return 60 * rate / system.batch_size * (1 - (1 - misses) ** system.batch_size)


# -- against the engine --------------------------------------------------------------------------------------------


def error_against_the_engine(measured: Mapping[str, float]) -> float:
    """By how much the model's drain time is off, as a share of what the burst on the engine took.

    ``measured`` is what ``burst.json`` says of the burst whose batches wait for Genesys. The engine has all slots at
    once, where Lambda adds them.
    """
    system = System(
        concurrency=int(measured["limit"]),
        batch_size=math.ceil(measured["events_per_batch"]),
        seconds_per_batch=measured["seconds_per_batch"],
        first_slots=measured["limit"],
    )
    step = 0.05
    forecast = simulate(
        lambda now: measured["events"] / step if now == 0 else 0.0,
        system,
        seconds=4 * measured["events"] / system.events_per_second,
        step=step,
    )
    return forecast.drained_after(0) / measured["drain_seconds"] - 1


# -- the command ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Forecast one burst and print what it does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--rate", type=float, default=10_000, help="events a minute (10000)")
    parser.add_argument("--minutes", type=float, default=10, help="for how long they come (10)")
    parser.add_argument("--latency", type=float, default=80, help="milliseconds that a full batch takes (80)")
    parser.add_argument("--concurrency", type=int, default=10, help="MaxConcurrency (10)")
    parser.add_argument("--batch", type=int, default=10, help="BatchSize (10)")
    asked = parser.parse_args(arguments)
    system = System(concurrency=asked.concurrency, batch_size=asked.batch, seconds_per_batch=asked.latency / 1000)
    end = asked.minutes * 60
    need = asked.rate / 60 * end / system.events_per_second
    forecast = simulate(
        lambda now: asked.rate / 60 if now < end else 0.0,
        system,
        seconds=max(end, need) + 120,
        step=max(1.0, need / 9000),
    )
    for name, value in summary(forecast, system, end).items():
        print(f"{name:<36} {value}")
    return 0


def summary(forecast: Forecast, system: System, end: float) -> dict[str, Any]:
    """The figures that decide, as text."""
    bill = dollars(forecast, system)
    drained = forecast.drained_after(end)
    return {
        "capacity, events a minute": f"{system.events_per_second * 60:,.0f}",
        "most that wait": f"{max(forecast.backlog):,.0f}",
        "oldest that waits, s": f"{max(forecast.age):,.0f}",
        "drained after the burst, s": "not within the run" if math.isinf(drained) else f"{drained:,.0f}",
        "most batches at once": f"{math.ceil(max(forecast.busy) - 1e-6)} of {system.concurrency}",
        "invocations": f"{forecast.invocations:,.0f}",
        "dollars": f"{sum(bill.values()):,.2f} ({', '.join(f'{name} {part:,.2f}' for name, part in bill.items())})",
    }


if __name__ == "__main__":
    sys.exit(main())
