"""Users, queues and wrap-up codes by id, for example from ``GET /api/v2/users?id=a,b&state=any``.

The API returns only what the client may see, without ``state=any`` only active users, at most 500 a page, and accepts
URLs of up to 8,192 bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cachetools import TTLCache

from holdfast.adapters.aws import chunks
from holdfast.adapters.genesys.api import GenesysApi, json_object
from holdfast.adapters.genesys.breaker import BREAKER_CAP_SECONDS, ApiCircuitBreaker
from holdfast.adapters.genesys.http import Answer
from holdfast.adapters.genesys.token import TokenCache
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import Misconfigured, Rejected, TransientError, Unavailable
from holdfast.domain.ports import Deadline
from holdfast.domain.users import Entity, Kind

IDS_PER_CALL = 100
#: The API is asked for all ids on one page. It may make smaller ones.
PAGES_LIMIT = 10
#: Of each kind.
CACHED_ENTRIES = 10_000
CACHE_SECONDS = 3_600

_UNAUTHORISED = 401
_FORBIDDEN = 403
_NO_SUCH_API = (404, 405)


class _Refused(Exception):
    """The API refuses one kind, for example because a permission is missing. The others can be looked up."""

    def __init__(self, error: Misconfigured) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True)
class Urls:
    """The base URLs of the API and of its login."""

    api: str
    login: str

    @classmethod
    def of(cls, domain: str, api: str = "", login: str = "") -> Urls:
        """The URLs of a region's domain, unless overridden."""
        return cls(api or f"https://api.{domain}", login or f"https://login.{domain}")


@dataclass(frozen=True, slots=True)
class _Resource:
    """How one kind is requested: the path, the permission that the OAuth client needs, and further parameters.

    ``one_list`` is whether the ids stand in one parameter, separated by commas, or each in its own.
    """

    path: str
    permission: str
    one_list: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    def query(self, ids: Collection[str], page: int) -> str:
        named = {"id": ",".join(ids) if self.one_list else list(ids)}
        number = {"pageNumber": page} if page > 1 else {}
        return urlencode({**named, "pageSize": len(ids), **self.parameters, **number}, doseq=True)


_RESOURCES = {
    # Who left the organisation is inactive. Without the parameter, a replay would find no name for them.
    Kind.USERS: _Resource("/api/v2/users", "directory:user:view", one_list=True, parameters={"state": "any"}),
    Kind.QUEUES: _Resource("/api/v2/routing/queues", "routing:queue:view"),
    Kind.WRAP_UP_CODES: _Resource("/api/v2/routing/wrapupcodes", "routing:wrapupCode:view"),
}


