"""The interfaces through which the domain reaches AWS and Genesys. The adapters implement them. Tests pass fakes.

Unless a method says otherwise, it raises a :class:`~holdfast.domain.errors.HoldfastError` for a failure that it
recognises and lets any other exception pass. :meth:`EventStore.store` returns the failure of a single event.
:meth:`AttemptLog.write`, ``set_visibility`` and ``delete`` raise if a part failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from holdfast.domain.attempts import Attempt, AttemptKey
from holdfast.domain.errors import Failure
from holdfast.domain.letters import Outgoing
from holdfast.domain.users import Entity, Kind

T = TypeVar("T")
R = TypeVar("R")

Clock = Callable[[], datetime]
#: Returns a number in [0, 1).
Rng = Callable[[], float]


class Parallel(Protocol):
    """Calls a function for many values, several at once."""

    def __call__(self, work: Callable[[T], R], values: Iterable[T], /) -> Iterable[R]:
        """Return the results in the order of the values. The first exception is raised."""


class Deadline(Protocol):
    """The seconds that an invocation has left for work, without the time that reporting needs."""

    def remaining(self) -> float:
        """Seconds left for work. Zero or less: only reporting may follow."""


# -- the events table ------------------------------------------------------------------------------------------------


class Stored(StrEnum):
    """The result of storing one event. Either way the table holds the event."""

    NEW = "new"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class StorableEvent:
    """One event as the table keeps it. ``text`` is the enriched envelope as JSON."""

    event_id: str
    source: str
    detail_type: str
    event_time: str | None
    conversation_id: str | None
    received_at: datetime
    text: str


class EventStore(Protocol):
    """The events table, for the processor. One write serves deduplication, storage and publication."""

    def store(self, events: Sequence[StorableEvent], deadline: Deadline) -> Mapping[str, Stored | Failure]:
        """Write each event unless the table holds it. The result has an entry for every event id."""


class StoredEvents(Protocol):
    """The events table, for triage."""

    def holds(self, event_id: str) -> bool:
        """Whether the table holds the event (strongly consistent)."""


class EventPages(Protocol):
    """The events table, for publishing a range again."""

    def received_between(
        self, begin: str, end: str, start_at: str | None
    ) -> Iterator[tuple[Sequence[Mapping[str, Any]], str | None]]:
        """Read the items that were received in a range of time (ISO UTC), page by page.

        Each page comes with the key at which the next one starts, or ``None`` at the end.
        """


# -- the attempt log -------------------------------------------------------------------------------------------------


class AttemptLog(Protocol):
    """The attempts table, for the processor."""

    def read(self, keys: Collection[AttemptKey]) -> Mapping[AttemptKey, Attempt]:
        """Return the readable attempt records that exist for these keys."""

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Write attempt records. A later record of the same receive replaces the earlier one."""


class AttemptHistory(Protocol):
    """The attempts table, for triage."""

    def of_event(self, event_id: str) -> list[Attempt]:
        """Return all attempts of an event, of every message that carried it, unreadable ones too."""


# -- Genesys ---------------------------------------------------------------------------------------------------------


class UserDirectory(Protocol):
    """Users, queues and wrap-up codes of Genesys Cloud by id."""

    def lookup(self, ids: Collection[str], deadline: Deadline, kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        """Look up ids of one kind. The result has an entry for each.

        It is ``None`` if the API does not show it, or did not answer completely.
        """

    def cached(self, ids: Collection[str], kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        """Return what the cache holds of these ids, without a call."""

    def usage(self) -> Mapping[str, int]:
        """Return and reset the counts of calls and cache hits, by metric name."""


# -- the buffer queue ------------------------------------------------------------------------------------------------


class QueueConsumer(Protocol):
    """The buffer queue, for the processor."""

    def set_visibility(self, seconds_by_receipt: Mapping[str, int]) -> None:
        """Set the visibility timeout of each message. Raises if any was refused, after all were tried."""

    def delete(self, receipts: Collection[str]) -> None:
        """Delete messages. Raises if any was refused, after all were tried; such a message is received again."""


class QueueSender(Protocol):
    """The buffer queue, for redrives."""

    def send(self, message: Outgoing) -> str:
        """Send one message and return its new message id."""


class BufferInspection(Protocol):
    """The buffer queue and its processing, for triage: may a message that was sent still be processed?"""

    def paused(self) -> bool:
        """Whether processing is paused."""

    def may_hold(self, sent_at: datetime) -> bool:
        """Whether the buffer may still hold a message that was sent at this time."""


# -- triage executions -----------------------------------------------------------------------------------------------


class ExecutionStatus(StrEnum):
    """The status of a triage execution."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    TIMED_OUT = "TIMED_OUT"
    PENDING_REDRIVE = "PENDING_REDRIVE"
    ABSENT = "ABSENT"

    @property
    def open(self) -> bool:
        """Whether the execution still handles its dead letter."""
        return self in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING_REDRIVE)


@dataclass(frozen=True, slots=True)
class ExecutionDescription:
    """One execution: its status, the event that it handles, and its output after success."""

    status: ExecutionStatus
    event_id: str | None = None
    output: Mapping[str, Any] | None = None


class Executions(Protocol):
    """The executions of the triage state machine."""

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        """Start one. Returns false if an execution with this name exists."""

    def describe(self, name_or_arn: str) -> ExecutionDescription:
        """Describe an execution of this state machine. Any other is ``ABSENT``."""

    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        """Return the input of the last state that an execution of this state machine entered; empty for any other."""

    def running_names(self) -> Iterator[str]:
        """The names of the running executions, page by page."""


class TaskTokens(Protocol):
    """The callbacks of waiting executions."""

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """Report success. Returns false if no execution waits for this token."""

    def fail(self, task_token: str, error: str, cause: Mapping[str, Any]) -> bool:
        """Report a failure. Returns false if no execution waits for this token."""


# -- the archive bucket ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the bucket: its key, and when it was written."""

    key: str
    modified: datetime


class ObjectReader(Protocol):
    """Reads snapshots and archive objects."""

    def read(self, key: str) -> str | None:
        """Return an object's text, or ``None`` if it does not exist."""


class ObjectCreator(Protocol):
    """Writes objects that are never overwritten."""

    def create(self, key: str, text: str) -> bool:
        """Write an object unless the key exists. Returns false if it does."""


class DeadLetterStore(ObjectReader, ObjectCreator, Protocol):
    """The snapshots of dead letters."""

    def delete(self, keys: Collection[str]) -> None:
        """Delete objects. Raises if any could not be deleted, after all were tried."""

    def write(self, key: str, text: str) -> None:
        """Write an object, over an existing one too."""

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List all objects below a prefix in the order of their keys, or those after a key."""


class ArchiveStore(ObjectReader, ObjectCreator, Protocol):
    """The archive objects, and the reports of replays."""

    def update(self, key: str, old: str, new: str) -> bool:
        """Replace an object's text. Returns false if it is not ``old`` any more, or does not exist."""

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags, if it exists."""

    def tags(self, key: str) -> Mapping[str, str]:
        """Return an object's tags."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List all objects below a prefix."""


# -- the enriched bus ------------------------------------------------------------------------------------------------


class TriageEvents(Protocol):
    """The events that triage publishes on the enriched bus."""

    def publish(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Publish one event."""
