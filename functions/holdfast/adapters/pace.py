"""Calls at an even rate, so that one function does not use up a quota of the whole account."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Pace:
    """Limits the rate of calls. :meth:`wait` blocks until the next call is allowed."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _free_at: float = 0.0

    def wait(self) -> None:
        """Block until the next call is allowed."""
        now = self.clock()
        begin = max(now, self._free_at)
        self._free_at = begin + 1 / self.per_second
        if begin > now:
            self.sleep(begin - now)


#: No limit.
UNPACED = Pace(float("inf"))
