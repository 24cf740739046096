"""Users from the Genesys Cloud API, as few calls as possible and never against a closed door.

An answer is bounded in time and in size, whatever the other side does: a read time-out alone lets one byte every few
seconds go on for ever, and a few kilobytes can unpack to gigabytes.

Facts: bulk ``GET /api/v2/users?id=a,b`` answers only active, visible users, at most 500 a page and 8,192 bytes of URL;
tokens come from ``POST https://login.<domain>/oauth/token`` with the client's credentials and can end before
``expires_in`` (https://developer.genesys.cloud/authorization/platform-auth/use-client-credentials).
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeGuard
from urllib.parse import urlencode

# Not requests: boto3 has loaded urllib3 already, so a cold start pays for no second HTTP client (docs/performance.md).
import urllib3
from cachetools import TTLCache

from holdfast.adapters.aws import chunks
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import HoldfastError, Misconfigured, Rejected, Throttled, TransientError, Unavailable
from holdfast.domain.ports import Deadline
from holdfast.domain.users import User

IDS_PER_CALL = 100
CACHED_USERS = 10_000
CACHE_SECONDS = 3_600
#: A token is renewed this long before its end.
TOKEN_MARGIN_SECONDS = 60
TRIES = 3
BACKOFF_BASE_SECONDS = 0.3
CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
#: From the first byte sent to the last one received.
ANSWER_SECONDS = 10.0
#: Unpacked. A hundred users are some 200 kB.
ANSWER_BYTES_LIMIT = 4 * 1024 * 1024
#: https://developer.genesys.cloud/authorization/platform-auth/use-client-credentials: no token lives longer.
TOKEN_SECONDS_LIMIT = 172_800
#: The longest that the door stays closed, unless the API itself asks for more.
BREAKER_CAP_SECONDS = 30.0
MAX_RETRY_AFTER_SECONDS = 604_800.0

_UNAUTHORISED = 401
_FORBIDDEN = 403
_NO_SUCH_API = (404, 405)
_TIMED_OUT = 408
_TOO_MANY = 429
#: 500 is not named transient by Genesys, and is one all the same for an event that may wait.
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the API and its login are."""

    api: str
    login: str

    @classmethod
    def of(cls, domain: str, api: str = "", login: str = "") -> Urls:
        """The hosts of a region's domain, unless overridden."""
        return cls(api or f"https://api.{domain}", login or f"https://login.{domain}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said, read to its end."""

    status: int
    retry_after: str
    content: bytes


class Breaker:
    """Remembers that the API was given up: until a probe succeeds, calls fail at once with the same category.

    The door stays closed for ``base_seconds``, twice as long after every probe that fails, up to ``cap_seconds``; what
    the API asks for beats both.
    """

    def __init__(self, base_seconds: float, cap_seconds: float, clock: Callable[[], float]) -> None:
        """``clock`` gives monotonic seconds."""
        self._seconds = base_seconds
        self._base_seconds = base_seconds
        self._cap_seconds = min(cap_seconds, BREAKER_CAP_SECONDS)
        self._clock = clock
        self._open_until = 0.0
        self._error: HoldfastError | None = None

    def check(self) -> None:
        """Raise what closed the door, with the seconds until it may be tried again."""
        left = self._open_until - self._clock()
        if self._error and left > 0:
            # The words of the first failure: one cause has one fingerprint, called or not.
            raise type(self._error)(str(self._error), retry_after=left)

    @property
    def probing(self) -> bool:
        """Whether the next call is the one that finds out."""
        return self._error is not None

    def opened(self, error: HoldfastError) -> HoldfastError:
        """Close the door, and answer the error with the time for which it stays closed."""
        seconds = max(error.retry_after or 0.0, self._seconds)
        self._seconds = min(self._seconds * 2, self._cap_seconds)
        self._open_until = self._clock() + seconds
        self._error = type(error)(str(error), retry_after=seconds)
        return self._error

    def closed(self) -> None:
        """The API answered."""
        self._seconds = self._base_seconds
        self._error = None


class GenesysUserDirectory:
    """Users by id, cached per execution environment, absence too."""

    def __init__(
        self,
        urls: Urls,
        secret: CredentialsSecret,
        *,
        breaker_seconds: tuple[float, float] = (2.0, BREAKER_CAP_SECONDS),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is called before the first lookup. ``breaker_seconds`` are its base and its cap."""
        self._usage: Counter[str] = Counter()
        self._urls = urls
        self._secret = secret
        self._pool = urllib3.PoolManager(retries=False)
        self._calls = ThreadPoolExecutor(thread_name_prefix="genesys")
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._users: TTLCache[str, User | None] = TTLCache(CACHED_USERS, CACHE_SECONDS, timer=clock)
        self._breaker = Breaker(*breaker_seconds, clock)
        self._token = ""
        self._token_ends = 0.0
        self._lock = threading.Lock()

    def lookup(self, user_ids: Collection[str], deadline: Deadline) -> Mapping[str, User | None]:
        """Find users, all unknown ones of up to 100 in one call.

        Raises:
            HoldfastError: Some could not be asked for; :meth:`cached` tells what is known all the same.
        """
        known = self.cached(user_ids)
        self._usage["CacheHits"] += len(known)
        unknown = sorted(set(user_ids) - known.keys())
        for chunk in chunks(unknown, IDS_PER_CALL):
            found = self._ask(chunk, deadline)
            self._users.update(found)
            known |= found
        return known

    def cached(self, user_ids: Collection[str]) -> dict[str, User | None]:
        """What is known of these users without asking the API."""
        with self._users.timer:  # time stands still, so that no entry ends between the two looks at it
            return {user_id: self._users[user_id] for user_id in user_ids if user_id in self._users}

    def usage(self) -> Mapping[str, int]:
        """``ApiCalls`` and ``CacheHits`` since this was asked last."""
        usage, self._usage = self._usage, Counter()
        return usage

    def _ask(self, user_ids: Collection[str], deadline: Deadline) -> dict[str, User | None]:
        self._breaker.check()
        try:
            found = self._users_of(self._authorised(user_ids, deadline))
        except TransientError as error:
            raise self._breaker.opened(error) from error
        except Rejected:
            return self._without_the_refused(list(user_ids), deadline)
        self._breaker.closed()
        return {user_id: found.get(user_id) for user_id in user_ids}

    def _without_the_refused(self, user_ids: list[str], deadline: Deadline) -> dict[str, User | None]:
        """The API refuses the request: halve it until the id is found that it refuses. That user is absent."""
        if len(user_ids) == 1:
            return {user_ids[0]: None}
        middle = len(user_ids) // 2
        return self._ask(user_ids[:middle], deadline) | self._ask(user_ids[middle:], deadline)

    def _authorised(self, user_ids: Collection[str], deadline: Deadline) -> Answer:
        """Ask with a token; a refused one is renewed once, whatever its ``expires_in`` said."""
        query = urlencode({"id": ",".join(user_ids), "pageSize": len(user_ids)})
        for last in (False, True):
            token = self._current_token(deadline)
            headers = {"Authorization": f"Bearer {token}"}
            answer = self._call("GET", f"{self._urls.api}/api/v2/users?{query}", deadline, headers)
            if answer.status != _UNAUTHORISED:
                return answer
            self._forget(token)
            if last:
                break
        raise Misconfigured("the Genesys API refuses a fresh token")

    def _current_token(self, deadline: Deadline) -> str:
        with self._lock:  # concurrent use asks once
            if not self._token or self._clock() >= self._token_ends:
                self._renew(deadline)
            return self._token

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = ""

    def _renew(self, deadline: Deadline) -> None:
        answer = self._login(deadline)
        if answer.status in (400, _UNAUTHORISED) and self._secret.renewed():
            answer = self._login(deadline)
        if answer.status in (400, _UNAUTHORISED):
            raise Misconfigured("the Genesys login refuses the client's credentials")
        granted = _object_of(answer)
        token, lifetime = granted.get("access_token"), granted.get("expires_in")
        if not _is_token(token) or not isinstance(lifetime, int | float):
            raise Unavailable("the Genesys login answered no token")
        self._token = token
        self._token_ends = self._clock() + min(TOKEN_SECONDS_LIMIT, lifetime) - TOKEN_MARGIN_SECONDS

    def _login(self, deadline: Deadline) -> Answer:
        credentials = self._secret.get()
        headers = {
            **urllib3.make_headers(basic_auth=f"{credentials.client_id}:{credentials.client_secret}"),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"grant_type": "client_credentials"})
        return self._call("POST", f"{self._urls.login}/oauth/token", deadline, headers, body)

    def _call(
        self, method: str, url: str, deadline: Deadline, headers: Mapping[str, str], body: str | None = None
    ) -> Answer:
        """One request with retries: 2xx and 4xx that are somebody's decision are answered, the rest is raised."""
        last_try = 0 if self._breaker.probing else TRIES - 1
        for number in count():
            result = self._tried(method, url, deadline, headers, body)
            if isinstance(result, Answer):
                return result
            wait = self._wait(number, result)
            if number == last_try or wait >= deadline.remaining():
                raise result
            self._sleep(wait)
        raise AssertionError

    def _tried(
        self, method: str, url: str, deadline: Deadline, headers: Mapping[str, str], body: str | None
    ) -> Answer | HoldfastError:
        left = deadline.remaining()
        if left <= 0:
            return Unavailable("no time was left to ask the Genesys API")
        self._usage["ApiCalls"] += 1
        waits = urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=min(READ_SECONDS, left))
        # A call that is given up goes on in its thread until the other side ends it; this one waits no longer.
        call = self._calls.submit(self._answer, method, url, headers, body, waits)
        try:
            answer = call.result(min(ANSWER_SECONDS, left))
        except TimeoutError:
            call.cancel()
            return Unavailable("the Genesys API did not answer in time")
        except urllib3.exceptions.HTTPError as error:
            # Its text names hosts and parameters, so only its type is told.
            return Unavailable(f"the Genesys API did not answer: {type(error).__name__}")
        if len(answer.content) > ANSWER_BYTES_LIMIT:
            return Unavailable("the Genesys API answered more than anybody asked for")
        return _transient_error(answer) or answer

    def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: str | None, waits: urllib3.Timeout
    ) -> Answer:
        """Call, and read no more than one piece beyond the limit."""
        response = self._pool.request(
            method,
            url,
            headers={**headers, "Accept-Encoding": "gzip"},
            body=body,
            timeout=waits,
            redirect=False,
            preload_content=False,
        )
        content = bytearray()
        with response:
            for piece in response.stream(64 * 1024):
                content += piece
                if len(content) > ANSWER_BYTES_LIMIT:
                    break
        return Answer(response.status, response.headers.get("Retry-After", ""), bytes(content))

    def _wait(self, number: int, error: HoldfastError) -> float:
        jitter: float = self._rng() * BACKOFF_BASE_SECONDS * 2**number
        return (error.retry_after or 0.0) + jitter

    def _users_of(self, answer: Answer) -> dict[str, User]:
        if answer.status == _FORBIDDEN:
            raise Misconfigured("the client's roles do not allow to read users (directory:user:view)")
        if answer.status in _NO_SUCH_API:
            raise Misconfigured(f"the Genesys API answered {answer.status}: is its URL right?")
        if answer.status >= 400:  # noqa: PLR2004 - HTTP's own line
            raise Rejected(f"the Genesys API answered {answer.status}")
        entities = _object_of(answer).get("entities")
        if not isinstance(entities, list):
            raise Unavailable("the Genesys API answered no list of users")
        return {
            entity["id"]: User(_text(entity.get("name")), _text(entity.get("email")))
            for entity in entities
            if isinstance(entity, dict) and isinstance(entity.get("id"), str)
        }


