"""``holdfast show``: one event in one timeline, found by any of its names, and without its content."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from holdfast.domain.identity import execution_name
from ops.audit import Place
from ops.cli import app
from ops.deployed import AwsStack
from ops.show import EventReport, TimelineEntry, read, render
from tests.commands import AnsweringStack, assert_screen

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MESSAGE = "0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e"
EXECUTION = execution_name("v2.detail.events.conversation.{id}.acd.start", "event-a", MESSAGE)
KEY = f"archive/category=EXHAUSTED/dt=2026-11-26/f1/{EXECUTION}.json"
SECRET = "+49 89 1234567"


def attempt(count: int, message: str = MESSAGE) -> dict[str, Any]:
    fields = {
        "eventId": "event-a",
        "attempt": f"{message}#{count}",
        "status": "failed",
        "at": f"2026-11-26T11:0{count}:00.000Z",
        "category": "UNAVAILABLE",
        "errorMessage": "the Genesys API answered 503",
    }
    return {name: {"S": value} for name, value in fields.items()}


class NotThere(Exception):
    pass


@dataclass
class World:
    """An event and what the stores have of it."""

    stored: bool = False
    attempts: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    executions: list[str] = field(default_factory=list)

    def stack(self) -> AnsweringStack:
        missing = type("Exceptions", (), {"ExecutionDoesNotExist": NotThere, "NoSuchKey": NotThere})
        return AnsweringStack(
            {
                "dynamodb.batch_get_item": lambda **_: {
                    "Responses": {"events": [{"eventId": {"S": "event-a"}}] * self.stored}
                },
                "dynamodb.get_item": {
                    "Item": {"receivedAt": {"S": "2026-11-26T11:30:00.000Z"}, "detailType": {"S": "t"}}
                }
                if self.stored
                else {},
                "dynamodb.get_paginator": lambda _operation: Pages(lambda **_: [{"Items": self.attempts}]),
                "s3.get_paginator": lambda _operation: Pages(self._objects),
                "s3.get_object": lambda **_: {
                    "Body": io.BytesIO(json.dumps({"eventId": "event-a", "message": {"body": SECRET}}).encode())
                },
                "s3.exceptions": missing,
                "stepfunctions.get_paginator": lambda operation: Pages(getattr(self, f"_{operation}")),
                "stepfunctions.describe_execution": self._describe,
                "stepfunctions.exceptions": missing,
                "logs.start_query": {"queryId": "q"},
                "logs.get_query_results": {
                    "status": "Complete",
                    "results": [[{"field": "execution", "value": name}] for name in self.executions],
                },
            }
        )

    def _objects(self, **request: Any) -> list[Any]:
        return [{"Contents": [{"Key": key} for key in self.keys if key.startswith(request["Prefix"])]}]

    def _list_executions(self, **_: Any) -> list[Any]:
        return [{"executions": [{"name": name} for name in self.executions]}]

    def _describe(self, **request: Any) -> Any:
        if request["executionArn"].rpartition(":")[2] not in self.executions:
            raise NotThere
        return {"status": "SUCCEEDED", "startDate": NOW - timedelta(minutes=50), "input": '{"eventId": "event-a"}'}

    def _get_execution_history(self, **_: Any) -> list[Any]:
        verdict = {"category": "EXHAUSTED", "rule": "exhausted", "explanation": "No retries left.", "action": "archive"}
        entered = [
            ("Classify", {}),
            ("Archive", {"verdict": verdict}),
            ("Archived", {"outcome": "ARCHIVED", "redrives": 5, "archive": {"key": KEY}}),
        ]
        return [
            {
                "events": [
                    {
                        "timestamp": NOW - timedelta(minutes=49 - number),
                        "stateEnteredEventDetails": {"name": name, "input": json.dumps(data)},
                    }
                    for number, (name, data) in enumerate(entered)
                ]
            }
        ]


@dataclass
class Pages:
    paginate: Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.log_query.time.sleep", lambda _seconds: None)


def archived() -> World:
    return World(attempts=[attempt(1), attempt(2)], keys=[KEY], executions=[EXECUTION])


@pytest.mark.parametrize("wanted", ["event-a", MESSAGE, EXECUTION])
def test_an_event_is_found_by_its_id_its_message_and_its_execution(wanted: str) -> None:
    report = read(archived().stack(), wanted, NOW)
    assert (report.event_id, report.place, report.key) == ("event-a", Place.ARCHIVED, KEY)
    assert report.executions == [EXECUTION]
    assert [moment.what for moment in report.timeline] == [
        "receive 1",
        "receive 2",
        "dead letter",
        "Classify",
        "Archive",
        "Archived",
    ]


def test_a_stored_event_without_a_dead_letter_has_one_line() -> None:
    report = read(World(stored=True).stack(), "event-a", NOW)
    assert (report.place, [moment.what for moment in report.timeline]) == (Place.STORED, ["stored"])


def test_an_attempt_record_that_another_version_wrote_is_left_out() -> None:
    unreadable = {"eventId": {"S": "event-a"}, "attempt": {"S": f"{MESSAGE}#x"}}
    assert [one.what for one in read(World(attempts=[unreadable, attempt(1)]).stack(), "event-a", NOW).timeline] == [
        "receive 1"
    ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(world: World, *arguments: str) -> Result:
        monkeypatch.setattr(AwsStack, "named", lambda _name, **_: world.stack())
        return CliRunner().invoke(app, ["show", *arguments])

    return run


def test_an_id_that_is_nowhere_is_answered_with_the_places(run: Callable[..., Result]) -> None:
    result = run(World(), "no-such-id")
    assert result.exit_code == 2
    assert "the events table, the attempts table, the snapshots" in " ".join(result.stderr.split())


def test_the_content_is_printed_only_when_it_is_wanted_and_confirmed(run: Callable[..., Result]) -> None:
    assert SECRET not in run(archived(), "event-a").output
    assert SECRET not in run(archived(), "event-a", "--json").output
    assert SECRET not in run(archived(), "event-a", "--message").output
    assert run(archived(), "event-a", "--message", "--yes").stdout == f"{SECRET}\n"


@pytest.mark.parametrize(
    ("world", "status"), [(archived(), 0), (World(stored=True), 0), (World(attempts=[attempt(1)]), 1)]
)
def test_the_exit_status_says_whether_the_event_is_settled(
    run: Callable[..., Result], world: World, status: int
) -> None:
    assert run(world, "event-a").exit_code == status


@pytest.mark.usefixtures("utc")
def test_the_timeline_is_aligned() -> None:
    moments = [
        TimelineEntry(
            NOW - timedelta(hours=26),
            "receive 1",
            f"failed UNAVAILABLE: the Genesys API answered 503 (message {MESSAGE})",
        ),
        TimelineEntry(NOW - timedelta(hours=25), "dead letter", f"triage started: {EXECUTION}"),
        TimelineEntry(
            NOW - timedelta(minutes=3), "Classify", "UNAVAILABLE by rule unavailable\nTriage redrives the letter."
        ),
        TimelineEntry(NOW + timedelta(minutes=2), "BackOff", "waits 5.0 min"),
    ]
    report = EventReport("event-a", Place.IN_TRIAGE, f"dead-letters/event-a/{MESSAGE}.json", [EXECUTION], moments)
    assert_screen(render(report, NOW), "show")
