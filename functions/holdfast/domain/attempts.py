"""The attempt log: what the processor records about each failed receive, and each receive after the first.

An event that is stored at its first receive has no record. From the second receive on, an attempt is marked *started*
before the work and closed after it, unless the last failure was permanent. If a record stays *started*, the worker may
have crashed. No record after several receives means that no worker ran, because the function was throttled, or that the
attempt log failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from holdfast.domain.errors import Failure


class Status(StrEnum):
    """Where an attempt is, or how it ended."""

    STARTED = "started"
    STORED = "stored"
    FAILED = "failed"
    DEFERRED = "deferred"
    #: The record cannot be read, for example because a newer version wrote it. The processor never writes this.
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """One receive of one message."""

    event_id: str
    message_id: str
    receive_count: int

    @property
    def sort_key(self) -> str:
        """The sort key in the attempts table."""
        return f"{self.message_id}#{self.receive_count}"

    def earlier(self) -> list[AttemptKey]:
        """The receives before this one, the latest first."""
        return [AttemptKey(self.event_id, self.message_id, count) for count in range(self.receive_count - 1, 0, -1)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt record. ``at`` is ISO 8601 UTC; failed and deferred attempts have a ``failure``.

    Of an unreadable record only the message id is certain.
    """

    key: AttemptKey
    status: Status
    at: str
    request_id: str
    failure: Failure | None = None

    def as_json(self) -> dict[str, object]:
        """The attempt as the archive object shows it."""
        correlation_id = self.failure.correlation_id if self.failure else None
        return {
            "at": self.at,
            "status": self.status.value,
            "errorType": self.failure.error_type if self.failure else None,
            "errorMessage": self.failure.message if self.failure else None,
            "messageId": self.key.message_id,
            "receiveCount": self.key.receive_count,
            "requestId": self.request_id,
            **({"correlationId": correlation_id} if correlation_id else {}),
        }


def in_order(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Sort attempts by time."""
    return sorted(attempts, key=lambda attempt: (attempt.at, attempt.key.receive_count))


def of_message(attempts: Iterable[Attempt], message_id: str) -> list[Attempt]:
    """Select the attempts of one message, sorted by receive count."""
    own = (attempt for attempt in attempts if attempt.key.message_id == message_id)
    return sorted(own, key=lambda attempt: attempt.key.receive_count)
