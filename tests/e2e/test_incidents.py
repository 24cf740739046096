"""Four incidents from the alarm to the end, with the commands of the runbook.

Each takes at most two commands from the alarm to the cause, and at most two from the cause to the end. The alarms
themselves are tested in ``test_on_call.py``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from local.engine import client_environment
from local.eventually import eventually
from ops.cli import app
from tests.e2e.pipeline import SECONDS, genesys_event, with_user

if TYPE_CHECKING:
    from tests.e2e.controls import Controls
    from tests.e2e.pipeline import Pipeline


class OnCall:
    """A person who runs commands. ``commands`` are those that were run."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self.commands: list[str] = []

    def run(self, command: str, *more: str) -> Result:
        self.commands.append(command)
        return CliRunner().invoke(app, [*command.removeprefix("holdfast ").split(), *more, "--stack", self._stack])

    def data(self, command: str) -> Any:
        return json.loads(self.run(command, "--json").stdout)


@pytest.fixture
def on_call(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> OnCall:
    for name, value in client_environment(pipeline.local.engine.endpoint).items():
        monkeypatch.setenv(name, value)
    return OnCall(pipeline.stack.name)


def failures(status: dict[str, Any], function: str) -> str:
    """What failed in a function, the most recent first."""
    return "; ".join(one["what"] for one in status["failures"] if one["function"] == function)


def waiting(pipeline: Pipeline, event_id: str) -> None:
    """Wait until the letter of an event waits for its next redrive."""
    eventually(lambda: "BackOff" in pipeline.dead(event_id).path, f"{event_id} waits", SECONDS)


def test_a_wrong_secret(pipeline: Pipeline, controls: Controls, on_call: OnCall) -> None:
    controls.scale_waits(1)  # six hours stay six hours
    controls.set_receives(1)
    controls.use_one_environment()
    pipeline.genesys.set_faults({"rejectCredentials": True})
    (event_id,) = pipeline.enqueue(with_user())
    waiting(pipeline, event_id)

    status = on_call.data("holdfast status")
    assert "the Genesys login refuses the client's credentials" in failures(status, "processor")
    assert {one["runbook"] for one in status["failures"] if one["category"] == "MISCONFIGURED"} == {
        "operations.md#misconfigured"
    }
    assert len(on_call.commands) == 1

    pipeline.genesys.set_faults(None)  # the secret is written again
    assert (
        on_call.run("holdfast retry-now --category MISCONFIGURED --yes", "--reason", "the secret is right").exit_code
        == 0
    )
    pipeline.stored([event_id])
    assert pipeline.settled(event_id).result["redrives"] == 1
    assert len(on_call.commands) == 2


def test_an_outage_of_genesys(pipeline: Pipeline, controls: Controls, on_call: OnCall) -> None:
    controls.scale_waits(1)
    controls.set_receives(1)
    pipeline.genesys.set_faults({"status": 503})
    (event_id,) = pipeline.enqueue(with_user())
    waiting(pipeline, event_id)

    status = on_call.data("holdfast status")
    assert "the Genesys API answered 503" in failures(status, "classify")
    (cause,) = on_call.data("holdfast letters --open")
    assert (cause["category"], cause["error"]) == ("UNAVAILABLE", "the Genesys API answered 503")
    assert len(on_call.commands) == 2

    pipeline.genesys.set_faults(None)  # nothing has to be done; a person who does not want to wait does this
    assert on_call.run("holdfast retry-now --yes", "--reason", "Genesys is back").exit_code == 0
    pipeline.stored([event_id])
    assert len(on_call.commands) == 3


def test_processing_that_somebody_paused(pipeline: Pipeline, controls: Controls, on_call: OnCall) -> None:
    with controls.paused():
        (event_id,) = pipeline.put(genesys_event())
        status = on_call.data("holdfast status")
        assert (status["processing"], status["pause"]) == ("paused", None)
        assert len(on_call.commands) == 1

        assert on_call.run(status["command"], "--yes").exit_code == 0
        pipeline.stored([event_id])
        assert len(on_call.commands) == 2


def test_a_bus_that_refuses_publications(pipeline: Pipeline, controls: Controls, on_call: OnCall) -> None:
    bus = pipeline.outputs["EnrichedBusName"]
    with controls.denied("FanOutRole", "events:PutEvents", f"arn:aws:events:us-east-1:000000000000:event-bus/{bus}"):
        (event_id,) = pipeline.put(genesys_event())
        pipeline.stored([event_id])
        status = eventually(
            lambda: found if "AccessDenied" in failures(found := on_call.data("holdfast status"), "fan-out") else None,
            "the fan-out has failed",
            SECONDS,
            every=5,
        )
    assert {one["runbook"] for one in status["failures"] if one["function"] == "fan-out"} == {
        "operations.md#fan-out-failure"
    }
    assert set(on_call.commands) == {"holdfast status"}

    published = on_call.data("holdfast republish --from 2026-01-01 --yes")  # the permission is restored
    assert published["published"] > 0
    assert published["refused"] == []
