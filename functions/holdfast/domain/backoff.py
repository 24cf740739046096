"""How long to wait inside the queue. (Between rounds of triage the state machine waits: ``triage.asl.json``.)"""

from __future__ import annotations

from collections.abc import Callable

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
MAX_VISIBILITY_SECONDS = 43_200
#: Left below the maximum for the time since the message was received: the twelve hours count from there.
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

    Never below ``retry_after``; then the jitter comes on top, so that letters told the same time do not return as one
    wave. ``chance`` gives a number in [0, 1).
    """
    ceiling = min(cap, base * 2 ** min(max(receive_count - 1, 0), 32))
    jitter = rng() * ceiling
    seconds = max(1.0, (retry_after or 0.0) + jitter)
    return int(min(-(-seconds // 1), MAX_VISIBILITY_SECONDS - _RECEIVE_MARGIN_SECONDS))
