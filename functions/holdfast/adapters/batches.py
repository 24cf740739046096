"""Batch calls of AWS: the entries that a service leaves unprocessed are sent again, with backoff and jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TRIES = 4
BACKOFF_BASE_SECONDS = 0.05


def retry_rest(
    call: Callable[[T], T], entries: T, *, sleep: Callable[[float], None] = time.sleep, tries: int = TRIES
) -> T:
    """Call until nothing is left or the tries are used up.

    Args:
        call: Sends entries and returns those that were not processed.
        entries: What to send. An empty value means that nothing is left.
        sleep: For tests.
        tries: How often to call. With the default, the waits take 0.35 s at most.

    Returns:
        The entries that were never processed.
    """
    for number in range(tries):
        if number:
            sleep(random.random() * BACKOFF_BASE_SECONDS * 2 ** (number - 1))  # noqa: S311 - jitter, not a secret
        entries = call(entries)
        if not entries:
            break
    return entries
