"""Several requests to AWS at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from holdfast.adapters.aws import MAX_CONNECTIONS

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """Call a function for many values on a thread for each connection of a client. The results are in order."""
    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        return list(pool.map(work, values))
