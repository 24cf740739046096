"""The work behind the states of a triage execution: classify, redrive, archive, settle.

An execution carries metadata only. ``snapshots`` lists the keys of the objects that it holds, the newest last. The
newest one is redriven or archived; all of them are deleted when the dead letter is settled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

from holdfast.domain.attempts import Attempt, Status, in_order, of_message
from holdfast.domain.errors import AlreadyStored, HoldfastError, InvalidInput, SnapshotMissing, Unavailable
from holdfast.domain.letters import (
    TRIAGE_ATTRIBUTE,
    DeadLetter,
    Message,
    TriageStamp,
    parse_document,
    redriven,
    snapshot_folder,
)
from holdfast.domain.policy import Evidence, Limits, Policy, Verdict
from holdfast.domain.ports import (
    ArchiveStore,
    AttemptHistory,
    BufferInspection,
    DeadLetterStore,
    ObjectReader,
    QueueSender,
    StoredEvents,
    TriageEvents,
)
from holdfast.domain.redrive_records import note_sending, note_sent, stamp_of

#: An archive object lists at most so many attempts, the latest ones.
ATTEMPTS_LIMIT = 500
#: Outcomes of a redrive: no outcome came in time; the message reached the dead-letter queue again.
SILENT, DEAD_LETTERED_AGAIN = "SILENT", "DEAD_LETTERED_AGAIN"
#: The largest whole number that every JSON parser reads exactly.
_WHOLE_LIMIT = 2**53
#: Tag of an archive object whose event was stored by a replay. Later replays skip it.
REPLAYED_TAG = {"replayed": "true"}
#: A fingerprint that may be part of a key. Without one, the key has ``none``.
_PLAIN = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class TriageInput:
    """What every state of an execution receives about its dead letter.

    Attributes:
        event_id: The event.
        snapshots: Keys in the archive bucket, the newest last.
        redrives: How often triage has sent the message back so far.
        history: The category of each of these redrives.
        redrive_outcome: Outcome of the last redrive, if there was one.
        redriven_at: When the last redrive was sent, if its outcome did not come in time.
        in_triage_since: When the first execution of this letter started; ``None`` if unknown.
        execution: The ARN of the execution; empty if unknown.
        replay: Whether an operator started this by a replay.
        archived_as: The archive object of an earlier execution that gave this letter up; empty if there is none.
    """

    event_id: str
    snapshots: tuple[str, ...]
    redrives: int = 0
    history: tuple[str, ...] = ()
    redrive_outcome: str | None = None
    redriven_at: datetime | None = None
    in_triage_since: datetime | None = None
    execution: str = ""
    replay: bool = False
    archived_as: str = ""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> TriageInput:
        """Read a state's input. Optional fields may be missing: executions live across deployments.

        Raises:
            InvalidInput: The event or its snapshots are missing, or a field has the wrong type.
        """
        event_id, snapshots = data.get("eventId"), data.get("snapshots")
        if not isinstance(event_id, str) or not event_id:
            raise InvalidInput("the input has no eventId")
        if not isinstance(snapshots, list) or not snapshots or not all(isinstance(key, str) for key in snapshots):
            raise InvalidInput("the input has no snapshots")
        history, redrive_outcome = data.get("history") or [], data.get("redriveOutcome")
        if not isinstance(history, list) or not all(isinstance(category, str) for category in history):
            raise InvalidInput("history must be a list of categories")
        if not isinstance(redrive_outcome, str | None):
            raise InvalidInput("redriveOutcome must be text")
        archived_as, execution = data.get("archivedAs") or "", data.get("execution") or ""
        if not isinstance(archived_as, str) or not isinstance(execution, str):
            raise InvalidInput("archivedAs and execution must be text")
        return cls(
            event_id=event_id,
            snapshots=tuple(snapshots),
            redrives=_whole(data, "redrives"),
            history=tuple(history),
            redrive_outcome=redrive_outcome,
            redriven_at=_time(data, "redrivenAt"),
            in_triage_since=_time(data, "inTriageSince"),
            execution=execution,
            replay=bool(data.get("replayOf")),
            archived_as=archived_as,
        )

    @property
    def newest_snapshot(self) -> str:
        """The key of the newest snapshot."""
        return self.snapshots[-1]

    @property
    def message_ids(self) -> list[str]:
        """The ids of the messages in the snapshots."""
        return [key.rsplit("/", 1)[-1].removesuffix(".json") for key in self.snapshots]


def _whole(data: Mapping[str, Any], name: str) -> int:
    """Read a count or a time; 0 if it is missing. To JSONata, 2 and 2.0 are the same number."""
    value = data.get(name) or 0
    if not isinstance(value, int | float) or not 0 <= value <= _WHOLE_LIMIT or value != int(value):
        raise InvalidInput(f"{name} must be a whole number")
    return int(value)


def _time(data: Mapping[str, Any], name: str) -> datetime | None:
    """Read a time, ISO 8601; ``None`` if it is missing."""
    value = data.get(name)
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if value else None
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be a time") from None


def load_letter(store: ObjectReader, triage_input: TriageInput) -> DeadLetter:
    """Read the newest snapshot.

    Raises:
        SnapshotMissing: It does not exist, or it belongs to another event.
    """
    text = store.read(triage_input.newest_snapshot)
    if text is None:
        raise SnapshotMissing("the snapshot does not exist")
    letter = DeadLetter.of_document(parse_document(text))
    if letter.event_id != triage_input.event_id:
        raise SnapshotMissing("the snapshot belongs to another event")
    return letter


@dataclass(frozen=True, slots=True)
class Classifier:
    """Decides from evidence: first, and after every redrive. Its first rule is that a stored event is recovered."""

    stored_events: StoredEvents
    attempts: AttemptHistory
    store: DeadLetterStore
    buffer: BufferInspection
    policy: Policy
    limits: Limits

    def classify(self, triage_input: TriageInput, now: datetime) -> Verdict:
        """Collect the evidence and return the verdict.

        Raises:
            HoldfastError: Something that the verdict rests on could not be read, so there is no verdict.
        """
        late = self._late_snapshot(triage_input) if triage_input.redrive_outcome == SILENT else ""
        if late:
            snapshots = (*triage_input.snapshots, late)
            triage_input = replace(triage_input, snapshots=snapshots, redrive_outcome=DEAD_LETTERED_AGAIN)
        evidence = self._evidence(triage_input, now)
        return replace(self.policy.judge(evidence, triage_input.history, self.limits), late_snapshot=late)

    def _late_snapshot(self, triage_input: TriageInput) -> str:
        """The snapshot of a message that was redriven here and dead-lettered after the timeout of its redrive.

        The intake writes it, and leaves the message in the dead-letter queue until this execution holds the snapshot.
        A snapshot of another execution of this event is not taken.
        """
        for found in self.store.list(snapshot_folder(triage_input.event_id)):
            if found.key not in triage_input.snapshots and self._sent_by(triage_input, found.key):
                return found.key
        return ""

    def _sent_by(self, triage_input: TriageInput, key: str) -> bool:
        """Whether this execution sent the message of a snapshot."""
        try:
            stamp = stamp_of(load_letter(self.store, replace(triage_input, snapshots=(key,))), self.store)
        except SnapshotMissing:
            return False
        return stamp is not None and stamp.execution == triage_input.execution

    def _pending(self, triage_input: TriageInput) -> str | None:
        """Why the outcome of the last redrive may still come."""
        if triage_input.redrive_outcome != SILENT:
            return None
        if self.buffer.paused():
            return "PAUSED"
        sent_at = triage_input.redriven_at
        return "IN_BUFFER" if sent_at and self.buffer.may_hold(sent_at) else None

    def _evidence(self, triage_input: TriageInput, now: datetime) -> Evidence:
        try:
            letter = load_letter(self.store, triage_input)
        except SnapshotMissing:
            # The archive object of a replay can expire during the redrive. Only a valid event is redriven.
            if triage_input.redrive_outcome is None or not self.stored_events.holds(triage_input.event_id):
                raise
            return Evidence(
                stored=True,
                redrive_outcome=triage_input.redrive_outcome,
                redrives=triage_input.redrives,
                replay=triage_input.replay,
            )
        attempts, attempt_log = self._attempts(letter)
        last = attempts[-1] if attempts else None
        failure = last.failure if last else None
        stored = is_stored(letter, self.stored_events)
        return Evidence(
            stored=stored,
            body=letter.body.kind,
            body_altered=self._is_altered(letter, triage_input),
            undelivered=letter.message.rule_error is not None,
            error_code=letter.message.rule_error,
            attempt_log=attempt_log,
            last_status=last.status.value if last else None,
            last_category=failure.category if failure else None,
            last_error=failure.error_type if failure else None,
            last_message=failure.message if failure else None,
            correlation_id=failure.correlation_id if failure else None,
            retry_after=failure.retry_after if failure else None,
            dead_lettered=letter.message.dead_lettered,
            redrive_outcome=triage_input.redrive_outcome,
            pending=None if stored else self._pending(triage_input),
            redrives=triage_input.redrives,
            replay=triage_input.replay,
            age_hours=_age_hours(triage_input, now),
        )

    def _is_altered(self, letter: DeadLetter, triage_input: TriageInput) -> bool:
        """Whether the newest or the first snapshot has an altered body.

        A redriven message has a new MD5, so a change before the redrive shows only in the first snapshot.
        """
        first = triage_input.snapshots[0]
        if letter.message.body_altered or first == triage_input.newest_snapshot:
            return letter.message.body_altered
        try:
            return Message.of_json(parse_document(self.store.read(first))["message"]).body_altered
        except (HoldfastError, KeyError, TypeError):
            return False

    def _attempts(self, letter: DeadLetter) -> tuple[list[Attempt], str]:
        """The attempts of this message. An attempt log or a record that cannot be read is evidence, not an error.

        If the last record cannot be read, the earlier ones say nothing about how the message failed.
        """
        try:
            attempts = of_message(self.attempts.of_event(letter.event_id), letter.message.message_id)
        except HoldfastError:
            return [], "unreadable"
        if not any(attempt.status is Status.UNREADABLE for attempt in attempts):
            return attempts, "read"
        return ([] if attempts[-1].status is Status.UNREADABLE else attempts), "unreadable"


def is_stored(letter: DeadLetter, stored_events: StoredEvents) -> bool:
    """Whether the events table holds the event of this dead letter (strongly consistent).

    A body that is not an event was never stored. The table may hold another event with the id that such a body has.
    """
    return letter.body.kind == "EVENT" and stored_events.holds(letter.event_id)


def _age_hours(triage_input: TriageInput, now: datetime) -> float:
    if not triage_input.in_triage_since:
        return 0.0
    hours = max(0.0, (now - triage_input.in_triage_since) / timedelta(hours=1))
    # Rounded down, so that no letter reaches its maximum age early.
    return floor(hours * 10) / 10


@dataclass(frozen=True, slots=True)
class Redriver:
    """Sends a dead letter's message back to the buffer."""

    store: DeadLetterStore
    queue: QueueSender

    def redrive(self, triage_input: TriageInput, execution: str, task_token: str) -> dict[str, Any]:
        """Send the exact message, with a stamp through which the outcome reaches the execution.

        If the message has no room for the stamp, a redrive record has it, so that a later dead letter finds the
        execution.
        """
        letter = load_letter(self.store, triage_input)
        stamp = TriageStamp(triage_input.event_id, execution, triage_input.redrives, task_token)
        outgoing = redriven(letter, stamp)
        if outgoing.stamped:
            return {"messageId": self.queue.send(outgoing), "stamped": True}
        note_sending(self.store, letter, stamp)
        message_id = self.queue.send(outgoing)
        # The message is sent: an error here would send it again. The first record is enough to find the execution.
        with suppress(Exception):
            note_sent(self.store, letter, stamp, message_id)
        return {"messageId": message_id, "stamped": False}


