"""Crashes a worker at a planned AWS call. Python imports this module at start, as ``PYTHONPATH`` names this folder.

A planned crash is an empty file in the folder ``FAULT_CRASHES`` with the name
``<function>.<operation>.<before|after>.<exit|kill|memory|loop>.<number>``. It happens at the next call of that AWS
operation (``Any``: any operation) in a worker of that function. The worker renames the file first, so that each crash
happens once and can be counted.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any, NoReturn

import botocore.client

FUNCTION = os.environ["FAULT_FUNCTION"]
CRASHES = Path(os.environ["FAULT_CRASHES"])
DONE = ".done"
_SPARE_BYTES = 32 * 2**20


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL did not end this process")


def _exit() -> NoReturn:
    os._exit(1)


def _memory() -> None:
    """Allocate more memory than allowed."""
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


def _crash_if_planned(operation: str, moment: str) -> None:
    for path in CRASHES.iterdir():
        function, planned, when, way, *rest = path.name.split(".")
        if (function, when) != (FUNCTION, moment) or planned not in (operation, "Any") or len(rest) != 1:
            continue
        try:
            path.rename(path.with_name(path.name + DONE))
        except FileNotFoundError:  # another worker took it
            continue
        _WAYS[way]()


_NAME = "_make_api_call"
_original = getattr(botocore.client.BaseClient, _NAME)


def _call(self: Any, operation_name: str, api_params: Any) -> Any:
    _crash_if_planned(operation_name, "before")
    try:
        return _original(self, operation_name, api_params)
    finally:  # also after an error response
        _crash_if_planned(operation_name, "after")


setattr(botocore.client.BaseClient, _NAME, _call)
