"""Forecast backlog, delay and cost for any arrival curve: ``make capacity RATE=… LATENCY=… CONCURRENCY=…``.

A fluid model of the pipeline with fixed time steps. Events arrive in the buffer, and the event source mapping receives
them in batches. A failed event waits its backoff and is received again. After ``max_receives`` it becomes a dead
letter, and triage redrives it after a wait that grows by a factor of four. The model moves amounts of events between
states, so its run time does not depend on the rate. Random waits are spread evenly over their range.

The circuit breaker of the pipeline pauses processing for a given time; when, follows from the outage.

Not modelled: order (SQS has none), single slow batches, and cold starts other than Lambda's gradual scaling.
"""

from __future__ import annotations

import argparse
import math
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.cost import INDEX_UNITS, MEMORY_GB, PRICES, incident, transitions
from holdfast.domain.circuit_breaker import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS

#: Events per second, as a function of the seconds since the start.
Arrivals = Callable[[float], float]

#: Five batches at once, up to 300 more a minute: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
INITIAL_CONCURRENCY, CONCURRENCY_PER_SECOND = 5.0, 300 / 60
#: Messages that are received and not deleted. Those that wait their backoff count too:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
IN_FLIGHT = 120_000
#: The lower of what the failure path is measured to reach (results/latest.json) and its quota in the smaller regions,
#: 150 StartExecution a second: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
INTAKE_PER_SECOND = 150.0
#: A partition of the events table takes 1,000 write units a second and has one shard:
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
WRITES_PER_SHARD = 1_000
#: Events that FanOutFunction publishes per second and shard, as measured (results/latest.json), rounded down.
FAN_OUT_PER_SHARD = 1_500
#: PutEvents entries a second in us-east-1: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
PUT_EVENTS_PER_SECOND = 10_000
#: Letters that the sweeps of a day decide on, as simulated (results/latest.json), rounded down.
SWEEP_PER_DAY = 100_000
#: The map replays so many letters at once (statemachine/replay.asl.json). One takes about ten seconds: two children's
#: Lambda calls, and a triage execution with one redrive through the buffer.
REPLAY_CONCURRENCY, REPLAY_SECONDS = 20, 10.0
#: The circuit breaker of the Genesys client stays open for up to 30 s (adapters/genesys/breaker.py). An event that
#: fails meanwhile becomes visible when it closes, at the earliest.
BREAKER_SECONDS = 30.0
#: From the first failure to the pause of processing by the circuit breaker of the pipeline, as measured: at most 2.5
#: periods of its alarm, which are a minute each (results/outage.json).
OPENS_AFTER_SECONDS = 150.0
#: The mean of the circuit breaker's jitter: up to half of each wait is random.
MEAN_JITTER = 0.75
#: A random wait is modelled as this many equal parts of its range.
SPREAD = 8
#: A campaign launch.
LAUNCH_SECONDS = 600.0
#: Fewer events than this are a rounding error.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class System:
    """The parameters of the template that limit the throughput, with its defaults, and the duration of a batch.

    ``seconds_per_batch`` is for a full batch, from receive to delete: ``BatchLatency`` and the overhead of Lambda.
    """

    concurrency: int = 10
    batch_size: int = 10
    seconds_per_batch: float = 0.08
    batch_window: float = 5.0
    max_receives: int = 5
    backoff_base: float = 3.0
    backoff_cap: float = 300.0
    retry_base: float = 120.0
    retry_cap: float = 21_600.0
    max_retries: int = 5
    initial_concurrency: float = INITIAL_CONCURRENCY

    @property
    def events_per_second(self) -> float:
        """The throughput at full concurrency."""
        return self.concurrency * self.batch_size / self.seconds_per_batch

    def backoff(self, receive: int) -> tuple[float, float]:
        """The shortest and longest wait after a failed receive: half is jitter; the breaker's time comes first."""
        bound = min(self.backoff_cap, self.backoff_base * 4.0 ** (receive - 1))
        return max(1.0, bound / 2), BREAKER_SECONDS + bound

    def redrive_wait(self, redrives: int) -> tuple[float, float]:
        """The shortest and longest wait of triage before a redrive. Half of it is jitter."""
        longest = min(self.retry_cap, self.retry_base * 4.0**redrives)
        return longest / 2, longest


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which Genesys cannot look up users.

    ``affected`` is the share of events that fail: with EnrichmentPolicy ``required`` those that name users, with
    ``best-effort`` none.
    """

    begins: float
    ends: float
    affected: float

    def failing(self, now: float, *, first_receive: bool) -> float:
        """The share of events that fail now. An event that failed before fails again until the outage ends."""
        if not self.begins <= now < self.ends:
            return 0.0
        return self.affected if first_receive or not self.affected else 1.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which the circuit breaker of the pipeline keeps processing paused, and its number of probes."""

    begins: float
    ends: float
    probes: int

    @classmethod
    def in_outage(cls, outage: Outage, failure_percent: float = 90) -> Pause | None:
        """The pause in an outage: until the first probe after its end. A wait counts with the mean of its jitter.

        The alarm counts receives. Retries and redrives raise the share of receives that fail above that of events, so
        the circuit can open although fewer events fail. Such pauses are short and not modelled.

        Returns:
            ``None`` if too few events fail for a pause as long as the outage, or the outage is over before it begins.
        """
        begins = outage.begins + OPENS_AFTER_SECONDS
        if 100 * outage.affected < failure_percent or outage.ends <= begins:
            return None
        probes, now, wait = 0, begins, FIRST_WAIT_SECONDS
        while now < outage.ends:
            probes, now, wait = probes + 1, now + MEAN_JITTER * wait, min(2 * wait, LONGEST_WAIT_SECONDS)
        return cls(begins, now, probes)

    @property
    def transitions(self) -> int:
        """State transitions of the circuit breaker's execution."""
        return transitions(incident(self.probes), "circuit_breaker")