@dataclass(frozen=True, slots=True)
class Archiver:
    """Writes a dead letter to the archive: message, verdict and attempts."""

    archive_store: ArchiveStore
    attempts: AttemptHistory
    stored_events: StoredEvents
    bucket: str

    def archive(
        self, triage_input: TriageInput, verdict: Mapping[str, Any], execution_arn: str, archived_at: str
    ) -> dict[str, str]:
        """Write the archive object once and return its ``bucket`` and ``key``.

        The key contains the execution's name, so that a retry finds the object that the first call wrote. If an
        earlier execution has archived this letter, its object gets this verdict, and no second one is written.

        Raises:
            AlreadyStored: The events table contains the event by now, so it is recovered. Nothing was written.
            HoldfastError: The snapshot or the events table could not be read, or the object not written. Custody has
                not moved then.
        """
        letter = load_letter(self.archive_store, triage_input)
        key = archive_key(verdict, archived_at, execution_arn)
        # An earlier call may have archived the letter before its event was stored. It stays archived then.
        if is_stored(letter, self.stored_events) and not self._is_own(key, execution_arn):
            raise AlreadyStored("the events table contains the event of this letter")
        later = {"verdict": dict(verdict), "executionArn": execution_arn, "archivedAt": archived_at}
        if triage_input.archived_as and self._add_later(triage_input.archived_as, letter, later):
            return {"bucket": self.bucket, "key": triage_input.archived_as}
        document = {
            "schemaVersion": 2,
            "eventId": triage_input.event_id,
            "verdict": dict(verdict),
            "attempts": [attempt.as_json() for attempt in self._attempts(triage_input.event_id)],
            "event": letter.body.description,
            "executionArn": execution_arn,
            "archivedAt": archived_at,
            "message": letter.message.as_json(),
        }
        if not self.archive_store.create(key, json.dumps(document)) and not self._is_own(key, execution_arn):
            raise SnapshotMissing("another execution has written an object under this archive key")
        return {"bucket": self.bucket, "key": key}

    def _add_later(self, key: str, letter: DeadLetter, later: Mapping[str, Any]) -> bool:
        """Add a later verdict to the object of an earlier execution. Returns false if it holds another message."""
        text = self.archive_store.read(key) or ""
        document = parse_document(text)
        if not _holds(document, letter):
            return False
        added = document.get("later") or []
        if any(one["executionArn"] == later["executionArn"] for one in added):
            return True
        attempts = [attempt.as_json() for attempt in self._attempts(letter.event_id)] or document.get("attempts", [])
        changed = {**document, "attempts": attempts, "later": [*added, later]}
        if not self.archive_store.update(key, text, json.dumps(changed)):
            raise Unavailable("the archive object has changed since it was read")
        return True

    def _attempts(self, event_id: str) -> list[Attempt]:
        """The latest attempts. If the attempt log fails, the letter is archived without them: custody comes first."""
        try:
            return in_order(self.attempts.of_event(event_id))[-ATTEMPTS_LIMIT:]
        except HoldfastError:
            return []

    def _is_own(self, key: str, execution_arn: str) -> bool:
        """Whether the object under this key exists and this execution has written it."""
        return parse_document(self.archive_store.read(key)).get("executionArn") == execution_arn


