"""Batch calls of AWS: the entries that a service leaves unprocessed are sent again, with backoff and jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from itertools import count
from typing import TypeVar

from holdfast.adapters.aws import chunks
from holdfast.domain.ports import Deadline

T = TypeVar("T")
V = TypeVar("V")

TRIES = 4
BACKOFF_BASE_SECONDS = 0.05
BACKOFF_CAP_SECONDS = 2.0


def send_all(send: Callable[[list[V]], list[str]], values: Collection[V], size: int) -> list[str]:
    """Send values in requests of ``size``, all of them also if one fails.

    Returns:
        What ``send`` returned: the error codes of the refused values.

    Raises:
        Exception: The first failure, after all requests were sent.
    """
    codes: list[str] = []
    failures: list[Exception] = []
    for chunk in chunks(values, size):
        try:
            codes += send(chunk)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
    if failures:
        raise failures[0]
    return codes


def retry_rest(
    call: Callable[[T], T],
    entries: T,
    *,
    sleep: Callable[[float], None] = time.sleep,
    tries: int = TRIES,
    deadline: Deadline | None = None,
) -> T:
    """Call until nothing is left, or the tries or the time are used up.

    Args:
        call: Sends entries and returns those that were not processed.
        entries: What to send. An empty value means that nothing is left.
        sleep: For tests.
        tries: How often to call. With the default, the waits take 0.35 s at most.
        deadline: If there is one, it limits the calls instead of ``tries``.

    Returns:
        The entries that were never processed.
    """
    for number in count(1):
        entries = call(entries)
        if not entries or (deadline is None and number == tries):
            break
        ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** (number - 1))
        wait = random.random() * ceiling  # noqa: S311 - jitter, not a secret
        if deadline is not None and deadline.remaining() <= wait:
            break
        sleep(wait)
    return entries
