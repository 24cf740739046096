"""The states of a triage execution, one function each: classify, redrive, archive, settle.

The execution carries metadata only. ``snapshots`` is the list of the objects that it holds, the newest last: the newest
is the one that is redriven or archived, and all of them are released in the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import floor
from typing import Any

from holdfast.domain.attempts import Attempt, in_order, of_message
from holdfast.domain.envelope import examine, identify
from holdfast.domain.errors import HoldfastError, InvalidEvent, InvalidInput, MalformedBody, SnapshotMissing
from holdfast.domain.letters import DeadLetter, TriageStamp, redriven, snapshot_folder
from holdfast.domain.policy import Evidence, Limits, Policy, Verdict
from holdfast.domain.ports import AttemptLog, EventStore, Objects, Queue, TriageEvents

ATTEMPTS_LIMIT = 500
#: Up to here every JSON parser agrees on whole numbers.
_WHOLE_LIMIT = 2**53
#: On an archive object: its event is stored now, a further replay skips it.
REPLAYED_TAG = {"replayed": "true"}


@dataclass(frozen=True, slots=True)
class TriageInput:
    """What every state of an execution is told about its letter.

    Attributes:
        event_id: The letter.
        snapshots: Keys in the archive bucket, the newest last.
        rounds: Redrives so far.
        history: The category of every round.
        redrive_outcome: Outcome of the last redrive, if there was one.
        first_sent_at: When the letter's first message was sent, epoch milliseconds.
        replay: Whether an operator asked for this.
    """

    event_id: str
    snapshots: tuple[str, ...]
    redrives: int = 0
    history: tuple[str, ...] = ()
    redrive_outcome: str | None = None
    first_sent_at: int = 0
    replay: bool = False

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> TriageInput:
        """Read a state's payload. Fields may be missing: executions live across deployments.

        Raises:
            InvalidInput: The letter or its evidence is not named, or a field is not of its kind.
        """
        letter, snapshots = data.get("eventId"), data.get("snapshots")
        if not isinstance(letter, str) or not letter:
            raise InvalidInput("the input names no eventId")
        if not isinstance(snapshots, list) or not snapshots or not all(isinstance(key, str) for key in snapshots):
            raise InvalidInput("the input names no snapshots")
        history, redrive_outcome = data.get("history") or [], data.get("redriveOutcome")
        if not isinstance(history, list) or not all(isinstance(category, str) for category in history):
            raise InvalidInput("history has to be a list of categories")
        if not isinstance(redrive_outcome, str | None):
            raise InvalidInput("redriveOutcome has to be the outcome of the last one")
        return cls(
            event_id=letter,
            snapshots=tuple(snapshots),
            redrives=_whole(data, "redrives"),
            history=tuple(history),
            redrive_outcome=redrive_outcome,
            first_sent_at=_whole(data, "firstSentAt"),
            replay=bool(data.get("replayOf")),
        )

    @property
    def current(self) -> str:
        """The key of the newest evidence."""
        return self.snapshots[-1]


def _whole(data: Mapping[str, Any], name: str) -> int:
    """A count or a time; 0 where it is missing. JSONata makes no difference between 2 and 2.0."""
    value = data.get(name) or 0
    if not isinstance(value, int | float) or not 0 <= value <= _WHOLE_LIMIT or value != int(value):
        raise InvalidInput(f"{name} has to be a whole number")
    return int(value)


def load_letter(objects: Objects, case: TriageInput) -> DeadLetter:
    """Fetch the letter that a case is about.

    Raises:
        SnapshotMissing: The object is gone, or it is another letter's.
    """
    text = objects.read(case.current)
    if text is None:
        raise SnapshotMissing("the evidence is gone")
    letter = DeadLetter.of_json(text)
    if letter.event_id != case.event_id:
        raise SnapshotMissing("the evidence belongs to another letter")
    return letter


@dataclass(frozen=True, slots=True)
class Classifier:
    """Decides from evidence. Asked first in every round: its first rule is that a stored event is a recovered one."""

    store: EventStore
    attempt_log: AttemptLog
    objects: Objects
    policy: Policy
    limits: Limits

    def classify(self, case: TriageInput, now: datetime) -> Verdict:
        """Gather the evidence on a letter and judge it.

        Raises:
            HoldfastError: The events table or the evidence could not be read; nothing is decided then.
        """
        return self.policy.judge(self.gather(case, now), case.history, self.limits)

    def gather(self, case: TriageInput, now: datetime) -> Evidence:
        """All that is known about a letter. A ledger that is down leaves a gap, not a failure."""
        letter = load_letter(self.objects, case)
        attempts, attempt_log = self._attempts(letter)
        last = attempts[-1] if attempts else None
        failure = last.failure if last else None
        return Evidence(
            stored=settles_by_table(letter, self.store),
            body=_body_of(letter),
            undelivered=letter.message.rule_error is not None,
            error_code=letter.message.rule_error,
            attempt_log=attempt_log,
            last_status=last.status.value if last else None,
            last_category=failure.category if failure else None,
            last_error=failure.error_type if failure else None,
            last_message=failure.message if failure else None,
            retry_after=failure.retry_after if failure else None,
            dead_lettered=letter.message.dead_lettered,
            redrive_outcome=case.redrive_outcome,
            redrives=case.redrives,
            replay=case.replay,
            age_hours=_age_hours(case, now),
        )

    def _attempts(self, letter: DeadLetter) -> tuple[list[Attempt], str]:
        try:
            attempts = self.attempt_log.of_event(letter.event_id)
        except HoldfastError:
            return [], "unreadable"
        return of_message(attempts, letter.message.message_id), "read"


def settles_by_table(letter: DeadLetter, store: EventStore) -> bool:
    """Whether the events table proves that this letter's event was processed (strongly consistent).

    A body that is no event was never stored: the table may hold another event under the id that such a body claims.
    """
    return _body_of(letter) == "EVENT" and store.holds(letter.event_id)


def _body_of(letter: DeadLetter) -> str:
    try:
        examine(letter.message.body)
    except (MalformedBody, InvalidEvent) as error:
        return error.category
    return "EVENT"


def _age_hours(case: TriageInput, now: datetime) -> float:
    if not case.first_sent_at:
        return 0.0
    hours = max(0.0, now.timestamp() - case.first_sent_at / 1000) / 3600
    # Never rounded up: a letter is not too old before it is.
    return floor(hours * 10) / 10


@dataclass(frozen=True, slots=True)
class Redriver:
    """Sends a dead letter back to the front of the pipeline."""

    objects: Objects
    queue: Queue

    def redrive(self, case: TriageInput, execution: str, task_token: str) -> dict[str, Any]:
        """Send the letter's exact message to the buffer, stamped so that its outcome finds the execution."""
        letter = load_letter(self.objects, case)
        stamp = TriageStamp(case.event_id, execution, case.redrives, task_token)
        outgoing = redriven(letter, stamp)
        return {"messageId": self.queue.send(outgoing), "stamped": outgoing.stamped}


