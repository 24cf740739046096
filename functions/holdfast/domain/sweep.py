"""The sweep over all snapshots: deletes those of settled events and starts executions for those without one.

One sweep may be too short for all snapshots. It then saves where it stopped, and the next one continues there, so that
every snapshot is checked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from itertools import groupby, takewhile
from typing import Any

from holdfast.domain.categories import VERDICT_CATEGORIES
from holdfast.domain.errors import SnapshotMissing, Throttled, Unavailable, describe
from holdfast.domain.identity import digest_in, event_digest, execution_name
from holdfast.domain.intake import MAX_GENERATIONS, Carried, TriageServices, redriver_of, start_generation
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, TriageStamp, parse_document
from holdfast.domain.ports import (
    DeadLetterStore,
    Deadline,
    ExecutionDescription,
    Executions,
    ExecutionStatus,
    StoredEvents,
    StoredObject,
)
from holdfast.domain.redrive_records import stamp_of
from holdfast.domain.triage import archive_folder, is_stored

CURSOR_KEY = "sweep/cursor.json"
#: The report lists so many errors. The log has all of them.
ERRORS_LIMIT = 20
#: The subject of a note about the list of running executions.
LISTING = "list of executions"


@dataclass(frozen=True, slots=True)
class SweepNote:
    """What the log has of a sweep: snapshots that got a new execution, or what failed.

    Attributes:
        subject: The event id of the snapshots, or :data:`LISTING` if the running executions could not be listed.
        step: What was done.
        error: What failed, if anything did.
    """

    subject: str
    step: str
    error: str | None = None


@dataclass(slots=True)
class SweepReport:
    """The result of a sweep: counts of snapshots.

    Attributes:
        seen: Snapshots that existed when the sweep began.
        released: Deleted, because their event is stored or archived.
        adopted: Snapshots for which an execution was started.
        left: Skipped: a snapshot of the event is younger than ``older_than``, or an open execution handles them.
        failed: Snapshots whose event could not be decided on.
        oldest_hours: Age of the oldest snapshot that remains. If the sweep was not finished: of the oldest at its
            beginning.
        finished: Whether the sweep went through all of them. If not, the next one continues.
        notes: What was adopted, and what failed.
    """

    seen: int = 0
    released: int = 0
    adopted: int = 0
    left: int = 0
    failed: int = 0
    oldest_hours: float = 0.0
    finished: bool = True
    notes: list[SweepNote] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """What failed and why, by event."""
        return [f"{one.subject}: {one.error}" for one in self.notes if one.error]

    def as_json(self) -> dict[str, Any]:
        """The counts, and the first errors."""
        counts = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "notes"}
        return {**counts, "errors": self.errors[:ERRORS_LIMIT]}


@dataclass(frozen=True, slots=True)
class Sweeper:
    """What the sweep needs."""

    triage: TriageServices
    stored_events: StoredEvents

    def sweep(self, now: datetime, older_than: timedelta, deadline: Deadline) -> SweepReport:
        """Go through all snapshots, event by event, until the time is up. The next sweep continues."""
        store = self.triage.store
        report = _counted(store.list(SNAPSHOT_PREFIX), now)
        if not report.seen:
            return report
        running = self._events_with_execution(deadline, report)
        archive = _ArchiveListing(store, now.date())
        begin = parse_document(store.read(CURSOR_KEY)).get("after") or ""
        oldest_remaining = 0.0
        for event_id, objects in self._from(begin):
            if deadline.remaining() <= 0:
                report.finished = False
                break
            # Skip snapshots of events with a running execution: it deletes them.
            if any(now - one.modified < older_than for one in objects) or event_digest(event_id) in running:
                report.left += len(objects)
                remaining: Iterable[StoredObject] = objects
            else:
                released = self._decide(objects, archive, report)
                remaining = (one for one in objects if one.key not in released)
            oldest_remaining = max([oldest_remaining, *(_hours(now - one.modified) for one in remaining)])
            begin = _end_of(event_id)
        if report.finished:
            report.oldest_hours = oldest_remaining
        store.write(CURSOR_KEY, json.dumps({"after": "" if report.finished else begin}))
        return report

    def _events_with_execution(self, deadline: Deadline, report: SweepReport) -> set[str]:
        """The hashes of the events that have a running execution.

        One listing replaces the descriptions of most executions. It takes at most half of the time. If it is
        incomplete, the others are described.
        """
        found: set[str] = set()
        enough = deadline.remaining() / 2
        try:
            for name in self.triage.executions.running_names():
                digest = digest_in(name)
                if digest:
                    found.add(digest)
                if deadline.remaining() < enough:
                    break
        except (Throttled, Unavailable) as error:
            report.notes.append(SweepNote(LISTING, "incomplete", describe(error)))
        return found

    def _from(self, begin: str) -> Iterator[tuple[str, list[StoredObject]]]:
        """The snapshots by event id: first those after a key, then the others. Of an event, the newest is last."""
        store = self.triage.store
        yield from _by_event(store.list(SNAPSHOT_PREFIX, begin))
        if begin:
            yield from _by_event(takewhile(lambda one: one.key < begin, store.list(SNAPSHOT_PREFIX)))

    def _decide(self, objects: Sequence[StoredObject], archive: _ArchiveListing, report: SweepReport) -> set[str]:
        """Decide on the snapshots of one event id. Snapshots with another body are handled separately.

        Returns the keys of the deleted snapshots.
        """
        released: set[str] = set()
        triage = replace(self.triage, executions=_CachedExecutions(self.triage.executions))
        keys, oldest = [one.key for one in objects], objects[0].modified.date()
        try:
            letters = {key: self._letter(key) for key in keys}
        except Exception as error:  # noqa: BLE001 - an error in one event must not stop the sweep
            _note_failure(report, keys, error)
            return released
        for same in _by_body(letters):
            try:
                counted, step = self._release_or_adopt(same, triage, archive, oldest)
            except Exception as error:  # noqa: BLE001 - as above
                _note_failure(report, same, error)
                continue
            setattr(report, counted, getattr(report, counted) + len(same))
            if counted == "released":
                released |= same.keys()
            elif counted == "adopted":
                report.notes.append(SweepNote(_event_id_in(keys[0]), step))
        return released

    def _release_or_adopt(
        self, snapshots: Mapping[str, DeadLetter], triage: TriageServices, archive: _ArchiveListing, oldest: date
    ) -> tuple[str, str]:
        """Return the count of the report that the snapshots belong to, and what was done if they were adopted."""
        letters = list(snapshots.values())
        newest = letters[-1]
        stamps = [stamp_of(letter, triage.store) for letter in letters]
        owners = {
            name: execution
            for letter, stamp in zip(letters, stamps, strict=True)
            for name, execution in _owners(letter, stamp, triage.executions).items()
        }
        # Also if the event is stored: an open execution reads its snapshots before it looks into the events table.
        if any(execution.status.open for execution in owners.values()):
            return "left", ""
        stored = is_stored(newest, self.stored_events)
        last = next(reversed(owners), None)
        settled = last is not None and owners[last].status is ExecutionStatus.SUCCEEDED
        if stored or settled or archive.holds(newest, oldest):
            triage.store.delete(list(snapshots))
            return "released", ""
        redrives = max((stamp.redrives for stamp in stamps if stamp), default=0)
        carried = Carried(tuple(snapshots), redrives)
        if last is not None:
            carried = carried.after(triage.executions.last_input(last))
        return "adopted", start_generation(newest, carried, triage, settled_is_done=False)

    def _letter(self, key: str) -> DeadLetter:
        text = self.triage.store.read(key)
        if text is None:
            raise SnapshotMissing("the snapshot was deleted during the sweep")
        return DeadLetter.of_document(parse_document(text))


def _owners(letter: DeadLetter, stamp: TriageStamp | None, executions: Executions) -> dict[str, ExecutionDescription]:
    """The executions that may hold a snapshot: the one that redrove its message, and all generations."""
    owners = {stamp.execution: redriver_of(letter, stamp, executions)} if stamp else {}
    for generation in range(MAX_GENERATIONS):
        name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id, generation)
        execution = executions.describe(name)
        if execution.status is ExecutionStatus.ABSENT:
            break
        owners[name] = execution
    return {name: execution for name, execution in owners.items() if execution.status is not ExecutionStatus.ABSENT}


class _ArchiveListing:
    """The archive during one sweep. A day is listed once, and only when it is needed."""

    def __init__(self, store: DeadLetterStore, today: date) -> None:
        self._store = store
        self._today = today
        self._days: dict[date, list[str]] = {}

    def holds(self, letter: DeadLetter, since: date) -> bool:
        """Whether this body was archived since that day. The event's digest is part of an archive object's name."""
        digest = event_digest(letter.event_id)
        days = (since + timedelta(days=number) for number in range((self._today - since).days + 1))
        return any(digest in key and self._is_of(key, letter) for day in days for key in self._keys(day))

    def _keys(self, day: date) -> list[str]:
        if day not in self._days:
            folders = [archive_folder(category, day.isoformat()) for category in sorted(VERDICT_CATEGORIES)]
            self._days[day] = [found.key for folder in folders for found in self._store.list(folder)]
        return self._days[day]

    def _is_of(self, key: str, letter: DeadLetter) -> bool:
        archived = DeadLetter.of_document(parse_document(self._store.read(key)))
        return (archived.event_id, archived.message.body) == (letter.event_id, letter.message.body)


@dataclass(frozen=True, slots=True)
class _CachedExecutions:
    """The executions, each described and its history read only once while an event is decided on."""

    executions: Executions
    descriptions: dict[str, ExecutionDescription] = field(default_factory=dict)
    inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def start(self, name: str, execution_input: Mapping[str, Any]) -> bool:
        if self.executions.start(name, execution_input):
            return True
        if name in self.descriptions and self.descriptions[name].status is ExecutionStatus.ABSENT:
            del self.descriptions[name]  # it was started meanwhile
        return False

    def describe(self, name_or_arn: str) -> ExecutionDescription:
        if name_or_arn not in self.descriptions:
            self.descriptions[name_or_arn] = self.executions.describe(name_or_arn)
        return self.descriptions[name_or_arn]

    def last_input(self, name_or_arn: str) -> Mapping[str, Any]:
        if name_or_arn not in self.inputs:
            self.inputs[name_or_arn] = self.executions.last_input(name_or_arn)
        return self.inputs[name_or_arn]

    def running_names(self) -> Iterator[str]:
        return self.executions.running_names()


def _event_id_in(key: str) -> str:
    return key.split("/")[1]


def _end_of(event_id: str) -> str:
    """A key after all snapshots of this event and before those of the next one: ``0`` follows ``/``."""
    return f"{SNAPSHOT_PREFIX}{event_id}0"


def _by_event(found: Iterable[StoredObject]) -> Iterator[tuple[str, list[StoredObject]]]:
    """Group snapshots by event id, the newest last. A listing has the snapshots of an event one after the other."""
    for event_id, group in groupby(found, lambda one: _event_id_in(one.key)):
        yield event_id, sorted(group, key=lambda one: one.modified)


def _by_body(letters: Mapping[str, DeadLetter]) -> list[dict[str, DeadLetter]]:
    """Group the snapshots of one event id by body, the newest last. A redrive does not change the body."""
    groups: dict[str, dict[str, DeadLetter]] = defaultdict(dict)
    for key, letter in letters.items():
        groups[letter.message.body][key] = letter
    return list(groups.values())


def _note_failure(report: SweepReport, keys: Collection[str], error: Exception) -> None:
    report.failed += len(keys)
    report.notes.append(SweepNote(_event_id_in(next(iter(keys))), "failed", describe(error)))


def _counted(found: Iterable[StoredObject], now: datetime) -> SweepReport:
    """A report with the number of snapshots and the age of the oldest."""
    report = SweepReport()
    for one in found:
        report.seen += 1
        report.oldest_hours = max(report.oldest_hours, _hours(now - one.modified))
    return report


def _hours(age: timedelta) -> float:
    return round(age.total_seconds() / 3600, 2)
