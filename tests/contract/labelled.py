"""The letters of ``tests/corpus``, each with the verdict that it must get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import Failure, Unavailable
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.policy import Limits, Policy, Verdict
from holdfast.domain.ports import StorableEvent
from holdfast.domain.triage import Classifier, TriageInput
from tests.contract.project import FUNCTIONS, ROOT
from tests.fakes import NOW, FakeAttemptLog, FakeBuffer, FakeEventStore, FakeObjects, Journal

CORPUS = ROOT / "tests" / "corpus"
POLICY = Policy((FUNCTIONS / "holdfast" / "domain" / "triage_policy.json").read_text())


@dataclass(frozen=True)
class Labelled:
    """One letter of the corpus."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def data(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.path.read_text())
        return loaded

    @property
    def expected(self) -> Mapping[str, str]:
        label: Mapping[str, str] = self.data["expected"]
        return label

    def classified(self) -> Verdict:
        """Classify the letter over fakes that hold what the file describes."""
        data, journal = self.data, Journal()
        letter = DeadLetter.of(Message.of_json(data["message"]))
        triage = data["triage"]
        objects = FakeObjects(journal)
        key = f"archive/category=UNKNOWN/dt=2026-11-20/{self.path.stem}.json" if triage["replay"] else letter.key
        objects.create(key, letter.as_json())
        attempt_log = FakeAttemptLog(journal)
        attempt_log.write([_attempt(letter, one) for one in data["attempts"]])
        if data["attemptLog"] == "unreadable":
            journal.fail_always("attemptlog.of_event", Unavailable("down"))
        store = FakeEventStore(journal)
        store.items |= {event_id: _stored(event_id) for event_id in data["stored"]}
        limits = Limits(data["limits"]["maxRetries"], data["limits"]["maxAgeHours"])
        pending = triage.get("pending")
        buffer = FakeBuffer(is_paused=pending == "PAUSED", holds=pending == "IN_BUFFER")
        triage_input = TriageInput.read(
            {
                "schemaVersion": 2,
                "eventId": letter.event_id,
                "snapshots": [key],
                "redrives": triage["redrives"],
                "history": triage["history"],
                "redriveOutcome": triage["redriveOutcome"],
                "redrivenAt": (NOW - timedelta(hours=1)).isoformat(),
                "inTriageSince": (NOW - timedelta(hours=triage["ageHours"])).isoformat(),
                "replayOf": {"key": key} if triage["replay"] else None,
            }
        )
        return Classifier(store, attempt_log, objects, buffer, POLICY, limits).classify(triage_input, NOW)


def _attempt(letter: DeadLetter, data: Mapping[str, Any]) -> Attempt:
    """An attempt record of this message, unless it names another one."""
    key = AttemptKey(letter.event_id, data.get("messageId", letter.message.message_id), data["receiveCount"])
    failure = data.get("failure")
    made = failure and Failure(
        failure["category"], failure["errorType"], failure["message"], failure["permanent"], failure["retryAfter"]
    )
    return Attempt(key, Status(data["status"]), "2026-11-23T11:00:00.000Z", "request", made)


def _stored(event_id: str) -> StorableEvent:
    return StorableEvent(event_id, "genesys.cloud", "Agent Event", None, None, NOW, "{}")
