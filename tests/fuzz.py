"""``python -m tests.fuzz CASES SEED``: run that many generated cases and print the outcomes per surface.

A case that breaks a promise or exceeds the watchdog's limit ends the run; Hypothesis prints the smallest such case.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from tests.surfaces import SURFACES, Surface

WATCHDOG_SECONDS = 20


class Hang(BaseException):
    """A case that does not end."""


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """Raise :class:`Hang` if the block takes longer than ``WATCHDOG_SECONDS``."""

    def expire(*_: Any) -> None:
        raise Hang(f"not finished after {WATCHDOG_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(surface: Surface, cases: int, number: int) -> Counter[str]:
    """Run a number of cases. Returns how often each outcome occurred."""
    seen: Counter[str] = Counter()

    @seed(number)
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(surface.cases)
    def check(case: Any) -> None:
        with watchdog():
            seen[surface.check(case)] += 1

    check()
    return seen


def main(cases: int, number: int) -> None:
    """Fuzz all surfaces, each with its share of the cases."""
    os.environ["POWERTOOLS_LOG_LEVEL"] = "CRITICAL"
    whole = sum(surface.share for surface in SURFACES)
    total = 0
    for surface in SURFACES:
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            seen = fuzz(surface, max(1, -(-int(cases * surface.share) // int(whole))), number)
        total += seen.total()
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in seen.most_common(6))
        print(f"{surface.name:<24}{seen.total():>8,} cases {time.monotonic() - began:>6.0f} s   {outcomes}", flush=True)
    print(f"{'all':<24}{total:>8,} cases, seed {number}: no unhandled exception, no hang, nothing lost")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
