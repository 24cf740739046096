"""SettleFunction: deletes a dead letter's snapshots and publishes how its triage ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.eventbridge import TriageEventBus
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.triage import Settler, TriageInput


@dataclass(frozen=True, slots=True)
class SettleSettings(Settings):
    """The environment of SettleFunction."""

    archive_bucket_name: str
    enriched_bus_name: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Settler | None = None) -> dict[str, Any]:
    """Settle a dead letter.

    Args:
        event: As for ClassifyFunction, with ``outcome`` (``RECOVERED`` or ``ARCHIVED``), ``verdict`` and ``archive``.
        _context: The Lambda context (unused).
        services: Replaces the production services in tests.

    Returns:
        The execution's output: ``outcome``, ``eventId``, ``category``, ``rule``, ``redrives``, ``messageIds``,
        ``archive``.
    """
    triage_input = TriageInput.read(event)
    output, released = (services or production()).settle(
        triage_input, event["outcome"], event["verdict"], event.get("archive")
    )
    report(output, released)
    return output


def report(output: Mapping[str, Any], released: bool) -> None:
    """Log and count how the triage of a dead letter ended."""
    logger().info("settled", extra={"eventId": output["eventId"], "outcome": output["outcome"], "released": released})
    emit({"LettersRecovered": output["outcome"] == "RECOVERED", "SnapshotsNotReleased": not released})


@cache
def production() -> Settler:
    """The services of this execution environment."""
    settings = SettleSettings.from_env()
    bucket = ArchiveBucket(client("s3"), settings.archive_bucket_name)
    return Settler(bucket, bucket, TriageEventBus(client("events"), settings.enriched_bus_name))
