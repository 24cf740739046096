"""The errors of this product, and :class:`Failure`, an error as a value.

::

    HoldfastError
    ├── TransientError           a retry can help
    │   ├── Throttled            429, or an AWS call over its rate
    │   ├── Unavailable          5xx, timeout, connection refused or lost
    │   └── Misconfigured        401, 403, missing secret or table: a retry helps after a person has acted
    ├── UnknownError             a service answered with an error code that has no category
    └── PermanentError           a retry cannot help
        ├── MalformedBody        not strict JSON (:mod:`holdfast.domain.strict_json`)
        ├── InvalidEvent         JSON, but not an event
        ├── Rejected             the data was refused: other 4xx, item too large
        ├── SnapshotConflict     another message has a snapshot under the same key
        ├── SnapshotMissing      the snapshot that an execution points to does not exist
        ├── AlreadyStored        the events table contains the event of a letter that was to be archived
        └── InvalidInput         the input of a function or a state machine cannot be used

The state machines match errors by the names of these classes, so a class that is renamed is renamed there too. Lambda
reports only the class name of an exception, so Step Functions cannot match a base class. Messages contain nothing of a
payload: they are written to logs, to the execution history and to the attempt log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, TypeVar

from holdfast.domain.categories import Category

T = TypeVar("T")

MESSAGE_LIMIT = 500
_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HoldfastError(Exception):
    """Base of every error that this product raises on purpose."""

    category: ClassVar[Category] = Category.UNKNOWN
    permanent: ClassVar[bool] = False

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, correlation_id: str | None = None
    ) -> None:
        """Set the message, and what the service named: seconds to wait before a retry, and an id of its answer."""
        super().__init__(message)
        self.retry_after = retry_after
        self.correlation_id = correlation_id


class TransientError(HoldfastError):
    """A retry can help."""


class Throttled(TransientError):
    """The service refuses calls above its rate."""

    category = Category.THROTTLED_UPSTREAM


class Unavailable(TransientError):
    """The service did not answer, or answered with an error of its own."""

    category = Category.UNAVAILABLE


class Misconfigured(TransientError):
    """Credentials, permissions or names are wrong. The events themselves are fine."""

    category = Category.MISCONFIGURED


class UnknownError(HoldfastError):
    """A service answered with an error code that has no category. The message contains the code."""


class PermanentError(HoldfastError):
    """A retry cannot help."""

    permanent = True


class MalformedBody(PermanentError):
    """The body cannot be read."""

    category = Category.MALFORMED


class InvalidEvent(PermanentError):
    """The body can be read, but it is not an event."""

    category = Category.INVALID


class Rejected(PermanentError):
    """A service refuses the data itself."""

    category = Category.REJECTED


class SnapshotConflict(PermanentError):
    """A snapshot with the same key and other content exists."""


class SnapshotMissing(PermanentError):
    """The snapshot does not exist, or it belongs to another event."""


class AlreadyStored(PermanentError):
    """The events table contains the event of a letter that was to be archived."""


class InvalidInput(PermanentError):
    """The input of a function or a state machine cannot be used."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one event of a batch failed. Returned instead of raised, so that the other events are processed.

    Attributes:
        category: What kind of failure it is.
        error_type: The class of the error.
        message: At most :data:`MESSAGE_LIMIT` characters. It contains nothing of a payload.
        permanent: Whether a retry cannot help.
        retry_after: Seconds to wait before a retry, if the service named them.
        correlation_id: The id of Genesys' answer, by which its support finds the request.
    """

    category: str
    error_type: str
    message: str
    permanent: bool = False
    retry_after: float | None = None
    correlation_id: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe any exception.

        Of an exception that is not a :class:`HoldfastError`, only the type and the line are kept: its message may
        contain payload.
        """
        if isinstance(error, HoldfastError):
            return cls(
                category=error.category,
                error_type=type(error).__name__,
                message=str(error)[:MESSAGE_LIMIT],
                permanent=error.permanent,
                retry_after=error.retry_after,
                correlation_id=error.correlation_id,
            )
        return cls(Category.UNKNOWN, type(error).__name__, f"unexpected error at {place_of(error)}")

    @property
    def deferred(self) -> bool:
        """Whether the event was not worked on, because the invocation ran out of time."""
        return self.category == Category.DEFERRED


DEFERRED = Failure(Category.DEFERRED, "Deferred", "no time was left in this invocation")


def readable(code: Any) -> str:
    """An error code of a service as it may stand in logs, messages and verdicts: at most 64 plain characters.

    A proxy, an emulator or a producer can put any text there.
    """
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "unreadable-code"


def place_of(error: BaseException) -> str:
    """Where an exception was raised, as ``<file>:<line>``; it contains no values."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "an unknown place"


def describe(error: Exception) -> str:
    """An exception for a log: type and message of our own errors, type and place of any other."""
    failure = Failure.of(error)
    return f"{failure.error_type}: {failure.message}"


def guarded(step: Callable[[], T]) -> T | Failure:
    """Return the result of a step, or its failure: an error in one record must not fail the whole batch."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - any exception is this record's failure
        return Failure.of(error)
