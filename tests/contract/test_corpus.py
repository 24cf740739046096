"""Labelled dead letters: each gets the verdict that its label names, from the real classifier over the fakes.

A file of ``tests/corpus/<category>/`` is one letter: its message, what ledger and events table hold, what its execution
has been through, and the verdict expected. The confusion matrix stands at the end of every run (``conftest.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.categories import VERDICT_CATEGORIES as CATEGORIES
from holdfast.domain.errors import Failure, Unavailable
from holdfast.domain.letters import DeadLetter, Message
from holdfast.domain.policy import Limits, Policy, Verdict
from holdfast.domain.ports import StorableEvent
from holdfast.domain.triage import Classifier, TriageInput
from tests.contract.confusion import MATRIX, told
from tests.contract.project import FUNCTIONS, ROOT
from tests.fakes import NOW, FakeAttemptLog, FakeEventStore, FakeObjects, Journal

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

    def judged(self) -> Verdict:
        """Build the world that the file describes, and ask the classifier."""
        data, journal = self.data, Journal()
        letter = DeadLetter.of(Message.of_json(data["message"]))
        known = data["case"]
        objects = FakeObjects(journal)
        key = f"archive/category=UNKNOWN/dt=2026-11-20/{self.path.stem}.json" if known["replay"] else letter.key
        objects.create(key, letter.as_json())
        attempt_log = FakeAttemptLog(journal)
        attempt_log.write([_attempt(letter, line) for line in data["attempts"]])
        if data["attemptLog"] == "unreadable":
            journal.fail_always("attemptlog.of_event", Unavailable("down"))
        store = FakeEventStore(journal)
        store.items |= {held: _stored(held) for held in data["stored"]}
        limits = Limits(data["limits"]["maxRetries"], data["limits"]["maxAgeHours"])
        case = TriageInput.read(
            {
                "schemaVersion": 1,
                "eventId": letter.event_id,
                "snapshots": [key],
                "redrives": known["redrives"],
                "history": known["history"],
                "redriveOutcome": known["redriveOutcome"],
                "firstSentAt": int((NOW - timedelta(hours=known["ageHours"])).timestamp() * 1000),
                "replayOf": {"key": key} if known["replay"] else None,
            }
        )
        return Classifier(store, attempt_log, objects, POLICY, limits).classify(case, NOW)


def _attempt(letter: DeadLetter, line: Mapping[str, Any]) -> Attempt:
    """A line of the attempt log: of this very message, unless it names another one."""
    key = AttemptKey(letter.event_id, line.get("messageId", letter.message.message_id), line["receiveCount"])
    failure = line.get("failure")
    made = failure and Failure(
        failure["category"], failure["errorType"], failure["message"], failure["permanent"], failure["retryAfter"]
    )
    return Attempt(key, Status(line["status"]), "2026-11-23T11:00:00.000Z", "request", made)


def _stored(event_id: str) -> StorableEvent:
    return StorableEvent(event_id, "genesys.cloud", "Agent Event", None, None, NOW, "{}")


LETTERS = [Labelled(path) for path in sorted(CORPUS.rglob("*.json"))]


@pytest.fixture(scope="module")
def verdicts() -> Mapping[str, Verdict]:
    return {letter.name: letter.judged() for letter in LETTERS}


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: letter.name)
def test_each_letter_gets_the_verdict_on_its_label(letter: Labelled, verdicts: Mapping[str, Verdict]) -> None:
    found = verdicts[letter.name].as_json()
    assert {name: found[name] for name in letter.expected} == letter.expected, letter.data["about"]


def test_no_letter_is_taken_for_one_of_another_category(
    verdicts: Mapping[str, Verdict], request: pytest.FixtureRequest
) -> None:
    matrix = Counter((letter.expected["category"], verdicts[letter.name].category) for letter in LETTERS)
    request.config.stash[MATRIX] = matrix
    assert [cell for cell in matrix if cell[0] != cell[1]] == [], told(matrix)


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: letter.name)
def test_each_letter_stands_in_the_folder_of_its_category_and_says_what_it_is(letter: Labelled) -> None:
    assert letter.path.parent.name == letter.expected["category"]
    assert letter.expected.keys() >= {"category", "rule", "action"}
    assert letter.data["about"].endswith(".")


def test_the_corpus_is_large_enough() -> None:
    assert len(LETTERS) >= 60
    assert len({letter.data["message"]["body"] for letter in LETTERS}) == len(LETTERS)


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_every_category_has_two_letters_at_least(category: str) -> None:
    assert sum(letter.expected["category"] == category for letter in LETTERS) >= 2


@pytest.mark.parametrize("rule", [rule.id for rule in POLICY.rules])
def test_every_rule_has_two_letters_at_least(rule: str) -> None:
    assert sum(letter.expected["rule"] == rule for letter in LETTERS) >= 2
