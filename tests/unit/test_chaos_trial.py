"""``holdfast verify --chaos``: what it disturbs is undone, and nothing is disturbed in a stack with a broken promise."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from ops import synthetic
from ops.chaos import ChaosTrial
from ops.checks import CheckResult, Finding
from ops.cli import app
from ops.template import DeployedTemplate
from tests.commands import AnsweringStack

STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/holdfast/1"


def trial(**answers: Any) -> ChaosTrial:
    stack = AnsweringStack({f"lambda.{name}": answer for name, answer in answers.items()})
    return ChaosTrial(stack, DeployedTemplate({"Resources": {}}, {}, {}, STACK_ID, lambda *_: ""), sleep=lambda _: None)


@pytest.mark.parametrize("before", [None, 0, 7])
def test_the_concurrency_is_set_to_what_it_was_also_after_an_interruption(before: int | None) -> None:
    now = [before]
    run = trial(
        get_function_concurrency=lambda **_: {} if before is None else {"ReservedConcurrentExecutions": before},
        put_function_concurrency=lambda **asked: now.append(asked["ReservedConcurrentExecutions"]),
        delete_function_concurrency=lambda **_: now.append(None),
    )
    with pytest.raises(KeyboardInterrupt), run._throttled_processor():
        raise KeyboardInterrupt
    assert now == [before, 0, before]


def test_nothing_is_disturbed_if_a_promise_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Finding("Events", "stored", "A valid event is stored", "it was not seen", CheckResult.FAIL)
    monkeypatch.setattr(synthetic.Trial, "_send_and_check", lambda _: [failed])
    found = trial()._send_and_check()
    assert [(one.name, one.result) for one in found] == [
        ("stored", CheckResult.FAIL),
        ("chaos", CheckResult.NOT_CHECKED),
    ]
    assert "because of stored" in found[1].seen


def test_chaos_without_events_is_refused() -> None:
    result = CliRunner().invoke(app, ["verify", "--chaos", "--config-only", "--stack", "s"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Leave one of them out" in result.stderr
