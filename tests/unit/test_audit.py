"""The audit finds where events are and reports as lost only what can be in no store and no queue."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from holdfast.domain.identity import event_id_of_bytes, execution_name, to_event_id
from holdfast.domain.replay import Plan
from ops.audit import Audit, Auditor, Place, render
from ops.cli import app
from ops.deployed import AwsStack
from tests.commands import screen_of

MESSAGE = "0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e"
DETAIL_TYPE = "v2.detail.events.conversation.{id}.acd.start"
BEGAN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def name(event_id: str, generation: int = 0) -> str:
    return execution_name(DETAIL_TYPE, event_id, MESSAGE, generation)


def archive_key(execution: str) -> str:
    return f"archive/category=UNKNOWN/dt=2026-11-23/0123456789abcdef/{execution}.json"


@dataclass
class World:
    """A deployed stack that records every call."""

    stored: set[str] = field(default_factory=set)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    queued: int = 0
    calls: list[str] = field(default_factory=list)
    unprocessed: int = 0

    outputs: Mapping[str, str] = field(
        default_factory=lambda: {
            "EventsTableName": "events",
            "ArchiveBucketName": "bucket",
            "BufferQueueUrl": "buffer",
            "DeadLetterQueueUrl": "dead",
            "TriageStateMachineArn": "machine",
        }
    )

    def client(self, _service: str) -> World:
        return self

    def archive(self, event_id: str, execution: str | None = None) -> str:
        key = archive_key(execution or name(event_id))
        self.objects[key] = {"eventId": event_id}
        return key

    def snapshot(self, event_id: str) -> str:
        key = f"dead-letters/{event_id}/{MESSAGE}.json"
        self.objects[key] = {"eventId": event_id}
        return key

    def run(self, event_id: str, status: str, output: dict[str, Any] | None = None, at: datetime = BEGAN) -> None:
        described = {"input": json.dumps({"eventId": event_id}), "output": json.dumps(output) if output else None}
        known = {"executionArn": name(event_id), "name": name(event_id), "status": status, "startDate": at}
        self.executions.append(known | described)

    # -- boto3 ---------------------------------------------------------------------------------------------------

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        self.calls.append("batch_get_item")
        request_items = request["RequestItems"]["events"]
        assert request_items["ConsistentRead"]
        keys = request_items["Keys"]
        assert 0 < len(keys) <= 100
        held, rest = (keys[1:], keys[:1]) if self.unprocessed > 0 else (keys, [])
        self.unprocessed -= 1
        items = [{"eventId": key["eventId"]} for key in held if key["eventId"]["S"] in self.stored]
        return {
            "Responses": {"events": items},
            "UnprocessedKeys": {"events": {**request_items, "Keys": rest}} if rest else {},
        }

    def get_object(self, **request: Any) -> dict[str, Any]:
        self.calls.append(f"get_object {request['Key']}")
        return {"Body": io.BytesIO(json.dumps(self.objects[request["Key"]]).encode())}

    def get_queue_attributes(self, **request: Any) -> dict[str, Any]:
        self.calls.append("get_queue_attributes")
        first, *others = request["AttributeNames"]
        return {
            "Attributes": {first: str(self.queued * (request["QueueUrl"] == "buffer")), **dict.fromkeys(others, "0")}
        }

    def describe_execution(self, **request: Any) -> dict[str, Any]:
        return next(one for one in self.executions if one["executionArn"] == request["executionArn"])

    def get_paginator(self, operation: str) -> World:
        self.calls.append(operation)
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        if "Prefix" in arguments:
            yield {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(arguments["Prefix"])]}
            yield {}
        else:
            wanted = arguments.get("statusFilter")
            newest = sorted(self.executions, key=lambda one: one["startDate"], reverse=True)
            yield {"executions": [one for one in newest if wanted in (None, one["status"])]}


@pytest.fixture
def world() -> World:
    return World()


def audit(world: World, *event_ids: str, waited: list[float] | None = None) -> Audit:
    return Auditor(world).of_events(event_ids, 60.0, (waited if waited is not None else []).append)


# -- where an event is ---------------------------------------------------------------------------------------------


def test_each_event_is_found_in_its_place(world: World) -> None:
    world.stored = {"a"}
    key, snapshot = world.archive("b"), world.snapshot("c")
    world.run("c", "RUNNING")
    world.queued = 3
    found = {one.event_id: one for one in audit(world, "a", "b", "c", "d").events}
    assert {event_id: one.place for event_id, one in found.items()} == {
        "a": Place.STORED,
        "b": Place.ARCHIVED,
        "c": Place.IN_TRIAGE,
        "d": Place.IN_NO_STORE,
    }
    assert (found["b"].key, found["c"].key, found["c"].execution) == (key, snapshot, name("c"))


def test_an_event_in_several_places_counts_as_stored_then_as_archived(world: World) -> None:
    world.stored = {"a"}
    for event_id in ("a", "b"):
        world.archive(event_id)
        world.snapshot(event_id)
    assert [one.place for one in audit(world, "a", "b").events] == [Place.STORED, Place.ARCHIVED]


def test_an_event_that_a_replay_archived_again_is_found(world: World) -> None:
    plan = Plan("archive/", "why", dry_run=False, force=False, run="run", started_at="2026-11-23")
    key = world.archive("a", plan.execution_name("a", 1))
    (found,) = audit(world, "a").events
    assert (found.place, found.key) == (Place.ARCHIVED, key)


def test_the_execution_of_a_later_generation_is_found(world: World) -> None:
    world.snapshot("a")
    world.run("a", "RUNNING")
    world.executions[0]["name"] = name("a", 2)
    assert audit(world, "a").events[0].execution == name("a", 2)


def test_a_snapshot_without_an_execution_is_reported(world: World) -> None:
    world.snapshot("a")
    world.run("a", "ABORTED")
    result = audit(world, "a")
    assert result.events[0].execution is None
    assert "a  in triage  no execution: the sweep starts one" in screen_of(render(result))


def test_an_archive_object_of_another_event_with_the_same_digits_is_ignored(world: World) -> None:
    world.objects[archive_key(name("a"))] = {"eventId": "another with the same 16 digits"}
    assert audit(world, "a").events[0].place is Place.IN_NO_STORE


def test_only_archive_objects_with_a_fitting_name_are_read_and_each_once(world: World) -> None:
    key = world.archive("a")
    world.archive("b")
    auditor = Auditor(world)
    for _ in range(2):
        auditor.of_events(["a"], 60.0, lambda _seconds: None)
    assert [call for call in world.calls if call.startswith("get_object")] == [f"get_object {key}"]


def test_any_number_of_events_is_read_and_unprocessed_keys_are_read_again(world: World) -> None:
    event_ids = [f"event-{number}" for number in range(201)]
    world.stored, world.unprocessed = set(event_ids), 2
    assert audit(world).passed
    assert len(audit(world, *event_ids).at(Place.STORED)) == 201
    assert world.calls.count("batch_get_item") == 5


# -- what is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("queued", "lost", "waits", "line"),
    [
        (2, 0, [], "No loss was found"),
        (1, 1, [60.0], "LOST: at least 1"),
        (0, 2, [60.0], "LOST: at least 2"),
    ],
)
def test_only_events_beyond_the_queued_messages_that_two_looks_find_nowhere_are_lost(
    world: World, queued: int, lost: int, waits: list[float], line: str
) -> None:
    world.queued = queued
    waited: list[float] = []
    result = audit(world, "a", "b", waited=waited)
    assert (result.lost, result.passed, waited) == (lost, not lost, waits)
    assert line in screen_of(render(result))


def test_an_event_that_the_second_look_finds_is_not_lost(world: World) -> None:
    result = Auditor(world).of_events(["a"], 60.0, lambda _seconds: world.stored.add("a"))
    assert result.passed
    assert [one.place for one in result.events] == [Place.STORED]


def test_the_queues_are_counted_before_the_stores_are_read(world: World) -> None:
    """An event that moves on meanwhile is then counted twice rather than never."""
    audit(world, "a")
    assert world.calls[:2] == ["get_queue_attributes", "get_queue_attributes"]
    assert "receive_message" not in world.calls


# -- a range of time -----------------------------------------------------------------------------------------------


def of_range(world: World) -> Audit:
    return Auditor(world).of_range(BEGAN, BEGAN + HOUR)


def test_an_audit_of_a_range_passes_if_the_stores_confirm_the_outcomes_of_its_executions(world: World) -> None:
    world.stored = {"a"}
    world.run("a", "SUCCEEDED", {"outcome": "RECOVERED"})
    world.run("b", "SUCCEEDED", {"outcome": "ARCHIVED", "archive": {"key": world.archive("b")}})
    world.snapshot("c")
    world.run("c", "FAILED")
    for event_id, began in (("too early", BEGAN - HOUR), ("too late", BEGAN + HOUR)):
        world.run(event_id, "ABORTED", at=began)
    result = of_range(world)
    assert result.passed
    assert len(result.events) == 3


@pytest.mark.parametrize(
    ("status", "output", "contradiction"),
    [
        ("SUCCEEDED", {"outcome": "RECOVERED"}, "ended as RECOVERED, but the table does not hold its event"),
        (
            "SUCCEEDED",
            {"outcome": "ARCHIVED", "archive": {"key": "archive/gone.json"}},
            "ended as ARCHIVED, but its archive object does not exist",
        ),
        ("ABORTED", None, "is ABORTED, but its event is in no store"),
        ("RUNNING", None, "is RUNNING, but its event is in no store"),
    ],
)
def test_an_outcome_that_the_stores_contradict_is_reported(
    world: World, status: str, output: dict[str, Any] | None, contradiction: str
) -> None:
    world.run("a", status, output)
    result = of_range(world)
    assert result.contradictions == (f"{name('a')} {contradiction}",)
    assert not result.passed


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ids(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command on a stack of this world, with these lines in its file."""
    monkeypatch.setattr(AwsStack, "named", lambda _stack, **_: world)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    def run(*lines: str) -> Result:
        (tmp_path / "ids.txt").write_text("\n".join(lines) + "\n\n")
        return CliRunner().invoke(app, ["audit", "--ids", str(tmp_path / "ids.txt")])

    return run


