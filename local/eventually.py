"""Waiting for something that happens elsewhere, in a process, a queue or a state machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class NotReachedError(LocalError):
    """What was waited for did not happen in time."""


def eventually(probe: Callable[[], T | None], what: str, seconds: float = 60, *, every: float = 0.1) -> T:
    """Call ``probe`` until it returns something truthy, and return that.

    Args:
        probe: Reads the current state. What it raises ends the wait, so a probe can stop it early.
        what: The awaited state, for the error message: ``"the event is stored"``.
        seconds: How long to wait.
        every: Seconds between two calls.

    Raises:
        NotReachedError: ``probe`` returned nothing truthy in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise NotReachedError(f"Not reached within {seconds:g} s: {what}.")
        time.sleep(every)
    return found
