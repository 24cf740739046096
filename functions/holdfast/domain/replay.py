"""Replays of archived letters: which letters are taken, the names of their executions, and the report.

A replay is identified by its input, not by its execution. A stopped replay that is started again with the same input
finds the executions that it has started and does the rest only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from holdfast.domain.envelope import iso_time
from holdfast.domain.errors import InvalidInput
from holdfast.domain.identity import event_digest, topic_end
from holdfast.domain.intake import MAX_GENERATIONS
from holdfast.domain.letters import DeadLetter, parse_document
from holdfast.domain.ports import ArchiveStore, Deadline, Executions, ExecutionStatus, Parallel
from holdfast.domain.triage import REPLAYED_TAG

ARCHIVE_PREFIX = "archive/"
REPORT_PREFIX = "replays/"
#: Suffix of the outcome if an earlier run of the same replay settled the letter, for example ``RECOVERED_BEFORE``.
BEFORE = "_BEFORE"
#: Outcome of a letter that ``where`` does not select.
NOT_SELECTED = "NOT_SELECTED"
_WHERE = ("detailType", "rule", "fingerprint", "from", "to")
#: Letters that a dry run checks at once.
CHUNK = 1_000
_WORD = re.compile(r"[A-Z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the letters below the prefix to replay: ``where`` of the input. An empty field selects all.

    Attributes:
        detail_type: The event's topic, or its last words as the names of executions contain them.
        rule: The rule of the last verdict.
        fingerprint: The fingerprint of the verdict, as the key contains it.
        begin: Letters that were archived then or later (ISO 8601, UTC).
        end: Letters that were archived before.
    """

    detail_type: str = ""
    rule: str = ""
    fingerprint: str = ""
    begin: str = ""
    end: str = ""

    @classmethod
    def read(cls, data: Any) -> Selection:
        """Read ``where``.

        Raises:
            InvalidInput: The message says what is wrong.
        """
        if not isinstance(data, dict):
            raise InvalidInput("where must be an object")
        if unknown := data.keys() - set(_WHERE):
            raise InvalidInput(f"where has unknown fields: {', '.join(sorted(unknown))}")
        for name, value in data.items():
            if not isinstance(value, str) or not value:
                raise InvalidInput(f"where.{name} must be text")
            if name in {"from", "to"} and iso_time(value) is None:
                raise InvalidInput(f"where.{name} must be a time in ISO 8601, for example 2026-11-23T08:00:00Z")
        begin, end = (iso_time(data.get(name)) or "" for name in ("from", "to"))
        return cls(data.get("detailType", ""), data.get("rule", ""), data.get("fingerprint", ""), begin, end)

    def as_json(self) -> dict[str, str]:
        """``where``, without empty fields."""
        values = (self.detail_type, self.rule, self.fingerprint, self.begin, self.end)
        return {name: value for name, value in zip(_WHERE, values, strict=True) if value}

    def may_select(self, key: str) -> bool:
        """Whether the key alone does not exclude the letter."""
        day = _part(key, "dt=")
        return (
            self.fingerprint in ("", key.split("/")[-2])
            and (not self.begin or not day or day >= self.begin[:10])
            and (not self.end or not day or day <= self.end[:10])
        )

    @property
    def needs_letter(self) -> bool:
        """Whether the key is not enough to decide."""
        return bool(self.detail_type or self.rule or self.begin or self.end)

    def selects(self, key: str, document: Mapping[str, Any], letter: DeadLetter) -> bool:
        """Whether an archived letter is selected. Times are compared as times."""
        archived_at = iso_time(document.get("archivedAt")) or ""
        verdict = [document, *(document.get("later") or [])][-1].get("verdict") or {}
        return (
            self.may_select(key)
            and self.detail_type in ("", letter.detail_type, topic_end(letter.detail_type))
            and self.rule in ("", verdict.get("rule"))
            and (not self.begin or archived_at >= self.begin)
            and (not self.end or archived_at < self.end)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The input of a replay.

    Attributes:
        prefix: Which letters to replay, below ``archive/``.
        reason: The operator's reason, kept with every execution.
        dry_run: Only count.
        force: Also take letters whose event a replay has stored.
        run: Name of the replay's execution.
        started_at: Letters that were archived later are skipped, so that a replay skips what it archives itself.
        empty: There is no letter below the prefix. The state machine then goes to the report at once.
        where: Which of the letters below the prefix.
    """

    prefix: str
    reason: str
    dry_run: bool
    force: bool
    run: str
    started_at: str
    empty: bool = False
    where: Selection = field(default_factory=Selection)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Plan:
        """Read the input of the state machine, with ``run`` and ``startedAt`` added.

        Raises:
            InvalidInput: The message says what is missing or wrong.
        """
        prefix, reason = data.get("prefix"), data.get("reason", "")
        if not isinstance(prefix, str) or not prefix.startswith(ARCHIVE_PREFIX):
            raise InvalidInput('prefix must begin with archive/, for example "archive/category=UNKNOWN/"')
        if not isinstance(reason, str):
            raise InvalidInput("reason must be text")
        for name in ("dryRun", "force", "empty"):
            if not isinstance(data.get(name, False), bool):
                raise InvalidInput(f"{name} must be true or false")
        unknown = data.keys() - {"prefix", "reason", "dryRun", "force", "run", "startedAt", "empty", "where"}
        if unknown:
            raise InvalidInput(f"the input has unknown fields: {', '.join(sorted(unknown))}")
        return cls(
            prefix=prefix,
            reason=reason,
            dry_run=data.get("dryRun", False),
            force=data.get("force", False),
            run=data["run"],
            started_at=data["startedAt"],
            empty=data.get("empty", False),
            where=Selection.read(data.get("where", {})),
        )

    def as_json(self) -> dict[str, Any]:
        """The plan as the states of the replay pass it on."""
        return {
            "prefix": self.prefix,
            "reason": self.reason,
            "dryRun": self.dry_run,
            "force": self.force,
            "run": self.run,
            "startedAt": self.started_at,
            "empty": self.empty,
            "where": self.where.as_json(),
        }

    def execution_name(self, event_id: str, generation: int = 0) -> str:
        """The name of an event's triage execution in this replay. The same input always gives the same name."""
        identity = json.dumps([self.prefix, self.reason, self.force, self.where.as_json()], sort_keys=True)
        suffix = f"-g{generation}" if generation else ""
        return f"replay-{_hex(identity, 16)}-{event_digest(event_id, 32)}{suffix}"


@dataclass(frozen=True, slots=True)
class Replayer:
    """The steps of a replay."""

    archive_store: ArchiveStore
    executions: Executions
    parallel: Parallel

    def is_empty(self, plan: Plan) -> bool:
        """Whether there is no letter below the prefix."""
        return next(iter(self.archive_store.list(plan.prefix)), None) is None

    def count(self, plan: Plan, deadline: Deadline) -> dict[str, int]:
        """Count for a dry run how many letters would be replayed, by category, and how many skipped.

        When the time is up, the others are counted by their category without a look at their tags. ``NOT_CHECKED`` is
        their number: some of them may be skipped.
        """
        keys = (found.key for found in self.archive_store.list(plan.prefix))
        counts: Counter[str] = Counter()
        while chunk := list(islice(keys, CHUNK)):
            if deadline.remaining() > 0:
                counts.update(self.parallel(lambda key: self._counted(plan, key), chunk))
            else:
                counts.update(map(category_of, chunk))
                counts["NOT_CHECKED"] += len(chunk)
        return dict(sorted(counts.items()))

    def _counted(self, plan: Plan, key: str) -> str:
        if not self._selected(plan, key):
            return NOT_SELECTED
        return "SKIPPED" if not plan.force and self._is_replayed(key) else category_of(key)

    def _selected(self, plan: Plan, key: str) -> bool:
        if not plan.where.may_select(key) or not plan.where.needs_letter:
            return plan.where.may_select(key)
        document = parse_document(self.archive_store.read(key))
        return plan.where.selects(key, document, DeadLetter.of_document(document))

    def prepare(self, plan: Plan, key: str) -> dict[str, Any]:
        """Decide on one archived letter.

        Returns:
            ``{"action": "start", "name", "input"}`` for its triage execution, or for the report
            ``{"action": "skip", "result"}``.
        """
        if not plan.where.may_select(key):
            return _not_selected()
        document = parse_document(self.archive_store.read(key))
        letter = DeadLetter.of_document(document)
        if not plan.where.selects(key, document, letter):
            return _not_selected()
        if (iso_time(document.get("archivedAt")) or "") > (iso_time(plan.started_at) or plan.started_at):
            return _skipped("archived after this replay began")
        name, earlier = self._unused_name(plan, letter.event_id)
        if earlier is not None:
            return {"action": "skip", "result": earlier}
        if not plan.force and self._is_replayed(key):
            return _skipped("its event is stored already")
        return {"action": "start", "name": name, "input": self._input(plan, key, letter, name)}

    def _unused_name(self, plan: Plan, event_id: str) -> tuple[str, dict[str, Any] | None]:
        """The next generation's name, or the result of the execution of this replay that settled the letter.

        When a replay is stopped, the executions that it waits for are aborted. An aborted one has settled nothing.
        """
        for generation in range(MAX_GENERATIONS):
            name = plan.execution_name(event_id, generation)
            execution = self.executions.describe(name)
            if execution.status is ExecutionStatus.ABSENT:
                return name, None
            if execution.status is ExecutionStatus.SUCCEEDED:
                return name, {"outcome": f"{_word((execution.output or {}).get('outcome'))}{BEFORE}"}
            if execution.status.open:
                break
        return name, {"outcome": "SKIPPED", "why": "an execution of this replay handles it"}

    def _input(self, plan: Plan, key: str, letter: DeadLetter, name: str) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "eventId": letter.event_id,
            "detailType": letter.detail_type,
            "messageId": name,
            "snapshots": [key],
            "redrives": 0,
            "firstSentAt": 0,
            "replayOf": {"key": key, "run": plan.run, "reason": plan.reason},
        }

    def note(self, plan: Plan, key: str, result: Mapping[str, Any]) -> None:
        """Write the result of one letter. A repeated call writes the same object.

        The key contains the category and the outcome, so that a listing is enough for the report.
        """
        category = category_of(key)
        folder = f"{_notes(plan)}{_word(category)}/{_word(result.get('outcome'))}/"
        line = {"key": key, "from": category, **result}
        self.archive_store.create(f"{folder}{_hex(key, 32)}.json", json.dumps(line))

    def report(self, plan: Plan) -> dict[str, Any]:
        """Count the results by outcome, and by category and outcome, and write the report.

        What an earlier run of this replay recovered counts as ``RECOVERED_BEFORE``.
        """
        results = (found.key.split("/")[-3:-1] for found in self.archive_store.list(_notes(plan)))
        counted = Counter(f"{category} {outcome}" for category, outcome in results)
        outcomes: Counter[str] = Counter()
        for name, number in counted.items():
            outcomes[name.split(" ")[1]] += number
        summary = {
            **plan.as_json(),
            "letters": counted.total(),
            "outcomes": dict(sorted(outcomes.items())),
            "counts": dict(sorted(counted.items())),
        }
        key = f"{REPORT_PREFIX}{plan.run}/report.json"
        self.archive_store.create(key, json.dumps(summary))
        return {**summary, "report": key}

    def _is_replayed(self, key: str) -> bool:
        return REPLAYED_TAG.items() <= self.archive_store.tags(key).items()


def category_of(key: str) -> str:
    """The category in an archive key."""
    return _part(key, "category=") or "UNKNOWN"


def _part(key: str, name: str) -> str:
    """The value of a folder of a key that begins with ``name``; empty without one."""
    return next((part.removeprefix(name) for part in key.split("/") if part.startswith(name)), "")


def _notes(plan: Plan) -> str:
    return f"{REPORT_PREFIX}{plan.run}/letters/"


def _word(value: Any) -> str:
    """A category or an outcome as part of a key."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "UNKNOWN"


def _skipped(why: str) -> dict[str, Any]:
    return {"action": "skip", "result": {"outcome": "SKIPPED", "why": why}}


def _not_selected() -> dict[str, Any]:
    return {"action": "skip", "result": {"outcome": NOT_SELECTED, "why": "the field where does not select it"}}


def _hex(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