@dataclass(frozen=True, slots=True)
class Archiver:
    """Writes a letter that triage gives up to the archive: message, verdict and the whole history."""

    objects: Objects
    attempt_log: AttemptLog

    def archive(self, case: TriageInput, verdict: Mapping[str, Any], execution_arn: str, archived_at: str) -> str:
        """Write the archive object once, and answer its key.

        The name is the execution's, so a retry meets its own object: the first write stands.

        Raises:
            HoldfastError: The letter could not be read, or the object not written; custody has not moved.
        """
        letter = load_letter(self.objects, case)
        key = archive_key(str(verdict["category"]), archived_at, execution_arn)
        _, described = identify(letter.message.body)
        document = {
            "schemaVersion": 2,
            "eventId": case.event_id,
            "verdict": dict(verdict),
            "attempts": [attempt.as_json() for attempt in self._history(case.event_id)],
            "event": _described(described),
            "executionArn": execution_arn,
            "archivedAt": archived_at,
            "message": letter.message.as_json(),
        }
        if not self.objects.create(key, to_text(document)):
            self._confirm_own(key, execution_arn)
        return key

    def _history(self, event_id: str) -> list[Attempt]:
        """Custody comes first: an archive without its history is better than none."""
        try:
            return in_order(self.attempt_log.of_event(event_id))[-ATTEMPTS_LIMIT:]
        except HoldfastError:
            return []

    def _confirm_own(self, key: str, execution_arn: str) -> None:
        standing = parse_document(self.objects.read(key))
        if standing.get("executionArn") != execution_arn:
            raise SnapshotMissing("another execution's letter stands under this archive key")


@dataclass(frozen=True, slots=True)
class Settler:
    """Ends a letter: releases its evidence and tells the world."""

    objects: Objects
    triage_events: TriageEvents

    def settle(self, case: TriageInput, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """Release the evidence and publish the outcome.

        Custody has moved before this, so failing to release fails nothing: the daily sweep cleans up.
        """
        released = self._release(case)
        if case.replay and outcome["outcome"] == "RECOVERED":
            self.objects.tag(case.snapshots[0], REPLAYED_TAG)
        kind = "Recovered" if outcome["outcome"] == "RECOVERED" else "Archived"
        self.triage_events.publish(f"Dead Letter {kind}", outcome)
        return {"released": released}

    def _release(self, case: TriageInput) -> bool:
        # A replayed letter's evidence is its archive object, and that stays.
        own = [key for key in case.snapshots if key.startswith(snapshot_folder(case.event_id))]
        try:
            self.objects.delete(own)
        except HoldfastError:
            return False
        return True


def archive_key(category: str, archived_at: str, execution_arn: str) -> str:
    """``archive/category=<CATEGORY>/dt=<UTC date>/<execution name>.json``."""
    return f"{archive_folder(category, archived_at[:10])}{execution_arn.rsplit(':', 1)[-1]}.json"


def archive_folder(category: str, day: str) -> str:
    """Where the letters of one category stand that were archived on one day (UTC)."""
    return f"archive/category={category}/dt={day}/"


def message_ids(snapshots: Sequence[str]) -> list[str]:
    """The message ids behind evidence keys."""
    return [key.rsplit("/", 1)[-1].removesuffix(".json") for key in snapshots]


def to_text(document: Mapping[str, Any]) -> str:
    """An object of the archive bucket."""
    return json.dumps(document)


def parse_document(text: str | None) -> Mapping[str, Any]:
    """Read an object of the archive bucket; an empty mapping for anything that is none."""
    try:
        document = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _described(described: Mapping[str, str] | None) -> dict[str, str | None] | None:
    if described is None:
        return None
    return {name: described.get(name) for name in ("id", "source", "detailType", "time")}
