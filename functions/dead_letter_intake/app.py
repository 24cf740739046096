"""DeadLetterIntakeFunction: takes dead letters into triage, evidence first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.stepfunctions import TriageExecutions
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.intake import Intake, as_response, take_in


@dataclass(frozen=True, slots=True)
class IntakeSettings(Settings):
    """The environment of DeadLetterIntakeFunction."""

    archive_bucket_name: str
    triage_state_machine_arn: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Intake | None = None) -> dict[str, Any]:
    """Take in one batch. A message leaves the queue only once an execution owns it or it is settled."""
    taken = take_in(event["Records"], services or production())
    for one in taken:
        logger().info(
            "dead letter",
            extra={"eventId": one.event_id, "messageId": one.message_id, "step": one.step, "error": one.error},
        )
    kept = sum(1 for one in taken if one.error)
    emit({"DeadLettersTaken": len(taken) - kept, "DeadLettersLeft": kept})
    return as_response(taken)


@cache
def production() -> Intake:
    """The services of this execution environment."""
    settings = IntakeSettings.from_env()
    return Intake(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        TriageExecutions(client("stepfunctions"), settings.triage_state_machine_arn),
    )
