"""The attempt log of attempts: what a worker says about an event before and after its work.

A happy event is never written here. From the second receive on an attempt is marked *started* before the work and
closed after it, which tells two deaths apart: started and never closed, the worker died on it; received often and
never started, it never ran (it was throttled, or the attempt log was down).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from holdfast.domain.errors import Failure


class Status(StrEnum):
    """What an attempt came to."""

    STARTED = "started"
    STORED = "stored"
    FAILED = "failed"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """One receive of one message of one letter."""

    event_id: str
    message_id: str
    receive_count: int

    @property
    def sort_key(self) -> str:
        """The attempt log's sort key."""
        return f"{self.message_id}#{self.receive_count}"

    def earlier(self) -> list[AttemptKey]:
        """The receives before this one, the last first."""
        return [AttemptKey(self.event_id, self.message_id, count) for count in range(self.receive_count - 1, 0, -1)]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the attempt log. ``at`` is ISO UTC; ``failure`` stands for failed and deferred attempts."""

    key: AttemptKey
    status: Status
    at: str
    request_id: str
    failure: Failure | None = None

    def as_json(self) -> dict[str, object]:
        """The attempt as the archive tells it."""
        return {
            "at": self.at,
            "status": self.status.value,
            "errorType": self.failure.error_type if self.failure else None,
            "errorMessage": self.failure.message if self.failure else None,
            "messageId": self.key.message_id,
            "receiveCount": self.key.receive_count,
            "requestId": self.request_id,
        }


def in_order(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Attempts as they happened."""
    return sorted(attempts, key=lambda attempt: (attempt.at, attempt.key.receive_count))


def of_message(attempts: Iterable[Attempt], message_id: str) -> list[Attempt]:
    """The attempts of one message, by receive count."""
    own = (attempt for attempt in attempts if attempt.key.message_id == message_id)
    return sorted(own, key=lambda attempt: attempt.key.receive_count)


def crashed(attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt of a message was started and never closed."""
    return bool(attempts) and attempts[-1].status is Status.STARTED
