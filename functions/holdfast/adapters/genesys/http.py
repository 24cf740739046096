"""HTTP requests that are bounded in time and in size, whatever the server sends.

A read time-out does not limit the whole request: it restarts with every byte. The size limit applies to the unpacked
body, because a small compressed answer can be very large.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` are honoured. The CA bundle is ``AWS_CA_BUNDLE``, else
``REQUESTS_CA_BUNDLE``, else certifi's: boto3 reads the same two variables in the same order, so one setting serves all
clients of the function.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from threading import Thread
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from holdfast.domain.errors import Unavailable

CONNECT_SECONDS = 2.0
READ_SECONDS = 5.0
#: From the start of a request to the last byte of its answer.
ANSWER_SECONDS = 10.0
#: Of the unpacked body. A hundred users are about 200 kB.
ANSWER_BYTES_LIMIT = 4 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
#: A gateway may have dropped an idle connection while the environment was frozen. After so many
#: seconds without a byte the request is sent again, once, on a new connection.
IDLE_READ_SECONDS = 2.5
_CORRELATION_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def correlation_id(self) -> str | None:
        """The id by which Genesys' support finds the request."""
        value = self.headers.get("inin-correlation-id", "")
        return value if _CORRELATION_ID.fullmatch(value) else None


class HttpClient:
    """Sends requests and keeps the connections alive. Threads may share it."""

    def __init__(self) -> None:
        self._idle: list[_Session] = []

    def send(
        self, method: str, url: str, seconds: float, auth: AuthBase, data: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer, whatever its status. Redirects are not followed.

        Args:
            method: The HTTP method.
            url: The URL with its query.
            seconds: The time that the caller has, more than zero. :data:`ANSWER_SECONDS` bounds it too.
            auth: Sets the ``Authorization`` header. A plain header would lose against an entry in ``~/.netrc``.
            data: The fields of a form.

        Raises:
            Unavailable: There is no answer, it is too large, or it did not end in time.
        """
        ends = time.monotonic() + min(ANSWER_SECONDS, seconds)
        request = (method, url, auth, data)
        idle = self._take_idle()
        if idle:
            error, answer = self._exchange(idle, request, ends, IDLE_READ_SECONDS)
            if answer or ends <= time.monotonic():
                return _checked(error, answer)
            # What happened to this connection has happened to the other idle ones.
            while idle := self._take_idle():
                idle.close()
        return _checked(*self._exchange(_Session(), request, ends, READ_SECONDS))

    def _exchange(
        self, session: _Session, request: tuple[Any, ...], ends: float, read_seconds: float
    ) -> tuple[Exception | None, Answer | None]:
        """Send a request in a thread. Returns the error of a lost connection, or the answer."""
        left = max(0.001, ends - time.monotonic())
        result: Future[Answer] = Future()
        timeouts = (min(CONNECT_SECONDS, left), min(read_seconds, left))
        work = partial(session.exchange, timeouts, *request)
        Thread(target=_resolve, args=(result, work), name="genesys", daemon=True).start()
        try:
            error = result.exception(left)
        except TimeoutError:
            session.give_up()
            return TimeoutError(), None
        # requests raises OSErrors, and some errors of urllib3 pass through it.
        if isinstance(error, OSError | HTTPError):
            session.close()
            return error, None
        self._idle.append(session)
        return None, result.result()

    def _take_idle(self) -> _Session | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _checked(error: Exception | None, answer: Answer | None) -> Answer:
    if isinstance(error, TimeoutError):
        raise Unavailable("the Genesys API did not answer in time")
    if answer is None:
        # The type only: the message names hosts and parameters.
        raise Unavailable(f"the Genesys API did not answer: {type(error).__name__}")
    if len(answer.content) > ANSWER_BYTES_LIMIT:
        raise Unavailable(f"the answer of the Genesys API is larger than {ANSWER_BYTES_LIMIT} bytes")
    return answer


def _resolve(result: Future[Answer], request: Any) -> None:
    try:
        result.set_result(request())
    except Exception as error:  # noqa: BLE001 - the thread that waits raises it
        result.set_exception(error)


class _Session(requests.Session):
    """A session for one request at a time, because requests promises no more."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["Accept-Encoding"] = "gzip"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._sockets = _Sockets()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(self._sockets))

    def exchange(
        self,
        timeouts: tuple[float, float],
        method: str,
        url: str,
        auth: AuthBase,
        data: Mapping[str, str] | None,
    ) -> Answer:
        """Send a request and read at most one piece more than the limit of its answer."""
        content = bytearray()
        with self.request(
            method,
            url,
            data=data,
            auth=auth,
            timeout=timeouts,
            verify=os.environ.get("AWS_CA_BUNDLE") or True,  # True: requests looks at REQUESTS_CA_BUNDLE itself
            stream=True,
        ) as response:
            for piece in response.iter_content(_PIECE_BYTES):
                content += piece
                if len(content) > ANSWER_BYTES_LIMIT:
                    break
        return Answer(response.status_code, response.headers, bytes(content))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect. With ``allow_redirects=False`` requests reads the whole body of one, without a limit."""

    def give_up(self) -> None:
        """End the running request, so that its thread ends too. The session cannot be used again."""
        self._sockets.shut_down()
        self.close()


class _Sockets:
    """The open sockets of a session."""

    def __init__(self) -> None:
        self.connecting: HTTPConnection | None = None
        self.connected: list[socket.socket] = []
        self.given_up = False

    def shut_down(self) -> None:
        """Shut the sockets down, so that a blocked read returns. ``close`` does not interrupt a read in a thread."""
        self.given_up = True
        connecting = self.connecting
        for sock in [connecting.sock if connecting else None, *self.connected]:
            if sock:
                # By the descriptor: the object can be a TLS socket, which another thread must not change.
                with suppress(OSError), socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Makes connections that register their sockets.

    It makes no retries: urllib3's ``Retry`` sleeps for as long as ``Retry-After`` says, beyond the caller's deadline.
    """

    def __init__(self, sockets: _Sockets) -> None:
        super().__init__(max_retries=0)
        self._sockets = sockets

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        pool = cast(HTTPConnectionPool, super().get_connection_with_tls_context(*args, **kwargs))
        kind = _HttpsConnection if pool.scheme == "https" else _HttpConnection
        pool.ConnectionCls = partial(kind, self._sockets)  # type: ignore[assignment]  # urllib3 only calls it
        return pool


class _RegisteringConnection(HTTPConnection):
    def __init__(self, sockets: _Sockets, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sockets = sockets

    def connect(self) -> None:
        sockets = self._sockets
        sockets.connecting = self  # a proxy's answer to CONNECT can be endless too
        super().connect()
        # The socket and not the connection: http.client drops the socket while the body of a last answer is read.
        sockets.connected = [*(sock for sock in sockets.connected if sock.fileno() >= 0), self.sock]
        sockets.connecting = None
        if sockets.given_up:  # during the look-up of the host name or the TLS handshake
            self.close()
            raise ConnectionAbortedError


class _HttpConnection(_RegisteringConnection):
    pass


class _HttpsConnection(_RegisteringConnection, HTTPSConnection):
    pass
