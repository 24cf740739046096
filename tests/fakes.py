"""In-memory implementations of :mod:`holdfast.domain.ports` that keep every guarantee of the ports.

All fakes of a test share one :class:`Journal`. It records their calls in order, makes calls fail on demand, and
crashes the worker after the n-th call, so that a test can cover every crash point of a sequence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from holdfast.domain.attempts import Attempt, AttemptKey
from holdfast.domain.errors import Failure
from holdfast.domain.letters import Outgoing
from holdfast.domain.ports import (
    ArchiveStore,
    AttemptHistory,
    AttemptLog,
    BufferInspection,
    DeadLetterStore,
    Deadline,
    EventStore,
    ExecutionDescription,
    Executions,
    ExecutionStatus,
    QueueConsumer,
    QueueSender,
    StorableEvent,
    Stored,
    StoredEvents,
    StoredObject,
    TaskTokens,
    TriageEvents,
    UserDirectory,
)
from holdfast.domain.users import Entity, Kind

P = ParamSpec("P")
R = TypeVar("R")

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MACHINE = "arn:aws:states:eu-central-1:123456789012:execution:triage:"


class WorkerCrashed(BaseException):
    """The worker process has crashed. A ``BaseException``, because product code must not catch it."""


class Journal:
    """The calls to the fakes in order, and the faults to inject."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._faults: dict[str, list[Exception | None]] = {}
        self._always: dict[str, Exception] = {}
        self._lost: dict[str, Exception] = {}
        self._crash_after: int | None = None

    def fail(self, call: str, *errors: Exception | None) -> None:
        """Fail the next calls of a name (``"attemptlog.write"``) with these errors, one each; ``None`` lets one pass."""
        self._faults.setdefault(call, []).extend(errors)

    def fail_always(self, call: str, error: Exception) -> None:
        """Fail every call of a name."""
        self._always[call] = error

    def lose_response(self, call: str, error: Exception) -> None:
        """Let the next call of a name take effect, then raise an error: its response is lost."""
        self._lost[call] = error

    def crash_after(self, number: int) -> None:
        """Crash the worker right after the n-th call (from 1) took effect."""
        self._crash_after = number

    def reset(self) -> None:
        """Remove all faults and restart the count."""
        self.__init__()  # type: ignore[misc]  # a journal without faults and calls is a new one

    def before(self, call: str) -> None:
        """Record a call, and raise its fault if there is one."""
        self.calls.append(call)
        if call in self._always:
            raise self._always[call]
        pending = self._faults.get(call)
        error = pending.pop(0) if pending else None
        if error is not None:
            raise error

    def after(self, call: str) -> None:
        """Run after the call took effect: raise the error of a lost response, or crash the worker."""
        if len(self.calls) == self._crash_after:
            raise WorkerCrashed(call)
        if call in self._lost:
            raise self._lost.pop(call)


@dataclass
class Fake:
    """Base of the fakes: holds the journal."""

    journal: Journal = field(default_factory=Journal)


