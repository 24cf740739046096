"""``holdfast pause`` and ``holdfast resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from ops.cli import app
from ops.deployed import AwsStack
from tests.commands import OUTPUTS, AnsweringStack

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_BREAKER = {name: value for name, value in OUTPUTS.items() if name != "CircuitBreakerStateMachineArn"}


class Lambda:
    """A mapping that reaches its new state at the second look after a change."""

    def __init__(self, state: str) -> None:
        self.state, self.then = state, [state]
        self.requests: list[Any] = []

    def change(self, *, enabled: bool) -> None:
        self.then = ["Enabling", "Enabled"] if enabled else ["Disabling", "Disabled"]

    def update(self, **request: Any) -> Any:
        self.requests.append(request)
        self.change(enabled=request["Enabled"])
        return {}

    def list(self, **_: Any) -> Any:
        state = self.then.pop(0) if len(self.then) > 1 else self.then[0]
        mapping = {"UUID": "u", "State": state, "EventSourceArn": "arn:aws:sqs:eu-west-1:123456789012:buffer"}
        return {"EventSourceMappings": [mapping]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("ops.pause._POLL_SECONDS", 0)

    def run(functions: Lambda, *arguments: str, outputs: dict[str, str] = OUTPUTS) -> Result:
        def start(**request: Any) -> Any:
            functions.requests.append(request)
            functions.change(enabled=False)
            return {"executionArn": "arn:aws:states:eu-west-1:123456789012:execution:breaker:e1"}

        answers = {
            "lambda.list_event_source_mappings": functions.list,
            "lambda.update_event_source_mapping": functions.update,
            "stepfunctions.start_execution": start,
        }
        monkeypatch.setattr(AwsStack, "named", lambda _name, **_: AnsweringStack(answers, outputs=outputs))
        return CliRunner().invoke(app, list(arguments))

    return run


def test_a_pause_starts_an_execution_with_the_reason_and_waits_until_processing_has_stopped(
    run: Callable[..., Result],
) -> None:
    functions = Lambda("Enabled")
    result = run(functions, "pause", "--reason", "the CRM moves", "--yes")
    assert result.exit_code == 0
    assert result.stdout == "paused by e1. Resume with: holdfast resume\n"
    assert functions.requests == [
        {
            "stateMachineArn": OUTPUTS["CircuitBreakerStateMachineArn"],
            "input": '{"manual": true, "reason": "the CRM moves"}',
        }
    ]


def test_without_a_circuit_breaker_a_pause_disables_the_mapping(run: Callable[..., Result]) -> None:
    functions = Lambda("Enabled")
    assert run(functions, "pause", "--reason", "r", "--yes", outputs=WITHOUT_BREAKER).exit_code == 0
    assert functions.requests == [{"UUID": "u", "Enabled": False}]


def test_processing_that_is_paused_is_not_paused_again(run: Callable[..., Result]) -> None:
    functions = Lambda("Disabled")
    result = run(functions, "pause", "--reason", "r", "--yes")
    assert (result.exit_code, functions.requests) == (2, [])
    assert "paused already" in result.stderr


def test_resume_enables_the_mapping_and_waits_until_it_receives(run: Callable[..., Result]) -> None:
    functions = Lambda("Disabled")
    result = run(functions, "resume", "--yes")
    assert (result.exit_code, functions.requests) == (0, [{"UUID": "u", "Enabled": True}])
    assert result.stdout.startswith("running since ")


def test_resume_of_running_processing_changes_nothing(run: Callable[..., Result]) -> None:
    functions = Lambda("Enabled")
    assert run(functions, "resume").exit_code == 0
    assert functions.requests == []


def test_nothing_changes_without_a_terminal_and_without_yes(run: Callable[..., Result]) -> None:
    functions = Lambda("Enabled")
    result = run(functions, "pause", "--reason", "r")
    assert (result.exit_code, functions.requests) == (2, [])
    assert "add --yes" in result.stderr


def test_a_mapping_that_does_not_change_ends_with_advice(run: Callable[..., Result]) -> None:
    functions = Lambda("Disabled")
    functions.update = lambda **_: {}  # type: ignore[method-assign]
    result = run(functions, "resume", "--yes")
    assert result.exit_code == 2
    assert "holdfast status" in result.stderr
