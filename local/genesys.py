"""A stand-in for the Genesys Cloud platform API: tokens, users, queues and wrap-up codes, with faults on demand.

It checks client credentials, bearer tokens, page sizes and the rate limit, answers in the same format as Genesys Cloud
and counts its requests. It derives users from their ids, so it needs no data. Faults are set at run time, also from
another process:

    python -m local.genesys --port 8080
    curl -X PUT  localhost:8080/_faults -d '{"status": 429, "retryAfter": 120}'      every answer is a 429
    curl -X PUT  localhost:8080/_faults -d '{"status": 401, "times": 1}'             only the next answer is a 401
    curl -X PUT  localhost:8080/_faults -d '{"latencySeconds": 0.5, "rate": 0.3}'    30% of the answers are slow
    curl -X PUT  localhost:8080/_faults -d '{"down": true, "path": "/oauth/token"}'  the login closes connections
    curl -X PUT  localhost:8080/_faults -d '{"rejectCredentials": true}'             the login refuses the client
    curl -X PUT  localhost:8080/_faults -d '{"status": 404, "html": true}'           a gateway's page
    curl -X PUT  localhost:8080/_faults -d '{"status": 302, "headers": {"Location": "/x"}}'
    curl -X PUT  localhost:8080/_faults -d '{"tokensPerSecond": 10}'                 more tokens are refused, with 400
    curl -X PUT  localhost:8080/_faults -d '{"expiresIn": "300"}'                    as text; null leaves it out
    curl -X PUT  localhost:8080/_faults -d '{"pageSize": 1, "upperCase": true}'      small pages; ids in upper case
    curl -X PUT  localhost:8080/_faults -d '{"trickleSeconds": 0.1}'                 answers byte by byte
    curl -X PUT  localhost:8080/_faults -d '{}'                                      no faults
    curl -X POST localhost:8080/_freeze                                              open connections lead nowhere
    curl -X POST localhost:8080/_revoke                                              all tokens become invalid
    curl         localhost:8080/_stats
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import random
import secrets
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from local.engine import HOST
from local.errors import LocalError, exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# https://developer.genesys.cloud/platform/api/rate-limits
REQUESTS_PER_MINUTE = 300
DEFAULT_PAGE_SIZE = 25
MAX_PAGE_SIZE = 500
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
USERS_PATH = "/api/v2/users"
QUEUES_PATH = "/api/v2/routing/queues"
WRAP_UP_CODES_PATH = "/api/v2/routing/wrapupcodes"
CLIENT_ID = "local-client"
CLIENT_SECRET = "local-secret"  # noqa: S105 - protects nothing

_FIRST_NAMES = ("Ada", "Björn", "Chiara", "Dmitri", "Élodie", "Femi", "Grace", "Haruki", "Inés", "Jürgen")
_LAST_NAMES = ("Andersson", "Bianchi", "Castañeda", "Dubois", "Eriksen", "Fischer", "García", "Høgh", "Ito", "Jones")
_DEPARTMENTS = ("Sales", "Service", "Retention", "Billing")
#: The error codes that are not the status's reason phrase.
_ERROR_CODES = {401: "bad.credentials", 429: "too.many.requests.retry.after"}

Answer = tuple[int, Any, dict[str, str]]
UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults, by their names in the JSON of ``/_faults``. The default is no fault.

    ``rate`` is the share of requests that the fault affects, ``times`` the number of requests, and ``path`` a prefix.
    """

    status: int | None = None
    retryAfter: int | float | str | None = None  # noqa: N815 - the name in the JSON
    headers: dict[str, str] = field(default_factory=dict)
    html: bool = False
    tokensPerSecond: float | None = None  # noqa: N815 - as above
    expiresIn: Any = UNCHANGED  # noqa: N815 - as above
    pageSize: int | None = None  # noqa: N815 - as above
    upperCase: bool = False  # noqa: N815 - as above
    trickleSeconds: float = 0.0  # noqa: N815 - as above
    latencySeconds: float = 0.0  # noqa: N815 - as above
    down: bool = False
    rejectCredentials: bool = False  # noqa: N815 - as above
    rate: float = 1.0
    times: int | None = None
    path: str = ""


