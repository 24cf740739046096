"""The circuit breaker of the whole pipeline: who owns it, how long it waits, and what a probe shows.

*Open* means that the event source mapping of the processor is disabled, so that nothing is received from the buffer.
An execution of ``circuit_breaker.asl.json`` opens the circuit, probes the processor with a few messages, and closes the
circuit after a healthy probe. This module decides; it never changes the mapping.

Several executions can run at the same time, because an alarm and a person can both start one. Of those that have opened
the circuit, the one that started last owns it. An execution ends without closing the circuit only while a later one
owns it, so that an open circuit always has an owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from holdfast.domain.envelope import format_time
from holdfast.domain.errors import InvalidInput, TransientError
from holdfast.domain.ports import Clock, Rng

#: The wait before the first probe, and the longest wait. It doubles after every probe that is not healthy.
FIRST_WAIT_SECONDS = 60
LONGEST_WAIT_SECONDS = 900
#: An incident that begins within this time after the last one starts with the wait at which that one ended.
SAME_INCIDENT = timedelta(hours=1)
#: The first probe message shows whether the processor works. Only then are more events put at risk.
PROBE_SIZES = (1, 10)


class MappingState(StrEnum):
    """The state of the processor's event source mapping."""

    RUNNING = "running"
    #: It was enabled, and Lambda has not started its pollers yet.
    STARTING = "starting"
    PAUSED = "paused"
    MISSING = "missing"


class NextStep(StrEnum):
    """What the state machine does next."""

    OPEN = "open"
    WAIT = "wait"
    CLOSE = "close"
    RESUMING = "resuming"
    ANNOUNCE = "announce"
    END = "end"


class BreakerOutcome(StrEnum):
    """How an execution of the circuit breaker ended."""

    #: A probe was healthy, or there was nothing to probe. The execution resumed processing.
    CLOSED = "CLOSED"
    #: Something else resumed processing: a person, or a deployment.
    RESUMED_BY_HAND = "RESUMED_BY_HAND"
    #: Processing was already paused when the execution started.
    ALREADY_OPEN = "ALREADY_OPEN"
    #: An execution that started later has opened the circuit and owns it now.
    SUPERSEDED = "SUPERSEDED"
    #: The circuit was open for CircuitBreakerMaxHours. The execution resumed processing.
    MAX_HOURS_REACHED = "MAX_HOURS_REACHED"
    #: The event source mapping does not exist: before the circuit opened, or when it was to be closed.
    MAPPING_MISSING = "MAPPING_MISSING"


@dataclass(frozen=True, slots=True)
class BreakerExecution:
    """One execution of the circuit breaker.

    Attributes:
        arn: Its ARN.
        started_at: When it started.
        manual: Whether a person started it.
        opened: Whether it has entered the state Open, which disables the mapping.
    """

    arn: str
    started_at: datetime
    manual: bool = False
    opened: bool = False

    def started_after(self, other: BreakerExecution) -> bool:
        """Whether it started later. Of two that started at the same moment, the name decides."""
        return (self.started_at, self.arn) > (other.started_at, other.arn)


