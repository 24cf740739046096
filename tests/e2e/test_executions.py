"""The inputs of events/executions/: each starts its machine by hand, and ends as the file beside it tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from local.fixture_setup import FixtureSetup, expected
from tests.contract.project import fixtures
from tests.e2e.expectation import known

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pipeline import Pipeline

#: Every input is about this letter, or about an archive that holds it.
LETTER = "8cd6fe94-365b-425f-bbc1-eb210ffb78f3"


@pytest.mark.parametrize("path", fixtures("executions"), ids=lambda path: path.stem)
def test_an_input_by_hand_ends_as_the_file_beside_it_tells(path: Path, pipeline: Pipeline) -> None:
    asked, told = json.loads(path.read_text()), expected(path)
    if asked.get("firstSentAt"):  # or it would be too old one day
        asked["firstSentAt"] = int(datetime.now(UTC).timestamp() * 1000)
    key = {"eventId": {"S": LETTER}}
    pipeline.client("dynamodb").delete_item(TableName=pipeline.outputs["EventsTableName"], Key=key)
    FixtureSetup(pipeline.stack.stack).apply(told["setup"])
    answer = output(pipeline, path.stem.partition("-")[0].title(), asked)
    assert known(answer, told["answer"]) == told["answer"]


def output(pipeline: Pipeline, machine: str, asked: dict[str, Any]) -> Any:
    """Start the machine, and give its output once it has ended well."""
    workflows = pipeline.client("stepfunctions")
    arn = pipeline.outputs[f"{machine}StateMachineArn"]
    execution = workflows.start_execution(stateMachineArn=arn, input=json.dumps(asked))["executionArn"]

    def ended() -> Any:
        found = workflows.describe_execution(executionArn=execution)
        return found if found["status"] != "RUNNING" else None

    found = pipeline.eventually(ended, f"{machine} has ended")
    assert found["status"] == "SUCCEEDED", found
    return json.loads(found["output"])
