"""EvidenceSweepFunction: the sweep over the snapshots of dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import EventsTable
from holdfast.adapters.invocation import InvocationDeadline, now
from holdfast.adapters.pace import Pace
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.stepfunctions import TriageExecutions
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.errors import InvalidInput
from holdfast.domain.intake import TriageServices
from holdfast.domain.sweep import Sweeper

#: Time of every invocation that is reserved for the last decision, with retries and timeouts, and for the report.
RESERVED_FOR_REPORT_SECONDS = 60.0
#: Below the smallest quotas of an account, which the intake, the console and other state machines use too: 10
#: descriptions and 2 listings a second. https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
DESCRIPTIONS_PER_SECOND = 8.0
LISTINGS_PER_SECOND = 1.0
DEFAULT_HOURS = 24
#: A century.
MAX_HOURS = 876_600


@dataclass(frozen=True, slots=True)
class SweepSettings(Settings):
    """The environment of EvidenceSweepFunction."""

    events_table_name: str
    archive_bucket_name: str
    triage_state_machine_arn: str


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: Sweeper | None = None) -> dict[str, Any]:
    """Sweep the snapshots, and log each event whose snapshots were adopted or failed.

    Args:
        event: ``{"olderThanHours": 24}``. The schedule's own event means the default; ``0`` takes all snapshots.
        context: The Lambda context.
        services: Replaces the production services in tests.

    Returns:
        ``seen``, ``released``, ``adopted``, ``left``, ``failed``, ``oldest_hours``, ``finished``, ``errors``.
    """
    age = older_than(event)
    swept = (services or production()).sweep(now(), age, InvocationDeadline(context, RESERVED_FOR_REPORT_SECONDS))
    for one in swept.notes:
        extra = {"eventId": one.subject, "step": one.step, "error": one.error}
        if one.error:
            logger().error("snapshots could not be handled", extra=extra)
        else:
            logger().info("snapshots adopted", extra=extra)
    report = swept.as_json()
    logger().info("swept", extra=report)
    emit({"SnapshotsAdopted": report["adopted"], "SnapshotsFailed": report["failed"]})
    emit({"OldestSnapshotHours": report["oldest_hours"]})
    return report


def older_than(event: Mapping[str, Any]) -> timedelta:
    """Read ``olderThanHours``.

    Raises:
        InvalidInput: It is not a number of hours.
    """
    hours = event.get("olderThanHours", DEFAULT_HOURS)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 <= hours <= MAX_HOURS:
        raise InvalidInput(f"olderThanHours must be a number of hours from 0 to {MAX_HOURS}")
    return timedelta(hours=hours)


@cache
def production() -> Sweeper:
    """The services of this execution environment."""
    settings = SweepSettings.from_env()
    return Sweeper(
        TriageServices(
            ArchiveBucket(client("s3"), settings.archive_bucket_name),
            TriageExecutions(
                client("stepfunctions"),
                settings.triage_state_machine_arn,
                Pace(DESCRIPTIONS_PER_SECOND),
                Pace(LISTINGS_PER_SECOND),
            ),
        ),
        EventsTable(client("dynamodb"), settings.events_table_name),
    )
