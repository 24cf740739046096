"""The sweep deletes settled snapshots, leaves those that an execution handles, and adopts the others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.errors import Throttled, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.letters import DeadLetter
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.sweep import SweepReport
from tests.fakes import MACHINE, NOW, FakeDeadline
from tests.unit.samples import ACD_START, PERSONAL, body, message, stamped
from tests.world import World

NAME = execution_name(ACD_START, "event-1", "message-1")


class SweepWorld(World):
    def add_snapshot(
        self, text: str | None = None, message_id: str = "message-1", *, hours: int = 48, **changes: Any
    ) -> str:
        letter = DeadLetter.of(message(text or body(), message_id, **changes))
        self.objects.age = timedelta(hours=hours)
        self.objects.create(letter.key, letter.as_json())
        return letter.key

    def snapshots(self) -> list[str]:
        return self.keys("dead-letters/")

    def sweep(self, now: datetime = NOW, deadline: FakeDeadline | None = None) -> SweepReport:
        return super().sweep(now, deadline)


@pytest.fixture
def world() -> SweepWorld:
    return SweepWorld()


def test_a_sweep_without_snapshots_returns_an_empty_report(world: SweepWorld) -> None:
    assert world.sweep() == SweepReport()


def test_a_young_snapshot_is_left_alone_and_its_age_is_reported(world: SweepWorld) -> None:
    world.add_snapshot(hours=23)
    assert world.sweep() == SweepReport(seen=1, left=1, oldest_hours=23.0)
    assert world.executions.descriptions == {}


def test_the_snapshot_of_a_stored_event_is_deleted(world: SweepWorld) -> None:
    world.add_snapshot()
    world.store.items["event-1"] = None  # type: ignore[assignment]  # only its key matters
    report = world.sweep()
    assert (report.seen, report.released) == (1, 1)
    assert world.snapshots() == []


def test_the_age_of_a_snapshot_that_the_sweep_deletes_is_not_reported(world: SweepWorld) -> None:
    world.add_snapshot(hours=48)
    world.add_snapshot(body("event-2"), "message-2", hours=23)
    world.store.items["event-1"] = None  # type: ignore[assignment]  # only its key matters
    assert world.sweep().oldest_hours == 23.0


def test_an_unfinished_sweep_reports_the_age_at_its_beginning(world: SweepWorld) -> None:
    add_snapshots(world, 1, 2)
    world.store.items["event-1"] = None  # type: ignore[assignment]  # only its key matters
    report = world.sweep(deadline=FakeDeadline(*ONE_EVENT))
    assert (report.released, report.finished, report.oldest_hours) == (1, False, 48.0)


@pytest.mark.parametrize("status", [ExecutionStatus.RUNNING, ExecutionStatus.PENDING_REDRIVE])
def test_the_snapshot_of_a_stored_event_is_left_while_an_execution_is_open(
    world: SweepWorld, status: ExecutionStatus
) -> None:
    key = world.add_snapshot()
    world.store.items["event-1"] = None  # type: ignore[assignment]  # only its key matters
    world.executions.end(NAME, status)
    world.journal.fail("executions.running_names", Throttled("too fast"))
    assert world.sweep().left == 1
    assert world.snapshots() == [key]


def test_the_snapshot_of_another_body_with_the_id_of_a_stored_event_is_adopted(world: SweepWorld) -> None:
    world.add_snapshot('{"id": "event-1"}')
    world.store.items["event-1"] = None  # type: ignore[assignment]  # only its key matters
    assert world.sweep().adopted == 1


@pytest.mark.parametrize("status", [ExecutionStatus.RUNNING, ExecutionStatus.PENDING_REDRIVE])
def test_a_snapshot_that_a_running_execution_handles_is_left_alone(world: SweepWorld, status: ExecutionStatus) -> None:
    world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.ABORTED)
    world.executions.end(f"{NAME}-g1", status)
    assert world.sweep().left == 1
    assert list(world.executions.descriptions) == [NAME, f"{NAME}-g1"]


def test_the_snapshot_of_an_execution_that_succeeded_is_deleted(world: SweepWorld) -> None:
    world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.SUCCEEDED)
    assert world.sweep().released == 1
    assert world.snapshots() == []


@pytest.mark.parametrize("status", [ExecutionStatus.ABORTED, ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT])
def test_the_next_generation_adopts_the_snapshot_of_an_execution_that_did_not_succeed(
    world: SweepWorld, status: ExecutionStatus
) -> None:
    key = world.add_snapshot()
    world.executions.end(NAME, status)
    report = world.sweep()
    assert (report.seen, report.adopted, report.oldest_hours) == (1, 1, 48.0)
    assert world.executions.running == [f"{NAME}-g1"]
    assert world.executions.inputs[f"{NAME}-g1"]["snapshots"] == [key]
    assert world.sweep().left == 1, "a second sweep leaves it to the execution"


def test_the_next_generation_takes_over_the_limits(world: SweepWorld) -> None:
    key = world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.ABORTED)
    world.executions.last_inputs[NAME] = {"snapshots": [key], "redrives": 2, "history": ["CRASHED", "CRASHED"]}
    world.sweep()
    started = world.executions.inputs[f"{NAME}-g1"]
    assert (started["snapshots"], started["redrives"], started["history"]) == ([key], 2, ["CRASHED", "CRASHED"])


def archive(world: SweepWorld, text: str, *, digest_of: str = "event-1", day: str = "2026-11-22") -> str:
    """Write an archive object of another execution."""
    key = f"archive/category=EXHAUSTED/dt={day}/{execution_name(ACD_START, digest_of, 'another')}.json"
    world.objects.create(key, DeadLetter.of(message(text, "another")).as_json())
    return key


def test_a_snapshot_whose_letter_another_execution_archived_is_deleted(world: SweepWorld) -> None:
    world.add_snapshot(hours=48)
    world.executions.end(NAME, ExecutionStatus.ABORTED)
    archived = archive(world, body())
    assert world.sweep() == SweepReport(seen=1, released=1)
    assert world.snapshots() == []
    assert archived in world.objects.texts
    assert world.executions.running == []


@pytest.mark.parametrize(
    ("text", "digest_of", "day"),
    [
        ('{"id": "event-1"}', "event-1", "2026-11-22"),
        (body("event-2"), "event-2", "2026-11-22"),
        (body("event-2"), "event-1", "2026-11-22"),
        (body(), "event-1", "2026-11-20"),
    ],
    ids=["another body with this id", "another event", "another event with this digest", "before the snapshot"],
)
def test_a_snapshot_is_adopted_although_another_letter_was_archived(
    world: SweepWorld, text: str, digest_of: str, day: str
) -> None:
    world.add_snapshot(hours=48)
    archive(world, text, digest_of=digest_of, day=day)
    assert world.sweep().adopted == 1


def test_a_day_of_the_archive_is_listed_once_per_sweep(world: SweepWorld) -> None:
    for number in (1, 2, 3):
        world.add_snapshot(body(f"event-{number}"), f"message-{number}", hours=30)
    world.sweep()
    days_times_categories = 2 * len(CATEGORIES)
    assert world.journal.calls.count("objects.list") == 2 + days_times_categories


def test_a_snapshot_without_an_execution_is_adopted(world: SweepWorld) -> None:
    world.add_snapshot()
    assert world.sweep().adopted == 1
    assert world.executions.running == [NAME]


def test_all_snapshots_of_an_event_are_adopted_by_one_execution(world: SweepWorld) -> None:
    newest = world.add_snapshot(
        message_id="a-newer", hours=30, attributes=stamped(execution=f"{MACHINE}gone", redrives=3)
    )
    oldest = world.add_snapshot(message_id="message-1", hours=60)
    assert world.sweep().adopted == 2
    (started,) = world.executions.inputs.values()
    assert started["snapshots"] == [oldest, newest]
    assert (started["messageId"], started["redrives"]) == ("a-newer", 3)


def test_an_event_with_a_young_snapshot_is_left_alone(world: SweepWorld) -> None:
    world.add_snapshot(message_id="old", hours=60)
    world.add_snapshot(message_id="young", hours=1)
    assert world.sweep().left == 2


def test_a_snapshot_is_left_alone_while_the_execution_that_redrove_it_runs(world: SweepWorld) -> None:
    world.add_snapshot(attributes=stamped(execution=f"{MACHINE}redriver"))
    world.executions.end("redriver", ExecutionStatus.RUNNING)
    assert world.sweep().left == 1


@pytest.mark.parametrize("status", [ExecutionStatus.SUCCEEDED, ExecutionStatus.RUNNING])
def test_a_stamp_for_another_event_is_ignored(world: SweepWorld, status: ExecutionStatus) -> None:
    world.add_snapshot(attributes=stamped("event-2", execution=f"{MACHINE}another", redrives=9))
    world.executions.end("another", status)
    assert world.sweep().adopted == 1
    assert world.executions.inputs[NAME]["redrives"] == 0


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow"), RuntimeError(PERSONAL)])
def test_an_error_in_one_event_does_not_stop_the_sweep(world: SweepWorld, error: Exception) -> None:
    for number in (1, 2, 3):
        world.add_snapshot(body(f"event-{number}"), f"message-{number}")
    world.journal.fail("executions.start", None, error)
    report = world.sweep()
    assert (report.adopted, report.failed) == (2, 1)
    assert report.errors[0].startswith(f"event-2: {type(error).__name__}")
    assert PERSONAL not in report.errors[0]
    assert world.sweep().adopted == 1


def test_an_object_that_is_not_a_snapshot_is_reported_and_kept(world: SweepWorld) -> None:
    world.objects.age = timedelta(days=2)
    world.objects.create("dead-letters/event-9/x.json", "not a snapshot")
    report = world.sweep()
    assert (report.failed, report.errors) == (
        1,
        ["event-9: SnapshotMissing: the object is not a snapshot of a dead letter"],
    )
    assert world.snapshots() == ["dead-letters/event-9/x.json"]


def test_a_snapshot_that_is_deleted_during_the_sweep_is_reported(world: SweepWorld) -> None:
    world.add_snapshot()
    world.objects.read = lambda _key: None  # type: ignore[method-assign]
    assert world.sweep().failed == 1


# -- more snapshots than one sweep can go through --------------------------------------------------------------------


def add_snapshots(world: SweepWorld, *numbers: int) -> None:
    for number in numbers:
        world.add_snapshot(body(f"event-{number}"), f"message-{number}")


def events_with_execution(world: SweepWorld) -> list[str]:
    return [started["eventId"] for started in world.executions.inputs.values()]


#: Time for the listing and for one event.
ONE_EVENT = (10, 10, 0)


def test_a_sweep_without_time_leaves_the_rest_to_the_next_one(world: SweepWorld) -> None:
    add_snapshots(world, 1, 2, 3)
    report = world.sweep(deadline=FakeDeadline(*ONE_EVENT))
    assert (report.adopted, report.finished, report.seen) == (1, False, 3)
    assert events_with_execution(world) == ["event-1"]
    assert world.sweep(deadline=FakeDeadline(10, *ONE_EVENT)).adopted == 1, "one more reading for the running execution"
    assert events_with_execution(world) == ["event-1", "event-2"]


def test_sweeps_that_are_too_short_give_every_snapshot_its_turn(world: SweepWorld) -> None:
    add_snapshots(world, 1, 2, 3)
    world.journal.fail_always("executions.start", Unavailable("down"))
    failed = [world.sweep(deadline=FakeDeadline(*ONE_EVENT)).failed for _ in range(3)]
    assert failed == [1, 1, 1]
    world.journal.reset()
    assert world.sweep(deadline=FakeDeadline(*ONE_EVENT)).adopted == 1
    assert events_with_execution(world) == ["event-1"], "after the last snapshot comes the first"
    assert world.sweep().adopted == 2


def test_a_sweep_that_continues_sees_all_snapshots_of_an_event(world: SweepWorld) -> None:
    add_snapshots(world, 1, 2)
    world.journal.fail("executions.start", Unavailable("down"))
    world.sweep(deadline=FakeDeadline(*ONE_EVENT))
    key = world.add_snapshot(body("event-1"), "newer")
    report = world.sweep()
    assert (report.adopted, report.finished) == (3, True)
    assert [key in started["snapshots"] for started in world.executions.inputs.values()] == [False, True]


def test_a_snapshot_of_an_event_with_a_running_execution_is_left_without_a_description(world: SweepWorld) -> None:
    world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.RUNNING)
    assert world.sweep().left == 1
    assert "executions.describe" not in world.journal.calls


@pytest.mark.parametrize("error", [Throttled("too fast"), Unavailable("down")])
def test_executions_are_described_when_they_cannot_be_listed(world: SweepWorld, error: Exception) -> None:
    world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.RUNNING)
    world.journal.fail("executions.running_names", error)
    report = world.sweep()
    assert (report.left, report.failed) == (1, 0)
    assert report.errors == [f"list of executions: {type(error).__name__}: {error}"]


def test_the_listing_of_executions_takes_at_most_half_of_the_time(world: SweepWorld) -> None:
    add_snapshots(world, 1)
    for number in range(3):
        world.executions.end(f"another-{number}", ExecutionStatus.RUNNING)
    assert world.sweep(deadline=FakeDeadline(100, 60, 49, 49)).adopted == 1


def test_an_execution_is_described_once_for_each_decision(world: SweepWorld) -> None:
    world.add_snapshot()
    world.executions.end(NAME, ExecutionStatus.ABORTED)
    world.sweep()
    assert world.journal.calls.count("executions.describe") == 2, "the aborted one and the next generation"
    assert world.journal.calls.count("executions.last_input") == 1


def test_a_generation_that_starts_during_the_decision_is_not_started_again(world: SweepWorld) -> None:
    world.add_snapshot()
    start = world.executions.start

    def started_meanwhile(name: str, execution_input: Mapping[str, Any]) -> bool:
        world.executions.end(name, ExecutionStatus.RUNNING)
        return start(name, execution_input)

    world.executions.start = started_meanwhile  # type: ignore[method-assign]
    world.sweep()
    assert world.executions.running == [NAME]
