"""The daily sweep over all snapshots: deletes those of settled events and starts executions for those without one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from holdfast.domain.categories import VERDICT_CATEGORIES
from holdfast.domain.errors import SnapshotMissing, describe
from holdfast.domain.identity import event_digest, execution_name
from holdfast.domain.intake import MAX_GENERATIONS, Carried, Generations, redriver_of, start_generation
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, TriageStamp, parse_document
from holdfast.domain.ports import DeadLetterStore, Deadline, Execution, ExecutionReport, StoredEvents, StoredObject
from holdfast.domain.redrive_records import stamp_of
from holdfast.domain.triage import archive_folder, is_stored


@dataclass(slots=True)
class SweepReport:
    """The result of a sweep: counts of snapshots.

    Attributes:
        seen: Snapshots that existed.
        released: Deleted, because their event is stored or archived.
        adopted: Given to a new execution.
        left: Left alone: too young, or an execution handles them.
        failed: Snapshots whose event could not be decided on.
        oldest_hours: Age of the oldest snapshot when the sweep began.
        finished: Whether the sweep reached the end of the list.
        errors: Why snapshots failed.
    """

    seen: int = 0
    released: int = 0
    adopted: int = 0
    left: int = 0
    failed: int = 0
    oldest_hours: float = 0.0
    finished: bool = True
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """What the sweep needs."""

    generations: Generations
    stored_events: StoredEvents

    def sweep(self, now: datetime, older_than: timedelta, deadline: Deadline) -> SweepReport:
        """Go through all snapshots, event by event, until the time is up. The next sweep continues."""
        found = list(self.generations.store.list(SNAPSHOT_PREFIX))
        report = SweepReport(seen=len(found), oldest_hours=_oldest_hours(found, now))
        archive = _ArchiveListing(self.generations.store, now.date())
        for objects in _by_event(found):
            if deadline.remaining() <= 0:
                report.finished = False
                break
            if any(now - one.modified < older_than for one in objects):
                report.left += len(objects)
                continue
            self._decide(objects, archive, report)
        return report

    def _decide(self, objects: Sequence[StoredObject], archive: _ArchiveListing, report: SweepReport) -> None:
        """Decide on the snapshots of one event id. Another body with the same id is decided on by itself."""
        keys, oldest = [one.key for one in objects], objects[0].modified.date()
        try:
            letters = {key: self._letter(key) for key in keys}
        except Exception as error:  # noqa: BLE001 - an error in one event must not stop the sweep
            _note_failure(report, keys, error)
            return
        for same in _by_body(letters):
            try:
                counted = self._release_or_adopt(same, archive, oldest)
            except Exception as error:  # noqa: BLE001 - as above
                _note_failure(report, same, error)
            else:
                setattr(report, counted, getattr(report, counted) + len(same))

    def _release_or_adopt(self, snapshots: Mapping[str, DeadLetter], archive: _ArchiveListing, oldest: date) -> str:
        letters = list(snapshots.values())
        newest = letters[-1]
        stamps = [stamp_of(letter, self.generations.store) for letter in letters]
        owners = {
            name: report
            for letter, stamp in zip(letters, stamps, strict=True)
            for name, report in self._owners(letter, stamp).items()
        }
        stored = is_stored(newest, self.stored_events)
        if not stored and any(report.status.open for report in owners.values()):
            return "left"
        last = next(reversed(owners), None)
        settled = last is not None and owners[last].status is Execution.SUCCEEDED
        if stored or settled or archive.holds(newest, oldest):
            self.generations.store.delete(list(snapshots))
            return "released"
        redrives = max((stamp.redrives for stamp in stamps if stamp), default=0)
        carried = Carried(tuple(snapshots), redrives)
        if last is not None:
            carried = carried.after(self.generations.executions.last_input(last))
        start_generation(newest, carried, self.generations, settled_is_done=False)
        return "adopted"

    def _letter(self, key: str) -> DeadLetter:
        text = self.generations.store.read(key)
        if text is None:
            raise SnapshotMissing("the snapshot was deleted during the sweep")
        return DeadLetter.of_document(parse_document(text))

    def _owners(self, letter: DeadLetter, stamp: TriageStamp | None) -> dict[str, ExecutionReport]:
        """The executions that may hold a snapshot: the one that redrove its message, and all generations."""
        executions = self.generations.executions
        owners = {stamp.execution: redriver_of(letter, stamp, executions)} if stamp else {}
        for generation in range(MAX_GENERATIONS):
            name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id, generation)
            report = executions.describe(name)
            if report.status is Execution.ABSENT:
                break
            owners[name] = report
        return {name: report for name, report in owners.items() if report.status is not Execution.ABSENT}


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


def _by_event(found: Iterable[StoredObject]) -> list[list[StoredObject]]:
    """Group snapshots by event id, the newest last."""
    groups: dict[str, list[StoredObject]] = defaultdict(list)
    for one in found:
        groups[one.key.split("/")[1]].append(one)
    return [sorted(group, key=lambda one: one.modified) for group in groups.values()]


def _by_body(letters: Mapping[str, DeadLetter]) -> list[dict[str, DeadLetter]]:
    """Group the snapshots of one event id by body, the newest last. A redrive does not change the body."""
    groups: dict[str, dict[str, DeadLetter]] = defaultdict(dict)
    for key, letter in letters.items():
        groups[letter.message.body][key] = letter
    return list(groups.values())


def _note_failure(report: SweepReport, keys: Collection[str], error: Exception) -> None:
    report.failed += len(keys)
    report.errors.append(describe(error))


def _oldest_hours(found: Iterable[StoredObject], now: datetime) -> float:
    ages = [(now - one.modified).total_seconds() / 3600 for one in found]
    return round(max(ages, default=0.0), 2)
