"""The vocabulary of failure.

::

    HoldfastError
    ├── TransientError           trying again can help
    │   ├── Throttled            429, or an AWS call over its rate
    │   ├── Unavailable          5xx, time-out, connection refused or lost
    │   └── Misconfigured        401/403, missing secret or table, access denied: helps once a person has acted
    └── PermanentError           trying again cannot help
        ├── MalformedBody        not JSON that every consumer could read
        ├── InvalidEvent         JSON, but not an event
        ├── Rejected             refused for what it is: other 4xx, item too large
        ├── SnapshotConflict     another letter stands where this one's evidence belongs
        ├── SnapshotMissing      the evidence that an execution points to is gone
        └── InvalidInput         somebody started a function or a machine with an input that it cannot read

The names of the transient leaves are the ``ErrorEquals`` of the state machines: Lambda reports only the class name of
an exception, so Step Functions cannot match a base class. Messages hold nothing of a payload: they are written to
logs, to the execution history and to the attempt log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class HoldfastError(Exception):
    """Base of every failure that this product names."""

    category: ClassVar[str] = "UNKNOWN"
    permanent: ClassVar[bool] = False

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """Say what failed, and how many seconds from now a retry is welcome, where the other side told."""
        super().__init__(message)
        self.retry_after = retry_after


class TransientError(HoldfastError):
    """Trying again can help."""


class Throttled(TransientError):
    """The other side asks for fewer calls."""

    category = "THROTTLED_UPSTREAM"


class Unavailable(TransientError):
    """The other side did not answer, or answered that it cannot now."""

    category = "UNAVAILABLE"


class Misconfigured(TransientError):
    """Credentials, permissions or names are wrong; the events themselves are fine."""

    category = "MISCONFIGURED"


class PermanentError(HoldfastError):
    """Trying again cannot help."""

    permanent = True


class MalformedBody(PermanentError):
    """The body cannot be read."""

    category = "MALFORMED"


class InvalidEvent(PermanentError):
    """The body can be read, and is no event."""

    category = "INVALID"


class Rejected(PermanentError):
    """Downstream refuses the data."""

    category = "REJECTED"


class SnapshotConflict(PermanentError):
    """Evidence with the same key and another content exists."""


class SnapshotMissing(PermanentError):
    """The evidence is not where the pointer says."""


class InvalidInput(PermanentError):
    """The input of a function or a state machine cannot be used."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one event's attempt failed, as a value: partial failure is data, not an exception.

    ``message`` is scrubbed (at most :data:`MESSAGE_LIMIT` characters, nothing of a payload), ``retry_after`` seconds.
    """

    category: str
    error_type: str
    message: str
    permanent: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe any exception. A foreign one gives away its type only: its text may quote the payload."""
        if isinstance(error, HoldfastError):
            return cls(
                category=error.category,
                error_type=type(error).__name__,
                message=str(error)[:MESSAGE_LIMIT],
                permanent=error.permanent,
                retry_after=error.retry_after,
            )
        return cls(category="UNKNOWN", error_type=type(error).__name__, message="unexpected error")


MESSAGE_LIMIT = 500
#: Not tried: the invocation's time was needed for reporting.
DEFERRED = Failure("DEFERRED", "Deferred", "no time was left in this invocation")
