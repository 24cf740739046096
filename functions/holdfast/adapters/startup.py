"""Faster cold starts: no garbage collection while libraries are loaded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Run code that creates many lasting objects, such as an import or a client.

    The garbage collector would walk through these objects several times and free none, which takes a tenth of a cold
    start (docs/decisions.md). At the end they are excluded from later collections.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
