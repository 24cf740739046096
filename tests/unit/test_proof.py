"""Fault injection covers every call and every fault, and the report shows what the runs found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proof.fault_injector import FUNCTIONS
from proof.faults import CALLS, Scenarios, cells
from proof.network import FAULTS, SERVICES, Fault, effect
from proof.records import read_records, write_records
from proof.report import _FAULTS, _merged
from tests.contract.project import FUNCTION_IDS, resources

CELL = {"function": "ArchiveFunction", "operation": "PutObject", "fault": "reset"}
#: IAM actions whose API call has another name.
CALL_OF_ACTION = {
    "PartiQLInsert": "BatchExecuteStatement",
    "DeleteObject": "DeleteObjects",
    "ListBucket": "ListObjectsV2",
    "ChangeMessageVisibility": "ChangeMessageVisibilityBatch",
    "DeleteMessage": "DeleteMessageBatch",
    "InvokeFunction": "Invoke",
}
#: Calls of the event source mapping, not of the function.
OF_THE_MAPPING = {
    "ReceiveMessage",
    "GetQueueAttributes",
    "DescribeStream",
    "GetRecords",
    "GetShardIterator",
    "ListStreams",
}
#: Permissions without a cell.
NOT_IN_THE_MATRIX = {
    ("DeadLetterIntakeFunction", "DeleteMessageBatch"),  # a call of the event source mapping
    ("DeadLetterIntakeFunction", "GetExecutionHistory"),  # after an abort only; the sweep has the same code
    ("FanOutFunction", "Scan"),  # manual republishing only, as the next three
    ("FanOutFunction", "GetObject"),
    ("FanOutFunction", "PutObject"),
    ("FanOutFunction", "ListObjectsV2"),
    # After a redrive without an outcome only. Each reads; an error gives no verdict and is retried (test_triage.py).
    ("ClassifyFunction", "ListObjectsV2"),
    ("ClassifyFunction", "GetEventSourceMapping"),
    ("ClassifyFunction", "GetMetricStatistics"),
    ("RedriveFunction", "ListObjectsV2"),  # no call: it lets S3 answer NoSuchKey, as the next one
    ("ArchiveFunction", "ListObjectsV2"),
}


def row(outcome: str = "stored", **changes: Any) -> dict[str, Any]:
    cell = {name: changes.pop(name, value) for name, value in CELL.items()}
    return {"cell": cell, "outcome": outcome, "hits": 4, "lost": 0, "doubled": 0, **changes}


def allowed(node: Any) -> Iterator[str]:
    """The calls that the statements in a part of the template allow."""
    if isinstance(node, dict) and node.get("Effect") == "Allow":
        actions = node["Action"] if isinstance(node["Action"], list) else [node["Action"]]
        for service, _, action in (name.partition(":") for name in actions):
            if service != "logs":
                yield CALL_OF_ACTION.get(action, action)
    else:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from allowed(child)


def policies(role: str) -> list[Any]:
    """The policies of a role, in it and attached to it."""
    attached = [one["Properties"] for one in resources("AWS::IAM::Policy").values()]
    return [
        *resources("AWS::IAM::Role")[role]["Properties"]["Policies"],
        *(one["PolicyDocument"] for one in attached if {"Ref": role} in one["Roles"]),
    ]


@pytest.mark.parametrize("fault", [*FAULTS, "rejected", "slow"])
def test_every_fault_is_defined_for_every_service(fault: str) -> None:
    """microburst ignores keys that it does not have."""
    known = {"error", "latency", "reset", "response", "timeout_ms"}
    for service in SERVICES:
        (kind,) = effect(fault, service)
        assert kind in known


def test_a_fault_becomes_a_rule_with_its_function_share_and_limit() -> None:
    rule = Fault("lost", "s3", "PutObject", "ArchiveFunction", share=0.5, times=2).rule()
    assert rule == {
        "service": "s3",
        "operation": "PutObject",
        "probability": 0.5,
        "times": 2,
        "headers": {"User-Agent": "app/ArchiveFunction"},
        "response": {"abort_frac": 0.0},
    }


def test_the_fault_injector_knows_every_function_of_the_template() -> None:
    assert sorted(FUNCTIONS) == sorted(FUNCTION_IDS.values())


def test_every_cell_has_a_scenario_and_every_fault_an_explanation() -> None:
    for cell in cells():
        assert callable(getattr(Scenarios, cell.scenario))
        assert cell.fault in _FAULTS or cell.service == "genesys"


def test_the_matrix_contains_every_call_that_a_function_is_allowed_to_make() -> None:
    permitted = {
        (function, call)
        for function in FUNCTIONS
        for call in allowed(policies(function.replace("Function", "Role")))
        if call not in OF_THE_MAPPING or function == "CircuitBreakerFunction"  # which has no mapping
    }
    assert permitted - NOT_IN_THE_MATRIX == {(function, operation) for function, _, operation, _ in CALLS}


def test_rows_with_the_same_outcome_become_one_line_of_the_table() -> None:
    lines = list(_merged([row(), row(fault="lost", lost=1), row("archived", fault="denied")]))
    assert lines == [
        ("`ArchiveFunction`", "`PutObject`", "reset, lost", 8, "stored", 1, 0),
        ("`ArchiveFunction`", "`PutObject`", "denied", 4, "archived", 0, 0),
    ]


def test_results_are_stored_as_one_record_per_line(tmp_path: Path) -> None:
    write_records(tmp_path / "new" / "rows.jsonl", [row(), row(hits=1)])
    assert read_records(tmp_path / "new" / "rows.jsonl") == [row(), row(hits=1)]
    assert len((tmp_path / "new" / "rows.jsonl").read_text().splitlines()) == 2
