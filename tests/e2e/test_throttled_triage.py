"""A throttled function of triage delays letters. Nothing is archived, redriven or failed because of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from local.eventually import eventually
from tests.e2e.pipeline import UNDELIVERED, WAIT_SCALE, genesys_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pipeline import Pipeline

TEN_MINUTES = 600 * WAIT_SCALE
RECOVERED = [
    *("Classify", "Decide", "BackOff", "Redrive"),
    *("Classify", "Decide", "SettleRecovered", "Recovered"),
]
ARCHIVED = ["Classify", "Decide", "Archive", "SettleArchived", "Archived"]


@contextmanager
def throttled(pipeline: Pipeline, function: str) -> Iterator[None]:
    """Set the concurrency of a function to zero."""
    functions, name = pipeline.client("lambda"), pipeline.stack.resources[function]
    functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    try:
        yield
    finally:
        functions.delete_function_concurrency(FunctionName=name)


@pytest.mark.usefixtures("controls")
@pytest.mark.parametrize("function", ["ClassifyFunction", "RedriveFunction", "ArchiveFunction", "SettleFunction"])
def test_ten_minutes_without_a_function_of_triage_change_nothing_but_the_time(
    pipeline: Pipeline, function: str
) -> None:
    with throttled(pipeline, function):
        valid = [pipeline.bury(genesys_event(), UNDELIVERED) for _ in range(5)]
        invalid = [pipeline.bury(f"no event {number} {time.time()}") for number in range(5)]
        eventually(lambda: all(pipeline.executions_of([*valid, *invalid]).values()), "every letter has an execution")
        time.sleep(TEN_MINUTES)
        delayed = {"RedriveFunction": valid, "ArchiveFunction": invalid}.get(function, [*valid, *invalid])
        assert not any(one.ended for found in pipeline.executions_of(delayed).values() for one in found)
    ended = pipeline.all_settled([*valid, *invalid])
    assert {tuple(one.path) for event_id in valid for one in ended[event_id]} == {tuple(RECOVERED)}
    assert {tuple(one.path) for event_id in invalid for one in ended[event_id]} == {tuple(ARCHIVED)}
    assert {one.result["redrives"] for event_id in valid for one in ended[event_id]} == {1}
    assert {one.result["category"] for event_id in invalid for one in ended[event_id]} == {"MALFORMED"}