class GenesysStandIn:
    """The stand-in on a local port, for the duration of a ``with`` block.

    Args:
        port: The port to listen on; 0 picks a free one.
        token_seconds: The lifetime of a token.
        requests_per_minute: The rate limit of the API for each token.
        missing: Ids that answers leave out, as Genesys leaves out users of other divisions.
        inactive: Users that only ``state=any`` shows.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        token_seconds: int = 86_400,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        missing: Iterable[str] = (),
        inactive: Iterable[str] = (),
    ) -> None:
        self.missing = set(missing)
        self.inactive = set(inactive)
        self.frozen = threading.Event()
        self.generation = 0
        self._token_times: list[float] = []
        self._token_seconds = token_seconds
        self._allowed = requests_per_minute
        self._tokens: dict[str, float] = {}
        self._window: dict[str, tuple[float, int]] = {}
        self._faults = Faults()
        self._answers: Counter[str] = Counter()
        self._tokens_issued = 0
        self._unanswered = 0
        self._lock = threading.Lock()
        self._server = _Server((HOST, port), _Handler)
        self._server.stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.frozen.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The base URL, for the API and for the login."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    @property
    def credentials(self) -> str:
        """The secret's text, as ``GenesysCredentialsSecretArn`` expects it."""
        return json.dumps({"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET})

    def set_faults(self, faults: dict[str, Any] | None = None) -> None:
        """Replace the faults; without an argument there are none."""
        with self._lock:
            self._faults = Faults(**(faults or {}))

    def stats(self) -> dict[str, Any]:
        """Requests by path and status, requests that are not answered yet, and tokens issued."""
        with self._lock:
            return {
                "requests": dict(self._answers),
                "unanswered": self._unanswered,
                "tokensIssued": self._tokens_issued,
            }

    def trickle_seconds(self, path: str) -> float:
        """The pause before each byte of an answer."""
        with self._lock:
            faults = self._faults
        return 0.0 if path.startswith("/_") or not path.startswith(faults.path) else faults.trickleSeconds

    def freeze(self) -> None:
        """Answer nothing any more on the connections that are open now."""
        self.generation += 1

    def revoke(self) -> None:
        """Invalidate all tokens."""
        with self._lock:
            self._tokens.clear()

    def answer(self, request: Request) -> Answer | None:
        """Answer one request of the API; None closes the connection without an answer."""
        with self._lock:
            faults = self._take_faults(request.path)
            self._unanswered += 1
        time.sleep(faults.latencySeconds)
        answer = None if faults.down else self._answer(request, faults)
        with self._lock:
            self._unanswered -= 1
            self._answers[f"{request.method} {request.path} {answer[0] if answer else 'closed'}"] += 1
        return answer

    def _take_faults(self, path: str) -> Faults:
        """The faults for this request. A limit on the number of times is reduced."""
        faults = self._faults
        if not path.startswith(faults.path) or random.random() >= faults.rate or faults.times == 0:
            return Faults()
        if faults.times is not None:
            self._faults = replace(faults, times=faults.times - 1)
        return faults

    def _answer(self, request: Request, faults: Faults) -> Answer:
        if faults.status is not None:
            headers = {} if faults.retryAfter is None else {"Retry-After": str(faults.retryAfter)}
            headers |= faults.headers
            page = "<html><title>Sign in</title></html>"
            return (
                (faults.status, page, headers) if faults.html else _error(faults.status, "an injected fault", headers)
            )
        if (request.method, request.path) == ("POST", TOKEN_PATH):
            return self._token(request, faults)
        if (request.method, request.path) == ("GET", USERS_PATH):
            return self._signed(request, faults)
        if request.method == "GET" and request.path in (QUEUES_PATH, WRAP_UP_CODES_PATH):
            return self._signed(request, faults)
        return _error(404, f"no such resource: {request.path}")

    def _token(self, request: Request, faults: Faults) -> Answer:
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if faults.rejectCredentials or request.headers.get("authorization") != f"Basic {expected}":
            body = {"error": "invalid_client", "description": "client not found or disabled", "error_description": ""}
            return 401, body, {}
        if parse_qs(request.body.decode()).get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type", "description": "", "error_description": ""}, {}
        if faults.tokensPerSecond is not None and self._too_many_tokens(faults.tokensPerSecond):
            description = "rate limit exceeded; too many token requests"
            return 400, {"error": "invalid_request", "description": description, "error_description": description}, {}
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[token] = time.monotonic() + self._token_seconds
            self._tokens_issued += 1
        grant = {"access_token": token, "token_type": "bearer", "expires_in": self._token_seconds}
        if faults.expiresIn != UNCHANGED:
            grant["expires_in"] = faults.expiresIn
        return 200, {name: value for name, value in grant.items() if value is not None}, {}

    def _too_many_tokens(self, allowed: float) -> bool:
        now = time.monotonic()
        with self._lock:
            self._token_times = [at for at in self._token_times if now - at < 1]
            if len(self._token_times) >= allowed:
                return True
            self._token_times.append(now)
        return False

    def _signed(self, request: Request, faults: Faults) -> Answer:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        with self._lock:
            valid = scheme.lower() == "bearer" and self._tokens.get(token, 0.0) > time.monotonic()
        if not valid:
            return _error(401, "Invalid login credentials.")
        headers, over = self._count_against_limit(token)
        if over:
            return _error(429, "Rate limit exceeded the maximum.", headers | {"Retry-After": headers[_RESET]})
        return self._page(request, headers, faults)

    def _count_against_limit(self, token: str) -> tuple[dict[str, str], bool]:
        now = time.monotonic()
        with self._lock:
            start, count = self._window.get(token, (now, 0))
            start, count = (now, 1) if now - start >= _MINUTE else (start, count + 1)
            self._window[token] = (start, count)
        headers = {
            "inin-ratelimit-count": str(count),
            "inin-ratelimit-allowed": str(self._allowed),
            _RESET: str(max(1, round(start + _MINUTE - now))),
        }
        return headers, count > self._allowed

    def _page(self, request: Request, headers: dict[str, str], faults: Faults) -> Answer:
        ids = [name for entry in request.query.get("id", []) for name in entry.split(",") if name]
        size = int(request.query.get("pageSize", [str(DEFAULT_PAGE_SIZE)])[0])
        if not 1 <= size <= MAX_PAGE_SIZE:
            return _error(400, f"pageSize must be from 1 to {MAX_PAGE_SIZE}", headers)
        size = min(size, faults.pageSize or size)
        number = int(request.query.get("pageNumber", ["1"])[0])
        any_state = request.query.get("state") == ["any"]
        kept = (one.lower() for one in dict.fromkeys(ids) if self._shows(one.lower(), any_state=any_state))
        found = [user(one) if request.path == USERS_PATH else named(request.path, one) for one in kept]
        if faults.upperCase:
            found = [{**one, "id": one["id"].upper()} for one in found]
        body = {
            "entities": found[size * (number - 1) : size * number],
            "pageSize": size,
            "pageNumber": number,
            "total": len(found),
            "pageCount": -(-len(found) // size),
        }
        return 200, body, headers

    def _shows(self, identity: str, *, any_state: bool) -> bool:
        try:
            uuid.UUID(identity)
        except ValueError:
            return False
        return identity not in self.missing and (any_state or identity not in self.inactive)


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that the stand-in uses."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@contextlib.contextmanager
def faults(url: str, wanted: dict[str, Any]) -> Iterator[None]:
    """Set faults of the stand-in at this URL for the duration of a ``with`` block; without faults, do nothing."""
    if not wanted:
        yield
        return
    _put(f"{url}/_faults", wanted)
    try:
        yield
    finally:
        _put(f"{url}/_faults", {})


def stats(url: str) -> dict[str, Any]:
    """The counts of the stand-in at this URL, as :meth:`GenesysStandIn.stats` returns them."""
    with _open(urllib.request.Request(f"{url}/_stats")) as answer:  # noqa: S310 - a server on this machine
        found: dict[str, Any] = json.load(answer)
    return found


def _put(url: str, body: dict[str, Any]) -> None:
    _open(urllib.request.Request(url, json.dumps(body).encode(), method="PUT")).close()  # noqa: S310 - as above


def _open(request: urllib.request.Request) -> Any:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5)


def user(user_id: str) -> dict[str, Any]:
    """The user with this id: always the same, so that a test can compute its expectation."""
    digest = hashlib.sha256(user_id.encode()).digest()
    first, last = _FIRST_NAMES[digest[0] % 10], _LAST_NAMES[digest[1] % 10]
    return {
        "id": user_id,
        "name": f"{first} {last}",
        "email": f"agent-{digest[2:6].hex()}@example.com",
        "state": "active",
        "department": _DEPARTMENTS[digest[6] % 4],
        "title": "Agent",
        "selfUri": f"{USERS_PATH}/{user_id}",
    }


def named(path: str, identity: str) -> dict[str, Any]:
    """The queue or the wrap-up code with this id."""
    kind = "Queue" if path == QUEUES_PATH else "Code"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return {"id": identity, "name": f"{kind} {digest[:6]}", "selfUri": f"{path}/{identity}"}


_MINUTE = 60.0
_RESET = "inin-ratelimit-reset"


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    code = _ERROR_CODES.get(status, responses.get(status, "error").lower().replace(" ", "."))
    context = str(uuid.uuid4())
    body = {"message": message, "code": code, "status": status, "contextId": context, "details": [], "errors": []}
    return status, body, {"inin-correlation-id": context} | (headers or {})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Many functions connect at the same time. The default of 5 would refuse some of them.
    request_queue_size = 128
    stand_in: GenesysStandIn


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes. Nagle's algorithm would delay the second one by 40 ms.
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        """Note when the connection was made: before or after a freeze."""
        super().setup()
        self.generation = self.server.stand_in.generation

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing; ``/_stats`` has the counts."""

    def do_GET(self) -> None:
        """Answer a request of any method."""
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        request = Request(self.command, url.path, parse_qs(url.query), headers, body)
        stand_in = self.server.stand_in
        if self.generation != stand_in.generation and not url.path.startswith("/_"):
            stand_in.frozen.wait()
        trickle = stand_in.trickle_seconds(url.path)
        answer = self._control(request) if url.path.startswith("/_") else stand_in.answer(request)
        if answer is None or stand_in.frozen.is_set():
            self.close_connection = True
            return
        status, content, extra = answer
        page = isinstance(content, str)
        encoded = content.encode() if page else json.dumps(content).encode()
        kind = "text/html" if page else "application/json"
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(encoded))} | extra).items():
            self.send_header(name, value)
        self.end_headers()
        if not trickle:
            self.wfile.write(encoded)
            return
        for byte in encoded:
            self.wfile.write(bytes([byte]))
            stand_in.frozen.wait(trickle)

    do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names

    def _control(self, request: Request) -> Answer:
        stand_in = self.server.stand_in
        match request.method, request.path:
            case "PUT", "/_faults":
                try:
                    stand_in.set_faults(json.loads(request.body or b"{}"))
                except (ValueError, TypeError) as err:
                    return _error(400, str(err))
            case "POST", "/_freeze":
                stand_in.freeze()
            case "POST", "/_revoke":
                stand_in.revoke()
            case "GET", "/_stats":
                return 200, stand_in.stats(), {}
            case _:
                return _error(404, f"no such control: {request.method} {request.path}")
        return 200, {}, {}


def main() -> int:
    """Serve until an interrupt."""
    parser = argparse.ArgumentParser(description="A stand-in for the Genesys Cloud platform API.")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; by default a free one")
    options = parser.parse_args()
    try:
        stand_in = GenesysStandIn(port=options.port)
    except OSError as err:
        advice = "stop the process that listens there, or choose another port."
        raise LocalError(f"Port {options.port} is in use: {advice}") from err
    print(f"Genesys stand-in: {stand_in.url} (credentials: {stand_in.credentials})", flush=True)
    with contextlib.suppress(KeyboardInterrupt), stand_in:
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
