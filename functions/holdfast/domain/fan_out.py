"""From the stream of the events table to the enriched bus: new items only, at least once, each with a stable id."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.domain.envelope import iso_time
from holdfast.domain.errors import InvalidInput, SnapshotMissing
from holdfast.domain.ports import Deadline, EventPages, ObjectReader

#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
MAX_ENTRIES = 10
MAX_REQUEST_BYTES = 1_000_000
SOURCE = "holdfast.events"


@dataclass(frozen=True, slots=True)
class Publication:
    """One event for the enriched bus, and the sequence number of its stream record."""

    sequence_number: str
    event_id: str
    detail_type: str
    detail: str

    @property
    def size(self) -> int:
        """Bytes of the entry, as PutEvents counts them."""
        return len(self.detail.encode()) + len(self.detail_type.encode()) + len(SOURCE)


class EventBus(Protocol):
    """The enriched bus, for the events of the events table."""

    def publish_all(self, publications: Sequence[Publication]) -> Sequence[Publication]:
        """Publish events in order. Returns those that the bus did not accept."""


@dataclass(slots=True)
class Published:
    """The result of publishing: how many events the bus accepted, and which it did not.

    ``start_at`` is where a range goes on, if the time was up before its end.
    """

    count: int = 0
    refused: list[Publication] = field(default_factory=list)
    start_at: str | None = None


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes events on the enriched bus. Table and archive are needed only to publish again."""

    bus: EventBus
    table: EventPages
    archive: ObjectReader

    def publish(self, records: Sequence[Mapping[str, Any]]) -> Published:
        """Publish the new items among stream records.

        Raises:
            InvalidInput: An item was not written by the processor.
        """
        return self._publish([one for one in map(publication, records) if one])

    def republish(self, request: Any, deadline: Deadline) -> Published:
        """Publish again what a request names. The handler documents its fields.

        Raises:
            InvalidInput: The request cannot be read.
            SnapshotMissing: The object that it names does not exist.
        """
        if not isinstance(request, dict):
            raise InvalidInput("republish must name a failure, or a range with from and to")
        if "failure" in request:
            return self._republish_failure(str(request["failure"]))
        begin, end = iso_time(request.get("from")), iso_time(request.get("to"))
        if begin is None or end is None:
            raise InvalidInput("republish must name a failure, or a range with from and to as ISO 8601 times")
        start_at = request.get("startAt")
        if not isinstance(start_at, str | None):
            raise InvalidInput("startAt must be the value that an earlier call returned")
        return self._republish_range(begin, end, start_at, deadline)

    def _republish_failure(self, key: str) -> Published:
        document = self.archive.read(key)
        if document is None:
            raise SnapshotMissing("the archive bucket has no such object")
        return self.publish(failed_records(document))

    def _republish_range(self, begin: str, end: str, start_at: str | None, deadline: Deadline) -> Published:
        whole = Published(start_at=start_at)
        for items, next_start in self.table.received_between(begin, end, start_at):
            page = self._publish([published(plain(item), "") for item in items])
            whole = Published(whole.count + page.count, whole.refused + page.refused, next_start)
            if deadline.remaining() <= 0:
                break
        return whole

    def _publish(self, publications: Sequence[Publication]) -> Published:
        refused = list(self.bus.publish_all(publications))
        return Published(len(publications) - len(refused), refused)


def publication(record: Mapping[str, Any]) -> Publication | None:
    """Turn a stream record into a publication; ``None`` for anything but a new item.

    ``detail`` is ``{"eventId", "conversationId", "event"}``, where ``event`` is the whole enriched envelope. If it is
    above the limit of PutEvents or of a table item, ``eventPointer`` takes the place of ``event``.

    Raises:
        InvalidInput: The item was not written by the processor.
    """
    try:
        change = record.get("dynamodb") or {}
        image = change.get("NewImage")
        if record.get("eventName") != "INSERT" or not image:
            return None
        return published(plain(image), change["SequenceNumber"])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, zlib.error):
        raise InvalidInput("the record is not an item of the events table") from None


def published(item: Mapping[str, Any], sequence_number: str) -> Publication:
    """Build the publication of one table item, given its attributes as plain values."""
    known = {"eventId": item["eventId"], "conversationId": item.get("conversationId")}
    head = json.dumps({name: value for name, value in known.items() if value is not None})[:-1]
    text = event_text(item)
    detail = f'{head}, "event": {text}}}' if text is not None else _pointer(head, item)
    made = Publication(sequence_number, item["eventId"], item["detailType"], detail)
    if made.size <= MAX_REQUEST_BYTES:
        return made
    return Publication(sequence_number, made.event_id, made.detail_type, _pointer(head, item))


def failed_records(document: str) -> list[Mapping[str, Any]]:
    """Read the stream records in an object of the mapping's on-failure destination.

    The object is an invocation record with the whole event as its ``payload``:
    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html

    Raises:
        InvalidInput: It is not such an object.
    """
    try:
        payload = json.loads(document)["payload"]
        event = json.loads(payload) if isinstance(payload, str) else payload
        records: list[Mapping[str, Any]] = list(event["Records"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("the object contains no failed stream records") from None
    if not all(isinstance(record, dict) for record in records):
        raise InvalidInput("the object contains other data than stream records")
    return records


def event_text(item: Mapping[str, Any]) -> str | None:
    """The enriched envelope of an item, unpacked if needed; ``None`` if the item only points to it."""
    packed = item.get("eventPacked")
    if packed is not None:
        return zlib.decompress(packed).decode()
    text: str | None = item.get("event")
    return text


def in_batches(publications: Sequence[Publication]) -> Iterator[list[Publication]]:
    """Split into PutEvents requests of at most ten entries and 1 MB, in order."""
    batch: list[Publication] = []
    size = 0
    for one in publications:
        if batch and (len(batch) == MAX_ENTRIES or size + one.size > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _pointer(head: str, item: Mapping[str, Any]) -> str:
    place = item.get("eventPointer") or {"eventId": item["eventId"]}
    return f'{head}, "eventPointer": {json.dumps(place)}}}'


def plain(image: Mapping[str, Any]) -> dict[str, Any]:
    """Convert DynamoDB's typed attributes to plain values (the few types that the table uses)."""
    return {name: _plain_value(value) for name, value in image.items()}


def _plain_value(value: Mapping[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "B":
        return content if isinstance(content, bytes) else base64.b64decode(content)
    if kind == "N":
        return int(content)
    return plain(content) if kind == "M" else content
