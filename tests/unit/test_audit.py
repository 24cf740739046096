"""The audit finds every event where it is, asks AWS only, and calls lost what can be nowhere."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.identity import execution_name, to_event_id
from holdfast.domain.replay import Plan
from local.audit import Audit, Auditor, OnAws, Place, main, told

MESSAGE = "0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e"
DETAIL_TYPE = "v2.detail.events.conversation.{id}.acd.start"
BEGAN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def name(letter: str, generation: int = 0) -> str:
    return execution_name(DETAIL_TYPE, letter, MESSAGE, generation)


def archive_key(execution: str) -> str:
    return f"archive/category=UNKNOWN/dt=2026-11-23/{execution}.json"


@dataclass
class World:
    """A deployed stack: what its stores hold, and every call that was made."""

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

    def archive(self, letter: str, execution: str | None = None) -> str:
        key = archive_key(execution or name(letter))
        self.objects[key] = {"eventId": letter}
        return key

    def bury(self, letter: str) -> str:
        key = f"dead-letters/{letter}/{MESSAGE}.json"
        self.objects[key] = {"eventId": letter}
        return key

    def run(self, letter: str, status: str, output: dict[str, Any] | None = None, at: datetime = BEGAN) -> None:
        told = {"input": json.dumps({"eventId": letter}), "output": json.dumps(output) if output else None}
        known = {"executionArn": name(letter), "name": name(letter), "status": status, "startDate": at}
        self.executions.append(known | told)

    # -- boto3 ---------------------------------------------------------------------------------------------------

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        self.calls.append("batch_get_item")
        asked = request["RequestItems"]["events"]
        assert asked["ConsistentRead"]
        keys = asked["Keys"]
        assert 0 < len(keys) <= 100
        held, rest = (keys[1:], keys[:1]) if self.unprocessed > 0 else (keys, [])
        self.unprocessed -= 1
        items = [{"eventId": key["eventId"]} for key in held if key["eventId"]["S"] in self.stored]
        return {"Responses": {"events": items}, "UnprocessedKeys": {"events": {**asked, "Keys": rest}} if rest else {}}

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

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        if "Prefix" in asked:
            yield {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(asked["Prefix"])]}
            yield {}
        else:
            wanted = asked.get("statusFilter")
            newest = sorted(self.executions, key=lambda one: one["startDate"], reverse=True)
            yield {"executions": [one for one in newest if wanted in (None, one["status"])]}


@pytest.fixture
def world() -> World:
    return World()


def audit(world: World, *letters: str, waited: list[float] | None = None) -> Audit:
    return Auditor(world).of_events(letters, 60.0, (waited if waited is not None else []).append)


# -- where an event is ---------------------------------------------------------------------------------------------


def test_each_event_is_found_where_it_is(world: World) -> None:
    world.stored = {"a"}
    key, evidence = world.archive("b"), world.bury("c")
    world.run("c", "RUNNING")
    world.queued = 3
    found = {one.event_id: one for one in audit(world, "a", "b", "c", "d").found}
    assert {letter: one.place for letter, one in found.items()} == {
        "a": Place.STORED,
        "b": Place.ARCHIVED,
        "c": Place.IN_TRIAGE,
        "d": Place.UNLOCATED,
    }
    assert (found["b"].at, found["c"].at, found["c"].execution) == (key, evidence, name("c"))


def test_stored_comes_before_archived_and_archived_before_custody(world: World) -> None:
    world.stored = {"a"}
    for letter in ("a", "b"):
        world.archive(letter)
        world.bury(letter)
    assert [one.place for one in audit(world, "a", "b").found] == [Place.STORED, Place.ARCHIVED]


def test_what_a_replay_archived_again_is_found_by_its_own_form_of_name(world: World) -> None:
    plan = Plan("archive/", "why", dry_run=False, force=False, run="run", started_at="2026-11-23")
    key = world.archive("a", plan.execution_name("a", 1))
    (found,) = audit(world, "a").found
    assert (found.place, found.at) == (Place.ARCHIVED, key)


def test_a_later_generation_is_the_execution_that_works_on_it(world: World) -> None:
    world.bury("a")
    world.run("a", "RUNNING")
    world.executions[0]["name"] = name("a", 2)
    assert audit(world, "a").found[0].execution == name("a", 2)


def test_evidence_that_nobody_works_on_says_so(world: World) -> None:
    world.bury("a")
    world.run("a", "ABORTED")
    result = audit(world, "a")
    assert result.found[0].execution is None
    assert "a (no execution: the daily sweep adopts it)" in told(result)


def test_a_name_that_only_looks_like_the_letter_s_is_not_its_archive(world: World) -> None:
    world.objects[archive_key(name("a"))] = {"eventId": "another with the same 16 digits"}
    assert audit(world, "a").found[0].place is Place.UNLOCATED


def test_only_objects_whose_names_fit_are_read_and_each_of_them_once(world: World) -> None:
    key = world.archive("a")
    world.archive("b")
    auditor = Auditor(world)
    for _ in range(2):
        auditor.of_events(["a"], 60.0, lambda _seconds: None)
    assert [call for call in world.calls if call.startswith("get_object")] == [f"get_object {key}"]


def test_any_number_of_events_is_asked_for_and_what_stays_unprocessed_again(world: World) -> None:
    letters = [f"event-{number}" for number in range(201)]
    world.stored, world.unprocessed = set(letters), 2
    assert len(audit(world, *letters).at(Place.STORED)) == 201
    assert world.calls.count("batch_get_item") == 5


def test_no_event_at_all_is_no_loss(world: World) -> None:
    assert audit(world).right


# -- what is lost --------------------------------------------------------------------------------------------------


def test_what_the_queues_can_hold_is_no_loss(world: World) -> None:
    world.queued = 2
    waited: list[float] = []
    result = audit(world, "a", "b", waited=waited)
    assert result.right
    assert not waited
    assert "What is in no store is not more than the queues hold." in told(result)


def test_what_two_looks_find_nowhere_is_lost(world: World) -> None:
    waited: list[float] = []
    result = audit(world, "a", "b", waited=waited)
    assert (result.lost, result.right, waited) == (2, False, [60.0])
    assert "LOST: at least 2" in told(result)


def test_more_than_the_queues_hold_is_lost_as_far_as_it_is_more(world: World) -> None:
    world.queued = 1
    assert audit(world, "a", "b", "c").lost == 2


def test_what_the_second_look_finds_was_on_its_way(world: World) -> None:
    result = Auditor(world).of_events(["a"], 60.0, lambda _seconds: world.stored.add("a"))
    assert result.right
    assert [one.place for one in result.found] == [Place.STORED]


def test_the_queues_are_counted_before_the_stores_are_read(world: World) -> None:
    """An event that moves on meanwhile is counted in its queue and seen in its store: never in neither."""
    audit(world, "a")
    assert world.calls[:2] == ["get_queue_attributes", "get_queue_attributes"]
    assert "receive_message" not in world.calls


# -- a range of time -----------------------------------------------------------------------------------------------


def of_range(world: World) -> Audit:
    return Auditor(world).of_range(BEGAN, BEGAN + HOUR)


def test_outcomes_that_the_stores_confirm_are_right(world: World) -> None:
    world.stored = {"a"}
    world.run("a", "SUCCEEDED", {"outcome": "RECOVERED"})
    world.run("b", "SUCCEEDED", {"outcome": "ARCHIVED", "archive": {"key": world.archive("b")}})
    world.bury("c")
    world.run("c", "FAILED")
    assert of_range(world).right


@pytest.mark.parametrize(
    ("status", "output", "fault"),
    [
        ("SUCCEEDED", {"outcome": "RECOVERED"}, "recovered its event, and the table does not hold it"),
        (
            "SUCCEEDED",
            {"outcome": "ARCHIVED", "archive": {"key": "archive/gone.json"}},
            "archived its letter, and the object is not there",
        ),
        ("ABORTED", None, "is ABORTED, and its letter is in no store"),
        ("RUNNING", None, "is RUNNING, and its letter is in no store"),
    ],
)
def test_an_outcome_that_the_stores_deny_is_a_fault(
    world: World, status: str, output: dict[str, Any] | None, fault: str
) -> None:
    world.run("a", status, output)
    result = of_range(world)
    assert result.faults == (f"{name('a')} {fault}",)
    assert not result.right


def test_only_what_began_in_the_range_is_looked_at(world: World) -> None:
    world.run("a", "ABORTED", at=BEGAN - HOUR)
    world.run("b", "ABORTED", at=BEGAN + HOUR)
    assert of_range(world).found == ()


# -- the program ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ids(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The program on a stack of this world, with these lines in its file."""
    monkeypatch.setattr(OnAws, "named", lambda _stack: world)

    def run(*lines: str) -> int:
        (tmp_path / "ids.txt").write_text("\n".join(lines) + "\n\n")
        return main(["--ids", str(tmp_path / "ids.txt"), "--stack", "holdfast", "--again", "0"])

    return run


def test_the_exit_status_says_whether_anything_is_lost(world: World, ids: Callable[..., int]) -> None:
    world.stored = {"a"}
    assert ids("a") == 0
    assert ids("a", "b") == 1


def test_any_event_id_and_any_event_id_is_taken(world: World, ids: Callable[..., int]) -> None:
    odd = to_event_id("an id / that is no key")
    world.stored = {odd}
    assert ids("an id / that is no key") == 0
    assert ids(odd) == 0


def test_without_a_stack_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("local.audit.running", lambda: None)
    assert main(["--from", "2026-11-23T08:00"]) == 2
    assert "make up" in capsys.readouterr().err
