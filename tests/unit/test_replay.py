"""A replay takes the letters of its input once, and can be stopped and started again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from holdfast.domain.errors import InvalidInput, SnapshotMissing
from holdfast.domain.identity import EXECUTION_NAME_LIMIT
from holdfast.domain.letters import DeadLetter
from holdfast.domain.ports import ExecutionStatus
from holdfast.domain.replay import Plan, Replayer, category_of
from holdfast.domain.triage import REPLAYED_TAG, Archiver, TriageInput
from tests.fakes import MACHINE, FakeDeadline
from tests.unit.samples import ACD_START, PERSONAL, body, message
from tests.world import World

INPUT = {"prefix": "archive/category=UNKNOWN/", "run": "run-1", "startedAt": "2026-11-23T12:00:00.000Z"}


class ReplayWorld(World):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.replayer = Replayer(self.objects, self.executions, map)

    def archive(
        self,
        event_id: str,
        category: str = "UNKNOWN",
        at: str = "2026-11-22T10:00:00.000Z",
        verdict: dict[str, str] | None = None,
    ) -> str:
        """Write an archive object. Returns its key."""
        letter = DeadLetter.of(message(body(event_id), "m"))
        self.objects.create(letter.key, letter.as_json())
        triage_input = TriageInput(event_id, (letter.key,))
        archiver = Archiver(self.objects, self.attempt_log, self.store, "archive-bucket")
        place = archiver.archive(triage_input, {"category": category, **(verdict or {})}, f"{MACHINE}{event_id}", at)
        self.objects.delete([letter.key])
        return place["key"]


@pytest.fixture
def world() -> ReplayWorld:
    return ReplayWorld()


def plan(**changes: Any) -> Plan:
    return Plan.read({**INPUT, **changes})


# -- the plan ------------------------------------------------------------------------------------------------------


def test_a_plan_is_written_and_read() -> None:
    where = {"detailType": "t", "rule": "r", "fingerprint": "f", "from": "2026-11-23", "to": "2026-11-24T08:00:00Z"}
    full = plan(dryRun=True, force=True, reason="fixed in 1.4.2", where=where)
    assert Plan.read(full.as_json()) == full
    assert Plan.read(plan().as_json()) == plan()
    assert (plan().dry_run, plan().force, plan().reason) == (False, False, "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(({"prefix": wrong}, "prefix") for wrong in (None, "", "dead-letters/", ["archive/"])),
        *(({"reason": wrong}, "reason") for wrong in (5, None)),
        ({"dryRun": "false"}, "dryRun"),
        ({"force": 1}, "force"),
        ({"dryrun": True}, "unknown fields: dryrun"),
        ({"where": []}, "where must be an object"),
        ({"where": {"topic": "t"}}, "where has unknown fields: topic"),
        ({"where": {"rule": 5}}, "where.rule must be text"),
        ({"where": {"rule": ""}}, "where.rule must be text"),
        ({"where": {"from": "yesterday"}}, "where.from must be a time"),
    ],
)
def test_a_wrong_input_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        plan(**change)


DIFFERENT: tuple[dict[str, Any], ...] = ({"reason": "again"}, {"force": True}, {"where": {"rule": "r"}})


def test_the_same_input_gives_the_same_execution_names() -> None:
    name = plan().execution_name("event-1")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert len(name) <= EXECUTION_NAME_LIMIT
    assert plan(run="run-2", startedAt="later").execution_name("event-1") == name
    others = {plan(**change).execution_name("event-1") for change in DIFFERENT}
    assert name not in others | {plan().execution_name("event-2")}


def test_the_category_is_read_from_the_key() -> None:
    assert category_of("archive/category=CRASHED/dt=2026-11-23/x.json") == "CRASHED"
    assert category_of("archive/x.json") == "UNKNOWN"


# -- a dry run -----------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_by_category_and_writes_nothing(world: ReplayWorld) -> None:
    keys = [world.archive("event-1"), world.archive("event-2"), world.archive("event-3", "CRASHED")]
    world.objects.tag(keys[0], REPLAYED_TAG)
    before = dict(world.objects.texts)
    dry, forced = (plan(prefix="archive/", dryRun=True, force=force) for force in (False, True))
    assert world.replayer.count(dry, FakeDeadline()) == {"CRASHED": 1, "SKIPPED": 1, "UNKNOWN": 1}
    assert world.replayer.count(forced, FakeDeadline()) == {"CRASHED": 1, "UNKNOWN": 2}
    assert world.replayer.count(dry, FakeDeadline(0)) == {"CRASHED": 1, "NOT_CHECKED": 3, "UNKNOWN": 2}
    assert (world.objects.texts, world.executions.descriptions) == (before, {})


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ({}, True),
        ({"detailType": ACD_START}, True),
        ({"detailType": "acd-start"}, True),
        ({"detailType": "another"}, False),
        ({"rule": "crashed"}, True),
        ({"rule": "another"}, False),
        ({"fingerprint": "f1"}, True),
        ({"fingerprint": "f"}, False),
        ({"from": "2026-11-22T10:00:00Z", "to": "2026-11-22T10:00:00.001Z"}, True),
        ({"from": "2026-11-22T12:00:00+02:00"}, True),
        ({"from": "2026-11-22T10:00:00.001Z"}, False),
        ({"to": "2026-11-22T10:00:00Z"}, False),
        ({"from": "2026-11-23"}, False),
        ({"to": "2026-11-21"}, False),
        ({"detailType": ACD_START, "rule": "another"}, False),
    ],
)
def test_where_selects_letters_for_the_dry_run_and_for_the_replay(
    world: ReplayWorld, where: dict[str, str], selected: bool
) -> None:
    key = world.archive("event-1", verdict={"rule": "crashed", "fingerprint": "f1"})
    counted = world.replayer.count(plan(where=where), FakeDeadline())
    prepared = world.replayer.prepare(plan(where=where), key)
    assert counted == ({"UNKNOWN": 1} if selected else {"NOT_SELECTED": 1})
    assert prepared["action"] == ("start" if selected else "skip")
    assert selected or prepared["result"]["outcome"] == "NOT_SELECTED"


def test_a_letter_that_its_key_excludes_is_not_read(world: ReplayWorld) -> None:
    key = world.archive("event-1", verdict={"fingerprint": "f1"})
    world.objects.texts[key] = "unreadable"
    assert world.replayer.prepare(plan(where={"fingerprint": "f2"}), key)["result"]["outcome"] == "NOT_SELECTED"


def test_the_last_verdict_of_a_letter_that_died_again_counts(world: ReplayWorld) -> None:
    key = world.archive("event-1", verdict={"rule": "unconfirmed"})
    document = json.loads(world.objects.texts[key])
    world.objects.texts[key] = json.dumps({**document, "later": [{"verdict": {"rule": "crashed"}}]})
    assert world.replayer.prepare(plan(where={"rule": "crashed"}), key)["action"] == "start"


# -- one letter ----------------------------------------------------------------------------------------------------


def test_an_archived_letter_gets_an_execution_with_its_archive_object(world: ReplayWorld) -> None:
    key = world.archive("event-1")
    prepared = world.replayer.prepare(plan(reason="fixed"), key)
    assert prepared["action"] == "start"
    assert prepared["name"] == plan(reason="fixed").execution_name("event-1")
    assert prepared["input"]["snapshots"] == [key]
    assert prepared["input"]["replayOf"] == {"key": key, "run": "run-1", "reason": "fixed"}
    assert TriageInput.read(prepared["input"]) == TriageInput("event-1", (key,), replay=True)
    assert PERSONAL not in json.dumps(prepared, ensure_ascii=False)


def test_a_letter_whose_event_is_stored_is_skipped_unless_forced(world: ReplayWorld) -> None:
    key = world.archive("event-1")
    world.objects.tag(key, {**REPLAYED_TAG, "own": "tag"})
    skipped = {"outcome": "SKIPPED", "why": "its event is stored already"}
    assert world.replayer.prepare(plan(), key) == {"action": "skip", "result": skipped}
    assert world.replayer.prepare(plan(force=True), key)["action"] == "start"


@pytest.mark.parametrize(
    ("archived_at", "action"),
    [
        ("2026-11-23T11:59:59.999Z", "start"),
        ("2026-11-23T12:00:00Z", "start"),
        ("2026-11-23T13:59:59+02:00", "start"),
        ("2026-11-23T12:00:00.001Z", "skip"),
        ("2026-11-23T12:00:01Z", "skip"),
        ("2026-11-23T11:30:00-01:00", "skip"),
    ],
)
def test_a_letter_that_was_archived_after_the_start_is_skipped(
    world: ReplayWorld, archived_at: str, action: str
) -> None:
    assert world.replayer.prepare(plan(), world.archive("event-1", at=archived_at))["action"] == action


@pytest.mark.parametrize("text", [None, "not JSON", "{}"])
def test_an_object_that_is_not_an_archived_letter_is_an_error(world: ReplayWorld, text: str | None) -> None:
    key = "archive/category=UNKNOWN/dt=2026-11-22/x.json"
    if text is not None:
        world.objects.create(key, text)
    with pytest.raises(SnapshotMissing):
        world.replayer.prepare(plan(), key)


# -- the report ----------------------------------------------------------------------------------------------------


def test_the_report_counts_by_category_and_outcome(world: ReplayWorld) -> None:
    for number, (category, outcome) in enumerate(
        [("UNKNOWN", "RECOVERED"), ("UNKNOWN", "RECOVERED"), ("CRASHED", "ARCHIVED")]
    ):
        key = f"archive/category={category}/dt=2026-11-22/{number}.json"
        for _ in range(2):  # a repeated call writes the same object
            world.replayer.note(plan(), key, {"outcome": outcome})
    report = world.replayer.report(plan())
    assert report["counts"] == {"CRASHED ARCHIVED": 1, "UNKNOWN RECOVERED": 2}
    assert report["outcomes"] == {"ARCHIVED": 1, "RECOVERED": 2}
    assert (report["letters"], report["report"]) == (3, "replays/run-1/report.json")
    written = json.loads(world.objects.texts[report["report"]])
    assert written == {key: value for key, value in report.items() if key != "report"}


def test_results_of_another_run_are_not_counted(world: ReplayWorld) -> None:
    world.replayer.note(plan(), "archive/category=UNKNOWN/a.json", {"outcome": "RECOVERED"})
    assert world.replayer.report(plan(run="run-2"))["letters"] == 0


@pytest.mark.parametrize("status", [ExecutionStatus.ABORTED, ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT])
def test_a_letter_whose_execution_was_stopped_is_replayed_by_the_next_run(
    world: ReplayWorld, status: ExecutionStatus
) -> None:
    key = world.archive("event-1")
    first = world.replayer.prepare(plan(), key)["name"]
    world.executions.end(first, status)
    again = world.replayer.prepare(plan(run="run-2"), key)
    assert (again["action"], again["name"]) == ("start", f"{first}-g1")
    assert len(again["name"]) <= EXECUTION_NAME_LIMIT


def test_a_letter_that_this_replay_handles_is_skipped(world: ReplayWorld) -> None:
    key = world.archive("event-1")
    world.executions.end(world.replayer.prepare(plan(), key)["name"], ExecutionStatus.RUNNING)
    prepared = world.replayer.prepare(plan(run="run-2"), key)
    assert (prepared["action"], prepared["result"]["outcome"]) == ("skip", "SKIPPED")


def test_the_report_of_a_resumed_replay_is_about_the_whole_replay(world: ReplayWorld) -> None:
    keys = [world.archive(f"event-{number}") for number in range(4)]
    for key, outcome in zip(keys, ("RECOVERED", "ARCHIVED", None), strict=False):
        name = world.replayer.prepare(plan(), key)["name"]
        world.executions.end(
            name, ExecutionStatus.SUCCEEDED if outcome else ExecutionStatus.ABORTED, {"outcome": outcome}
        )
    world.objects.tag(keys[0], REPLAYED_TAG)
    world.objects.tag(keys[3], REPLAYED_TAG)
    resumed = plan(run="run-2", startedAt="2026-11-24T12:00:00Z")
    for key in keys:
        prepared = world.replayer.prepare(resumed, key)
        world.replayer.note(resumed, key, prepared.get("result", {"outcome": "RECOVERED"}))
    report = world.replayer.report(resumed)
    assert report["outcomes"] == {"ARCHIVED_BEFORE": 1, "RECOVERED": 1, "RECOVERED_BEFORE": 1, "SKIPPED": 1}
    assert report["letters"] == 4


def test_a_replay_without_letters_has_a_report_of_zero(world: ReplayWorld) -> None:
    assert world.replayer.is_empty(plan())
    report = world.replayer.report(plan(empty=True))
    assert (report["letters"], report["outcomes"], report["counts"]) == (0, {}, {})
    assert report["report"] in world.objects.texts
    world.archive("event-1")
    assert not world.replayer.is_empty(plan())


def test_an_outcome_that_is_no_word_is_counted_as_unknown(world: ReplayWorld) -> None:
    for number, outcome in enumerate((None, 5, "../x", "a/b")):
        world.replayer.note(plan(), f"archive/category=UNKNOWN/{number}.json", {"outcome": outcome})
    assert world.replayer.report(plan())["outcomes"] == {"UNKNOWN": 4}
