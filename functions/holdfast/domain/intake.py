"""From the dead-letter queue into triage: first the snapshot, then an execution, then the message leaves the queue.

:func:`take_in` guarantees that a message which it does not report as failed has an execution or is settled. Every step
can be repeated: a snapshot is written once, and an execution's name follows from the event and the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.errors import SnapshotConflict, Unavailable, describe
from holdfast.domain.identity import event_id_of_bytes, execution_name, names_execution_of
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, Message, TriageStamp, parse_document
from holdfast.domain.ports import (
    DeadLetterStore,
    ExecutionDescription,
    Executions,
    ExecutionStatus,
    Parallel,
    TaskTokens,
)
from holdfast.domain.redrive_records import stamp_of

MAX_GENERATIONS = 99


@dataclass(frozen=True, slots=True)
class TriageServices:
    """The snapshots of dead letters, and the executions that handle them."""

    store: DeadLetterStore
    executions: Executions


@dataclass(frozen=True, slots=True)
class IntakeServices:
    """What the intake needs."""

    triage: TriageServices
    task_tokens: TaskTokens
    parallel: Parallel


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """The result for one message: ``step`` for the log, and ``error`` if the message stays in the dead-letter queue."""

    message_id: str
    event_id: str
    step: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What an execution starts with: its snapshots, and what earlier executions of the event have used up.

    Attributes:
        snapshots: Keys in the archive bucket, the newest last.
        redrives: Redrives of earlier executions.
        history: The category of each of them, so that the limits per category go on counting.
        first_sent_at: When the event's first message was sent, epoch milliseconds; 0 if no earlier one is known.
        in_triage_since: When the first of them started, ISO 8601; empty if no earlier one is known.
        archived_as: The archive object of an earlier execution that gave this letter up; empty if there is none.
    """

    snapshots: tuple[str, ...]
    redrives: int = 0
    history: tuple[str, ...] = ()
    first_sent_at: int = 0
    in_triage_since: str = ""
    archived_as: str = ""

    def after(self, predecessor: Mapping[str, Any], *, settled: bool = False) -> Carried:
        """Take over from an execution of the same event that ended.

        Args:
            predecessor: The input of the last state that it entered. If it ended during a wait, the redrive that it
                waited for is counted already.
            settled: Whether that execution settled its snapshots. If not, they are carried over.
        """
        held = () if settled else (key for key in predecessor.get("snapshots", ()) if key.startswith(SNAPSHOT_PREFIX))
        return Carried(
            snapshots=(*(key for key in held if key not in self.snapshots), *self.snapshots),
            redrives=max(self.redrives, int(predecessor.get("redrives") or 0)),
            history=max(self.history, tuple(predecessor.get("history") or ()), key=len),
            first_sent_at=int(predecessor.get("firstSentAt") or self.first_sent_at),
            in_triage_since=str(predecessor.get("inTriageSince") or self.in_triage_since),
            archived_as=self.archived_as or str(predecessor.get("archivedAs") or ""),
        )


def take_in(raw_records: Sequence[Mapping[str, Any]], services: IntakeServices) -> list[IntakeResult]:
    """Take in one batch, several records at once and each independently of the others."""
    return list(services.parallel(lambda raw: _take_one(Message.of_record(raw), services), raw_records))


def as_response(results: Iterable[IntakeResult]) -> dict[str, list[dict[str, str]]]:
    """Lambda's partial batch response."""
    return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in results if one.error]}


def _take_one(message: Message, services: IntakeServices) -> IntakeResult:
    event_id = ""
    try:
        letter = DeadLetter.of(message)
        event_id = letter.event_id
        step, error = _hand_over(letter, services), None
    except Exception as failure:  # noqa: BLE001 - whatever the error is, the message stays in the queue
        step, error = "left in the queue", describe(failure)
    return IntakeResult(message.message_id, event_id or event_id_of_bytes(message.body), step, error)


def _hand_over(letter: DeadLetter, services: IntakeServices) -> str:
    _write_snapshot(letter, services.triage.store)
    stamp = stamp_of(letter, services.triage.store)
    if stamp is None:
        return start_generation(letter, Carried((letter.key,)), services.triage)
    return _report_dead_lettered_again(letter, stamp, services)


def _write_snapshot(letter: DeadLetter, store: DeadLetterStore) -> None:
    """Write the exact message once. A snapshot that exists already must be of the same message."""
    if store.create(letter.key, letter.as_json()):
        return
    text = store.read(letter.key)
    if text is None:
        raise Unavailable("the snapshot was deleted while it was being written")
    if not _is_snapshot_of(text, letter.message):
        raise SnapshotConflict(
            f"{letter.key} is the snapshot of another message: compare both, and do not delete it while an execution "
            "uses it"
        )


