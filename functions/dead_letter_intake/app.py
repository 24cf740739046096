"""DeadLetterIntakeFunction: takes dead letters into triage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.parallel import in_parallel
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.stepfunctions import CallbackTokens, TriageExecutions
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.intake import IntakeResult, IntakeServices, TriageServices, as_response, take_in


@dataclass(frozen=True, slots=True)
class IntakeSettings(Settings):
    """The environment of DeadLetterIntakeFunction."""

    archive_bucket_name: str
    triage_state_machine_arn: str


def lambda_handler(
    event: Mapping[str, Any], _context: Any, *, services: IntakeServices | None = None
) -> dict[str, Any]:
    """Take in one batch. A message leaves the queue only when an execution handles it or it is settled."""
    results = take_in(event["Records"], services or production())
    report(results)
    return as_response(results)


def report(results: Sequence[IntakeResult]) -> None:
    """Log and count what was taken in and what stays in the queue."""
    for one in results:
        extra = {"eventId": one.event_id, "messageId": one.message_id, "step": one.step, "error": one.error}
        log = logger().error if one.error else logger().info
        log("dead letter", extra=extra)
    left = sum(1 for one in results if one.error)
    emit({"DeadLettersTaken": len(results) - left, "DeadLettersLeft": left})


@cache
def production() -> IntakeServices:
    """The services of this execution environment."""
    settings = IntakeSettings.from_env()
    return IntakeServices(
        TriageServices(
            ArchiveBucket(client("s3"), settings.archive_bucket_name),
            TriageExecutions(client("stepfunctions"), settings.triage_state_machine_arn),
        ),
        CallbackTokens(client("stepfunctions")),
        in_parallel,
    )
