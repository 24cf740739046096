"""The proof's own tools: a report says what a run found, and every cell can be played."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proof.fault_injector import FUNCTIONS
from proof.faults import CALLS, Stage, cells
from proof.network import FAULTS, SERVICES, Fault, effect
from proof.report import _FAULTS, _merged
from tests.contract.project import FUNCTION_IDS, ROOT

CELL = {"function": "ArchiveFunction", "operation": "PutObject", "fault": "reset"}


def row(outcome: str = "stored", **changes: Any) -> dict[str, Any]:
    cell = {name: changes.pop(name, value) for name, value in CELL.items()}
    return {"cell": cell, "outcome": outcome, "hits": 4, "lost": 0, "doubled": 0, **changes}


@pytest.mark.parametrize("fault", [*FAULTS, "slow"])
def test_every_service_has_words_for_every_fault(fault: str) -> None:
    """microburst takes a key that it does not know for no fault at all."""
    known = {"error", "latency", "reset", "response", "timeout_ms"}
    for service in SERVICES:
        (kind,) = effect(fault, service)
        assert kind in known


def test_a_fault_says_whom_it_hits_how_often() -> None:
    rule = Fault("lost", "s3", "PutObject", "ArchiveFunction", share=0.5, times=2).rule()
    assert rule == {
        "service": "s3",
        "operation": "PutObject",
        "probability": 0.5,
        "times": 2,
        "headers": {"User-Agent": "app/ArchiveFunction"},
        "response": {"abort_frac": 0.0},
    }


def test_every_function_of_the_template_is_sabotaged() -> None:
    assert sorted(FUNCTIONS) == sorted(FUNCTION_IDS.values())


def test_every_cell_has_a_story_and_every_fault_an_explanation() -> None:
    for cell in cells():
        assert callable(getattr(Stage, cell.story))
        assert cell.fault in _FAULTS or cell.service == "genesys"


def test_every_call_that_the_adapters_make_is_in_the_matrix() -> None:
    """A new call has to find its place here, with a story in which it happens."""
    sources = "".join(path.read_text() for path in (ROOT / "functions" / "holdfast" / "adapters").glob("*.py"))
    direct = re.findall(r"client\.(?!get_paginator)([a-z_0-9]+)\(", sources)
    named = re.findall(r"(?:_answer|_batched|get_paginator)\(\"([a-z_0-9]+)\"", sources)
    names = {"".join(word.title() for word in name.split("_")) for name in [*direct, *named]}
    # A range is only published again by hand.
    assert names - {"Scan"} == {operation for _, _, operation, _ in CALLS}


def test_the_table_tells_alike_ends_in_one_line() -> None:
    lines = list(_merged([row(), row(fault="lost", lost=1), row("archived", fault="denied")]))
    assert lines == [
        ("`ArchiveFunction`", "`PutObject`", "reset, lost", 8, "stored", 1, 0),
        ("`ArchiveFunction`", "`PutObject`", "denied", 4, "archived", 0, 0),
    ]