@dataclass(slots=True)
class Forecast:
    """The result: lists hold one value for each step, numbers are totals. ``age`` is in seconds, the rest in events."""

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
    breaker_transitions: float = 0.0

    @property
    def in_progress(self) -> list[float]:
        """Events that are neither stored nor archived."""
        return [sum(parts) for parts in zip(self.backlog, self.in_flight, self.dead, self.triage, strict=True)]

    def drained_after(self, moment: float) -> float:
        """Seconds from then until no event is in progress; infinite if one still is at the end."""
        in_progress = self.in_progress
        if in_progress[-1] >= 1:
            return math.inf
        last = max((now for now, amount in zip(self.times, in_progress, strict=True) if amount >= 1), default=0.0)
        return max(0.0, last - moment)


def simulate(
    arrivals: Arrivals,
    system: System,
    outage: Outage | None = None,
    pause: Pause | None = None,
    *,
    seconds: float,
    step: float = 1.0,
) -> Forecast:
    """Run the model for this many seconds. The few events of probes are not counted in a pause."""
    forecast = Forecast(step, breaker_transitions=pause.transitions if pause else 0.0)
    run = _Simulation(system, outage or Outage(0, 0, 0), pause or Pause(0, 0, 0), forecast)
    for number in range(round(seconds / step)):
        run.advance(number, arrivals(number * step) * step)
    return run.forecast


#: Events are grouped by redrives so far and by the number of their next receive.
_Group = tuple[int, int]
_NEW: _Group = (0, 1)


