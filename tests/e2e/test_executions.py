"""The inputs of events/executions/: an operator starts a state machine with each, and it ends as expected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local.expectation import wildcards
from local.fixture_setup import FixtureSetup, expected
from tests.contract.project import fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pipeline import Pipeline

#: Every input is about this dead letter, or about an archive that holds it.
EVENT_ID = "8cd6fe94-365b-425f-bbc1-eb210ffb78f3"


@pytest.mark.parametrize("path", fixtures("executions"), ids=lambda path: path.stem)
def test_an_execution_started_by_hand_has_the_expected_output(path: Path, pipeline: Pipeline) -> None:
    asked, wanted = json.loads(path.read_text()), expected(path)
    key = {"eventId": {"S": EVENT_ID}}
    pipeline.client("dynamodb").delete_item(TableName=pipeline.outputs["EventsTableName"], Key=key)
    FixtureSetup(pipeline.stack).apply(wanted.get("setup", {}))
    assert pipeline.run(_machine(path), asked) == wildcards(wanted["answer"])


def _machine(path: Path) -> str:
    """The name of the state machine, as its output begins."""
    name = path.stem.partition("-")[0].title()
    return "CircuitBreaker" if name == "Circuit" else name
