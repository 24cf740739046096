"""``holdfast retry-now``: only letters that wait and match are redriven, and a repeated command is harmless."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from ops.cli import app
from ops.deployed import AwsStack
from ops.retry import render_waiting
from ops.waiting import WaitingLetter
from tests.commands import AnsweringStack, assert_screen

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
BY = ("--reason", "the secret is right again")


def item(token: str, category: str = "MISCONFIGURED", waits: bool = True) -> dict[str, Any]:
    end = datetime.now(UTC) + timedelta(hours=1 if waits else -1)
    fields = {
        "eventId": "waiting letters",
        "attempt": f"execution-{token}",
        "taskToken": token,
        "letter": f"event-{token}",
        "category": category,
        "rule": "misconfigured",
        "fingerprint": "f1",
        "nextTryAt": end.isoformat().replace("+00:00", "Z"),
    }
    return {name: {"S": value} for name, value in fields.items()}


@dataclass
class World:
    items: list[dict[str, Any]]
    errors: dict[str, str] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def stack(self) -> AnsweringStack:
        return AnsweringStack(
            {
                "dynamodb.get_paginator": lambda _operation: self,
                "dynamodb.delete_item": self._delete,
                "stepfunctions.send_task_success": self._send,
            }
        )

    def paginate(self, **request: Any) -> Any:
        assert request["ExpressionAttributeValues"] == {":waiting": {"S": "waiting letters"}}
        return [{"Items": [one]} for one in self.items]

    def _delete(self, **request: Any) -> None:
        assert request["ConditionExpression"] == "taskToken = :token"
        self.deleted.append(request["ExpressionAttributeValues"][":token"]["S"])

    def _send(self, **request: Any) -> None:
        if code := self.errors.get(request["taskToken"]):
            raise ClientError({"Error": {"Code": code}}, "SendTaskSuccess")
        self.sent[request["taskToken"]] = json.loads(request["output"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(world: World, *arguments: str) -> Result:
        monkeypatch.setattr(AwsStack, "named", lambda _name, **_: world.stack())
        return CliRunner().invoke(app, ["retry-now", *BY, *arguments])

    return run


def test_letters_that_match_are_redriven_with_the_reason(run: Callable[..., Result]) -> None:
    world = World([item("a"), item("b", "UNAVAILABLE"), item("c")])
    result = run(world, "--category", "misconfigured", "--yes")
    assert (result.exit_code, result.stdout) == (0, "2 letters are redriven now\n")
    assert world.sent == {token: {"reason": "the secret is right again"} for token in ("a", "c")}


def test_an_item_of_a_wait_that_is_over_is_left_alone(run: Callable[..., Result]) -> None:
    world = World([item("a", waits=False)])
    result = run(world, "--yes")
    assert (result.exit_code, world.sent) == (2, {})
    assert "holdfast letters --open" in result.stderr


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_a_letter_that_waits_no_longer_is_no_failure(run: Callable[..., Result], code: str) -> None:
    world = World([item("a"), item("b")], {"a": code})
    result = run(world, "--yes")
    assert (result.exit_code, sorted(world.deleted)) == (0, ["a", "b"])
    assert "1 were no longer waiting" in result.stdout


def test_a_call_that_fails_is_counted_and_the_others_go_on(run: Callable[..., Result]) -> None:
    world = World([item("a"), item("b")], {"a": "ServiceUnavailable"})
    result = run(world, "--yes")
    assert (result.exit_code, list(world.sent), world.deleted) == (1, ["b"], ["b"])
    assert "1 calls failed" in result.stdout


def test_nothing_is_sent_without_a_confirmation(run: Callable[..., Result]) -> None:
    world = World([item("a")])
    assert (run(world).exit_code, world.sent) == (2, {})


def test_the_letters_are_shown_by_cause_before_the_question() -> None:
    letters = [
        WaitingLetter(f"event-{n}", f"execution-{n}", category, "rule", fingerprint, NOW + timedelta(minutes=wait))
        for n, (category, fingerprint, wait) in enumerate(
            [("MISCONFIGURED", "f1", 300), ("MISCONFIGURED", "f1", 12), ("UNAVAILABLE", "f2", 90)]
        )
    ]
    assert_screen(render_waiting(letters, NOW), "retry-now")
