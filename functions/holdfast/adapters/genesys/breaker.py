"""The circuit breaker of the Genesys client."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.domain.errors import HoldfastError

BREAKER_CAP_SECONDS = 30.0


class ApiCircuitBreaker:
    """Stops calls to an API that fails.

    Closed: calls pass. Open: calls fail at once with the error that opened it. Half-open, once the wait is over: the
    next call is a probe; its success closes the breaker, its failure opens it again.

    The breaker stays open for ``base_seconds``, twice as long after every probe that fails, up to ``cap_seconds``. A
    longer ``Retry-After`` of the API has precedence.
    """

    def __init__(self, base_seconds: float, cap_seconds: float, clock: Callable[[], float]) -> None:
        """``clock`` gives monotonic seconds. A ``cap_seconds`` above :data:`BREAKER_CAP_SECONDS` is reduced to it."""
        self._seconds = base_seconds
        self._base_seconds = base_seconds
        self._cap_seconds = min(cap_seconds, BREAKER_CAP_SECONDS)
        self._clock = clock
        self._open_until = 0.0
        self._error: HoldfastError | None = None

    def check(self) -> None:
        """Raise the error that opened the breaker, with the seconds until the next probe, while it is open."""
        left = self._open_until - self._clock()
        if self._error and left > 0:
            # The same message as the first failure, so that both have one fingerprint.
            raise _again(self._error, left)

    @property
    def closed(self) -> bool:
        """Whether the last call succeeded. After :meth:`check`, a breaker that is not closed is half-open."""
        return self._error is None

    def failed(self, error: HoldfastError) -> HoldfastError:
        """Open after this error. Returns the error with the seconds until the next probe."""
        seconds = max(error.retry_after or 0.0, self._seconds)
        self._seconds = min(self._seconds * 2, self._cap_seconds)
        self._open_until = self._clock() + seconds
        self._error = _again(error, seconds)
        return self._error

    def succeeded(self) -> None:
        """Close."""
        self._seconds = self._base_seconds
        self._error = None


def _again(error: HoldfastError, seconds: float) -> HoldfastError:
    return type(error)(str(error), retry_after=seconds, correlation_id=error.correlation_id)
