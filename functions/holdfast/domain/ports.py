"""What the domain needs of the world. The adapters implement these; the tests bring fakes.

Every method raises :class:`~holdfast.domain.errors.HoldfastError` for a failure that it can name and lets an unknown
one pass. Partial failure is a value, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from holdfast.domain.attempts import Attempt, AttemptKey
from holdfast.domain.errors import Failure
from holdfast.domain.letters import Outgoing
from holdfast.domain.users import User

Clock = Callable[[], datetime]
#: A number in [0, 1).
Rng = Callable[[], float]


class Deadline(Protocol):
    """The time that an invocation has left for new work, in seconds: what reporting needs is already taken off."""

    def remaining(self) -> float:
        """Seconds left for work; zero or less when only reporting is left."""


class Stored(StrEnum):
    """What the events table answered for one event. Both mean that it holds the event."""

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
    """The events table: the dedupe record, the record downstream and the outbox of the fan-out in one write."""

    def store(self, events: Sequence[StorableEvent], deadline: Deadline) -> Mapping[str, Stored | Failure]:
        """Write each event unless the table holds it. Answers for every event id given."""

    def holds(self, event_id: str) -> bool:
        """Whether the table holds the event: a strongly consistent read."""


class AttemptLog(Protocol):
    """The attempts table."""

    def read(self, keys: Collection[AttemptKey]) -> Mapping[AttemptKey, Attempt]:
        """The attempts that exist among these."""

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Note attempts; a later line for the same receive replaces the earlier one."""

    def of_event(self, event_id: str) -> list[Attempt]:
        """All attempts of a letter, of every message that carried it."""


class UserDirectory(Protocol):
    """Users by id."""

    def lookup(self, user_ids: Collection[str], deadline: Deadline) -> Mapping[str, User | None]:
        """Answers for every id; ``None`` is a user that the API does not show."""

    def cached(self, user_ids: Collection[str]) -> Mapping[str, User | None]:
        """What is known of these without asking anybody."""

    def usage(self) -> Mapping[str, int]:
        """What was used since this was asked last, by the names of the metrics."""


class Queue(Protocol):
    """The buffer queue, seen by its consumer."""

    def set_visibility(self, seconds_by_receipt: Mapping[str, int]) -> None:
        """Best effort: a message whose time-out could not be set keeps the queue's own."""

    def delete(self, receipts: Collection[str]) -> None:
        """Best effort: what could not be deleted comes again and is a duplicate."""

    def send(self, message: Outgoing) -> str:
        """Send one message, and answer its new message id."""


class Execution(StrEnum):
    """The state of a triage execution."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    TIMED_OUT = "TIMED_OUT"
    PENDING_REDRIVE = "PENDING_REDRIVE"
    ABSENT = "ABSENT"

    @property
    def open(self) -> bool:
        """Whether somebody still works on the letter."""
        return self in (Execution.RUNNING, Execution.PENDING_REDRIVE)


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """What is known of one execution: whose letter it works on, and its output once it has succeeded."""

    status: Execution
    event_id: str | None = None
    output: Mapping[str, Any] | None = None


class Executions(Protocol):
    """The triage state machine."""

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        """Start one; false if the name is taken."""

    def describe(self, name_or_arn: str) -> ExecutionReport:
        """Look at one of our own executions; anything else is ``ABSENT``."""

    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        """What the last state that one of our own executions entered was given; empty for anything else."""

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """Wake a waiting execution; false if nobody waits any more."""

    def fail(self, task_token: str, error: str, cause: Mapping[str, Any]) -> bool:
        """Wake a waiting execution with a failure; false if nobody waits any more."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the archive bucket."""

    key: str
    modified: datetime


class Objects(Protocol):
    """The archive bucket: evidence and archive."""

    def create(self, key: str, text: str) -> bool:
        """Write an object unless the key exists; false if it does."""

    def read(self, key: str) -> str | None:
        """An object's text, or ``None`` if there is none."""

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Put tags on an object."""

    def tags(self, key: str) -> Mapping[str, str]:
        """An object's tags."""

    def delete(self, keys: Collection[str]) -> None:
        """Delete objects. Raises if any of them could not be deleted."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below a prefix."""


class TriageEvents(Protocol):
    """Events about letters, on the enriched bus."""

    def publish(self, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Publish one event."""
