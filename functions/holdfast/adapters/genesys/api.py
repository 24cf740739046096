"""Calls of the Genesys Cloud API and its login, with retries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from requests.auth import AuthBase

from holdfast.adapters.genesys.breaker import CircuitBreaker
from holdfast.adapters.genesys.http import Answer, HttpClient
from holdfast.domain.errors import Throttled, TransientError, Unavailable
from holdfast.domain.ports import Deadline

TRIES = 3
BACKOFF_BASE_SECONDS = 0.3
#: One week. A longer ``Retry-After`` is reduced to this.
MAX_RETRY_AFTER_SECONDS = 604_800.0

_TIMED_OUT = 408
_TOO_MANY = 429
#: Genesys does not list 500 among the transient answers. It is retried all the same, because the event can wait.
_SERVER_ERROR = 500


class GenesysApi:
    """Makes calls within a deadline. A call is tried up to :data:`TRIES` times, and once as a probe of the breaker."""

    def __init__(self, breaker: CircuitBreaker, sleep: Callable[[float], None], rng: Callable[[], float]) -> None:
        """``rng`` gives numbers in [0, 1) for the jitter."""
        self.usage: Counter[str] = Counter()
        self._http = HttpClient()
        self._breaker = breaker
        self._sleep = sleep
        self._rng = rng

    def call(
        self, method: str, url: str, deadline: Deadline, auth: AuthBase, data: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer, unless it says that a retry can help.

        Raises:
            TransientError: The last try failed, or the wait before the next one does not fit into the deadline.
        """
        last_try = TRIES - 1 if self._breaker.closed else 0
        for number in count():
            try:
                return self._once(method, url, deadline, auth, data)
            except TransientError as error:
                wait = (error.retry_after or 0.0) + self._rng() * BACKOFF_BASE_SECONDS * 2**number
                if number == last_try or wait >= deadline.remaining():
                    raise
            self._sleep(wait)
        raise AssertionError

    def _once(
        self, method: str, url: str, deadline: Deadline, auth: AuthBase, data: Mapping[str, str] | None
    ) -> Answer:
        left = deadline.remaining()
        if left <= 0:
            raise Unavailable("the invocation had no time left for a call to the Genesys API")
        self.usage["ApiCalls"] += 1
        answer = self._http.send(method, url, left, auth, data)
        if answer.status == _TOO_MANY:
            raise Throttled("the Genesys API answered 429 (rate limit)", retry_after=_retry_after(answer))
        if answer.status >= _SERVER_ERROR or answer.status == _TIMED_OUT:
            raise Unavailable(f"the Genesys API answered {answer.status}", retry_after=_retry_after(answer))
        return answer


def json_object(answer: Answer) -> Mapping[str, Any]:
    """The JSON object in a successful answer.

    Raises:
        Unavailable: There is none, for example because a proxy answered 200 with an HTML page.
    """
    try:
        content = json.loads(answer.content)
    except (ValueError, RecursionError):
        content = None
    if answer.status >= 300 or not isinstance(content, dict):  # noqa: PLR2004 - redirects are not followed
        raise Unavailable("the Genesys API did not answer with a JSON object")
    return content


def _retry_after(answer: Answer) -> float | None:
    """Seconds. Genesys sends no dates here."""
    value = answer.retry_after
    return min(float(value[:9]), MAX_RETRY_AFTER_SECONDS) if value.isascii() and value.isdecimal() else None
