"""Users by id from ``GET /api/v2/users?id=a,b``.

The API returns only active users that the client may see, at most 500 a page, and accepts URLs of up to 8,192 bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cachetools import TTLCache

from holdfast.adapters.aws import chunks
from holdfast.adapters.genesys.api import GenesysApi, json_object
from holdfast.adapters.genesys.breaker import BREAKER_CAP_SECONDS, CircuitBreaker
from holdfast.adapters.genesys.http import Answer
from holdfast.adapters.genesys.token import TokenCache
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import Misconfigured, Rejected, TransientError, Unavailable
from holdfast.domain.ports import Deadline
from holdfast.domain.users import User

IDS_PER_CALL = 100
CACHED_USERS = 10_000
CACHE_SECONDS = 3_600

_UNAUTHORISED = 401
_FORBIDDEN = 403
_NO_SUCH_API = (404, 405)


@dataclass(frozen=True, slots=True)
class Urls:
    """The base URLs of the API and of its login."""

    api: str
    login: str

    @classmethod
    def of(cls, domain: str, api: str = "", login: str = "") -> Urls:
        """The URLs of a region's domain, unless overridden."""
        return cls(api or f"https://api.{domain}", login or f"https://login.{domain}")


class GenesysUserDirectory:
    """The port ``UserDirectory``: users, and the absence of users, are cached per execution environment."""

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
        """Makes no call. ``breaker_seconds`` are the base and the cap of the circuit breaker."""
        self._url = f"{urls.api}/api/v2/users"
        self._breaker = CircuitBreaker(*breaker_seconds, clock)
        self._api = GenesysApi(self._breaker, sleep, rng)
        self._token = TokenCache(self._api, urls.login, secret, clock)
        self._users: TTLCache[str, User | None] = TTLCache(CACHED_USERS, CACHE_SECONDS, timer=clock)

    def lookup(self, user_ids: Collection[str], deadline: Deadline) -> Mapping[str, User | None]:
        """Find users, with one call for up to 100 that are not cached.

        Raises:
            HoldfastError: A call failed. :meth:`cached` returns the users that are known all the same.
        """
        known = self.cached(user_ids)
        self._api.usage["CacheHits"] += len(known)
        unknown = sorted(set(user_ids) - known.keys())
        for chunk in chunks(unknown, IDS_PER_CALL):
            found = self._fetch(chunk, deadline)
            self._users.update(found)
            known |= found
        return known

    def cached(self, user_ids: Collection[str]) -> dict[str, User | None]:
        """The cached ones of these users."""
        with self._users.timer:  # stops the cache's clock: an entry must not expire between "in" and "[]"
            return {user_id: self._users[user_id] for user_id in user_ids if user_id in self._users}

    def usage(self) -> Mapping[str, int]:
        """``ApiCalls`` and ``CacheHits`` since the last call of this method."""
        usage = self._api.usage.copy()
        self._api.usage.clear()
        return usage

    def _fetch(self, user_ids: list[str], deadline: Deadline) -> dict[str, User | None]:
        self._breaker.check()
        try:
            found = _users_of(self._call(user_ids, deadline))
        except TransientError as error:
            raise self._breaker.failed(error) from error
        except Rejected:
            return self._fetch_halves(user_ids, deadline)
        self._breaker.succeeded()
        return {user_id: found.get(user_id) for user_id in user_ids}

    def _fetch_halves(self, user_ids: list[str], deadline: Deadline) -> dict[str, User | None]:
        """After a rejected call: halve it until the rejected id is found. That user is absent."""
        if len(user_ids) == 1:
            return {user_ids[0]: None}
        middle = len(user_ids) // 2
        return self._fetch(user_ids[:middle], deadline) | self._fetch(user_ids[middle:], deadline)

    def _call(self, user_ids: Collection[str], deadline: Deadline) -> Answer:
        """Call with a token. A refused token is renewed once, whatever its ``expires_in`` was."""
        query = urlencode({"id": ",".join(user_ids), "pageSize": len(user_ids)})
        for _ in range(2):
            token = self._token.get(deadline)
            answer = self._api.call("GET", f"{self._url}?{query}", deadline, token)
            if answer.status != _UNAUTHORISED:
                return answer
            self._token.refused(token)
        raise Misconfigured("the Genesys API refuses a new token: check that the login and the API are of one region")


def _users_of(answer: Answer) -> dict[str, User]:
    if answer.status == _FORBIDDEN:
        raise Misconfigured(
            "the Genesys API refuses to read users: give a role with directory:user:view to the OAuth client"
        )
    if answer.status in _NO_SUCH_API:
        raise Misconfigured(f"the Genesys API answered {answer.status}: check its URL")
    if answer.status >= 400:  # noqa: PLR2004 - the remaining 4xx
        raise Rejected(f"the Genesys API answered {answer.status}")
    entities = json_object(answer).get("entities")
    if not isinstance(entities, list):
        raise Unavailable("the Genesys API returned no list of users: check GenesysApiUrl")
    return {
        entity["id"]: User(_text(entity.get("name")), _text(entity.get("email")))
        for entity in entities
        if isinstance(entity, dict) and isinstance(entity.get("id"), str)
    }


def _text(value: Any) -> str | None:
    """A name or an address, half a surrogate pair replaced: UTF-8 has no form for it."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None
