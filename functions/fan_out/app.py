"""FanOutFunction: publishes the new items of the events table on the enriched bus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.adapters.aws import client
from holdfast.adapters.dynamodb import EventsTable
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.invocation import InvocationDeadline
from holdfast.adapters.parallel import in_parallel
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.settings import Settings
from holdfast.adapters.telemetry import emit, logger
from holdfast.domain.fan_out import Published, Publisher

#: Time that is reserved for the last page of the table: a page is published within it.
RESERVED_FOR_PAGE_SECONDS = 20.0
#: Time that is reserved for the last request to EventBridge. It is longer than one with its retries and timeouts
#: (holdfast/adapters/aws.py). Refused entries are sent again until then.
RESERVED_FOR_REQUEST_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class FanOutSettings(Settings):
    """The environment of FanOutFunction."""

    enriched_bus_name: str
    events_table_name: str
    archive_bucket_name: str


def lambda_handler(event: Mapping[str, Any], context: Any, *, services: Publisher | None = None) -> dict[str, Any]:
    """Publish a batch of new items. At least once: Lambda retries the stream records from the first refused item.

    An item that the processor did not write, or that EventBridge does not accept, is set aside: it is logged and
    counted, and the others are published.

    Invoked by hand, it publishes again: ``{"republish": {"failure": "<key of an on-failure object>"}}``, or a range of
    the table, ``{"republish": {"from": "<ISO time>", "to": "<ISO time>"}}``. If the answer has a ``startAt``, the time
    was up: the same call with that ``startAt`` continues.
    """
    services = services or production()
    if "republish" not in event:
        published = services.publish(event["Records"], InvocationDeadline(context, RESERVED_FOR_REQUEST_SECONDS))
        report(published)
        first = published.first_refused
        return {"batchItemFailures": [{"itemIdentifier": first.sequence_number}] if first else []}
    published = services.republish(event["republish"], InvocationDeadline(context, RESERVED_FOR_PAGE_SECONDS))
    report(published)
    refused = [one.event_id for one in published.refused]
    return {
        "published": published.count,
        "refused": refused,
        "setAside": len(published.set_aside),
        "startAt": published.start_at,
    }


def report(published: Published) -> None:
    """Log what was not published, and count."""
    for one in published.refused:
        reason = published.reasons.get(one.event_id) or None
        logger().warning("event not published", extra={"eventId": one.event_id, "errorMessage": reason})
    for aside in published.set_aside:
        extra: dict[str, Any] = {
            "eventId": aside.event_id or None,
            "sequenceNumber": aside.sequence_number,
            "hasKey": aside.has_key,
        }
        if aside.event_id:
            extra["errorMessage"] = aside.reason or None
            logger().error("event set aside: EventBridge does not accept it", extra=extra)
        else:
            logger().error("item set aside: the processor did not write it", extra=extra)
    counts = {
        "Published": published.count,
        "PublicationsRefused": len(published.refused),
        "ItemsSetAside": len(published.set_aside),
    }
    reasons = [*published.reasons.values(), *(aside.reason for aside in published.set_aside)]
    emit(counts, errors=Counter(filter(None, reasons)))


@cache
def production() -> Publisher:
    """The services of this execution environment."""
    settings = FanOutSettings.from_env()
    return Publisher(
        bus=EnrichedBus(client("events"), settings.enriched_bus_name, in_parallel),
        table=EventsTable(client("dynamodb"), settings.events_table_name),
        archive=ArchiveBucket(client("s3"), settings.archive_bucket_name),
    )
