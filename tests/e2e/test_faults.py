"""Each crash point of custody, and a sample of the other faults; ``make faults`` plays all of them.

A crash point is where a worker has let the next owner have an event and has not yet let go of it itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proof.faults import Cell, Stage, cells, staged

CELLS = {(cell.function, cell.operation, cell.fault): cell for cell in cells()}
CRASH_POINTS = {
    "the event is stored and its message not deleted": (
        "ProcessorFunction", "BatchExecuteStatement", "stored",
    ),
    "the execution is told and the redriven message not deleted": (
        "ProcessorFunction", "SendTaskSuccess", "stored, 1 execution",
    ),
    "the finished mates are deleted and the suspect is not touched": (
        "ProcessorFunction", "DeleteMessageBatch", "3 stored",
    ),
    "the item is published and its stream record not passed": (
        "FanOutFunction", "PutEvents", "stored",
    ),
    "the evidence is written and no execution started": (
        "DeadLetterIntakeFunction", "PutObject", "archived as MALFORMED, 1 execution",
    ),
    "the execution is started and the dead letter not deleted": (
        "DeadLetterIntakeFunction", "StartExecution", "archived as MALFORMED, 1 execution",
    ),
    "the waiting execution is told and the dead letter not deleted": (
        "DeadLetterIntakeFunction", "SendTaskFailure", "stored, 1 execution",
    ),
    "the letter is sent and its execution does not know": (
        "RedriveFunction", "SendMessage", "stored, 1 execution",
    ),
    "the letter is archived and its evidence not released": (
        "ArchiveFunction", "PutObject", "archived as MALFORMED, 1 execution",
    ),
    "the evidence is released and nothing announced": (
        "SettleFunction", "DeleteObjects", "stored, 1 execution",
    ),
    "the outcome is announced and the execution not ended": (
        "SettleFunction", "PutEvents", "archived as MALFORMED, 1 execution",
    ),
    "the orphan is adopted and the sweep not over": (
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
def stage() -> Iterator[Stage]:
    with staged() as made:
        yield made


@pytest.mark.parametrize(("function", "call", "outcome"), CRASH_POINTS.values(), ids=list(CRASH_POINTS))
def test_a_worker_that_dies_at_a_crash_point_loses_and_doubles_nothing(
    stage: Stage, function: str, call: str, outcome: str
) -> None:
    row = stage.play(CELLS[function, call, "kill after"])
    assert row.right, row
    assert row.outcome == outcome


@pytest.mark.parametrize("cell", [CELLS[one] for one in SAMPLE], ids=lambda cell: f"{cell.operation} {cell.fault}")
def test_a_call_that_fails_loses_and_doubles_nothing(stage: Stage, cell: Cell) -> None:
    row = stage.play(cell)
    assert row.right, row