def recorded(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Record a fake's call as ``<fake>.<method>``."""

    @wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        name = f"{type(self).__name__.removeprefix('Fake').lower()}.{method.__name__}"
        self.journal.before(name)
        result = method(self, *args, **kwargs)
        self.journal.after(name)
        return result

    return call


class FakeDeadline:
    """Remaining time: the given values in order; the last one repeats."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds) or [60.0]

    def remaining(self) -> float:
        return self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]


@dataclass
class FakeContext:
    """The context of a Lambda invocation."""

    milliseconds: int = 60_000
    aws_request_id: str = "request-1"
    function_name: str = "function"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass
class FakeEventStore(Fake):
    """The events table. ``refusals`` maps event ids to the failure of their write."""

    items: dict[str, StorableEvent] = field(default_factory=dict)
    refusals: dict[str, Failure] = field(default_factory=dict)

    @recorded
    def store(self, events: Sequence[StorableEvent], _deadline: Deadline) -> Mapping[str, Stored | Failure]:
        return {event.event_id: self._store(event) for event in events}

    def _store(self, event: StorableEvent) -> Stored | Failure:
        if event.event_id in self.refusals:
            return self.refusals[event.event_id]
        if event.event_id in self.items:
            return Stored.DUPLICATE
        self.items[event.event_id] = event
        return Stored.NEW

    @recorded
    def holds(self, event_id: str) -> bool:
        return event_id in self.items

    def envelope(self, event_id: str) -> dict[str, Any]:
        """The stored envelope of an event."""
        envelope: dict[str, Any] = json.loads(self.items[event_id].text)
        return envelope


@dataclass
class FakeAttemptLog(Fake):
    """The attempts table. ``records`` holds every write, ``attempts`` the latest record per key."""

    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict)
    records: list[Attempt] = field(default_factory=list)

    @recorded
    def read(self, keys: Collection[AttemptKey]) -> Mapping[AttemptKey, Attempt]:
        return {key: self.attempts[key] for key in keys if key in self.attempts}

    @recorded
    def write(self, attempts: Sequence[Attempt]) -> None:
        self.records += attempts
        self.attempts |= {attempt.key: attempt for attempt in attempts}

    @recorded
    def of_event(self, event_id: str) -> list[Attempt]:
        return [attempt for key, attempt in self.attempts.items() if key.event_id == event_id]


@dataclass
class FakeUserDirectory(Fake):
    """Users by id. A user that is missing here is one that the API does not return."""

    users: dict[str, Entity] = field(default_factory=dict)
    lookups: list[set[str]] = field(default_factory=list)
    cached_ids: set[str] = field(default_factory=set)
    kinds: list[Kind] = field(default_factory=list)

    @recorded
    def lookup(self, ids: Collection[str], _deadline: Deadline, kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        self.lookups.append(set(ids))
        self.kinds.append(kind)
        return {found: self.users.get(found) for found in ids}

    def cached(self, ids: Collection[str], kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:  # noqa: ARG002 - the port
        return {found: self.users.get(found) for found in ids if found in self.cached_ids}

    def usage(self) -> Mapping[str, int]:
        return {"ApiCalls": len(self.lookups)}


@dataclass
class FakeQueue(Fake):
    """The buffer queue."""

    visibility: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)

    @recorded
    def set_visibility(self, seconds_by_receipt: Mapping[str, int]) -> None:
        self.visibility |= seconds_by_receipt

    @recorded
    def delete(self, receipts: Collection[str]) -> None:
        self.deleted += receipts

    @recorded
    def send(self, message: Outgoing) -> str:
        self.sent.append(message)
        return f"sent-{len(self.sent)}"


@dataclass
class FakeExecutions(Fake):
    """The triage state machine. Starting a running execution again with the same name and input is idempotent, as in AWS."""

    descriptions: dict[str, ExecutionDescription] = field(default_factory=dict)
    inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    last_inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    answered: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @recorded
    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        if name in self.descriptions:
            return (
                self.descriptions[name].status is ExecutionStatus.RUNNING and self.inputs.get(name) == execution_input
            )
        self.descriptions[name] = ExecutionDescription(ExecutionStatus.RUNNING, execution_input["eventId"])
        self.inputs[name] = execution_input
        return True

    @recorded
    def describe(self, name_or_arn: str) -> ExecutionDescription:
        return self.descriptions.get(name_or_arn.removeprefix(MACHINE), ExecutionDescription(ExecutionStatus.ABSENT))

    @recorded
    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        name = name_or_arn.removeprefix(MACHINE)
        return self.last_inputs.get(name, self.inputs.get(name, {}))

    @recorded
    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        return self._complete(task_token, output)

    @recorded
    def fail(self, task_token: str, error: str, cause: Mapping[str, Any]) -> bool:
        return self._complete(task_token, {"error": error, "cause": cause})

    def _complete(self, task_token: str, answer: Mapping[str, Any]) -> bool:
        if task_token not in self.waiting:
            return False
        self.waiting.remove(task_token)
        self.answered.append((task_token, answer))
        return True

    @recorded
    def running_names(self) -> Iterator[str]:
        return iter(self.running)

    def end(
        self, name: str, status: ExecutionStatus, output: Mapping[str, Any] | None = None, *, event_id: str = "event-1"
    ) -> None:
        """End an execution."""
        self.descriptions[name] = ExecutionDescription(status, event_id, output)

    @property
    def running(self) -> list[str]:
        """The names of the running executions."""
        return [name for name, execution in self.descriptions.items() if execution.status is ExecutionStatus.RUNNING]


@dataclass
class FakeObjects(Fake):
    """The archive bucket. New objects have the age ``age``."""

    name: str = "archive-bucket"
    texts: dict[str, str] = field(default_factory=dict)
    modified: dict[str, datetime] = field(default_factory=dict)
    tagged: dict[str, dict[str, str]] = field(default_factory=dict)
    age: timedelta = timedelta(0)

    @recorded
    def create(self, key: str, text: str) -> bool:
        if key in self.texts:
            return False
        self.texts[key] = text
        self.modified[key] = NOW - self.age
        return True

    @recorded
    def read(self, key: str) -> str | None:
        return self.texts.get(key)

    @recorded
    def update(self, key: str, old: str, new: str) -> bool:
        if self.texts.get(key) != old:
            return False
        self.texts[key] = new
        return True

    @recorded
    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        self.tagged[key] = dict(tags)

    @recorded
    def tags(self, key: str) -> Mapping[str, str]:
        return self.tagged.get(key, {})

    @recorded
    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self.texts.pop(key, None)

    @recorded
    def write(self, key: str, text: str) -> None:
        self.texts[key] = text
        self.modified[key] = NOW

    @recorded
    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        keys = [key for key in sorted(self.texts) if key.startswith(prefix) and key > after]
        return iter([StoredObject(key, self.modified[key]) for key in keys])


@dataclass
class FakeBuffer(Fake, BufferInspection):
    """A buffer that holds nothing, unless a test says otherwise."""

    is_paused: bool = False
    holds: bool = False

    @recorded
    def paused(self) -> bool:
        return self.is_paused

    @recorded
    def may_hold(self, sent_at: datetime) -> bool:
        assert sent_at.tzinfo
        return self.holds


@dataclass
class FakeTriageEvents(Fake):
    """The events that triage publishes."""

    published: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @recorded
    def publish(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        self.published.append((detail_type, detail))


@dataclass
class FakeDynamoDb:
    """A DynamoDB client that accepts every PartiQL statement."""

    statements: list[Mapping[str, Any]] = field(default_factory=list)

    def batch_execute_statement(self, Statements: list[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.statements += Statements
        return {"Responses": [{} for _ in Statements]}

    @property
    def last_item(self) -> dict[str, Any]:
        """The item that the last statement inserts."""
        names = re.findall(r"'(\w+)': \?", self.statements[-1]["Statement"])
        return dict(zip(names, self.statements[-1]["Parameters"], strict=True))


def conforming() -> tuple[
    tuple[EventStore, StoredEvents, AttemptLog, AttemptHistory, UserDirectory, QueueConsumer, QueueSender],
    tuple[Executions, TaskTokens, DeadLetterStore, ArchiveStore, TriageEvents],
]:
    """For the type checker: the fakes implement the ports."""
    events, attempts, queue = FakeEventStore(), FakeAttemptLog(), FakeQueue()
    executions, objects = FakeExecutions(), FakeObjects()
    return (
        (events, events, attempts, attempts, FakeUserDirectory(), queue, queue),
        (executions, executions, objects, objects, FakeTriageEvents()),
    )
