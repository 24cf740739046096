"""The daily look at all evidence: releases what is settled, leaves what is worked on, adopts what nobody owns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from holdfast.domain.errors import SnapshotMissing
from holdfast.domain.identity import event_digest, execution_name
from holdfast.domain.intake import MAX_GENERATIONS, Carried, Intake, redriver_of, start_generation
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter
from holdfast.domain.policy import CATEGORIES
from holdfast.domain.ports import Deadline, EventStore, Execution, ExecutionReport, Objects, StoredObject
from holdfast.domain.triage import archive_folder, settles_by_table


@dataclass(slots=True)
class SweepReport:
    """What a sweep found; ``oldest_hours`` is the age of the oldest evidence that was there when it began."""

    seen: int = 0
    released: int = 0
    adopted: int = 0
    left: int = 0
    failed: int = 0
    oldest_hours: float = 0.0
    finished: bool = True
    bookkeeping_errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """What sweeping needs of the world."""

    intake: Intake
    store: EventStore

    def sweep(self, now: datetime, older_than: timedelta, deadline: Deadline) -> SweepReport:
        """Go through the evidence, letter by letter, as long as time is left: the next sweep does the rest."""
        found = list(self.intake.objects.list(SNAPSHOT_PREFIX))
        report = SweepReport(seen=len(found), oldest_hours=_oldest_hours(found, now))
        archive = _Archive(self.intake.objects, now.date())
        for pieces in _by_letter(found):
            if deadline.remaining() <= 0:
                report.finished = False
                break
            if any(now - piece.modified < older_than for piece in pieces):
                report.left += len(pieces)
                continue
            self._look_at(pieces, archive, report)
        return report

    def _look_at(self, pieces: Sequence[StoredObject], archive: _Archive, report: SweepReport) -> None:
        """Decide on a letter's evidence; the same id over another body has an end of its own, stored or archived."""
        keys, oldest = [piece.key for piece in pieces], pieces[0].modified.date()
        try:
            letters = {key: self._letter(key) for key in keys}
        except Exception as error:  # noqa: BLE001 - one letter's trouble must not keep all others from their owner
            _note_trouble(report, keys, error)
            return
        for same in _by_body(letters):
            try:
                counted = self._settled_or_adopted(same, archive, oldest)
            except Exception as error:  # noqa: BLE001 - as above
                _note_trouble(report, same, error)
            else:
                setattr(report, counted, getattr(report, counted) + len(same))

    def _settled_or_adopted(self, snapshots: Mapping[str, DeadLetter], archive: _Archive, oldest: date) -> str:
        letters = list(snapshots.values())
        newest = letters[-1]
        owners = {name: report for letter in letters for name, report in self._owners(letter).items()}
        stored = settles_by_table(newest, self.store)
        if not stored and any(report.status.open for report in owners.values()):
            return "left"
        last = next(reversed(owners), None)
        settled = last is not None and owners[last].status is Execution.SUCCEEDED
        if stored or settled or archive.holds(newest, oldest):
            self.intake.objects.delete(list(snapshots))
            return "released"
        redrives = max((letter.stamp.redrives for letter in letters if letter.stamp), default=0)
        carried = Carried(tuple(snapshots), redrives)
        if last is not None:
            carried = carried.after(self.intake.executions.last_input(last))
        start_generation(newest, carried, self.intake, settled_is_done=False)
        return "adopted"

    def _letter(self, key: str) -> DeadLetter:
        text = self.intake.objects.read(key)
        if text is None:
            raise SnapshotMissing("the evidence was released while the sweep looked at it")
        return DeadLetter.of_json(text)

    def _owners(self, letter: DeadLetter) -> dict[str, ExecutionReport]:
        """The executions that may hold this evidence: the one that redrove the message, and its own generations."""
        owners = {letter.stamp.execution: redriver_of(letter, self.intake.executions)} if letter.stamp else {}
        for generation in range(MAX_GENERATIONS):
            name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id, generation)
            report = self.intake.executions.describe(name)
            if report.status is Execution.ABSENT:
                break
            owners[name] = report
        return {name: report for name, report in owners.items() if report.status is not Execution.ABSENT}


class _Archive:
    """The archive as one sweep sees it: a day is listed once, and only where a letter asks for it."""

    def __init__(self, objects: Objects, today: date) -> None:
        self._objects = objects
        self._today = today
        self._days: dict[date, list[str]] = {}

    def holds(self, letter: DeadLetter, since: date) -> bool:
        """Whether an execution has archived this body since that day: its name has the letter's digest in it."""
        digest = event_digest(letter.event_id)
        days = (since + timedelta(days=number) for number in range((self._today - since).days + 1))
        return any(digest in key and self._is_of(key, letter) for day in days for key in self._keys(day))

    def _keys(self, day: date) -> list[str]:
        if day not in self._days:
            folders = [archive_folder(category, day.isoformat()) for category in sorted(CATEGORIES)]
            self._days[day] = [found.key for folder in folders for found in self._objects.list(folder)]
        return self._days[day]

    def _is_of(self, key: str, letter: DeadLetter) -> bool:
        archived = DeadLetter.of_json(self._objects.read(key) or "")
        return (archived.event_id, archived.message.body) == (letter.event_id, letter.message.body)


def _by_letter(found: Iterable[StoredObject]) -> list[list[StoredObject]]:
    """Evidence grouped by letter, each group with its newest piece last."""
    groups: dict[str, list[StoredObject]] = defaultdict(list)
    for piece in found:
        groups[piece.key.split("/")[1]].append(piece)
    return [sorted(group, key=lambda piece: piece.modified) for group in groups.values()]


def _by_body(letters: Mapping[str, DeadLetter]) -> list[dict[str, DeadLetter]]:
    """The pieces of one letter with the same body, the newest piece last: a redrive keeps the body, so they are one."""
    groups: dict[str, dict[str, DeadLetter]] = defaultdict(dict)
    for key, letter in letters.items():
        groups[letter.message.body][key] = letter
    return list(groups.values())


def _note_trouble(report: SweepReport, keys: Collection[str], error: Exception) -> None:
    report.failed += len(keys)
    report.bookkeeping_errors.append(type(error).__name__)


def _oldest_hours(found: Iterable[StoredObject], now: datetime) -> float:
    ages = [(now - piece.modified).total_seconds() / 3600 for piece in found]
    return round(max(ages, default=0.0), 2)
