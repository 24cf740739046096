"""Calls at an even rate, so that one function does not use up a quota of the whole account."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Pace:
    """Lets at most so many calls a second begin. It waits, and never refuses."""

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _free_at: float = 0.0

    def wait(self) -> None:
        """Wait until the next call may begin."""
        now = self.clock()
        begin = max(now, self._free_at)
        self._free_at = begin + 1 / self.per_second
        if begin > now:
            self.sleep(begin - now)


#: No limit.
UNPACED = Pace(float("inf"))
