"""Calls of the Genesys Cloud API and its login, with retries."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

from requests.auth import AuthBase

from holdfast.adapters.genesys.breaker import ApiCircuitBreaker
from holdfast.adapters.genesys.http import Answer, HttpClient
from holdfast.domain.errors import Misconfigured, Throttled, TransientError, Unavailable
from holdfast.domain.ports import Deadline

TRIES = 3
BACKOFF_BASE_SECONDS = 0.3
#: For a refusal that names no wait. Genesys accepts ten logins a second, and refuses the others of many environments
#: that start at once.
THROTTLED_TRIES = 5
THROTTLED_BASE_SECONDS = 1.0
#: One week. A longer ``Retry-After`` is reduced to this.
MAX_RETRY_AFTER_SECONDS = 604_800.0

_REDIRECT, _CLIENT_ERROR = 300, 400
_TIMED_OUT = 408
_TOO_MANY = 429
#: Genesys does not list 500 among the transient answers. It is retried all the same, because the event can wait.
_SERVER_ERROR = 500
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


class GenesysApi:
    """Makes calls within a deadline. A call is tried several times, a probe of the breaker once."""

    def __init__(self, breaker: ApiCircuitBreaker, sleep: Callable[[float], None], rng: Callable[[], float]) -> None:
        """``rng`` gives numbers in [0, 1) for the jitter."""
        self.usage: Counter[str] = Counter()
        self._http = HttpClient()
        self._breaker = breaker
        self._sleep = sleep
        self._rng = rng

    def call(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        auth: AuthBase,
        data: Mapping[str, str] | None = None,
        check: Callable[[Answer], None] = lambda _answer: None,
    ) -> Answer:
        """Return the answer. One that says that a retry can help is retried.

        ``check`` raises the errors of answers that mean something else than usual.

        Raises:
            TransientError: The last try failed, a retry cannot help before a setting was changed, or the wait before
                the next one does not fit into the deadline.
        """
        for number in count(1):
            try:
                return self._once(method, url, deadline, auth, data, check)
            except TransientError as error:
                tries, base = _TRIES[type(error), error.retry_after is None]
                wait = (error.retry_after or 0.0) + self._rng() * base * 2 ** (number - 1)
                if number >= tries or not self._breaker.closed or wait >= deadline.remaining():
                    raise
            self._sleep(wait)
        raise AssertionError

    def _once(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        auth: AuthBase,
        data: Mapping[str, str] | None,
        check: Callable[[Answer], None],
    ) -> Answer:
        left = deadline.remaining()
        if left <= 0:
            raise Unavailable("the invocation had no time left for a call to the Genesys API")
        self.usage["ApiCalls"] += 1
        answer = self._http.send(method, url, left, auth, data)
        error = _error_of(answer.status)
        if error:
            error.retry_after, error.correlation_id = _retry_after(answer), answer.correlation_id
            raise error
        check(answer)
        return answer


#: How often a call is tried after an error, and the base of the waits; by its type, and whether it names no wait.
_TRIES: dict[tuple[type[TransientError], bool], tuple[int, float]] = {
    (Throttled, True): (THROTTLED_TRIES, THROTTLED_BASE_SECONDS),
    (Throttled, False): (TRIES, BACKOFF_BASE_SECONDS),
    (Unavailable, True): (TRIES, BACKOFF_BASE_SECONDS),
    (Unavailable, False): (TRIES, BACKOFF_BASE_SECONDS),
    (Misconfigured, True): (1, 0.0),
    (Misconfigured, False): (1, 0.0),
}


def _error_of(status: int) -> TransientError | None:
    """The error that a status always means."""
    if status == _TOO_MANY:
        return Throttled("the Genesys API answered 429 (rate limit)")
    if status >= _SERVER_ERROR or status == _TIMED_OUT:
        return Unavailable(f"the Genesys API answered {status}")
    if _REDIRECT <= status < _CLIENT_ERROR:
        return Misconfigured(f"the Genesys API answered {status}, a redirect: check its URL")
    return None


def json_object(answer: Answer) -> Mapping[str, Any]:
    """The JSON object in a successful answer.

    Raises:
        Unavailable: There is none, for example because a proxy answered 200 with an HTML page.
    """
    content = content_of(answer)
    if content is None or answer.status >= _REDIRECT:
        raise Unavailable("the Genesys API did not answer with a JSON object", correlation_id=answer.correlation_id)
    return content


def content_of(answer: Answer) -> Mapping[str, Any] | None:
    """The JSON object in an answer, if there is one."""
    try:
        content = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _retry_after(answer: Answer) -> float | None:
    """The seconds in ``Retry-After``, which may be a date. Without it, a 429 may say when the limit is reset."""
    for name in ("Retry-After", "inin-ratelimit-reset") if answer.status == _TOO_MANY else ("Retry-After",):
        seconds = _seconds(answer.headers.get(name, "").strip())
        if seconds is not None:
            return min(seconds, MAX_RETRY_AFTER_SECONDS)
    return None


def _seconds(value: str) -> float | None:
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
