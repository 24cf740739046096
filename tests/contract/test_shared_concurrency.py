"""All functions share ten concurrent executions: what a burst of the processor throttles recovers when it ends.

Ten is the limit of a new account, and the default of ``MaxConcurrency``. The simulation uses the settings of the template
and the Retry lists of the state machine. It throttles as AWS documents:

- A mapping of a queue retries a throttled batch with growing delays until its visibility time-out. Then the messages
  are visible again, with one more receive.
  https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
- A mapping of a stream retries a throttled batch until its records expire, whatever ``MaximumRetryAttempts`` is.
  https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
- A task fails with ``Lambda.TooManyRequestsException``.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.deployed import deployed
from tests.contract.project import machine

#: A process of the simulation: it yields the seconds that it waits.
Process = Generator[float, None, None]

ACCOUNT_LIMIT = 10
STREAM_HOURS = 24
#: How long one invocation takes, in seconds.
DURATIONS = {"processor": 5.0, "intake": 1.0, "fan-out": 0.5}
TASK_SECONDS = 0.3
THROTTLED = "Lambda.TooManyRequestsException"
#: The tasks of an execution whose first verdict is to archive, to settle, to retry.
PATHS = [
    ["Classify", "Archive", "SettleArchived"],
    ["Classify", "SettleRecovered"],
    ["Classify", "Redrive", "Classify", "SettleRecovered"],
]


@dataclass
class Message:
    receives: int = 0
    stored: bool = False


@dataclass
class Account:
    """A stack in an account of its own, and its clock."""

    states: dict[str, Any]
    #: Time between the end of a batch and the start of the next, in seconds. With 0 no other function gets a turn.
    gap: float
    rng: random.Random
    now: float = 0
    running: int = 0
    buffer: deque[Message] = field(default_factory=deque)
    dead_letters: deque[Message] = field(default_factory=deque)
    stream: deque[float] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    throttles: Counter[str] = field(default_factory=Counter)
    finished: dict[str, float] = field(default_factory=dict)
    _events: list[tuple[float, int, Process]] = field(default_factory=list)
    _order: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        resources = deployed({})
        self.settings = {
            name: resources[name]["Properties"]
            for name in ("BufferQueue", "DeadLetterQueue", "ProcessorFunctionBuffer", "FanOutFunctionNewEvents")
        }
        intake = resources["DeadLetterIntakeFunctionDeadLetters"]["Properties"]
        processor = self.settings["ProcessorFunctionBuffer"]
        self._spawn(self._fan_out(int(self.settings["FanOutFunctionNewEvents"]["BatchSize"])))
        for _ in range(int(processor["ScalingConfig"]["MaximumConcurrency"])):
            self._spawn(self._poll("processor", "BufferQueue", self.buffer, int(processor["BatchSize"])))
        for _ in range(int(intake["ScalingConfig"]["MaximumConcurrency"])):
            self._spawn(self._poll("intake", "DeadLetterQueue", self.dead_letters, int(intake["BatchSize"])))

    def run(self, seconds: float) -> None:
        """Let this time pass."""
        while self._events and self._events[0][0] <= seconds:
            self.now, _, process = heapq.heappop(self._events)
            delay = next(process, None)
            if delay is not None:
                heapq.heappush(self._events, (self.now + delay, next(self._order), process))

    def start_triage(self, tasks: list[str]) -> None:
        """Start an execution, or continue one that has these tasks before it."""
        self._spawn(self._execution(tasks))

    def _spawn(self, process: Process) -> None:
        heapq.heappush(self._events, (self.now, next(self._order), process))

    def _starts(self, function: str) -> bool:
        if self.running >= ACCOUNT_LIMIT:
            self.throttles[function] += 1
            return False
        self.running += 1
        return True

    def _poll(self, function: str, queue: str, messages: deque[Message], size: int) -> Process:
        """One of the concurrent batches of a queue's mapping."""
        visibility = float(self.settings[queue]["VisibilityTimeout"])
        while True:
            if not messages:
                yield 1
                continue
            batch = [messages.popleft() for _ in range(min(size, len(messages)))]
            visible, delay = self.now + visibility, 1.0
            while self.now < visible and not self._starts(function):
                yield delay
                delay = min(2 * delay, 60)
            if self.now >= visible:
                self._return(queue, batch, messages)
                continue
            yield DURATIONS[function]
            self.running -= 1
            for message in batch:
                self._done(function, message)
            if self.gap:
                yield self.rng.uniform(0, 2 * self.gap)

    def _return(self, queue: str, batch: list[Message], messages: deque[Message]) -> None:
        """Make a batch visible again. The redrive policy moves a message after too many receives."""
        limit = self.settings[queue].get("RedrivePolicy", {}).get("maxReceiveCount")
        for message in batch:
            message.receives += 1
            if limit is not None and message.receives >= int(limit):
                self.counts["dead-lettered by throttles"] += 1
            else:
                messages.append(message)

    def _done(self, function: str, message: Message) -> None:
        self.finished[function] = self.now
        self.counts[function] += 1
        if function == "processor":
            message.stored = True
            self.stream.append(self.now)
        else:
            self.start_triage(self.rng.choice(PATHS))

    def _fan_out(self, size: int) -> Process:
        """The mapping of the stream, which has one shard."""
        while True:
            if not self.stream:
                yield 1
                continue
            batch = [self.stream.popleft() for _ in range(min(size, len(self.stream)))]
            delay = 1.0
            while batch and not self._starts("fan-out"):
                yield delay
                delay = min(2 * delay, 60)
                kept = [stored for stored in batch if self.now - stored < STREAM_HOURS * 3_600]
                self.counts["expired in the stream"] += len(batch) - len(kept)
                batch = kept
            if batch:
                yield DURATIONS["fan-out"]
                self.running -= 1
                self.counts["fan-out"] += len(batch)
                self.finished["fan-out"] = self.now

    def _execution(self, tasks: list[str]) -> Process:
        for name in tasks:
            retry = next((one for one in self.states[name]["Retry"] if THROTTLED in one["ErrorEquals"]), {})
            attempts = 0
            while not self._starts(name):
                if attempts == retry.get("MaxAttempts", 0):
                    self.counts["executions that gave up"] += 1
                    return
                longest = min(retry["IntervalSeconds"] * retry["BackoffRate"] ** attempts, retry["MaxDelaySeconds"])
                attempts += 1
                yield self.rng.uniform(0, longest)
            yield TASK_SECONDS
            self.running -= 1
            if name == "Redrive":
                message = Message()
                self.buffer.append(message)
                while not message.stored:
                    yield 5
        self.counts["executions"] += 1
        self.finished["triage"] = self.now


