"""Each crash point of custody and a sample of the other faults; ``make faults`` runs all of them.

At a crash point, a worker has passed an event to its next owner and has not yet released it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proof.faults import Cell, Scenarios, cells, deployed_scenarios

CELLS = {(cell.function, cell.operation, cell.fault): cell for cell in cells()}
REDRIVEN = "stored, 1 execution"
ARCHIVED = "archived as MALFORMED, 1 execution"
SWEPT = "archived as MALFORMED, 2 executions, 1 of them failed, after a sweep"
#: The worker crashes right after this call. The comments say what has not been done then.
CRASH_POINTS = [
    ("ProcessorFunction", "BatchExecuteStatement", "stored"),  # the message is not deleted
    ("ProcessorFunction", "SendTaskSuccess", REDRIVEN),  # the redriven message is not deleted
    (
        "ProcessorFunction",
        "DeleteMessageBatch",
        "3 stored",
    ),  # the batch records are deleted, the suspect is not started
    ("FanOutFunction", "PutEvents", "stored"),  # the stream record is not finished
    ("DeadLetterIntakeFunction", "PutObject", ARCHIVED),  # the execution is not started
    ("DeadLetterIntakeFunction", "StartExecution", ARCHIVED),  # the dead letter is not deleted
    ("DeadLetterIntakeFunction", "SendTaskFailure", REDRIVEN),  # the dead letter is not deleted
    ("RedriveFunction", "SendMessage", REDRIVEN),  # the task has not returned
    ("ArchiveFunction", "PutObject", ARCHIVED),  # the snapshot is not deleted
    ("SettleFunction", "DeleteObjects", REDRIVEN),  # the outcome is not published
    ("SettleFunction", "PutEvents", ARCHIVED),  # the execution has not ended
    ("EvidenceSweepFunction", "StartExecution", SWEPT),  # the sweep has not ended
    ("CircuitBreakerFunction", "Invoke", "stored"),  # the message of the probe is not deleted
    ("CircuitBreakerFunction", "DeleteMessageBatch", "stored"),  # the execution has no result of the probe
]
SAMPLE = [
    ("ProcessorFunction", "BatchExecuteStatement", "lost"),
    ("ProcessorFunction", "BatchWriteItem", "throttled"),
    ("DeadLetterIntakeFunction", "StartExecution", "throttled"),
    ("ClassifyFunction", "GetItem", "reset"),
    ("ArchiveFunction", "PutObject", "gone"),
    ("FanOutFunction", "PutEvents", "concurrency 0"),
]


@pytest.fixture(scope="module")
def scenarios() -> Iterator[Scenarios]:
    with deployed_scenarios() as made:
        yield made


@pytest.mark.parametrize(("function", "call", "outcome"), CRASH_POINTS)
def test_a_worker_that_crashes_at_a_crash_point_loses_and_duplicates_nothing(
    scenarios: Scenarios, function: str, call: str, outcome: str
) -> None:
    row = scenarios.run(CELLS[function, call, "kill after"])
    assert row.passed, row
    assert row.outcome == outcome


@pytest.mark.parametrize("cell", [CELLS[one] for one in SAMPLE], ids=lambda cell: f"{cell.operation} {cell.fault}")
def test_a_failed_call_loses_and_duplicates_nothing(scenarios: Scenarios, cell: Cell) -> None:
    row = scenarios.run(cell)
    assert row.passed, row
