"""From the dead-letter queue into triage: evidence first, then an execution, then the message may go.

:func:`take_in` guarantees that a message it does not report as failed is owned by an execution or settled. Every step
can be repeated: the evidence is written once, and the execution's name is a function of the letter and the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.errors import HoldfastError, SnapshotConflict, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.letters import SNAPSHOT_PREFIX, DeadLetter, Message, TriageStamp
from holdfast.domain.ports import Execution, ExecutionReport, Executions, Objects

MAX_GENERATIONS = 99


@dataclass(frozen=True, slots=True)
class Intake:
    """What taking in needs of the world."""

    objects: Objects
    executions: Executions


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one message: ``step`` for the log, ``error`` if it has to stay in the dead-letter queue."""

    message_id: str
    event_id: str
    step: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What an execution begins with: the evidence that it holds, and what was spent on the letter before it.

    Attributes:
        snapshots: Keys in the archive bucket, the newest last.
        redrives: Redrives that earlier executions made.
        history: The category of each of their rounds, so that the limits per category go on counting.
        first_sent_at: When the letter's first message was sent, epoch milliseconds; 0 where nobody knows an older one.
    """

    snapshots: tuple[str, ...]
    redrives: int = 0
    history: tuple[str, ...] = ()
    first_sent_at: int = 0

    def after(self, predecessor: Mapping[str, Any], *, settled: bool = False) -> Carried:
        """Take over from an execution of the same letter that ended, by the last input that it worked on.

        Evidence goes along unless that execution has settled it. One that ended while it waited had counted the round
        that it waited for.
        """
        held = () if settled else (key for key in predecessor.get("snapshots", ()) if key.startswith(SNAPSHOT_PREFIX))
        return Carried(
            snapshots=(*(key for key in held if key not in self.snapshots), *self.snapshots),
            redrives=max(self.redrives, int(predecessor.get("redrives") or 0)),
            history=max(self.history, tuple(predecessor.get("history") or ()), key=len),
            first_sent_at=int(predecessor.get("firstSentAt") or self.first_sent_at),
        )


def take_in(raw_records: Sequence[Mapping[str, Any]], services: Intake) -> list[Taken]:
    """Take in one batch. Each record on its own: a failing one stays in the queue and delays no other."""
    return [_take_one(DeadLetter.of(Message.of_record(raw)), services) for raw in raw_records]


def as_response(taken: Iterable[Taken]) -> dict[str, list[dict[str, str]]]:
    """Lambda's partial batch response."""
    return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in taken if one.error]}


def _take_one(letter: DeadLetter, services: Intake) -> Taken:
    try:
        step, error = _handed_over(letter, services), None
    except HoldfastError as failure:
        step, error = "left in the queue", f"{type(failure).__name__}: {failure}"
    except Exception as failure:  # noqa: BLE001 - what cannot be handed over stays in the queue, whatever went wrong
        step, error = "left in the queue", type(failure).__name__
    return Taken(letter.message.message_id, letter.event_id, step, error)


def _handed_over(letter: DeadLetter, services: Intake) -> str:
    _write_snapshot(letter, services.objects)
    stamp = letter.stamp
    if stamp is None:
        return start_generation(letter, Carried((letter.key,)), services)
    return _dead_again(letter, stamp, services)


def _write_snapshot(letter: DeadLetter, objects: Objects) -> None:
    """Write the exact message, once. Evidence that stands already has to be of the same message."""
    if objects.create(letter.key, letter.as_json()):
        return
    standing = objects.read(letter.key)
    if standing is None:
        raise Unavailable("the evidence was released while it was being written")
    if not DeadLetter.of_json(standing).message.same_content(letter.message):
        raise SnapshotConflict("other evidence stands under this message's key")


def _dead_again(letter: DeadLetter, stamp: TriageStamp, services: Intake) -> str:
    """A redriven message died: tell the execution that waits for it, or find out what became of that one."""
    cause = {"eventId": letter.event_id, "snapshot": letter.key}
    if services.executions.fail(stamp.task_token, "DeadLetteredAgain", cause):
        return "told the waiting execution"
    report = redriver_of(letter, services.executions)
    if report.status.open:
        # It is between two states, and will be done or wait for a newer message soon.
        raise Unavailable("its execution is running and does not wait for this message")
    succeeded = report.status is Execution.SUCCEEDED
    if succeeded and letter.message.message_id in _settled_messages(report.output):
        services.objects.delete([letter.key])
        return "settled already"
    carried = Carried((letter.key,), redrives=stamp.redrives)
    if report.status is not Execution.ABSENT:
        carried = carried.after(services.executions.last_input(stamp.execution), settled=succeeded)
    return start_generation(letter, carried, services)


def redriver_of(letter: DeadLetter, executions: Executions) -> ExecutionReport:
    """The execution that sent this message, by its stamp; absent where the stamp names another letter's."""
    report = executions.describe(letter.stamp.execution) if letter.stamp else None
    return report if report and report.event_id == letter.event_id else ExecutionReport(Execution.ABSENT)


def _settled_messages(output: Mapping[str, Any] | None) -> Sequence[str]:
    ids = (output or {}).get("messageIds")
    return ids if isinstance(ids, list) else []


def start_generation(letter: DeadLetter, carried: Carried, services: Intake, *, settled_is_done: bool = True) -> str:
    """Start the letter's execution, or the next generation of one that ended without settling it.

    Args:
        letter: The letter to start with.
        carried: What the execution is to begin with; what an older generation has spent comes on top.
        services: The world.
        settled_is_done: Whether a generation that succeeded has settled this evidence.

    Returns:
        What was done, for the log.
    """
    for generation in range(MAX_GENERATIONS):
        name = execution_name(letter.detail_type, letter.event_id, letter.message.message_id, generation)
        if services.executions.start(name, execution_input(letter, carried)):
            return f"started {name}"
        report = services.executions.describe(name)
        if report.status.open:
            return f"already in the hands of {name}"
        settled = report.status is Execution.SUCCEEDED
        if settled and settled_is_done:
            services.objects.delete(carried.snapshots)
            return f"settled already by {name}"
        carried = carried.after(services.executions.last_input(name), settled=settled)
    raise Unavailable("every generation of this letter's name is taken")


def execution_input(letter: DeadLetter, carried: Carried) -> dict[str, Any]:
    """A pointer and metadata: deterministic, small, and without anything personal."""
    history = {"history": list(carried.history)} if carried.history else {}
    return {
        "schemaVersion": 2,
        "eventId": letter.event_id,
        "detailType": letter.detail_type,
        "messageId": letter.message.message_id,
        "snapshots": list(carried.snapshots),
        "redrives": carried.redrives,
        "firstSentAt": carried.first_sent_at or letter.message.sent_at_ms,
        **history,
    }
