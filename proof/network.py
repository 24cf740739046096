"""The network between the functions and AWS, with faults: the proxy microburst on a port of this machine.

boto3 decides by the error code whether to retry, and each service has its own codes for the same fault. A lost response
means that AWS has done the work and the caller sees a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from microburst.core.pipeline import Microburst
from microburst.forward import Upstream
from microburst.stats import ProxyStats
from yarl import URL

from local.engine import HOST

#: The services, by microburst's names.
SERVICES = ("dynamodb", "events", "lambda", "s3", "secretsmanager", "sqs", "stepfunctions")
#: The functions' boto3 clients wait ten seconds for a response.
HOLD_MS = 11_000
_LARGEST_BODY = 16 * 2**20
_REMEMBERED = 1_000_000
_START_SECONDS = 10

_THROTTLED = dict.fromkeys(SERVICES, ("ThrottlingException", 400)) | {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "lambda": ("TooManyRequestsException", 429),
    "s3": ("SlowDown", 503),
    "sqs": ("RequestThrottled", 503),
}
_BROKEN = dict.fromkeys(SERVICES, ("ServiceUnavailable", 503)) | {
    "dynamodb": ("InternalServerError", 500),
    "events": ("InternalException", 500),
    "lambda": ("ServiceException", 500),
    "s3": ("InternalError", 500),
    "secretsmanager": ("InternalServiceError", 500),
}
_DENIED = dict.fromkeys(SERVICES, ("AccessDeniedException", 400)) | {"s3": ("AccessDenied", 403)}
#: No Retry of a state machine covers this error.
_REJECTED = dict.fromkeys(SERVICES, ("ValidationException", 400))
_GONE = dict.fromkeys(SERVICES, ("ResourceNotFoundException", 400)) | {
    "s3": ("NoSuchBucket", 404),
    "sqs": ("QueueDoesNotExist", 400),
    "stepfunctions": ("StateMachineDoesNotExist", 400),
}

_ERRORS = {"throttled": _THROTTLED, "broken": _BROKEN, "denied": _DENIED, "rejected": _REJECTED, "gone": _GONE}
FAULTS = ("throttled", "broken", "reset", "lost", "timeout", "denied", "gone")


def effect(fault: str, service: str) -> dict[str, Any]:
    """The fault of a service as microburst's configuration."""
    match fault:
        case "reset":
            return {"reset": True}
        case "lost":
            return {"response": {"abort_frac": 0.0}}
        case "timeout":
            return {"timeout_ms": HOLD_MS}
        case "slow":
            return {"latency": {"min": 100, "max": 1_500}}
    code, status = _ERRORS[fault][service]
    return {"error": {"code": code, "status": status}}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it hits ``share`` of the matching calls, at most ``times`` of them."""

    name: str
    service: str
    operation: str | None = None
    function: str | None = None
    share: float = 1.0
    times: int | None = None

    def rule(self) -> dict[str, Any]:
        """The fault as a rule of microburst. The function is matched by its user agent."""
        rule: dict[str, Any] = {"service": self.service, "probability": self.share, **effect(self.name, self.service)}
        rule |= {"operation": self.operation} if self.operation else {}
        rule |= {"times": self.times} if self.times else {}
        return rule | ({"headers": {"User-Agent": f"app/{self.function}"}} if self.function else {})


class _Base(str):
    """A base URL whose paths aiohttp does not encode again, because the signature covers them as they are."""

    __slots__ = ()

    def __add__(self, path: str) -> URL:  # type: ignore[override]  # aiohttp takes either
        return URL(super().__add__(path), encoded=True)


class _Unchanged(Upstream):  # type: ignore[misc]  # microburst has no types
    """Forwards requests unchanged, ``Host`` included: the engine checks signatures as AWS does."""

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
        # Connections that are broken on purpose must not be logged.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
        # microburst uses the module-level generator.
        random.seed(seed)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("The proxy did not start.")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    @property
    def url(self) -> str:
        """The URL of the proxy, for every AWS service."""
        return f"http://{HOST}:{self._port}"

    def set_faults(self, faults: Iterable[Fault] = ()) -> None:
        """Replace the current faults."""
        faults = list(faults)
        self._rules = dict(zip(faults, self._burst.engine.set_rules([fault.rule() for fault in faults]), strict=True))

    def hits(self, fault: Fault) -> int:
        """How often one of the current faults has hit."""
        return int(self._rules[fault].fired_count)

    def fired(self) -> Counter[tuple[str, str, str]]:
        """How often faults have hit so far, by service, operation and microburst's action."""
        events = list(self._burst.fired)
        return Counter((str(e.service), str(e.operation), e.action.partition(":")[0]) for e in events)

    @property
    def calls(self) -> int:
        """How many calls the proxy has received."""
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
