"""RedriveFunction: sends a dead letter's message back to the buffer while the execution waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import BufferSender
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.triage import Redriver, TriageInput


@dataclass(frozen=True, slots=True)
class RedriveSettings(Settings):
    """The environment of RedriveFunction."""

    archive_bucket_name: str
    buffer_queue_url: str


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Redriver | None = None) -> dict[str, Any]:
    """Send the message unchanged.

    The processor or the intake reports the outcome with the task token. If neither does, the state times out. Whether
    the event is stored is decided from the events table.

    Args:
        event: As for ClassifyFunction, with ``execution`` (ARN) and ``taskToken``.
        _context: The Lambda context (unused).
        services: Replaces the production services in tests.

    Returns:
        ``messageId`` of the new message, and ``stamped``: whether it carries the token.
    """
    triage_input = TriageInput.read(event)
    sent = (services or production()).redrive(triage_input, event["execution"], event["taskToken"])
    logger().info("redriven", extra={"eventId": triage_input.event_id, "redrives": triage_input.redrives, **sent})
    emit({"Redriven": 1})
    return sent


@cache
def production() -> Redriver:
    """The services of this execution environment."""
    settings = RedriveSettings.from_env()
    return Redriver(
        ArchiveBucket(client("s3"), settings.archive_bucket_name),
        BufferSender(client("sqs"), settings.buffer_queue_url),
    )
