"""``holdfast replay``: what it starts, when it stops after the canary, and what it says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from holdfast.domain.identity import execution_name
from ops.cli import app
from ops.deployed import AwsStack
from ops.replay import ReplayResult, render
from tests.commands import OUTPUTS, AnsweringStack, assert_screen

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
TOPIC = "v2.detail.events.conversation.{id}.acd.start"
BY = ("--reason", "the secret is right again")


def key(number: int) -> str:
    name = execution_name(TOPIC, f"event-{number}", "0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e")
    return f"archive/category=EXHAUSTED/dt=2026-11-26/f1/{name}.json"


@dataclass
class World:
    """A replay machine. ``outcomes`` has the outcome of each letter, in the order in which replays start."""

    letters: int = 20
    failing: int = 0
    status: str = "SUCCEEDED"
    others: list[dict[str, Any]] = field(default_factory=list)
    started: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def stack(self) -> AnsweringStack:
        return AnsweringStack(
            {
                "stepfunctions.start_execution": self._start,
                "stepfunctions.describe_execution": self._describe,
                "stepfunctions.stop_execution": lambda **request: self.stopped.append(request["executionArn"]),
                "stepfunctions.list_map_runs": {"mapRuns": []},
                "stepfunctions.get_paginator": lambda _operation: Pages(lambda **_: [{"executions": self._running()}]),
                "s3.get_paginator": lambda _operation: Pages(self._objects),
            }
        )

    def _running(self) -> list[dict[str, Any]]:
        return [
            {"name": f"other-{n}", "executionArn": f"a:other-{n}", "startDate": NOW} for n, _ in enumerate(self.others)
        ]

    def _objects(self, **request: Any) -> list[Any]:
        prefix = request["Prefix"]
        keys = [one for one in map(key, range(self.letters)) if one.startswith(prefix)]
        if "Delimiter" in request:
            folders = {prefix + one.removeprefix(prefix).partition("/")[0] + "/" for one in keys}
            return [{"CommonPrefixes": [{"Prefix": one} for one in sorted(folders)]}]
        return [{"Contents": [{"Key": one, "LastModified": NOW} for one in keys]}]

    def _start(self, **request: Any) -> Any:
        assert request["stateMachineArn"] == OUTPUTS["ReplayStateMachineArn"]
        self.started.append(json.loads(request["input"]))
        return {"executionArn": f"a:run-{len(self.started)}"}

    def _describe(self, **request: Any) -> Any:
        name = request["executionArn"].rpartition(":")[2]
        kind, _, number = name.rpartition("-")
        if kind == "other":
            data = self.others[int(number)]
            return {"name": name, "status": "SUCCEEDED", "input": json.dumps(data), "output": self._output(data, 0)}
        asked = self.started[int(number) - 1]
        return {
            "name": name,
            "status": self.status,
            "output": self._output(asked, int(number)),
            "error": "InvalidInput",
        }

    def _output(self, asked: dict[str, Any], number: int) -> str:
        one = asked["prefix"].endswith(".json")
        outcome = "ARCHIVED" if one and number <= self.failing else "RECOVERED"
        counts = (
            {"EXHAUSTED": self.letters} if asked.get("dryRun") else {f"EXHAUSTED {outcome}": 1 if one else self.letters}
        )
        return json.dumps({"counts": counts, "report": "replays/r/report.json"})


@dataclass
class Pages:
    paginate: Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr("ops.replay._POLL_SECONDS", 0)

    def run(world: World, *arguments: str) -> Result:
        monkeypatch.setattr(AwsStack, "named", lambda _name, **_: world.stack())
        return CliRunner().invoke(app, ["replay", *arguments])

    return run


def test_the_input_names_what_is_replayed(run: Callable[..., Result]) -> None:
    world = World()
    options = ("--category", "exhausted", "--topic", TOPIC, "--rule", "exhausted", "--fingerprint", "f1")
    times = ("--since", "2026-11-20T08:30", "--until", "2026-11-27T00:10", "--canary", "0")
    assert run(world, *BY, *options, *times, "--yes").exit_code == 0
    assert world.started == [
        {
            "prefix": "archive/category=EXHAUSTED/",
            "reason": "the secret is right again",
            "force": False,
            "where": {
                "detailType": TOPIC,
                "rule": "exhausted",
                "fingerprint": "f1",
                "from": "2026-11-20T08:00:00.000Z",
                "to": "2026-11-27T00:00:00.000Z",
            },
        }
    ]


@pytest.mark.parametrize(("failing", "status"), [(0, 0), (1, 0), (2, 1)])
def test_the_others_follow_if_nine_of_ten_events_of_the_canary_are_stored(
    run: Callable[..., Result], failing: int, status: int
) -> None:
    world = World(failing=failing)
    assert run(world, *BY, "--yes").exit_code == status
    assert [one["prefix"].endswith(".json") for one in world.started] == [True] * 10 + [False] * (status == 0)


def test_a_replay_of_few_letters_has_no_canary(run: Callable[..., Result]) -> None:
    world = World(letters=10)
    assert run(world, *BY, "--yes").exit_code == 0
    assert [one["prefix"] for one in world.started] == ["archive/"]


def test_a_dry_run_needs_no_reason_and_asks_nothing(run: Callable[..., Result]) -> None:
    world = World()
    result = run(world, "--dry-run")
    assert result.exit_code == 0
    assert "Nothing was replayed." in result.stdout
    assert [one["dryRun"] for one in world.started] == [True]


def test_the_same_replay_is_watched_instead_of_started_again(run: Callable[..., Result]) -> None:
    world = World(others=[{"prefix": "archive/", "reason": BY[1]}])
    result = run(world, *BY, "--yes")
    assert (result.exit_code, world.started) == (0, [])
    assert "runs already: other-0" in result.stderr


def test_another_replay_that_runs_is_named_before_the_question(run: Callable[..., Result]) -> None:
    world = World(others=[{"prefix": "archive/", "reason": "the CRM is back"}])
    result = run(world, *BY)
    assert (result.exit_code, world.started) == (2, [])
    assert "Another replay runs: other-0" in result.stderr
    assert "reason: the CRM is back" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("world", "arguments", "message"),
    [
        (World(), [], "Give a reason"),
        (World(letters=0), [*BY, "--yes"], "No archived letter matches"),
        (World(), [*BY, "--category", "NONE"], "There is no category"),
        (World(), [*BY, "--since", "monday"], "is not a time"),
        (World(status="ABORTED"), [*BY, "--yes"], "ended as ABORTED"),
        (World(), ["--stop"], "No replay runs"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Callable[..., Result], world: World, arguments: list[str], message: str
) -> None:
    result = run(world, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_stop_stops_the_replays_that_run(run: Callable[..., Result]) -> None:
    world = World(others=[{"prefix": "archive/"}])
    assert run(world, "--stop", "--yes").exit_code == 0
    assert world.stopped == ["a:other-0"]


def test_the_result_is_a_table_with_the_next_command() -> None:
    counts = {"EXHAUSTED RECOVERED": 1_204, "EXHAUSTED ARCHIVED": 3, "UNKNOWN NOT_SELECTED": 77}
    assert_screen(render(ReplayResult(counts, report="replays/run-1/report.json")), "replay")