def _transient_error(answer: Answer) -> HoldfastError | None:
    status = answer.status
    if status == _TOO_MANY:
        return Throttled("the Genesys API asks for fewer calls", retry_after=_retry_after(answer))
    if status >= _SERVER_ERROR or status == _TIMED_OUT:
        return Unavailable(f"the Genesys API answered {status}", retry_after=_retry_after(answer))
    return None


def _retry_after(answer: Answer) -> float | None:
    """Seconds; Genesys sends no dates here. Nobody means more than a week."""
    value = answer.retry_after
    return min(float(value[:9]), MAX_RETRY_AFTER_SECONDS) if value.isascii() and value.isdecimal() else None


def _object_of(answer: Answer) -> Mapping[str, Any]:
    """The answer's JSON object. A proxy's HTML page with status 200 is no answer of the API."""
    try:
        told = json.loads(answer.content)
    except (ValueError, RecursionError):
        told = None
    if answer.status >= 300 or not isinstance(told, dict):  # noqa: PLR2004 - redirects are not followed
        raise Unavailable("the Genesys API answered something else than its JSON")
    return told


def _is_token(value: Any) -> TypeGuard[str]:
    """Whether a value can stand in a header."""
    return isinstance(value, str) and re.fullmatch(r"[!-~]+", value) is not None


def _text(value: Any) -> str | None:
    """A name or an address; half a surrogate pair in it becomes a question mark, or no event could hold it."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None