@dataclass(frozen=True, slots=True)
class LastIncident:
    """The last incident that is over: when it ended, and its last wait in seconds."""

    ended_at: datetime
    wait_seconds: int


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the processor did with the messages of a probe.

    Attributes:
        received: Messages that were handed to the processor.
        stored: Events that the events table holds now, duplicates included.
        failed_for_now: Events that failed transiently, by a wrong setting or by an unknown error, and all messages of
            an invocation that ended in an error.
        failed_for_good: Messages that no retry can help.
        buffer_empty: Whether the buffer held no message, visible or not.
        error: What went wrong with the probe; empty if nothing did.
    """

    received: int = 0
    stored: int = 0
    failed_for_now: int = 0
    failed_for_good: int = 0
    buffer_empty: bool = False
    error: str = ""

    def __add__(self, other: ProbeResult) -> ProbeResult:
        """Both together. The buffer was empty only if it was empty at the first receive."""
        return ProbeResult(
            self.received + other.received,
            self.stored + other.stored,
            self.failed_for_now + other.failed_for_now,
            self.failed_for_good + other.failed_for_good,
            self.buffer_empty,
            self.error or other.error,
        )

    def healthy(self, failure_percent: int) -> bool:
        """Whether processing can resume: an event was stored and few failed for now, or there is nothing to process."""
        if self.buffer_empty:
            return True
        return self.stored > 0 and 100 * self.failed_for_now < failure_percent * self.received

    def as_json(self, failure_percent: int) -> dict[str, Any]:
        """Counts only: an execution shows nothing of an event."""
        return {
            "received": self.received,
            "stored": self.stored,
            "failedForNow": self.failed_for_now,
            "failedForGood": self.failed_for_good,
            "bufferEmpty": self.buffer_empty,
            "error": self.error,
            "healthy": self.healthy(failure_percent),
        }


class ProcessorMapping(Protocol):
    """The event source mapping of the processor."""

    def read_state(self) -> MappingState:
        """Read whether the processor receives from the buffer."""


class BreakerExecutions(Protocol):
    """The executions of the circuit breaker's state machine."""

    def others(self, execution_arn: str) -> Sequence[BreakerExecution]:
        """The other executions of this execution's state machine that run. ``manual`` is not set."""

    def last_incident(self, execution_arn: str) -> LastIncident | None:
        """The last one that a healthy probe ended, if it is among the newest executions."""


class Prober(Protocol):
    """Hands messages of the buffer to the processor."""

    def probe(self, messages: int) -> ProbeResult:
        """Receive at most so many messages, let the processor work on them, and delete those that it processed."""


