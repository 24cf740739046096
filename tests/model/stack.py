"""A model of the deployed stack: what SQS, Lambda, the table's stream and the functions publish, minute by minute.

It follows the documentation of AWS where a metric is not what its name says:

- SQS leaves a message out of ``ApproximateAgeOfOldestMessage`` after three receives.
- Lambda publishes ``Errors`` and ``Duration`` for an invocation that ended, and ``Throttles`` for one that did not start.
- Lambda publishes ``IteratorAge`` at the end of a batch of a stream. A mapping that is disabled or throttled publishes
  none.
- ``ExecutionsStarted`` counts first starts. A message that dies again resumes its execution.
- Our functions publish no zeros.

Sources:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from holdfast.domain.backoff import visibility_seconds
from tests.model.cloudwatch import Metrics

STEP = 10
MINUTE = 60
HOUR = 60 * MINUTE
BUFFER_VISIBILITY = 480
DLQ_VISIBILITY = 360
MAX_RECEIVES = 5
MAX_REDRIVES = 5
BATCH = 10
#: The defaults of CircuitBreakerMinEvents and CircuitBreakerFailurePercent.
MIN_EVENTS, FAILURE_PERCENT = 50, 90
#: The age of the oldest message leaves out a message after this many receives.
RECEIVES_WITH_AGE = 2


class Fault(Enum):
    """What goes wrong in an incident."""

    GENESYS_DOWN = auto()
    GENESYS_SLOW = auto()
    SECRET_WRONG = auto()
    TABLE_DENIED = auto()
    PROCESSOR_CRASHES = auto()
    PROCESSOR_THROTTLED = auto()
    BUFFER_MAPPING_DISABLED = auto()
    LOOP_DETECTED = auto()
    INTAKE_CRASHES = auto()
    INTAKE_THROTTLED = auto()
    BUCKET_DENIES_INTAKE = auto()
    TRIAGE_MACHINE_MISSING = auto()
    DLQ_MAPPING_DISABLED = auto()
    CLASSIFY_THROTTLED = auto()
    EXECUTION_FAILS = auto()
    EXECUTION_TIMES_OUT = auto()
    EXECUTION_ABORTED = auto()
    RETRIES_USED_UP = auto()
    FAN_OUT_CRASHES = auto()
    FAN_OUT_THROTTLED = auto()
    FAN_OUT_MAPPING_DISABLED = auto()
    FAN_OUT_SLOW = auto()
    FOREIGN_ITEM = auto()
    BUS_DENIES = auto()
    BUFFER_DENIES_EVENTBRIDGE = auto()
    QUEUES_DENY_EVENTBRIDGE = auto()
    SWEEP_FAILS = auto()
    SNAPSHOT_WITHOUT_EXECUTION = auto()
    SNAPSHOT_TOO_OLD = auto()
    SCHEDULE_FAILS = auto()
    EXECUTIONS_NEAR_LIMIT = auto()
    GENESYS_HALF_DOWN = auto()
    PAUSED_FOR_A_DAY = auto()
    PAUSED_NEARLY_TOO_LONG = auto()
    BREAKER_FAILS = auto()
    BREAKER_TIMES_OUT = auto()
    BREAKER_ABORTED = auto()


#: An execution that ends without an outcome: the metric and the state machine.
ENDS = {
    Fault.EXECUTION_FAILS: ("ExecutionsFailed", "TriageStateMachine"),
    Fault.EXECUTION_TIMES_OUT: ("ExecutionsTimedOut", "TriageStateMachine"),
    Fault.EXECUTION_ABORTED: ("ExecutionsAborted", "TriageStateMachine"),
    Fault.BREAKER_FAILS: ("ExecutionsFailed", "CircuitBreakerStateMachine"),
    Fault.BREAKER_TIMES_OUT: ("ExecutionsTimedOut", "CircuitBreakerStateMachine"),
    Fault.BREAKER_ABORTED: ("ExecutionsAborted", "CircuitBreakerStateMachine"),
}


class Kind(Enum):
    """How an event behaves."""

    VALID = auto()
    INVALID_BODY = auto()
    CRASHES_PROCESSOR = auto()
    CRASHES_INTAKE = auto()
    LEFT_BY_INTAKE = auto()
    REDRIVEN = auto()


#: Events that are no JSON. The processor refuses them, and they become dead letters at once.
REFUSED = {Kind.INVALID_BODY, Kind.CRASHES_INTAKE, Kind.LEFT_BY_INTAKE}


@dataclass(slots=True, eq=False)
class Execution:
    """A triage execution: its event's kind and its redrives."""

    kind: Kind
    redrives: int = 0


