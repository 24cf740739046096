"""Backoff in the buffer queue. (Backoff between two redrives is part of the state machine: ``triage.asl.json``.)"""

from __future__ import annotations

from collections.abc import Callable

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
MAX_VISIBILITY_SECONDS = 43_200
#: The twelve hours count from the receive, so the time that has passed since then must fit in.
_RECEIVE_MARGIN_SECONDS = 900


def visibility_seconds(
    receive_count: int,
    *,
    base: int,
    cap: int,
    rng: Callable[[], float],
    retry_after: float | None = None,
) -> int:
    """Full-jitter exponential backoff by receive count, in whole seconds, at least 1.

    The result is never below ``retry_after``. The jitter is added to it, so that events with the same ``retry_after``
    return at different moments. ``rng`` returns a number in [0, 1).
    """
    ceiling = min(cap, base * 2 ** min(max(receive_count - 1, 0), 32))
    jitter = rng() * ceiling
    seconds = max(1.0, (retry_after or 0.0) + jitter)
    return int(min(-(-seconds // 1), MAX_VISIBILITY_SECONDS - _RECEIVE_MARGIN_SECONDS))
