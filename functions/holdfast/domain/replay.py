"""Replays of archived letters: which letters are taken, the names of their executions, and the report.

A replay is identified by its input, not by its execution. A stopped replay that is started again with the same input
finds the executions that it has started and does the rest only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.domain.errors import InvalidInput
from holdfast.domain.identity import event_digest
from holdfast.domain.intake import MAX_GENERATIONS
from holdfast.domain.letters import DeadLetter, parse_document
from holdfast.domain.ports import ArchiveStore, Execution, Executions, Parallel
from holdfast.domain.triage import REPLAYED_TAG

ARCHIVE_PREFIX = "archive/"
REPORT_PREFIX = "replays/"


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
    """

    prefix: str
    reason: str
    dry_run: bool
    force: bool
    run: str
    started_at: str

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
        for name in ("dryRun", "force"):
            if not isinstance(data.get(name, False), bool):
                raise InvalidInput(f"{name} must be true or false")
        unknown = data.keys() - {"prefix", "reason", "dryRun", "force", "run", "startedAt"}
        if unknown:
            raise InvalidInput(f"the input has unknown fields: {', '.join(sorted(unknown))}")
        return cls(
            prefix=prefix,
            reason=reason,
            dry_run=data.get("dryRun", False),
            force=data.get("force", False),
            run=data["run"],
            started_at=data["startedAt"],
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
        }

    def execution_name(self, event_id: str, generation: int = 0) -> str:
        """The name of an event's triage execution in this replay. The same input always gives the same name."""
        identity = json.dumps([self.prefix, self.reason, self.force])
        suffix = f"-g{generation}" if generation else ""
        return f"replay-{_hex(identity, 16)}-{event_digest(event_id, 32)}{suffix}"


@dataclass(frozen=True, slots=True)
class Replayer:
    """The steps of a replay."""

    archive_store: ArchiveStore
    executions: Executions
    parallel: Parallel

    def count(self, plan: Plan) -> dict[str, int]:
        """Count for a dry run how many letters would be replayed, by category, and how many skipped."""
        keys = [found.key for found in self.archive_store.list(plan.prefix)]
        return dict(sorted(Counter(self.parallel(lambda key: self._counted(plan, key), keys)).items()))

    def _counted(self, plan: Plan, key: str) -> str:
        return "SKIPPED" if not plan.force and self._is_replayed(key) else category_of(key)

    def prepare(self, plan: Plan, key: str) -> dict[str, Any]:
        """Decide on one archived letter.

        Returns:
            ``{"action": "start", "name", "input"}`` for its triage execution, or for the report
            ``{"action": "skip", "result"}``.
        """
        document = parse_document(self.archive_store.read(key))
        letter = DeadLetter.of_document(document)
        if document.get("archivedAt", "") > plan.started_at:
            return _skipped("archived after this replay began")
        if not plan.force and self._is_replayed(key):
            return _skipped("its event is stored already")
        name = self._unused_name(plan, letter.event_id)
        if name is None:
            return _skipped("this replay already processed it")
        return {"action": "start", "name": name, "input": self._input(plan, key, letter, name)}

    def _unused_name(self, plan: Plan, event_id: str) -> str | None:
        """The next generation's name; ``None`` if an execution of this replay has settled the letter or is running.

        When a replay is stopped, the executions that it waits for are aborted. An aborted one has settled nothing.
        """
        for generation in range(MAX_GENERATIONS):
            name = plan.execution_name(event_id, generation)
            status = self.executions.describe(name).status
            if status is Execution.ABSENT:
                return name
            if status.open or status is Execution.SUCCEEDED:
                return None
        return None

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
        """Write the result of one letter. A repeated call writes the same object."""
        line = {"key": key, "from": category_of(key), **result}
        self.archive_store.create(f"{self._folder(plan)}letters/{_hex(key, 32)}.json", json.dumps(line))

    def report(self, plan: Plan) -> dict[str, Any]:
        """Count the results by category and outcome, and write the report."""
        keys = [found.key for found in self.archive_store.list(f"{self._folder(plan)}letters/")]
        counted = Counter(self.parallel(self._line, keys))
        summary = {**plan.as_json(), "letters": len(keys), "counts": dict(sorted(counted.items()))}
        key = f"{self._folder(plan)}report.json"
        self.archive_store.create(key, json.dumps(summary))
        return {**summary, "report": key}

    def _line(self, key: str) -> str:
        line = parse_document(self.archive_store.read(key))
        return f"{line.get('from')} {line.get('outcome')}"

    def _folder(self, plan: Plan) -> str:
        return f"{REPORT_PREFIX}{plan.run}/"

    def _is_replayed(self, key: str) -> bool:
        return REPLAYED_TAG.items() <= self.archive_store.tags(key).items()


def category_of(key: str) -> str:
    """The category in an archive key."""
    found = [part.removeprefix("category=") for part in key.split("/") if part.startswith("category=")]
    return found[0] if found else "UNKNOWN"


def _skipped(why: str) -> dict[str, Any]:
    return {"action": "skip", "result": {"outcome": "SKIPPED", "why": why}}


def _hex(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
