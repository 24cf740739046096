"""FanOutFunction: from the events table's stream to the enriched bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import EventsTable
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.invocation import InvocationDeadline
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.envelope import iso_time
from holdfast.domain.errors import InvalidInput, SnapshotMissing
from holdfast.domain.fan_out import Publication, failed_records, plain, publication, published

#: A page of the table is published within this time.
PAGE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class FanOutSettings(Settings):
    """The environment of FanOutFunction."""

    enriched_bus_name: str
    events_table_name: str
    archive_bucket_name: str


@dataclass(frozen=True, slots=True)
class FanOut:
    """What fan-out needs of the world; table and bucket only to publish again."""

    bus: EnrichedBus
    table: EventsTable
    bucket: ArchiveBucket


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: FanOut | None = None) -> dict[str, Any]:
    """Publish a batch of new items. At least once: the stream comes back to the first item that was refused.

    By hand it publishes again: ``{"republish": {"failure": "<key of an on-failure object>"}}``, or a range of the
    table, ``{"republish": {"from": "<ISO time>", "to": "<ISO time>"}}``; where the answer has a ``startAt``, time was
    up, and the same call with that ``startAt`` goes on.
    """
    services = services or production()
    if "republish" in event:
        return _republish(event["republish"], services, InvocationDeadline(context, PAGE_SECONDS))
    refused = _publish([publication(record) for record in event["Records"]], services.bus)
    return {"batchItemFailures": [{"itemIdentifier": one.sequence_number} for one in refused]}


def _publish(made: Sequence[Publication | None], bus: EnrichedBus) -> list[Publication]:
    wanted = [one for one in made if one]
    refused = bus.publish_all(wanted)
    for one in refused:
        logger().warning("event not published", extra={"eventId": one.event_id})
    emit({"Published": len(wanted) - len(refused), "PublicationsRefused": len(refused)})
    return refused


def _republish(asked: Any, services: FanOut, deadline: InvocationDeadline) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise InvalidInput("republish has to name a failure, or a range from and to")
    if "failure" in asked:
        return _republish_failure(str(asked["failure"]), services)
    begin, end = iso_time(asked.get("from")), iso_time(asked.get("to"))
    if begin is None or end is None:
        raise InvalidInput("republish has to name a failure, or a range from and to, both as ISO 8601 times")
    start_at = asked.get("startAt")
    if not isinstance(start_at, str | None):
        raise InvalidInput("startAt has to be what an earlier answer said")
    return _republish_range(begin, end, start_at, services, deadline)


def _republish_failure(key: str, services: FanOut) -> dict[str, Any]:
    document = services.bucket.read(key)
    if document is None:
        raise SnapshotMissing("there is no such object in the archive bucket")
    made = [one for one in map(publication, failed_records(document)) if one]
    refused = _publish(made, services.bus)
    return {"published": len(made) - len(refused), "refused": [one.event_id for one in refused]}


def _republish_range(
    begin: str, end: str, start_at: str | None, services: FanOut, deadline: InvocationDeadline
) -> dict[str, Any]:
    count = 0
    refused: list[str] = []
    for items, next_start in services.table.received_between(begin, end, start_at):
        made = [published(plain(item), "") for item in items]
        refused += [one.event_id for one in _publish(made, services.bus)]
        count += len(made)
        start_at = next_start
        if deadline.remaining() <= 0:
            break
    return {"published": count - len(refused), "refused": refused, "startAt": start_at}


@cache
def production() -> FanOut:
    """The services of this execution environment."""
    settings = FanOutSettings.from_env()
    bucket = ArchiveBucket(client("s3"), settings.archive_bucket_name)
    return FanOut(
        bus=EnrichedBus(client("events"), settings.enriched_bus_name),
        table=EventsTable(client("dynamodb"), settings.events_table_name, 0, bucket, bucket.name),
        bucket=bucket,
    )
