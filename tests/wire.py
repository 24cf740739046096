"""A loopback server that answers with given bytes at a given pace."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Script:
    """An answer in pieces, with a pause before each; ``endless`` repeats the last piece."""

    pieces: tuple[bytes, ...]
    pause: float = 0.0
    endless: bool = False


def http(content: bytes, status: str = "200 OK", **headers: str) -> Script:
    """A complete HTTP answer."""
    sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return Script((f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + content,))


TOKEN = http(json.dumps({"access_token": "a-token", "expires_in": 300}).encode())


class Wire(socketserver.ThreadingTCPServer):
    """Answers the login with one script and every other request with another; one request per connection.

    ``users`` may be a function of the requested URL. ``paths`` are the paths of the requests so far.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, users: Script | Callable[[str], Script] = Script(()), login: Script = TOKEN) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users = users
        self.login = login
        self.paths: list[str] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def answer(self, users: Script, login: Script) -> None:
        """Use these scripts from now on, and end the answers in progress."""
        self.users, self.login = users, login
        self.over.set()
        self.over = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that disconnect; some tests make them do so."""


class _Handler(socketserver.StreamRequestHandler):
    server: Wire

    def handle(self) -> None:
        over = self.server.over
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        self.rfile.read(int(length.group(1)) if length else 0)
        url = head.decode("latin-1").split(" ", 2)[1]
        self.server.paths.append(url.partition("?")[0])
        script = self.server.login if url.startswith("/oauth") else self.server.users
        script = script if isinstance(script, Script) else script(url)
        for piece in script.pieces:
            over.wait(script.pause)
            self.wfile.write(piece)
        while script.endless and not over.wait(script.pause):
            self.wfile.write(script.pieces[-1])