class _Simulation:
    """The state between two steps."""

    def __init__(self, system: System, outage: Outage, pause: Pause, forecast: Forecast) -> None:
        self.forecast = forecast
        self._system = system
        self._outage = outage
        self._pause = pause
        self._ready: defaultdict[_Group, float] = defaultdict(float)
        #: Step number → what becomes ready then.
        self._due: defaultdict[int, defaultdict[_Group, float]] = defaultdict(lambda: defaultdict(float))
        self._dead: defaultdict[int, float] = defaultdict(float)
        self._in_backoff = 0.0
        self._in_triage = 0.0
        self._concurrency = system.initial_concurrency
        self._started = 0.0
        self._stored = 0.0

    def advance(self, number: int, new: float) -> None:
        now = number * self.forecast.step
        for group, amount in self._due.pop(number, {}).items():
            self._ready[group] += amount
            if group[1] > 1:
                self._in_backoff -= amount
            else:
                self._in_triage -= amount
        self._ready[_NEW] += new
        served = self._process(now, new)
        self._take_in(now)
        self._record(now, new, served)

    def _process(self, now: float, new: float) -> float:
        """Process batches for one step. Returns the number of events received."""
        system, forecast = self._system, self.forecast
        if self._pause.begins <= now < self._pause.ends:
            self._concurrency = system.initial_concurrency
            return 0.0
        ready = sum(self._ready.values())
        concurrency = min(self._concurrency, system.concurrency)
        capacity = concurrency * system.batch_size / system.seconds_per_batch * forecast.step
        served = min(ready, capacity, self._room_in_flight(now, concurrency))
        full = ready > capacity
        if full:
            self._concurrency = min(system.concurrency, self._concurrency + CONCURRENCY_PER_SECOND * forecast.step)
        gathered = new / forecast.step * system.batch_window / INITIAL_CONCURRENCY
        batch = system.batch_size if full else min(system.batch_size, max(1.0, gathered))
        forecast.receives += served
        forecast.invocations += served / batch
        for group, amount in list(self._ready.items()):
            redrives, receive = group
            taken = amount * served / ready if ready else 0.0
            self._ready[group] = amount - taken
            if group == _NEW:
                self._started += taken
            failed = taken * self._failing(now, group)
            self._stored += taken - failed
            self._fail(now, redrives, receive, failed)
            if redrives:
                forecast.transitions += 4 * (taken - failed)  # Classify, Decide, SettleRecovered, Recovered
        return served

    def _room_in_flight(self, now: float, concurrency: float) -> float:
        """How many events may be received so that the failing ones stay within the limit of messages in flight."""
        failing = sum(amount * self._failing(now, group) for group, amount in self._ready.items())
        room = max(0.0, IN_FLIGHT - concurrency * self._system.batch_size - self._in_backoff)
        return room / failing * sum(self._ready.values()) if failing else math.inf

    def _failing(self, now: float, group: _Group) -> float:
        return self._outage.failing(now, first_receive=group == _NEW)

    def _fail(self, now: float, redrives: int, receive: int, amount: float) -> None:
        self.forecast.failures += amount
        if not amount:
            return
        if receive < self._system.max_receives:
            self._in_backoff += amount
            self._delay(now, self._system.backoff(receive), (redrives, receive + 1), amount)
        else:
            self._dead[redrives] += amount

    def _take_in(self, now: float) -> None:
        """Move dead letters into triage for one step, and let triage decide on them."""
        dead = sum(self._dead.values())
        capacity = min(dead, INTAKE_PER_SECOND * self.forecast.step)
        for redrives, amount in list(self._dead.items()):
            taken = amount * capacity / dead if dead else 0.0
            self._dead[redrives] = amount - taken
            if not redrives:
                self.forecast.executions += taken
                self.forecast.transitions += taken
            if redrives >= self._system.max_retries:
                self.forecast.archived += taken
                self.forecast.transitions += 5 * taken  # Classify, Decide, Archive, SettleArchived, Archived
            elif taken:
                self.forecast.transitions += 4 * taken  # Classify, Decide, BackOff, Redrive
                self._in_triage += taken
                self._delay(now, self._system.redrive_wait(redrives), (redrives + 1, 1), taken)

    def _delay(self, now: float, window: tuple[float, float], group: _Group, amount: float) -> None:
        shortest, longest = window
        step = self.forecast.step
        for part in range(SPREAD):
            wait = shortest + (longest - shortest) * (part + 0.5) / SPREAD
            number = max(round((now + wait) / step), round(now / step) + 1)
            self._due[number][group] += amount / SPREAD

    def _record(self, now: float, new: float, served: float) -> None:
        forecast, system = self.forecast, self._system
        end = now + forecast.step
        forecast.times.append(end)
        forecast.arrived.append((forecast.arrived[-1] if forecast.arrived else 0.0) + new)
        forecast.backlog.append(sum(self._ready.values()))
        forecast.in_flight.append(self._in_backoff)
        forecast.dead.append(sum(self._dead.values()))
        forecast.triage.append(self._in_triage)
        forecast.stored.append(self._stored)
        # Little's law: batches at once are batches per second times seconds per batch.
        forecast.busy.append(served / forecast.step * system.seconds_per_batch / system.batch_size)
        # The oldest event that has not started arrived in the step in which the arrivals exceeded what has started.
        oldest = bisect_left(forecast.arrived, self._started + ROUNDING)
        forecast.age.append(max(0.0, end - (oldest + 1) * forecast.step) if self._ready[_NEW] > ROUNDING else 0.0)


# -- cost and load on Genesys Cloud --------------------------------------------------------------------------------


