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
    """Equal-jitter exponential backoff by receive count, in whole seconds, at least 1.

    The bound is ``base * 4 ** (receive_count - 1)`` up to ``cap``. Half of it is fixed and half is random, so that an
    event survives a known time in the buffer. The result is never below ``retry_after``. The random half is added to
    it, so that events with the same ``retry_after`` return at different moments. ``rng`` returns a number in [0, 1).
    """
    bound = min(cap, base * 4 ** min(max(receive_count - 1, 0), 16))
    jitter = rng() * bound / 2
    seconds = max(1.0, bound / 2 + jitter, (retry_after or 0.0) + jitter)
    return int(min(-(-seconds // 1), MAX_VISIBILITY_SECONDS - _RECEIVE_MARGIN_SECONDS))
