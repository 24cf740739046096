"""ProcessorFunction: one batch of the buffer queue per invocation."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.direct import DirectStatements
from holdfast.adapters.dynamodb import AttemptsTable, EventsTable
from holdfast.adapters.invocation import InvocationDeadline, now
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import BufferQueue
from holdfast.adapters.stepfunctions import TriageExecutions
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.errors import Misconfigured
from holdfast.domain.ports import Stored, UserDirectory
from holdfast.domain.processing import BatchReport, Processing, process_batch, stored_count

#: Kept of every invocation for the attempt records and the visibility time-outs.
REPORT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class ProcessorSettings(Settings):
    """The environment of ProcessorFunction."""

    events_table_name: str
    attempts_table_name: str
    buffer_queue_url: str
    archive_bucket_name: str
    event_retention_days: int
    attempt_retention_days: int
    backoff_base_seconds: int
    backoff_cap_seconds: int
    enrichment_policy: str = field(metadata={"choices": ("best-effort", "required", "off")})
    genesys_domain: str
    genesys_credentials_secret_arn: str = ""
    genesys_api_url: str = ""
    genesys_login_url: str = ""


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: Processing | None = None) -> dict[str, Any]:
    """Process one SQS batch. At least once: a record is reported failed unless its event is stored."""
    began = time.perf_counter()
    services = services or production()
    deadline = InvocationDeadline(context, REPORT_SECONDS)
    report = process_batch(event["Records"], services, deadline, context.aws_request_id)
    usage = services.user_directory.usage() if services.user_directory else {}
    tell(report, usage, milliseconds=(time.perf_counter() - began) * 1000)
    return report.as_response()


@cache
def production() -> Processing:
    """The services of this execution environment."""
    settings = ProcessorSettings.from_env()
    bucket = ArchiveBucket(client("s3"), settings.archive_bucket_name)
    statements = DirectStatements(client("dynamodb"))
    return Processing(
        store=EventsTable(statements, settings.events_table_name, settings.event_retention_days, bucket, bucket.name),
        attempt_log=AttemptsTable(client("dynamodb"), settings.attempts_table_name, settings.attempt_retention_days),
        queue=BufferQueue(client("sqs"), settings.buffer_queue_url),
        executions=TriageExecutions(client("stepfunctions")),
        user_directory=_directory(settings),
        enrichment_required=settings.enrichment_policy == "required",
        backoff_base_seconds=settings.backoff_base_seconds,
        backoff_cap_seconds=settings.backoff_cap_seconds,
        clock=now,
        rng=random.random,
    )


def _directory(settings: ProcessorSettings) -> UserDirectory | None:
    if settings.enrichment_policy == "off" or not settings.genesys_credentials_secret_arn:
        return None
    # Here and not above: without enrichment a cold start does not load requests.
    from holdfast.adapters.genesys import GenesysUserDirectory, Urls  # noqa: PLC0415

    urls = Urls.of(settings.genesys_domain, settings.genesys_api_url, settings.genesys_login_url)
    return GenesysUserDirectory(
        urls,
        CredentialsSecret(client("secretsmanager"), settings.genesys_credentials_secret_arn),
        breaker_seconds=(settings.backoff_base_seconds, settings.backoff_cap_seconds),
    )


def tell(report: BatchReport, usage: Mapping[str, int], *, milliseconds: float) -> None:
    """Log what failed and why, and count the rest."""
    failed = [(outcome.record, outcome.failure) for outcome in report.outcomes if outcome.failure]
    for record, failure in failed:
        logger().warning(
            "record failed",
            extra={
                "eventId": record.event_id,
                "messageId": record.message.message_id,
                "receiveCount": record.message.receive_count,
                "category": failure.category,
                "errorType": failure.error_type,
                "errorMessage": failure.message,
                "retryAfter": failure.retry_after,
            },
        )
    for failure, events in Counter(report.enrichment_failures).items():
        logger().warning(
            "users not looked up",
            extra={
                "category": failure.category,
                "errorType": failure.error_type,
                "errorMessage": failure.message,
                "events": events,
            },
        )
    for trouble in report.bookkeeping_errors:
        logger().error("bookkeeping failed", extra={"trouble": trouble})
    categories = Counter(failure.category for _, failure in failed)
    emit(
        {
            "Received": len(report.outcomes),
            "Stored": stored_count(report.outcomes, Stored.NEW),
            "Duplicate": stored_count(report.outcomes, Stored.DUPLICATE),
            "Failed": len(failed),
            "Enriched": report.enriched,
            "EnrichmentErrors": len(report.enrichment_failures),
            # Once for the batch, also where EnrichmentPolicy lets the events go on: somebody has to hear of it.
            "Misconfigured": Misconfigured.category in categories
            or any(failure.category == Misconfigured.category for failure in report.enrichment_failures),
            **usage,
            **{f"Failed{category.title().replace('_', '')}": count for category, count in categories.items()},
        },
        milliseconds={"BatchLatency": milliseconds},
    )