@dataclass(frozen=True, slots=True)
class BreakerInput:
    """The data of an execution.

    Attributes:
        execution: The execution.
        opened_at: When it opened the circuit; ``None`` before that.
        wait_seconds: The wait before the next probe, without jitter.
        probes: How many probes there were.
    """

    execution: BreakerExecution
    opened_at: datetime | None = None
    wait_seconds: int = FIRST_WAIT_SECONDS
    probes: int = 0

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> BreakerInput:
        """Read the data of a state.

        Raises:
            InvalidInput: The execution is missing, or a field has the wrong type.
        """
        try:
            execution = BreakerExecution(
                str(data["execution"]), datetime.fromisoformat(data["startedAt"]), data.get("manual") is True
            )
            opened_at = data.get("openedAt")
            return cls(
                execution=execution,
                opened_at=datetime.fromisoformat(opened_at) if opened_at else None,
                wait_seconds=int(data.get("waitSeconds", FIRST_WAIT_SECONDS)),
                probes=int(data.get("probes", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"the input of the circuit breaker cannot be read: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """Decides each step of an execution.

    Attributes:
        mapping: The event source mapping of the processor.
        executions: The executions of the state machine.
        prober: Probes the processor.
        failure_percent: From this share of failures for now on, a probe is not healthy.
        max_hours: After this many hours the circuit closes whatever a probe shows: SQS deletes messages after 14 days.
        clock: The time.
        rng: Source of randomness.
    """

    mapping: ProcessorMapping
    executions: BreakerExecutions
    prober: Prober
    failure_percent: int
    max_hours: int
    clock: Clock
    rng: Rng

    def inspect(self, breaker: BreakerInput) -> dict[str, Any]:
        """Decide whether this execution opens the circuit.

        It does if processing runs. If processing is paused, only an execution that a person started takes over. One
        that an alarm started ends: it would later resume a pause that is not its own.
        """
        state = self.mapping.read_state()
        if state is MappingState.MISSING:
            return self._end(BreakerOutcome.MAPPING_MISSING)
        if state is MappingState.PAUSED and not breaker.execution.manual:
            return self._end(BreakerOutcome.ALREADY_OPEN)
        wait = self._first_wait(breaker)
        return {"step": NextStep.OPEN, "openedAt": format_time(self.clock()), **self._next_probe(wait, breaker)}

    def check(self, breaker: BreakerInput) -> dict[str, Any]:
        """Decide after a wait whether the circuit stays open. Probe the processor unless a person paused it."""
        state = self.mapping.read_state()
        if state in {MappingState.RUNNING, MappingState.STARTING}:
            return {"step": NextStep.ANNOUNCE, "outcome": BreakerOutcome.RESUMED_BY_HAND}
        if self._superseded(breaker):
            return self._end(BreakerOutcome.SUPERSEDED)
        if self.hours_open(breaker) >= self.max_hours:
            return {"step": NextStep.CLOSE, "outcome": BreakerOutcome.MAX_HOURS_REACHED}
        # One answer that the mapping does not exist can be wrong, and processing would stay paused. Close ends the
        # execution if the mapping is still missing then.
        if state is MappingState.MISSING or breaker.execution.manual:
            return {"step": NextStep.WAIT, **self._next_probe(LONGEST_WAIT_SECONDS, breaker)}
        return self._probed(breaker)

    def confirm(self, breaker: BreakerInput) -> dict[str, Any]:
        """Decide after the mapping was enabled whether processing runs. Another execution may have paused it again."""
        state = self.mapping.read_state()
        if state is MappingState.RUNNING:
            return {"step": NextStep.ANNOUNCE}
        if state is MappingState.STARTING:
            return {"step": NextStep.RESUMING}
        return self._end(BreakerOutcome.SUPERSEDED) if self._superseded(breaker) else {"step": NextStep.CLOSE}

    def hours_open(self, breaker: BreakerInput) -> float:
        """How long the circuit has been open."""
        return (self.clock() - (breaker.opened_at or self.clock())) / timedelta(hours=1)

    def _probed(self, breaker: BreakerInput) -> dict[str, Any]:
        """Probe the processor. A healthy probe closes the circuit, any other one doubles the wait."""
        probe = self._probe()
        probed = replace(breaker, probes=breaker.probes + 1)
        shown = {"probes": probed.probes, "probe": probe.as_json(self.failure_percent)}
        if probe.healthy(self.failure_percent):
            return {"step": NextStep.CLOSE, "outcome": BreakerOutcome.CLOSED, **shown}
        wait = min(2 * breaker.wait_seconds, LONGEST_WAIT_SECONDS)
        return {"step": NextStep.WAIT, **self._next_probe(wait, probed), **shown}

    def _superseded(self, breaker: BreakerInput) -> bool:
        """Whether an execution that started later has opened the circuit: it owns it now."""
        others = self.executions.others(breaker.execution.arn)
        return any(one.opened and one.started_after(breaker.execution) for one in others)

    def _first_wait(self, breaker: BreakerInput) -> int:
        last = self.executions.last_incident(breaker.execution.arn)
        if last and self.clock() - last.ended_at < SAME_INCIDENT:
            return min(max(last.wait_seconds, FIRST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return FIRST_WAIT_SECONDS

    def _next_probe(self, wait: int, breaker: BreakerInput) -> dict[str, Any]:
        """The wait, and its equal jitter: stacks that share an upstream do not probe it at the same moment."""
        seconds = LONGEST_WAIT_SECONDS if breaker.execution.manual else round(wait / 2 * (1 + self.rng()))
        return {
            "waitSeconds": wait,
            "delaySeconds": seconds,
            "nextProbeAt": format_time(self.clock() + timedelta(seconds=seconds)),
            "probes": breaker.probes,
        }

    def _probe(self) -> ProbeResult:
        """Probe with one message, then with more if its event was stored or no retry could help it."""
        first, more = PROBE_SIZES
        try:
            found = self.prober.probe(first)
            if found.received and not found.failed_for_now:
                found += self.prober.probe(more)
        except TransientError as error:
            return ProbeResult(error=type(error).__name__)
        return found

    @staticmethod
    def _end(outcome: BreakerOutcome) -> dict[str, Any]:
        return {"step": NextStep.END, "outcome": outcome}
