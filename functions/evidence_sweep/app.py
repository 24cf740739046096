"""EvidenceSweepFunction: the daily look at evidence that nobody works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import EventsTable
from holdfast.adapters.invocation import InvocationDeadline, now
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.stepfunctions import TriageExecutions
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.errors import InvalidInput
from holdfast.domain.intake import Intake
from holdfast.domain.sweep import Sweeper

REPORT_SECONDS = 5.0
#: A century: nothing is older.
MAX_HOURS = 876_600


@dataclass(frozen=True, slots=True)
class SweepSettings(Settings):
    """The environment of EvidenceSweepFunction."""

    events_table_name: str
    archive_bucket_name: str
    triage_state_machine_arn: str


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: Sweeper | None = None) -> dict[str, Any]:
    """Sweep the evidence.

    Args:
        event: ``{"olderThanHours": 24}``; the schedule's own event means the default. By hand, ``0`` takes all.
        context: Lambda's.
        services: For tests.

    Returns:
        What was found: ``seen``, ``released``, ``adopted``, ``left``, ``failed``, ``oldest_hours``, ``finished``.
    """
    hours = event.get("olderThanHours", 24)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 <= hours <= MAX_HOURS:
        raise InvalidInput("olderThanHours has to be a number of hours, 0 or more")
    deadline = InvocationDeadline(context, REPORT_SECONDS)
    report = asdict((services or production()).sweep(now(), timedelta(hours=hours), deadline))
    logger().info("swept", extra=report)
    emit({"SnapshotsAdopted": report["adopted"], "SnapshotsFailed": report["failed"]})
    emit({"OldestSnapshotHours": report["oldest_hours"]})
    return report


@cache
def production() -> Sweeper:
    """The services of this execution environment."""
    settings = SweepSettings.from_env()
    bucket = ArchiveBucket(client("s3"), settings.archive_bucket_name)
    return Sweeper(
        intake=Intake(bucket, TriageExecutions(client("stepfunctions"), settings.triage_state_machine_arn)),
        store=EventsTable(client("dynamodb"), settings.events_table_name, 0, bucket, bucket.name),
    )
