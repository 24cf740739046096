"""Python loads this by itself in every worker whose ``PYTHONPATH`` names this folder: it kills the worker on order.

An order is an empty file in the folder ``SABOTAGE_ORDERS`` with the name
``<function>.<operation>.<before|after>.<exit|kill|memory|loop>.<number>``: it takes hold at the next call of that AWS
operation (``Any``: of any) in a worker of that function. The worker that takes it renames it first, so each order is
taken once, and what was taken can be told.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any, NoReturn

import botocore.client
import urllib3
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool

FUNCTION = os.environ["SABOTAGE_FUNCTION"]
ORDERS = Path(os.environ["SABOTAGE_ORDERS"])
TAKEN = ".taken"
_SPARE_BYTES = 32 * 2**20


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def _exit() -> NoReturn:
    os._exit(1)


def _memory() -> None:
    """Ask for more memory than there is."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_BYTES, hard))
    try:
        bytearray(4 * _SPARE_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _loop() -> NoReturn:
    while True:
        pass


_WAYS = {"exit": _exit, "kill": _kill, "memory": _memory, "loop": _loop}


def _strike(operation: str, moment: str) -> None:
    for path in ORDERS.iterdir():
        order = path.name
        function, named, when, way, *rest = order.split(".")
        if (function, when) != (FUNCTION, moment) or named not in (operation, "Any") or len(rest) != 1:
            continue
        try:
            path.rename(path.with_name(order + TAKEN))
        except FileNotFoundError:  # another worker took it
            continue
        _WAYS[way]()


_NAME = "_make_api_call"
_plain = getattr(botocore.client.BaseClient, _NAME)


def _call(self: Any, operation_name: str, api_params: Any) -> Any:
    _strike(operation_name, "before")
    try:
        return _plain(self, operation_name, api_params)
    finally:  # an error of the service is an answer too
        _strike(operation_name, "after")


setattr(botocore.client.BaseClient, _NAME, _call)


_plain_urlopen = urllib3.HTTPConnectionPool.urlopen


def _urlopen(self: Any, method: str, url: str, body: Any = None, headers: Any = None, *rest: Any, **more: Any) -> Any:
    """A request to AWS that no client makes: the processor's direct one."""
    by_client = isinstance(self, (AWSHTTPConnectionPool, AWSHTTPSConnectionPool))
    operation = "" if by_client else (headers or {}).get("x-amz-target", "").rpartition(".")[2]
    if not operation:
        return _plain_urlopen(self, method, url, body, headers, *rest, **more)
    _strike(operation, "before")
    try:
        return _plain_urlopen(self, method, url, body, headers, *rest, **more)
    finally:
        _strike(operation, "after")


urllib3.HTTPConnectionPool.urlopen = _urlopen  # type: ignore[method-assign]  # this is the hook