def test_the_command_reads_event_ids_and_producer_ids_and_its_exit_status_is_1_if_an_event_is_lost(
    world: World, ids: Callable[..., Result]
) -> None:
    odd = to_event_id("an id / that is no key")
    world.stored = {odd}
    assert ids("an id / that is no key").exit_code == 0
    assert ids(odd).exit_code == 0
    lost = ids(odd, "b")
    assert lost.exit_code == 1
    assert "b  in no store" in lost.stdout
    assert odd not in lost.stdout  # it is stored


def test_a_letter_without_an_id_of_its_own_is_found_by_the_id_of_its_message(
    world: World, ids: Callable[..., Result]
) -> None:
    digest = event_id_of_bytes("{broken")
    key = world.archive(digest)
    found = ids(MESSAGE)
    assert found.exit_code == 0
    assert f"{MESSAGE}  archived  {key}  event {digest}" in found.stdout


def test_a_snapshot_is_found_by_the_id_of_its_message(world: World) -> None:
    world.snapshot("c")
    (one,) = audit(world, MESSAGE).events
    assert (one.place, one.found_as) == (Place.IN_TRIAGE, "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--ids FILE"),
        (["--ids", "x", "--from", "2026-11-23"], "--ids FILE"),
        (["--from", "yesterday"], "is not a time"),
        (["--ids", "/nowhere/ids.txt"], "No such file"),
    ],
)
def test_bad_use_is_one_sentence_and_exit_status_2(arguments: list[str], message: str) -> None:
    answer = CliRunner().invoke(app, ["audit", *arguments])
    assert answer.exit_code == 2
    assert message in " ".join(answer.stderr.split())
