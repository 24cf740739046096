"""ArchiveFunction: writes a dead letter to the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import AttemptsTable, EventsTable
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.categories import REFUSED
from holdfast.domain.triage import Archiver, TriageInput


@dataclass(frozen=True, slots=True)
class ArchiveSettings(Settings):
    """The environment of ArchiveFunction."""

    events_table_name: str
    attempts_table_name: str
    archive_bucket_name: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Archiver | None = None) -> dict[str, str]:
    """Write the archive object. A repeated call finds the object that the first one wrote.

    Args:
        event: As for ClassifyFunction, with ``verdict``, ``execution`` (ARN) and ``archivedAt``.
        _context: The Lambda context (unused).
        services: Replaces the production services in tests.

    Returns:
        ``bucket`` and ``key``.

    Raises:
        AlreadyStored: The events table contains the event. The execution settles it as recovered.
    """
    triage_input = TriageInput.read(event)
    place = (services or production()).archive(triage_input, event["verdict"], event["execution"], event["archivedAt"])
    report(triage_input.event_id, event["verdict"]["category"], place["key"])
    return place


def report(event_id: str, category: str, key: str) -> None:
    """Log and count an archived letter."""
    logger().info("archived", extra={"eventId": event_id, "key": key})
    emit({"LettersArchived": 1}, dimensions={"Category": category})
    # An alarm cannot sum over a dimension, so this count has none.
    emit({"LettersGivenUp": int(category not in REFUSED)})


@cache
def production() -> Archiver:
    """The services of this execution environment."""
    settings = ArchiveSettings.from_env()
    return Archiver(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        AttemptsTable(client("dynamodb"), settings.attempts_table_name),
        EventsTable(client("dynamodb"), settings.events_table_name),
        settings.archive_bucket_name,
    )
