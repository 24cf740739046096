"""A burst of events: batches run at no more than MaxConcurrency, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.burst import drain, invocations, log_group, mixed_events, most_at_once, processor, sent
from local.reconciliation import look
from ops.reconciliation import reconcile
from tests.e2e.pipeline import PARAMETERS

if TYPE_CHECKING:
    from tests.e2e.pipeline import Pipeline

EVENTS = 400
LIMIT = int(PARAMETERS["MaxConcurrency"])


def test_a_burst_uses_the_allowed_concurrency_and_loses_nothing(pipeline: Pipeline) -> None:
    stack, bodies = pipeline.stack, mixed_events(EVENTS)

    burst = drain(stack, processor(stack), bodies)

    assert burst.peak == LIMIT, "by the engine's count"
    seen = invocations(stack, log_group(stack), burst.began)
    assert sum(one.events for one in seen) == EVENTS
    assert most_at_once(seen) <= LIMIT, "by the functions' own clocks"
    result = reconcile(sent(bodies), look(stack))
    assert (result.stored, result.archived, result.lost) == (EVENTS, 0, ())
