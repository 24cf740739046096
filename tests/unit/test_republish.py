"""``holdfast republish``: ranges and failures are published again, and nothing is deleted before it was accepted."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from ops.cli import app
from ops.deployed import AwsStack
from tests.commands import AnsweringStack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEYS = ["aws/lambda/m/shard/1", "aws/lambda/m/shard/2"]


class World:
    """A fan-out that answers in this order."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []
        self.deleted: list[str] = []

    def invoke(self, **request: Any) -> Any:
        self.requests.append(json.loads(request["Payload"])["republish"])
        answer = self.answers.pop(0)
        failed = {"FunctionError": "Unhandled"} if "errorType" in answer else {}
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), **failed}


class Pages:
    def paginate(self, **_: Any) -> Any:
        return [{"Contents": [{"Key": key} for key in KEYS]}]


def answer(published: int, refused: Sequence[str] = (), start_at: str | None = None) -> dict[str, Any]:
    return {"published": published, "refused": list(refused), "setAside": 0, "startAt": start_at}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(world: World, *arguments: str) -> Result:
        answers = {
            "lambda.invoke": world.invoke,
            "s3.get_paginator": lambda _name: Pages(),
            "s3.delete_object": lambda **request: world.deleted.append(request["Key"]),
        }
        stack = AnsweringStack(answers)
        monkeypatch.setattr(AwsStack, "named", lambda _name, **_: stack)
        return CliRunner().invoke(app, ["republish", *arguments])

    return run


def test_a_long_range_is_continued_where_the_last_invocation_ended(run: Callable[..., Result]) -> None:
    world = World(answer(900, start_at="k"), answer(100))
    result = run(world, "--from", "2026-11-23T08:00", "--to", "2026-11-23T09:00", "--yes")
    assert result.exit_code == 0
    assert "1,000 events published" in result.stdout
    assert [request.get("startAt") for request in world.requests] == [None, "k"]
    assert world.requests[0]["from"] == "2026-11-23T08:00:00+00:00"


def test_an_object_is_deleted_only_if_the_bus_accepted_all_of_its_events(run: Callable[..., Result]) -> None:
    world = World(answer(1, ["b"]), answer(2))
    result = run(world, "--failures", "--yes")
    assert result.exit_code == 1
    assert world.deleted == [KEYS[1]]
    assert f"refused  b\nkept     {KEYS[0]}" in result.stdout


def test_an_error_of_the_fan_out_is_one_sentence_and_nothing_is_deleted(run: Callable[..., Result]) -> None:
    world = World({"errorType": "Unavailable"})
    result = run(world, "--failures", "--yes")
    assert (result.exit_code, world.deleted) == (2, [])
    assert "The fan-out failed with Unavailable" in " ".join(result.stderr.split())


@pytest.mark.parametrize("arguments", [[], ["--failures", "--from", "2026-11-23T08:00"]])
def test_a_range_or_failures_have_to_be_given(run: Callable[..., Result], arguments: list[str]) -> None:
    assert run(World(), *arguments).exit_code == 2
