"""Each crash point of custody and a sample of the other faults; ``make faults`` runs all of them.

At a crash point, a worker has passed an event to its next owner and has not yet released it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proof.faults import Cell, Scenarios, cells, deployed_scenarios

CELLS = {(cell.function, cell.operation, cell.fault): cell for cell in cells()}
CRASH_POINTS = {
    "the event is stored and its message not deleted": (
        "ProcessorFunction", "BatchExecuteStatement", "stored",
    ),
    "the execution has its outcome and the redriven message is not deleted": (
        "ProcessorFunction", "SendTaskSuccess", "stored, 1 execution",
    ),
    "the finished batch records are deleted and the suspect is not processed": (
        "ProcessorFunction", "DeleteMessageBatch", "3 stored",
    ),
    "the item is published and its stream record not finished": (
        "FanOutFunction", "PutEvents", "stored",
    ),
    "the snapshot is written and no execution started": (
        "DeadLetterIntakeFunction", "PutObject", "archived as MALFORMED, 1 execution",
    ),
    "the execution is started and the dead letter not deleted": (
        "DeadLetterIntakeFunction", "StartExecution", "archived as MALFORMED, 1 execution",
    ),
    "the waiting execution has its outcome and the dead letter is not deleted": (
        "DeadLetterIntakeFunction", "SendTaskFailure", "stored, 1 execution",
    ),
    "the event is redriven and the task has no answer": (
        "RedriveFunction", "SendMessage", "stored, 1 execution",
    ),
    "the dead letter is archived and its snapshot not deleted": (
        "ArchiveFunction", "PutObject", "archived as MALFORMED, 1 execution",
    ),
    "the snapshot is deleted and nothing published": (
        "SettleFunction", "DeleteObjects", "stored, 1 execution",
    ),
    "the outcome is published and the execution not ended": (
        "SettleFunction", "PutEvents", "archived as MALFORMED, 1 execution",
    ),
    "the snapshot is adopted and the sweep not finished": (
        "EvidenceSweepFunction", "StartExecution", "archived as MALFORMED, 2 executions, 1 of them failed, after a sweep",
    ),
}  # fmt: skip
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


@pytest.mark.parametrize(("function", "call", "outcome"), CRASH_POINTS.values(), ids=list(CRASH_POINTS))
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