def _is_snapshot_of(text: str, message: Message) -> bool:
    try:
        return Message.of_json(parse_document(text)["message"]).same_content(message)
    except (KeyError, TypeError):
        return False


def _report_dead_lettered_again(letter: DeadLetter, stamp: TriageStamp, services: IntakeServices) -> str:
    """A redriven message was dead-lettered again: report it to its execution, or find out how that one ended.

    If the stamp names the execution of another event, its task token is not used: that execution would resume and
    ignore this letter.
    """
    triage = services.triage
    own = names_execution_of(stamp.execution, letter.event_id) or (
        redriver_of(letter, stamp, triage.executions).status is not ExecutionStatus.ABSENT
    )
    cause = {"eventId": letter.event_id, "snapshot": letter.key}
    if own and services.task_tokens.fail(stamp.task_token, "DeadLetteredAgain", cause):
        return "reported to the waiting execution"
    execution = redriver_of(letter, stamp, triage.executions)
    if execution.status.open:
        if letter.key in triage.executions.last_input(stamp.execution).get("snapshots", ()):
            return "held by the running execution"
        # At the next receive the execution has ended or holds this snapshot: after a redrive has timed out, Classify
        # adds the snapshots of messages that the execution sent.
        raise Unavailable(
            "the execution in the stamp is running and does not wait for this message; the next receive tries again"
        )
    succeeded = execution.status is ExecutionStatus.SUCCEEDED
    if succeeded and letter.message.message_id in _settled_messages(execution.output):
        triage.store.delete([letter.key])
        return "settled already"
    carried = Carried((letter.key,), redrives=stamp.redrives, archived_as=_archive_object(execution.output))
    if execution.status is not ExecutionStatus.ABSENT:
        carried = carried.after(triage.executions.last_input(stamp.execution), settled=succeeded)
    return start_generation(letter, carried, triage)


def redriver_of(letter: DeadLetter, stamp: TriageStamp, executions: Executions) -> ExecutionDescription:
    """Return the execution that sent this message, by its stamp; ``ABSENT`` if that execution handles another event."""
    execution = executions.describe(stamp.execution)
    return execution if execution.event_id == letter.event_id else ExecutionDescription(ExecutionStatus.ABSENT)


def _settled_messages(output: Mapping[str, Any] | None) -> Sequence[str]:
    ids = (output or {}).get("messageIds")
    return ids if isinstance(ids, list) else []


def _archive_object(output: Mapping[str, Any] | None) -> str:
    archive = (output or {}).get("archive")
    return str(archive.get("key") or "") if isinstance(archive, dict) else ""


def start_generation(
    letter: DeadLetter, carried: Carried, triage: TriageServices, *, settled_is_done: bool = True
) -> str:
    """Start the execution of a dead letter, or the next generation of one that ended without settling it.

    Args:
        letter: The dead letter.
        carried: What the execution starts with. What older generations have used up is added.
        triage: What this needs.
        settled_is_done: Whether a generation that succeeded has settled these snapshots.

    Returns:
        What was done, for the log.
    """
    for generation in range(MAX_GENERATIONS):
        name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id, generation)
        if triage.executions.start(name, execution_input(letter, carried)):
            return f"started {name}"
        execution = triage.executions.describe(name)
        if execution.status.open:
            return f"already handled by {name}"
        settled = execution.status is ExecutionStatus.SUCCEEDED
        if settled and settled_is_done:
            triage.store.delete(carried.snapshots)
            return f"settled already by {name}"
        carried = carried.after(triage.executions.last_input(name), settled=settled)
    raise Unavailable("every generation of this execution name exists")


def execution_input(letter: DeadLetter, carried: Carried) -> dict[str, Any]:
    """The input of an execution: pointers and metadata. It is deterministic, small, and contains no personal data."""
    history = {"history": list(carried.history)} if carried.history else {}
    archived = {"archivedAs": carried.archived_as} if carried.archived_as else {}
    since = {"inTriageSince": carried.in_triage_since} if carried.in_triage_since else {}
    return {
        "schemaVersion": 2,
        "eventId": letter.event_id,
        "detailType": letter.detail_type,
        "messageId": letter.message.message_id,
        "snapshots": list(carried.snapshots),
        "redrives": carried.redrives,
        "firstSentAt": carried.first_sent_at or letter.message.sent_at_ms,
        **history,
        **archived,
        **since,
    }