def _holds(document: Mapping[str, Any], letter: DeadLetter) -> bool:
    """Whether an archive object holds the message of this letter, apart from its stamp."""
    try:
        archived = DeadLetter.of_document(document)
    except SnapshotMissing:
        return False
    own = {name: value for name, value in letter.message.message_attributes.items() if name != TRIAGE_ATTRIBUTE}
    same_attributes = own.items() <= archived.message.message_attributes.items()
    return same_attributes and (archived.event_id, archived.message.body) == (letter.event_id, letter.message.body)


@dataclass(frozen=True, slots=True)
class Settler:
    """Ends the triage of a dead letter: deletes its snapshots and publishes the outcome."""

    snapshots: DeadLetterStore
    archive_store: ArchiveStore
    triage_events: TriageEvents

    def settle(
        self, triage_input: TriageInput, outcome: str, verdict: Mapping[str, Any], archive: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], bool]:
        """Delete the snapshots and publish the outcome.

        Custody has moved before this. If the snapshots cannot be deleted, nothing fails: the sweep deletes them.

        Returns:
            The execution's output, and whether the snapshots were deleted.
        """
        output = {
            "outcome": outcome,
            "eventId": triage_input.event_id,
            "category": verdict["category"],
            "rule": verdict["rule"],
            "redrives": triage_input.redrives,
            "messageIds": triage_input.message_ids,
            "archive": archive,
        }
        released = self._release(triage_input)
        recovered = outcome == "RECOVERED"
        if triage_input.replay and recovered:
            self.archive_store.tag(triage_input.snapshots[0], REPLAYED_TAG)
        self.triage_events.publish(f"Dead Letter {'Recovered' if recovered else 'Archived'}", output)
        return output, released

    def _release(self, triage_input: TriageInput) -> bool:
        # The first key of a replayed letter is its archive object, which stays.
        own = [key for key in triage_input.snapshots if key.startswith(snapshot_folder(triage_input.event_id))]
        try:
            self.snapshots.delete(own)
        except HoldfastError:
            return False
        return True


def archive_key(verdict: Mapping[str, Any], archived_at: str, execution_arn: str) -> str:
    """``archive/category=<CATEGORY>/dt=<UTC date>/<fingerprint>/<execution name>.json``.

    The letters of one cause have a common prefix, so that a listing is enough to group them and to replay them.
    """
    folder = archive_folder(str(verdict["category"]), archived_at[:10])
    fingerprint = str(verdict.get("fingerprint"))
    cause = fingerprint if _PLAIN.fullmatch(fingerprint) else "none"
    return f"{folder}{cause}/{execution_arn.rsplit(':', 1)[-1]}.json"


def archive_folder(category: str, day: str) -> str:
    """The folder of the letters of one category that were archived on one day (UTC)."""
    return f"archive/category={category}/dt={day}/"
