"""ArchiveFunction: gives a letter that triage cannot save its lasting place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import AttemptsTable
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.triage import Archiver, TriageInput

#: Categories of events that no retry can fix. Every other archived letter is an event that triage gave up.
REFUSED = frozenset({"MALFORMED", "INVALID", "REJECTED"})


@dataclass(frozen=True, slots=True)
class ArchiveSettings(Settings):
    """The environment of ArchiveFunction."""

    attempts_table_name: str
    archive_bucket_name: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Archiver | None = None) -> dict[str, Any]:
    """Write the archive object; a repeated call meets its own object.

    Args:
        event: As of ClassifyFunction, with ``verdict``, ``execution`` (ARN) and ``archivedAt``.
        _context: Lambda's.
        services: For tests.

    Returns:
        ``bucket`` and ``key``.
    """
    case = TriageInput.read(event)
    key = (services or production()).archive(case, event["verdict"], event["execution"], event["archivedAt"])
    logger().info("archived", extra={"eventId": case.event_id, "key": key})
    category = event["verdict"]["category"]
    emit({"LettersArchived": 1}, dimensions={"Category": category})
    # An alarm cannot sum over a dimension, so this count has none.
    emit({"LettersGivenUp": int(category not in REFUSED)})
    return {"bucket": ArchiveSettings.from_env().archive_bucket_name, "key": key}


@cache
def production() -> Archiver:
    """The services of this execution environment."""
    settings = ArchiveSettings.from_env()
    return Archiver(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        AttemptsTable(client("dynamodb"), settings.attempts_table_name, 0),
    )
