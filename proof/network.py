"""The network between the functions and AWS, with faults: microburst on a port of this machine.

Each service has its own words for the same fault, and boto3 decides by them whether to try again, so they are spelled
out here. A response that is lost was an effect: AWS did it, and the caller sees a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from microburst.core.pipeline import Microburst
from microburst.forward import Upstream
from microburst.stats import ProxyStats
from yarl import URL

from local.engine import HOST

#: By the names that microburst gives them.
SERVICES = ("dynamodb", "events", "s3", "secretsmanager", "sqs", "stepfunctions")
#: boto3 waits ten seconds for an answer.
HOLD_MS = 11_000
_LARGEST_BODY = 16 * 2**20
_REMEMBERED = 1_000_000
_START_SECONDS = 10

_THROTTLED = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "events": ("ThrottlingException", 400),
    "s3": ("SlowDown", 503),
    "secretsmanager": ("ThrottlingException", 400),
    "sqs": ("RequestThrottled", 503),
    "stepfunctions": ("ThrottlingException", 400),
}
_BROKEN = {
    "dynamodb": ("InternalServerError", 500),
    "events": ("InternalException", 500),
    "s3": ("InternalError", 500),
    "secretsmanager": ("InternalServiceError", 500),
    "sqs": ("ServiceUnavailable", 503),
    "stepfunctions": ("ServiceUnavailable", 503),
}
_DENIED = dict.fromkeys(SERVICES, ("AccessDeniedException", 400)) | {"s3": ("AccessDenied", 403)}
_GONE = {
    "dynamodb": ("ResourceNotFoundException", 400),
    "events": ("ResourceNotFoundException", 400),
    "s3": ("NoSuchBucket", 404),
    "secretsmanager": ("ResourceNotFoundException", 400),
    "sqs": ("QueueDoesNotExist", 400),
    "stepfunctions": ("StateMachineDoesNotExist", 400),
}

FAULTS = ("throttled", "broken", "reset", "lost", "timeout", "denied", "gone")


def effect(fault: str, service: str) -> dict[str, Any]:
    """What microburst has to do for a fault of a service."""
    match fault:
        case "reset":
            return {"reset": True}
        case "lost":
            return {"response": {"abort_frac": 0.0}}
        case "timeout":
            return {"timeout_ms": HOLD_MS}
        case "slow":
            return {"latency": {"min": 100, "max": 1_500}}
    code, status = {"throttled": _THROTTLED, "broken": _BROKEN, "denied": _DENIED, "gone": _GONE}[fault][service]
    return {"error": {"code": code, "status": status}}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``share`` of the calls that match are hit, ``times`` of them at most."""

    name: str
    service: str
    operation: str | None = None
    function: str | None = None
    share: float = 1.0
    times: int | None = None

    def rule(self) -> dict[str, Any]:
        """The fault in microburst's words; it knows the function by what boto3 calls itself."""
        rule: dict[str, Any] = {"service": self.service, "probability": self.share, **effect(self.name, self.service)}
        rule |= {"operation": self.operation} if self.operation else {}
        rule |= {"times": self.times} if self.times else {}
        return rule | ({"headers": {"User-Agent": f"app/{self.function}"}} if self.function else {})


class _Base(str):
    """Makes URLs that aiohttp does not quote anew: a ``%3D`` in a key is signed as it stands."""

    __slots__ = ()

    def __add__(self, path: str) -> URL:  # type: ignore[override]  # aiohttp takes either
        return URL(super().__add__(path), encoded=True)


class _Unchanged(Upstream):  # type: ignore[misc]  # microburst has no types
    """Passes on what the caller signed, its ``Host`` too: the engine checks signatures as AWS does."""

    def __init__(self, base_url: str, stats: ProxyStats) -> None:
        super().__init__(base_url, stats=stats)
        self.base_url: str = _Base(base_url)

    def _outbound_headers(self, request: web.Request) -> dict[str, str]:
        return {**super()._outbound_headers(request), "host": request.host}


class Network:
    """The proxy for the time of a ``with`` block."""

    def __init__(self, upstream: str, seed: int | None = None) -> None:
        self._burst = Microburst(upstream, fired_capacity=_REMEMBERED)
        self._burst.upstream = _Unchanged(upstream, self._burst.stats)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._rules: dict[Fault, Any] = {}
        # What it breaks on purpose is no news.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        # microburst draws from Python's own generator.
        random.seed(seed)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("the proxy did not come up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    @property
    def url(self) -> str:
        """What stands for every AWS service."""
        return f"http://{HOST}:{self._port}"

    def set_faults(self, faults: Iterable[Fault] = ()) -> None:
        """From here on exactly these happen."""
        faults = list(faults)
        self._rules = dict(zip(faults, self._burst.engine.set_rules([fault.rule() for fault in faults]), strict=True))

    def hits(self, fault: Fault) -> int:
        """How often one of the faults that are set now has hit."""
        return int(self._rules[fault].fired_count)

    def fired(self) -> Counter[tuple[str, str, str]]:
        """How often each fault has hit so far: service, operation, what microburst did."""
        events = list(self._burst.fired)
        return Counter((str(e.service), str(e.operation), e.action.partition(":")[0]) for e in events)

    @property
    def calls(self) -> int:
        """How many calls have come by."""
        return int(self._burst.requests_seen)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        if self._runner:
            self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.on_startup.append(self._burst.start)
        app.on_cleanup.append(self._burst.stop)
        app.router.add_route("*", "/{tail:.*}", self._burst.handle_proxy)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self._port = self._runner.addresses[0][1]


def actions(fired: Mapping[tuple[str, str, str], int]) -> Counter[str]:
    """The same by what was done."""
    counted: Counter[str] = Counter()
    for (_, _, action), count in fired.items():
        counted[action] += count
    return counted