@dataclass(slots=True, eq=False)
class Message:
    """A message of the buffer or the dead-letter queue."""

    kind: Kind
    sent: int
    visible_at: int
    receives: int = 0
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """The parameters of the stack and the traffic that an incident needs.

    Attributes:
        events_per_minute: Valid events. A fraction means one event every few minutes.
        required: Whether EnrichmentPolicy is required.
        max_receives: MaxReceiveCount.
        retry_seconds: The wait of a failed message, if the upstream asks for one.
        capacity: Messages that the processor takes in 10 seconds.
        intake_capacity: Dead letters that the intake takes in 10 seconds.
        stream_attempts: Attempts of the fan-out's mapping until it gives up, one a minute.
    """

    events_per_minute: float = 6
    required: bool = False
    max_receives: int = MAX_RECEIVES
    retry_seconds: int = 0
    capacity: int = 50
    intake_capacity: int = 100
    stream_attempts: int = 21


@dataclass(slots=True)
class Counts:
    """What the circuit breaker's alarm reads of one minute."""

    first: int = 0
    received: int = 0
    failed_for_now: int = 0
    invocations: int = 0
    errors: int = 0

    @property
    def everything_failed(self) -> bool:
        """Whether the alarm's conditions hold, with the default parameters."""
        events = self.first >= MIN_EVENTS and 100 * self.failed_for_now >= FAILURE_PERCENT * self.received
        # Without an invocation the metrics have no data, and CloudWatch computes nothing.
        invocations = self.received >= MIN_EVENTS and 100 * self.errors >= FAILURE_PERCENT * self.invocations > 0
        return events or invocations


@dataclass(slots=True)
class Breaker:
    """The circuit breaker: it opens after two minutes in which everything failed, and probes after each wait."""

    open: bool = False
    _failed_before: bool = False
    _opened_at: int = 0
    _next_probe: int = 0
    _wait: int = MINUTE

    def minute(self, counts: Counts, now: int) -> None:
        """Open the circuit at the end of a minute, if it has to be."""
        failed = counts.everything_failed
        if not self.open and failed and self._failed_before:
            self.open, self._opened_at, self._wait = True, now, MINUTE
            self._next_probe = now + self._wait
        self._failed_before = failed

    def probes(self, now: int) -> bool:
        """Whether the wait is over."""
        return now >= self._next_probe

    def probed(self, now: int, *, healthy: bool) -> None:
        """Close the circuit after a healthy probe, or double the wait."""
        self.open = not healthy
        self._wait = min(2 * self._wait, 15 * MINUTE)
        self._next_probe = now + self._wait

    def hours(self, now: int) -> float:
        """How long the circuit has been open."""
        return (now - self._opened_at) / HOUR


