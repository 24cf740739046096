"""ClassifyFunction, the first state, also after every redrive: decides what triage does with a dead letter, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import AttemptsTable, EventsTable
from holdfast.adapters.invocation import now
from holdfast.adapters.mapping import EventSourceMapping
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import Buffer
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.policy import Limits, Policy
from holdfast.domain.triage import Classifier, TriageInput


@dataclass(frozen=True, slots=True)
class ClassifySettings(Settings):
    """The environment of ClassifyFunction."""

    events_table_name: str
    attempts_table_name: str
    archive_bucket_name: str
    processor_mapping_id: str
    buffer_queue_url: str
    max_retries: int
    max_age_hours: int


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Classifier | None = None) -> dict[str, Any]:
    """Return the verdict on a dead letter.

    Args:
        event: ``eventId``, ``snapshots`` (keys, the newest last), ``redrives``, ``history``, ``redriveOutcome``,
            ``redrivenAt``, ``inTriageSince``, ``execution`` (its ARN), ``replayOf``.
        _context: The Lambda context (unused).
        services: Replaces the production services in tests.

    Returns:
        ``category``, ``rule``, ``action``, ``schedule``, ``explanation``, ``retryAfterSeconds``, ``fingerprint``,
        ``policy``, ``evidence``, and ``lateSnapshot`` if the redriven message was dead-lettered after the timeout of
        its redrive.
    """
    triage_input = TriageInput.read(event)
    verdict = (services or production()).classify(triage_input, now()).as_json()
    report(triage_input, verdict)
    return verdict


def report(triage_input: TriageInput, verdict: Mapping[str, Any]) -> None:
    """Log and count a verdict."""
    shown = {name: verdict[name] for name in ("category", "rule", "action", "fingerprint")}
    shown |= {
        "execution": triage_input.execution.rpartition(":")[2],
        "errorMessage": verdict["evidence"].get("lastMessage"),
    }
    logger().info("verdict", extra={"eventId": triage_input.event_id, "redrives": triage_input.redrives, **shown})
    if verdict["action"] != "wait":  # it is no verdict on the letter yet
        emit({"Verdicts": 1}, dimensions={"Category": verdict["category"]})


@cache
def production() -> Classifier:
    """The services of this execution environment."""
    settings = ClassifySettings.from_env()
    return Classifier(
        stored_events=EventsTable(client("dynamodb"), settings.events_table_name),
        attempts=AttemptsTable(client("dynamodb"), settings.attempts_table_name),
        store=ArchiveBucket(client("s3"), settings.archive_bucket_name),
        buffer=Buffer(
            client("sqs"),
            client("cloudwatch"),
            EventSourceMapping(client("lambda"), settings.processor_mapping_id),
            settings.buffer_queue_url,
            now,
        ),
        policy=Policy(files("holdfast.domain").joinpath("triage_policy.json").read_text()),
        limits=Limits(settings.max_retries, settings.max_age_hours),
    )