class GenesysUserDirectory:
    """The port ``UserDirectory``: entries, and their absence, are cached per execution environment."""

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
        self._url = urls.api
        self._breaker = ApiCircuitBreaker(*breaker_seconds, clock)
        self._breakers = {kind: ApiCircuitBreaker(*breaker_seconds, clock) for kind in Kind}
        self._api = GenesysApi(self._breaker, sleep, rng)
        self._token = TokenCache(self._api, urls.login, secret, clock)
        self._caches: dict[Kind, TTLCache[str, Entity | None]] = {
            kind: TTLCache(CACHED_ENTRIES, CACHE_SECONDS, timer=clock) for kind in Kind
        }

    def lookup(self, ids: Collection[str], deadline: Deadline, kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        """Find entries of one kind by their ids in lower case, with one call for up to 100 that are not cached.

        Raises:
            HoldfastError: A call failed. :meth:`cached` returns the entries that are known all the same.
        """
        known = self.cached(ids, kind)
        self._api.usage["CacheHits"] += len(known)
        unknown = sorted(set(ids) - known.keys())
        for chunk in chunks(unknown, IDS_PER_CALL):
            found = self._fetch(kind, chunk, deadline)
            self._caches[kind].update(found)
            known |= found
        # If a page is missing, some ids stay unknown. They are None here, and are not cached.
        return dict.fromkeys(ids) | known if len(known) < len(ids) else known

    def cached(self, ids: Collection[str], kind: Kind = Kind.USERS) -> dict[str, Entity | None]:
        """The cached ones of these entries."""
        cache = self._caches[kind]
        with cache.timer:  # stops the cache's clock: an entry must not expire between "in" and "[]"
            return {one: cache[one] for one in ids if one in cache}

    def usage(self) -> Mapping[str, int]:
        """``ApiCalls`` and ``CacheHits`` since the last call of this method."""
        usage = self._api.usage.copy()
        self._api.usage.clear()
        return usage

    def _fetch(self, kind: Kind, ids: list[str], deadline: Deadline) -> dict[str, Entity | None]:
        """The entries, and ``None`` for the ids that the API certainly does not show."""
        self._breaker.check()
        self._breakers[kind].check()
        try:
            found, complete = self._pages(kind, ids, deadline)
        except TransientError as error:
            raise self._breaker.failed(error) from error
        except _Refused as refused:
            self._breaker.succeeded()
            raise self._breakers[kind].failed(refused.error) from None
        except Rejected:
            return self._fetch_halves(kind, ids, deadline)
        self._breaker.succeeded()
        self._breakers[kind].succeeded()
        return {one: found.get(one) for one in ids if complete or one in found}

    def _fetch_halves(self, kind: Kind, ids: list[str], deadline: Deadline) -> dict[str, Entity | None]:
        """After a rejected call: halve it until the rejected id is found. It has no entry."""
        if len(ids) == 1:
            return {ids[0]: None}
        middle = len(ids) // 2
        return self._fetch(kind, ids[:middle], deadline) | self._fetch(kind, ids[middle:], deadline)

    def _pages(self, kind: Kind, ids: Collection[str], deadline: Deadline) -> tuple[dict[str, Entity], bool]:
        """The entries of all pages, and whether these are all that the API has for the ids."""
        found: dict[str, Entity] = {}
        for number in range(1, PAGES_LIMIT + 1):
            page = _page_of(self._call(kind, ids, number, deadline), _RESOURCES[kind])
            found |= _entries_of(page["entities"])
            pages, total = (_count(page.get(name)) for name in ("pageCount", "total"))
            if number >= pages or not page["entities"]:
                return found, total <= len(found)
        return found, False

    def _call(self, kind: Kind, ids: Collection[str], page: int, deadline: Deadline) -> Answer:
        """Call with a token. A refused token is renewed once, whatever its ``expires_in`` was."""
        resource = _RESOURCES[kind]
        url = f"{self._url}{resource.path}?{resource.query(ids, page)}"
        for _ in range(2):
            token = self._token.get(deadline)
            answer = self._api.call("GET", url, deadline, token)
            if answer.status != _UNAUTHORISED:
                return answer
            self._token.refused(token)
        raise Misconfigured(
            "the Genesys API refuses a new token: check that the login and the API are of one region",
            correlation_id=answer.correlation_id,
        )


def _page_of(answer: Answer, resource: _Resource) -> Mapping[str, Any]:
    """A page with its list of entities, or the error that the answer is."""
    correlation_id = answer.correlation_id
    if answer.status == _FORBIDDEN:
        message = f"the Genesys API refuses {resource.path}: give a role with {resource.permission} to the OAuth client"
        raise _Refused(Misconfigured(message, correlation_id=correlation_id))
    if answer.status in _NO_SUCH_API:
        message = f"the Genesys API answered {answer.status}: check its URL"
        raise _Refused(Misconfigured(message, correlation_id=correlation_id))
    if answer.status >= 400:  # noqa: PLR2004 - the remaining 4xx
        raise Rejected(f"the Genesys API answered {answer.status}", correlation_id=correlation_id)
    page = json_object(answer)
    if not isinstance(page.get("entities"), list):
        raise Unavailable("the Genesys API returned no list: check GenesysApiUrl", correlation_id=correlation_id)
    return page


def _entries_of(entities: Collection[Any]) -> dict[str, Entity]:
    """The entries by their ids in lower case."""
    return {
        entity["id"].lower(): Entity(_text(entity.get("name")), _text(entity.get("email")))
        for entity in entities
        if isinstance(entity, dict) and isinstance(entity.get("id"), str)
    }


def _count(value: Any) -> int:
    return value if type(value) is int else 0


def _text(value: Any) -> str | None:
    """A name or an address, half a surrogate pair replaced: UTF-8 has no form for it."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else None
