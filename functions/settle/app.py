"""SettleFunction: releases a letter's evidence and announces how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.triage import Settler, TriageInput, message_ids


@dataclass(frozen=True, slots=True)
class SettleSettings(Settings):
    """The environment of SettleFunction."""

    archive_bucket_name: str
    enriched_bus_name: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Settler | None = None) -> dict[str, Any]:
    """End a letter.

    Args:
        event: As of ClassifyFunction, with ``outcome`` (``RECOVERED`` or ``ARCHIVED``), ``verdict`` and ``archive``.
        _context: Lambda's.
        services: For tests.

    Returns:
        The execution's output: ``outcome``, ``eventId``, ``category``, ``rule``, ``redrives``, ``messageIds``,
        ``archive``.
    """
    case = TriageInput.read(event)
    output = {
        "outcome": event["outcome"],
        "eventId": case.event_id,
        "category": event["verdict"]["category"],
        "rule": event["verdict"]["rule"],
        "redrives": case.redrives,
        "messageIds": message_ids(case.snapshots),
        "archive": event.get("archive"),
    }
    released = (services or production()).settle(case, output)
    logger().info("settled", extra={"eventId": case.event_id, "outcome": event["outcome"], **released})
    emit({"LettersRecovered": event["outcome"] == "RECOVERED", "SnapshotsNotReleased": not released["released"]})
    return output


@cache
def production() -> Settler:
    """The services of this execution environment."""
    settings = SettleSettings.from_env()
    return Settler(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        EnrichedBus(client("events"), settings.enriched_bus_name),
    )