def dollars(forecast: Forecast, system: System, event_bytes: int = 2_048) -> dict[str, float]:
    """The cost at list prices (``prices.toml``), without storage and logs. Triage includes the circuit breaker."""
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
        "triage": (forecast.transitions + forecast.breaker_transitions) * PRICES["stepfunctions"]["transition"]
        + forecast.executions * PRICES["s3"]["write"],
    }


def genesys_calls_per_minute(
    rate: float, system: System, users: int, *, share: float = 0.6, ttl: float = 3_600
) -> float:
    """Bulk look-ups a minute with warm caches, at a steady rate of events per second.

    Every execution environment has its own cache. A cached user expires after ``ttl`` seconds and is looked up again
    when the next event names it. A batch looks up all users that it misses in one request.
    """
    pairs = system.concurrency * users
    named = rate * share
    misses = pairs / (ttl + pairs / named) / rate
    return 60 * rate / system.batch_size * (1 - (1 - misses) ** system.batch_size)


# -- fan-out, sweep and replay -------------------------------------------------------------------------------------


def fan_out_per_second(rate: float, event_bytes: int = 2_048) -> float:
    """Events per second that the fan-out can publish, while so many are stored per second.

    The table splits into as many partitions as its writes need, and the stream has a shard for each.
    """
    shards = max(1, math.ceil(rate * math.ceil(event_bytes / 1024) / WRITES_PER_SHARD))
    return float(min(shards * FAN_OUT_PER_SHARD, PUT_EVENTS_PER_SECOND))


def sweep_days(snapshots: float) -> float:
    """Days until the sweeps have decided on so many snapshots whose executions have all ended."""
    return snapshots / SWEEP_PER_DAY


def replay_hours(letters: float) -> float:
    """Hours of a replay of so many letters."""
    return letters * REPLAY_SECONDS / REPLAY_CONCURRENCY / 3_600


# -- comparison with the local engine ------------------------------------------------------------------------------


def error_against_the_engine(measured: Mapping[str, float]) -> float:
    """The relative error of the model's drain time.

    ``measured`` is the entry ``slow`` of ``burst.json``. The engine starts with full concurrency.
    """
    system = System(
        concurrency=int(measured["limit"]),
        batch_size=math.ceil(measured["events_per_batch"]),
        seconds_per_batch=measured["seconds_per_batch"],
        initial_concurrency=measured["limit"],
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
    """Forecast a launch of ten minutes and print the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--rate", type=float, default=10_000, help="events a minute (10000)")
    parser.add_argument("--latency", type=float, default=80, help="milliseconds of a full batch (80)")
    parser.add_argument("--concurrency", type=int, default=10, help="MaxConcurrency (10)")
    parser.add_argument("--batch", type=int, default=10, help="BatchSize (10)")
    options = parser.parse_args(arguments)
    system = System(concurrency=options.concurrency, batch_size=options.batch, seconds_per_batch=options.latency / 1000)
    need = options.rate / 60 * LAUNCH_SECONDS / system.events_per_second
    forecast = simulate(
        lambda now: options.rate / 60 if now < LAUNCH_SECONDS else 0.0,
        system,
        seconds=max(LAUNCH_SECONDS, need) + 120,
        step=max(1.0, need / 9000),
    )
    bill = dollars(forecast, system)
    drained = forecast.drained_after(LAUNCH_SECONDS)
    busiest = max(new - old for old, new in pairwise([0.0, *forecast.stored])) / forecast.step
    figures = {
        "capacity, events a minute": f"{system.events_per_second * 60:,.0f}",
        "largest backlog, events": f"{max(forecast.backlog):,.0f}",
        "longest delay, s": f"{max(forecast.age):,.0f}",
        "drained after the burst, s": "not within the run" if math.isinf(drained) else f"{drained:,.0f}",
        "concurrency used": f"{math.ceil(max(forecast.busy) - 1e-6)} of {system.concurrency}",
        "fan-out, events a minute": f"{fan_out_per_second(busiest) * 60:,.0f} of {busiest * 60:,.0f} stored",
        "invocations": f"{forecast.invocations:,.0f}",
        "dollars": f"{sum(bill.values()):,.2f} ({', '.join(f'{name} {part:,.2f}' for name, part in bill.items())})",
    }
    for name, value in figures.items():
        print(f"{name:<36} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