class Stack:
    """The stack during one incident. Time is in seconds and moves in steps."""

    def __init__(self, setting: Setting) -> None:
        self.metrics = Metrics()
        self._setting = setting
        self._faults: frozenset[Fault] = frozenset()
        self._now = 0
        self._due = 0.0
        self._buffer: list[Message] = []
        self._dead: list[Message] = []
        self._stream: list[int] = []
        self._stream_attempts = 0
        self._redrives: list[tuple[int, Execution]] = []
        self._unclassified: list[Execution] = []
        self._undeliverable_schedules = 0
        self._breaker = Breaker()
        #: Of this minute: events received, events that failed for now, invocations, and those that ended in an error.
        self._counts = Counts()

    def minute(self, faults: frozenset[Fault], others: Iterable[Kind] = ()) -> None:
        """Simulate one minute with these faults. Other events than the valid ones arrive at its beginning."""
        self._once(faults - self._faults)
        self._faults = faults
        for kind in others:
            self._arrives(kind)
        for _ in range(0, MINUTE, STEP):
            self._due += self._setting.events_per_minute * STEP / MINUTE
            while self._due >= 1:
                self._due -= 1
                self._arrives(Kind.VALID)
            self._triage()
            self._processor()
            self._intake()
            self._fan_out()
            self._now += STEP
        self._sample()
        self._breaker.minute(self._counts, self._now)
        self._counts = Counts()

    # -- metrics ---------------------------------------------------------------------------------------------------

    def _put(self, namespace: str, name: str, *owners: str, value: float = 1) -> None:
        self.metrics.put((namespace, name, owners), self._now // MINUTE, value)

    def _own(self, service: str, **counts: float) -> None:
        for name, value in counts.items():
            if value:
                self._put("own", name, service, value=value)

    def _invoked(self, function: str, *, failed: bool = False, milliseconds: float = 200) -> None:
        self._put("AWS/Lambda", "Invocations", function)
        self._put("AWS/Lambda", "Errors", function, value=int(failed))
        self._put("AWS/Lambda", "Duration", function, value=milliseconds)

    def _sample(self) -> None:
        """What SQS and Step Functions sample once a minute. A queue without messages and receives publishes nothing."""
        last = self._now // MINUTE - 1
        samples: dict[tuple[str, str, tuple[str, ...]], float] = {
            ("AWS/States", "OpenExecutionLimit", ()): 1_000_000,
            ("AWS/States", "OpenExecutionCount", ()): (
                850_000 if Fault.EXECUTIONS_NEAR_LIMIT in self._faults else len(self._redrives)
            ),
        }
        for queue, messages in (("BufferQueue", self._buffer), ("DeadLetterQueue", self._dead)):
            ages = [self._now - one.sent for one in messages if one.receives <= RECEIVES_WITH_AGE]
            visible = sum(one.visible_at <= self._now for one in messages)
            samples[("AWS/SQS", "ApproximateAgeOfOldestMessage", (queue,))] = max(ages, default=0)
            samples[("AWS/SQS", "ApproximateNumberOfMessagesVisible", (queue,))] = visible
            samples[("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", (queue,))] = len(messages) - visible
        if self._undeliverable_schedules:
            key = ("AWS/SQS", "ApproximateNumberOfMessagesVisible", ("OperationsDeadLetterQueue",))
            samples[key] = self._undeliverable_schedules
        for key, value in samples.items():
            self.metrics.put(key, last, value)

    # -- what happens once, or outside the pipeline -----------------------------------------------------------------

    def _once(self, begun: frozenset[Fault]) -> None:
        if Fault.SWEEP_FAILS in begun:
            self._invoked("EvidenceSweepFunction", failed=True)
        if Fault.SNAPSHOT_WITHOUT_EXECUTION in begun:
            self._own("evidence-sweep", SnapshotsAdopted=1, OldestSnapshotHours=40)
        if Fault.SNAPSHOT_TOO_OLD in begun:
            self._own("evidence-sweep", OldestSnapshotHours=40)
        if Fault.FOREIGN_ITEM in begun:
            self._own("fan-out", ItemsSetAside=1)
        if Fault.RETRIES_USED_UP in begun:
            self._own("archive", LettersGivenUp=1)
        for fault in ENDS.keys() & begun:
            name, machine = ENDS[fault]
            self._put("AWS/States", name, machine)
        if Fault.PAUSED_FOR_A_DAY in begun:
            self._own("circuit-breaker", ProcessingPaused=1, CircuitOpenHours=24, CircuitOpenPercentOfMaxHours=10)
        if Fault.PAUSED_NEARLY_TOO_LONG in begun:
            self._own("circuit-breaker", ProcessingPaused=1, CircuitOpenHours=216, CircuitOpenPercentOfMaxHours=90)
        self._undeliverable_schedules += Fault.SCHEDULE_FAILS in begun

    def _arrives(self, kind: Kind) -> None:
        if Fault.QUEUES_DENY_EVENTBRIDGE in self._faults:
            self._put("AWS/Events", "InvocationsFailedToBeSentToDlq", "EventBus", "EventRule")
        elif Fault.BUFFER_DENIES_EVENTBRIDGE in self._faults:
            self._dead.append(Message(kind, self._now, self._now))
        else:
            execution = Execution(Kind.VALID) if kind is Kind.REDRIVEN else None
            self._buffer.append(Message(kind, self._now, self._now, execution=execution))

    # -- the buffer and the processor --------------------------------------------------------------------------------

    def _processor(self) -> None:
        if Fault.BUFFER_MAPPING_DISABLED in self._faults:
            return
        if Fault.PROCESSOR_THROTTLED in self._faults and self._buffer:
            self._put("AWS/Lambda", "Throttles", "ProcessorFunction")
        due = [one for one in self._buffer if one.visible_at <= self._now]
        capacity = 1 if Fault.GENESYS_SLOW in self._faults else self._setting.capacity
        if self._breaker.open:
            if self._breaker.probes(self._now):
                self._probe(due)
            return
        for batch in _batches(due[:capacity]):
            self._process(self._received(batch))

    def _probe(self, due: list[Message]) -> None:
        """The circuit breaker hands one message to the processor. SQS moves those before it that had all receives."""
        hours = self._breaker.hours(self._now)
        self._own("circuit-breaker", ProcessingPaused=1, CircuitOpen=1, CircuitOpenHours=hours)
        stored = len(self._stream)
        batch: list[Message] = next(filter(None, (self._received([one]) for one in due)), [])
        self._process(batch)
        self._breaker.probed(self._now, healthy=not batch or len(self._stream) > stored)

    def _received(self, batch: list[Message]) -> list[Message]:
        """Count a receive. SQS moves a message that had all its receives to the dead-letter queue instead."""
        kept = []
        for message in batch:
            looped = Fault.LOOP_DETECTED in self._faults and message.execution
            if looped:
                self._put("AWS/Lambda", "RecursiveInvocationsDropped", "ProcessorFunction")
            if looped or message.receives >= self._setting.max_receives:
                self._buffer.remove(message)
                self._dead.append(Message(message.kind, message.sent, self._now, execution=message.execution))
                continue
            message.receives += 1
            message.visible_at = self._now + BUFFER_VISIBILITY
            self._put("AWS/SQS", "NumberOfMessagesReceived", "BufferQueue")
            self._counts.received += 1
            self._counts.first += message.receives == 1
            kept.append(message)
        return kept

    def _process(self, batch: list[Message]) -> None:
        if not batch or Fault.PROCESSOR_THROTTLED in self._faults:
            return
        poison = [one for one in batch if one.kind is Kind.CRASHES_PROCESSOR]
        # A suspect is processed last: from its second receive on, it crashes only itself.
        self._counts.invocations += 1
        if Fault.PROCESSOR_CRASHES in self._faults or any(one.receives == 1 for one in poison):
            self._invoked("ProcessorFunction", failed=True)
            self._counts.errors += 1
            return
        finished = [one for one in batch if one not in poison]
        slow = Fault.GENESYS_SLOW in self._faults
        self._invoked("ProcessorFunction", failed=bool(poison), milliseconds=27_000 if slow else 800)
        down = bool(self._faults & {Fault.GENESYS_DOWN, Fault.SECRET_WRONG})
        valid = [one for one in finished if one.kind not in REFUSED]
        broken = Fault.TABLE_DENIED in self._faults or (down and self._setting.required)
        stored = [] if broken else valid[::2] if Fault.GENESYS_HALF_DOWN in self._faults else valid
        self._counts.failed_for_now += len(valid) - len(stored)
        if not poison:  # a worker that dies publishes nothing
            misconfigured = self._faults & {Fault.SECRET_WRONG, Fault.TABLE_DENIED} and valid
            self._own(
                "processor",
                Received=len(batch),
                FirstReceives=sum(one.receives == 1 for one in batch),
                Stored=len(stored),
                Failed=len(finished) - len(stored),
                FailedForNow=len(valid) - len(stored),
                EnrichmentErrors=len(valid) if down else 0,
                Misconfigured=1 if misconfigured else 0,
            )
        for message in finished:
            if message in stored:
                self._buffer.remove(message)
                self._stream.append(self._now)
            else:
                message.visible_at = self._now + self._backoff(message)

    def _backoff(self, message: Message) -> int:
        if message.kind in REFUSED:
            return 0
        """The mean of what the processor's backoff gives with the default parameters."""
        mean = visibility_seconds(message.receives, base=3, cap=300, rng=lambda: 0.5)
        return max(self._setting.retry_seconds, mean)

    # -- the dead-letter queue, the intake and triage ----------------------------------------------------------------

    def _intake(self) -> None:
        if Fault.DLQ_MAPPING_DISABLED in self._faults:
            return
        due = [one for one in self._dead if one.visible_at <= self._now]
        for batch in _batches(due[: self._setting.intake_capacity]):
            for message in batch:
                message.receives += 1
                message.visible_at = self._now + DLQ_VISIBILITY
            if Fault.INTAKE_THROTTLED in self._faults:
                self._put("AWS/Lambda", "Throttles", "DeadLetterIntakeFunction")
                continue
            crashes = any(one.kind is Kind.CRASHES_INTAKE for one in batch)
            failed = Fault.INTAKE_CRASHES in self._faults or crashes
            self._invoked("DeadLetterIntakeFunction", failed=failed)
            if not failed:
                self._take_in(batch)

    def _take_in(self, batch: list[Message]) -> None:
        denied = self._faults & {Fault.BUCKET_DENIES_INTAKE, Fault.TRIAGE_MACHINE_MISSING}
        left = [one for one in batch if denied or one.kind is Kind.LEFT_BY_INTAKE]
        self._own("dead-letter-intake", DeadLettersTaken=len(batch) - len(left), DeadLettersLeft=len(left))
        for message in (one for one in batch if one not in left):
            self._dead.remove(message)
            if message.execution is None:
                self._put("AWS/States", "ExecutionsStarted", "TriageStateMachine")
            self._unclassified.append(message.execution or Execution(message.kind))

    def _triage(self) -> None:
        if Fault.CLASSIFY_THROTTLED not in self._faults:
            for execution in self._unclassified:
                self._decide(execution)
            self._unclassified.clear()
        for wait in [wait for wait in self._redrives if wait[0] <= self._now]:
            self._redrives.remove(wait)
            self._buffer.append(Message(wait[1].kind, self._now, self._now, execution=wait[1]))

    def _decide(self, execution: Execution) -> None:
        if execution.kind in REFUSED:
            return  # archived at once, which is not counted as given up
        if execution.redrives == MAX_REDRIVES:
            self._own("archive", LettersGivenUp=1)
            return
        wait = min(6 * HOUR, 2 * MINUTE * 4**execution.redrives)
        execution.redrives += 1
        self._redrives.append((self._now + wait, execution))

    # -- the stream and the fan-out ----------------------------------------------------------------------------------

    def _fan_out(self) -> None:
        if not self._stream or Fault.FAN_OUT_MAPPING_DISABLED in self._faults:
            return
        if Fault.FAN_OUT_THROTTLED in self._faults:
            self._put("AWS/Lambda", "Throttles", "FanOutFunction")
            return
        crashes, denied = Fault.FAN_OUT_CRASHES in self._faults, Fault.BUS_DENIES in self._faults
        slow = Fault.FAN_OUT_SLOW in self._faults
        if crashes or denied:
            if self._now % MINUTE:  # one attempt a minute
                return
            self._stream_attempts += 1
        batch = self._stream[: 1 if slow else 100]
        self._invoked("FanOutFunction", failed=crashes)
        self._put("AWS/Lambda", "IteratorAge", "FanOutFunction", value=(self._now - batch[-1]) * 1000)
        if not (crashes or denied):
            self._own("fan-out", Published=len(batch))
        elif self._stream_attempts < self._setting.stream_attempts:
            return
        else:
            mapping = "FanOutFunctionNewEvents"
            self._put("AWS/Lambda", "OnFailureDestinationDeliveredEventCount", mapping, value=len(batch))
        self._stream_attempts = 0
        del self._stream[: len(batch)]


def _batches(messages: list[Message]) -> Iterator[list[Message]]:
    for start in range(0, len(messages), BATCH):
        yield messages[start : start + BATCH]
