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
from holdfast.adapters.dynamodb import AttemptsTableWriter, EventsTableWriter
from holdfast.adapters.invocation import InvocationDeadline, now
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.adapters.settings import Settings
from holdfast.adapters.sqs import BufferConsumer
from holdfast.adapters.startup import without_collection
from holdfast.adapters.stepfunctions import CallbackTokens
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.categories import Category
from holdfast.domain.enrichment import Enrichment
from holdfast.domain.errors import Failure
from holdfast.domain.naming import capitalised
from holdfast.domain.ports import Stored
from holdfast.domain.processing import BatchReport, ProcessorServices, process_batch, stored_count
from holdfast.domain.users import Kind

#: Time of every invocation that is reserved for attempt records and visibility timeouts.
RESERVED_FOR_REPORT_SECONDS = 3.0
#: The values of ``EnrichWith``. Users are always among them.
ENRICH_WITH = {
    ",".join(kinds): frozenset(kinds)
    for kinds in (
        (Kind.USERS,),
        (Kind.USERS, Kind.QUEUES),
        (Kind.USERS, Kind.WRAP_UP_CODES),
        (Kind.USERS, Kind.QUEUES, Kind.WRAP_UP_CODES),
    )
}


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
    enrich_with: str = field(default="users", metadata={"choices": tuple(ENRICH_WITH)})


def lambda_handler(
    event: Mapping[str, Any], context: Any, *, services: ProcessorServices | None = None
) -> dict[str, Any]:
    """Process one SQS batch. At least once: a record is reported as failed unless its event is stored.

    The circuit breaker sends batches with ``"probe": true``. Their answer has a second field with the same name: how
    many records were stored, failed for now and failed for good.
    """
    began = time.perf_counter()
    services = services or production()
    deadline = InvocationDeadline(context, RESERVED_FOR_REPORT_SECONDS)
    batch = process_batch(event["Records"], services, deadline, context.aws_request_id)
    usage = services.enrichment.user_directory.usage() if services.enrichment else {}
    report(batch, usage, milliseconds=(time.perf_counter() - began) * 1000)
    return {**batch.as_response(), "probe": probed(batch)} if event.get("probe") else batch.as_response()


@cache
def production() -> ProcessorServices:
    """The services of this execution environment."""
    settings = ProcessorSettings.from_env()
    return ProcessorServices(
        store=EventsTableWriter(
            client("dynamodb"),
            settings.events_table_name,
            settings.event_retention_days,
            ArchiveBucket(client("s3"), settings.archive_bucket_name),
        ),
        attempt_log=AttemptsTableWriter(
            client("dynamodb"), settings.attempts_table_name, settings.attempt_retention_days
        ),
        queue=BufferConsumer(client("sqs"), settings.buffer_queue_url),
        task_tokens=CallbackTokens(client("stepfunctions")),
        enrichment=_enrichment(settings),
        backoff_base_seconds=settings.backoff_base_seconds,
        backoff_cap_seconds=settings.backoff_cap_seconds,
        clock=now,
        rng=random.random,
    )


def _enrichment(settings: ProcessorSettings) -> Enrichment | None:
    if settings.enrichment_policy == "off" or not settings.genesys_credentials_secret_arn:
        return None
    # A cold start without enrichment does not load requests.
    with without_collection():
        from holdfast.adapters.genesys import GenesysUserDirectory, Urls  # noqa: PLC0415 - only with enrichment

    directory = GenesysUserDirectory(
        Urls.of(settings.genesys_domain, settings.genesys_api_url, settings.genesys_login_url),
        CredentialsSecret(client("secretsmanager"), settings.genesys_credentials_secret_arn),
        breaker_seconds=(settings.backoff_base_seconds, settings.backoff_cap_seconds),
    )
    return Enrichment(directory, settings.enrichment_policy == "required", ENRICH_WITH[settings.enrich_with])


def report(batch: BatchReport, usage: Mapping[str, int], *, milliseconds: float) -> None:
    """Log every failure, and count the results of a batch."""
    failed = [(one.record, one.failure) for one in batch.results if one.failure]
    for record, failure in failed:
        message = record.message
        place = {"eventId": record.event_id, "messageId": message.message_id, "receiveCount": message.receive_count}
        logger().warning("record failed", extra={**place, **_shown(failure), "retryAfter": failure.retry_after})
    for failure, events in Counter(batch.enrichment_failures).items():
        logger().warning("users not looked up", extra={**_shown(failure), "events": events})
    for error in batch.bookkeeping_errors:
        logger().error("bookkeeping failed", extra={"error": error})
    categories = Counter(failure.category for _, failure in failed)
    misconfigured = {*categories, *(failure.category for failure in batch.enrichment_failures)} & {
        Category.MISCONFIGURED
    }
    emit(
        {
            "Received": len(batch.results),
            "Stored": stored_count(batch.results, Stored.NEW),
            "Duplicate": stored_count(batch.results, Stored.DUPLICATE),
            "Failed": len(failed),
            # EverythingFailsAlarm compares these with Received.
            "FailedForNow": batch.failed_for_now,
            "FirstReceives": sum(one.record.message.receive_count == 1 for one in batch.results),
            "Enriched": batch.enriched,
            "EnrichmentErrors": len(batch.enrichment_failures),
            # Once per batch, even if EnrichmentPolicy lets the events go on: this metric has an alarm.
            "Misconfigured": len(misconfigured),
            **usage,
            **{f"Failed{capitalised(category)}": count for category, count in categories.items()},
        },
        milliseconds={"BatchLatency": milliseconds},
        errors=Counter(failure.message for failure in (*(f for _, f in failed), *batch.enrichment_failures)),
    )


def probed(batch: BatchReport) -> dict[str, int]:
    """What the circuit breaker needs to know of a batch."""
    return {
        "stored": sum(1 for one in batch.results if not one.failure),
        "failedForNow": batch.failed_for_now,
        "failedForGood": batch.failed_for_good,
    }


def _shown(failure: Failure) -> dict[str, str]:
    shown = {"category": failure.category, "errorType": failure.error_type, "errorMessage": failure.message}
    return {**shown, "correlationId": failure.correlation_id} if failure.correlation_id else shown
