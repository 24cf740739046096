"""The daily look at all evidence: releases what is settled, leaves what is worked on, adopts what nobody owns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from holdfast.domain.errors import EvidenceMissing
from holdfast.domain.identity import execution_name
from holdfast.domain.intake import MAX_GENERATIONS, Intake, start_generation
from holdfast.domain.letters import EVIDENCE_PREFIX, Letter
from holdfast.domain.ports import Deadline, EventStore, Execution, ExecutionReport, StoredObject
from holdfast.domain.triage import settles_by_table


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
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """What sweeping needs of the world."""

    intake: Intake
    store: EventStore

    def sweep(self, now: datetime, older_than: timedelta, deadline: Deadline) -> SweepReport:
        """Go through the evidence, letter by letter, as long as time is left: the next sweep does the rest."""
        found = list(self.intake.objects.list(EVIDENCE_PREFIX))
        report = SweepReport(seen=len(found), oldest_hours=_oldest_hours(found, now))
        for pieces in _by_letter(found):
            if deadline.remaining() <= 0:
                report.finished = False
                break
            if any(now - piece.modified < older_than for piece in pieces):
                report.left += len(pieces)
                continue
            self._look_at([piece.key for piece in pieces], report)
        return report

    def _look_at(self, keys: Sequence[str], report: SweepReport) -> None:
        """Decide on a letter's evidence; the same id over another body has an end of its own, stored or archived."""
        try:
            letters = {key: self._letter(key) for key in keys}
        except Exception as error:  # noqa: BLE001 - one letter's trouble must not keep all others from their owner
            _note_trouble(report, keys, error)
            return
        for same in _by_body(letters):
            try:
                counted = self._settled_or_adopted(same)
            except Exception as error:  # noqa: BLE001 - as above
                _note_trouble(report, same, error)
            else:
                setattr(report, counted, getattr(report, counted) + len(same))

    def _settled_or_adopted(self, evidence: Mapping[str, Letter]) -> str:
        keys, letters = list(evidence), list(evidence.values())
        newest = letters[-1]
        if settles_by_table(newest, self.store):
            self.intake.objects.delete(keys)
            return "released"
        reports = [owner for letter in letters for owner in self._owners(letter)]
        if any(owner.status.open for owner in reports):
            return "left"
        if reports and reports[-1].status is Execution.SUCCEEDED:
            self.intake.objects.delete(keys)
            return "released"
        attempts = max((letter.stamp.attempt for letter in letters if letter.stamp), default=0)
        start_generation(newest, keys, self.intake, attempts=attempts, settled_is_done=False)
        return "adopted"

    def _letter(self, key: str) -> Letter:
        text = self.intake.objects.read(key)
        if text is None:
            raise EvidenceMissing("the evidence was released while the sweep looked at it")
        return Letter.of_json(text)

    def _owners(self, letter: Letter) -> list[ExecutionReport]:
        """The executions that may hold this evidence: the one that redrove the message, and its own generations."""
        stamp = letter.stamp
        reports = [self.intake.executions.describe(stamp.execution)] if stamp else []
        for generation in range(MAX_GENERATIONS):
            name = execution_name(letter.detail_type, letter.letter_id, letter.message.message_id, generation)
            report = self.intake.executions.describe(name)
            if report.status is Execution.ABSENT:
                break
            reports.append(report)
        return [report for report in reports if report.status is not Execution.ABSENT]


def _by_letter(found: Iterable[StoredObject]) -> list[list[StoredObject]]:
    """Evidence grouped by letter, each group with its newest piece last."""
    groups: dict[str, list[StoredObject]] = defaultdict(list)
    for piece in found:
        groups[piece.key.split("/")[1]].append(piece)
    return [sorted(group, key=lambda piece: piece.modified) for group in groups.values()]


def _by_body(letters: Mapping[str, Letter]) -> list[dict[str, Letter]]:
    """The pieces of one letter with the same body, the newest piece last: a redrive keeps the body, so they are one."""
    groups: dict[str, dict[str, Letter]] = defaultdict(dict)
    for key, letter in letters.items():
        groups[letter.message.body][key] = letter
    return list(groups.values())


def _note_trouble(report: SweepReport, keys: Collection[str], error: Exception) -> None:
    report.failed += len(keys)
    report.troubles.append(type(error).__name__)


def _oldest_hours(found: Iterable[StoredObject], now: datetime) -> float:
    ages = [(now - piece.modified).total_seconds() / 3600 for piece in found]
    return round(max(ages, default=0.0), 2)
