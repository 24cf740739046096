"""ClassifyFunction, the first state of every round: says what is to be done with a letter, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import AttemptsTable, EventsTable
from holdfast.adapters.invocation import now
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.policy import Limits, Policy
from holdfast.domain.triage import Classifier, TriageInput


@dataclass(frozen=True, slots=True)
class ClassifySettings(Settings):
    """The environment of ClassifyFunction."""

    events_table_name: str
    attempts_table_name: str
    archive_bucket_name: str
    max_retries: int
    max_age_hours: int


def lambda_handler(event: Mapping[str, Any], _context: Any, *, services: Classifier | None = None) -> dict[str, Any]:
    """Judge a letter from evidence.

    Args:
        event: ``eventId``, ``snapshots`` (keys, the newest last), ``redrives``, ``history``, ``redriveOutcome``,
            ``firstSentAt``, ``replayOf``.
        _context: Lambda's.
        services: For tests.

    Returns:
        The verdict: ``category``, ``rule``, ``action``, ``schedule``, ``says``, ``retryAfterSeconds``,
        ``fingerprint``, ``policy``, ``evidence``.
    """
    case = TriageInput.read(event)
    verdict = (services or production()).classify(case, now()).as_json()
    told = {name: verdict[name] for name in ("category", "rule", "action", "fingerprint")}
    logger().info("verdict", extra={"eventId": case.event_id, "redrives": case.redrives, **told})
    emit({"Verdicts": 1}, dimensions={"Category": verdict["category"]})
    return verdict


@cache
def production() -> Classifier:
    """The services of this execution environment."""
    settings = ClassifySettings.from_env()
    bucket = ArchiveBucket(client("s3"), settings.archive_bucket_name)
    return Classifier(
        store=EventsTable(client("dynamodb"), settings.events_table_name, 0, bucket, bucket.name),
        attempt_log=AttemptsTable(client("dynamodb"), settings.attempts_table_name, 0),
        objects=bucket,
        policy=Policy(files("holdfast.domain").joinpath("triage_policy.json").read_text()),
        limits=Limits(settings.max_retries, settings.max_age_hours),
    )
