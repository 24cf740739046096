"""From the dead-letter queue into triage: evidence first, then an execution, then the message may go.

:func:`take_in` guarantees that a message it does not report as failed is owned by an execution or settled. Every step
can be repeated: the evidence is written once, and the execution's name is a function of the letter and the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.errors import EvidenceConflict, HoldfastError, Unavailable
from holdfast.domain.identity import execution_name
from holdfast.domain.letters import Letter, Message, TriageStamp
from holdfast.domain.ports import Execution, Executions, Objects

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
    letter_id: str
    step: str
    error: str | None = None


def take_in(raw_records: Sequence[Mapping[str, Any]], services: Intake) -> list[Taken]:
    """Take in one batch. Each record on its own: a failing one stays in the queue and delays no other."""
    return [_take_one(Letter.of(Message.of_record(raw)), services) for raw in raw_records]


def as_response(taken: Iterable[Taken]) -> dict[str, list[dict[str, str]]]:
    """Lambda's partial batch response."""
    return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in taken if one.error]}


def _take_one(letter: Letter, services: Intake) -> Taken:
    try:
        step, error = _handed_over(letter, services), None
    except HoldfastError as failure:
        step, error = "left in the queue", f"{type(failure).__name__}: {failure}"
    except Exception as failure:  # noqa: BLE001 - what cannot be handed over stays in the queue, whatever went wrong
        step, error = "left in the queue", type(failure).__name__
    return Taken(letter.message.message_id, letter.letter_id, step, error)


def _handed_over(letter: Letter, services: Intake) -> str:
    _write_evidence(letter, services.objects)
    stamp = letter.stamp
    if stamp is None:
        return start_generation(letter, [letter.key], services, attempts=0)
    return _dead_again(letter, stamp, services)


def _write_evidence(letter: Letter, objects: Objects) -> None:
    """Write the exact message, once. Evidence that stands already has to be of the same message."""
    if objects.create(letter.key, letter.as_json()):
        return
    standing = objects.read(letter.key)
    if standing is None:
        raise Unavailable("the evidence was released while it was being written")
    if not Letter.of_json(standing).message.same_content(letter.message):
        raise EvidenceConflict("other evidence stands under this message's key")


def _dead_again(letter: Letter, stamp: TriageStamp, services: Intake) -> str:
    """A redriven message died: tell the execution that waits for it, or find out what became of that one."""
    cause = {"letterId": letter.letter_id, "evidence": letter.key}
    if services.executions.fail(stamp.task_token, "DeadAgain", cause):
        return "told the waiting execution"
    report = services.executions.describe(stamp.execution)
    if report.status.open:
        # It is between two states, and will be done or wait for a newer message soon.
        raise Unavailable("its execution is running and does not wait for this message")
    if report.status is Execution.SUCCEEDED and letter.message.message_id in _settled_messages(report.output):
        services.objects.delete([letter.key])
        return "settled already"
    return start_generation(letter, [letter.key], services, attempts=stamp.attempt)


def _settled_messages(output: Mapping[str, Any] | None) -> Sequence[str]:
    ids = (output or {}).get("messageIds")
    return ids if isinstance(ids, list) else []


def start_generation(
    letter: Letter, evidence: Sequence[str], services: Intake, *, attempts: int, settled_is_done: bool = True
) -> str:
    """Start the letter's execution, or the next generation of one that ended without settling it.

    Args:
        letter: The letter to start with.
        evidence: The keys that the execution is to hold, the newest last.
        services: The world.
        attempts: Redrives that earlier executions made.
        settled_is_done: Whether a generation that succeeded has settled this evidence.

    Returns:
        What was done, for the log.
    """
    for generation in range(MAX_GENERATIONS):
        name = execution_name(letter.detail_type, letter.letter_id, letter.message.message_id, generation)
        if services.executions.start(name, execution_input(letter, evidence, attempts)):
            return f"started {name}"
        report = services.executions.describe(name)
        if report.status.open:
            return f"already in the hands of {name}"
        if report.status is Execution.SUCCEEDED and settled_is_done:
            services.objects.delete(evidence)
            return f"settled already by {name}"
    raise Unavailable("every generation of this letter's name is taken")


def execution_input(letter: Letter, evidence: Sequence[str], attempts: int) -> dict[str, Any]:
    """A pointer and metadata: deterministic, small, and without anything personal."""
    return {
        "schemaVersion": 1,
        "letterId": letter.letter_id,
        "detailType": letter.detail_type,
        "messageId": letter.message.message_id,
        "evidence": list(evidence),
        "attempts": attempts,
        "deadSince": letter.message.sent_at_ms,
    }