def burst(states: dict[str, Any], *, gap: float, hours: float = 1) -> Account:
    """A burst that occupies all ten executions for hours, with dead letters in the queue and executions in triage."""
    account = Account(states, gap, random.Random(1))  # noqa: S311 - no secret
    batches = ACCOUNT_LIMIT * hours * 3_600 / DURATIONS["processor"]
    account.buffer.extend(Message() for _ in range(int(10 * batches)))
    account.dead_letters.extend(Message() for _ in range(200))
    account.run(1)
    for tasks in PATHS:
        for first in range(len(tasks)):
            for _ in range(20):
                account.start_triage(tasks[first:])
    account.run((hours + 12) * 3_600)
    return account


@pytest.mark.parametrize("gap", [0, 0.05], ids=["no execution is ever free", "some are free between batches"])
def test_what_the_burst_throttles_recovers_by_itself(gap: float) -> None:
    account = burst(machine("triage")["States"], gap=gap)

    states = {"Classify", "Archive", "SettleArchived", "SettleRecovered", "Redrive"}
    assert account.throttles.keys() >= {"intake", "fan-out", *states}, "the burst throttles every function"
    assert account.counts["executions that gave up"] == 0
    assert account.counts["dead-lettered by throttles"] == 0
    assert account.counts["expired in the stream"] == 0
    assert account.counts["intake"] == 200, "every dead letter has an execution"
    assert account.counts["executions"] == 200 + 20 * sum(map(len, PATHS))
    assert account.counts["fan-out"] == account.counts["processor"], "every stored event is published"
    assert account.counts["processor"] >= 72_000
    assert account.running == 0
    assert len(account.buffer) + len(account.dead_letters) + len(account.stream) == 0
    assert max(account.finished.values()) < 3_600 + 1_800, "half an hour after the burst, nothing is left"


def test_triage_gives_up_with_the_retries_of_a_failure_that_lasts_a_minute() -> None:
    """The simulation finds retries that are too short: without them, it would show nothing."""
    states = machine("triage")["States"]
    for state in states.values():
        for retry in state.get("Retry", []):
            retry["MaxAttempts"] = min(retry["MaxAttempts"], 6)

    assert burst(states, gap=0).counts["executions that gave up"] > 100
