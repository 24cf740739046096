"""RedriveFunction: sends a dead letter back to the front of the pipeline and leaves the execution waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import BufferQueue
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.triage import Redriver, TriageInput


@dataclass(frozen=True, slots=True)
class RedriveSettings(Settings):
    """The environment of RedriveFunction."""

    archive_bucket_name: str
    buffer_queue_url: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Redriver | None = None) -> dict[str, Any]:
    """Send the letter's exact message. The outcome comes by the task token, or not at all: the table proves it.

    Args:
        event: As of ClassifyFunction, with ``execution`` (ARN) and ``taskToken``.
        _context: Lambda's.
        services: For tests.
    """
    case = TriageInput.read(event)
    sent = (services or production()).redrive(case, event["execution"], event["taskToken"])
    logger().info("redriven", extra={"eventId": case.event_id, "redrives": case.redrives, **sent})
    emit({"Redriven": 1})
    return sent


@cache
def production() -> Redriver:
    """The services of this execution environment."""
    settings = RedriveSettings.from_env()
    return Redriver(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        BufferQueue(client("sqs"), settings.buffer_queue_url),
    )
