"""Forwards connections from Docker's network to the loopback interface, which a container cannot reach."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Self

from local.engine import HOST


class Forwarder(ThreadingTCPServer):
    """Listens on ``port`` of an address of this machine while its ``with`` block runs."""

    daemon_threads = True

    def __init__(self, address: str, target: int) -> None:
        super().__init__((address, 0), _Connection)
        self.target = target
        self.port = self.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Connection(BaseRequestHandler):
    server: Forwarder

    def handle(self) -> None:
        with socket.create_connection((HOST, self.server.target)) as onward:
            back = threading.Thread(target=_copy, args=(onward, self.request), daemon=True)
            back.start()
            _copy(self.request, onward)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
