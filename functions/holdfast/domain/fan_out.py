"""From the table's stream to the enriched bus: new items only, at least once, with a stable id to dedupe by."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.errors import InvalidInput

#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
MAX_ENTRIES = 10
MAX_REQUEST_BYTES = 1_000_000
SOURCE = "holdfast.events"


@dataclass(frozen=True, slots=True)
class Publication:
    """One event for the enriched bus. ``sequence_number`` is the stream record's."""

    sequence_number: str
    event_id: str
    detail_type: str
    detail: str

    @property
    def size(self) -> int:
        """Bytes that PutEvents counts for the entry."""
        return len(self.detail.encode()) + len(self.detail_type.encode()) + len(SOURCE)


def publication(record: Mapping[str, Any]) -> Publication | None:
    """What a stream record of the events table becomes; ``None`` for anything but a new item.

    ``detail`` is ``{"eventId", "conversationId", "event"}``, the event being the whole enriched envelope. One beyond
    the limit of PutEvents (or of the item) goes as ``{"eventId", "conversationId", "eventPointer"}``.

    Raises:
        InvalidInput: It holds what the processor never wrote.
    """
    try:
        change = record.get("dynamodb") or {}
        image = change.get("NewImage")
        if record.get("eventName") != "INSERT" or not image:
            return None
        return published(plain(image), change["SequenceNumber"])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, zlib.error):
        raise InvalidInput("the record is no item of the events table") from None


def published(item: Mapping[str, Any], sequence_number: str) -> Publication:
    """The publication of one table item, its attributes as plain values."""
    known = {"eventId": item["eventId"], "conversationId": item.get("conversationId")}
    head = json.dumps({name: value for name, value in known.items() if value is not None})[:-1]
    text = event_text(item)
    detail = f'{head}, "event": {text}}}' if text is not None else _pointer(head, item)
    made = Publication(sequence_number, item["eventId"], item["detailType"], detail)
    if made.size <= MAX_REQUEST_BYTES:
        return made
    return Publication(sequence_number, made.event_id, made.detail_type, _pointer(head, item))


def failed_records(document: str) -> list[Mapping[str, Any]]:
    """The stream records in an object of the mapping's on-failure destination.

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html: the invocation record, with the whole
    event as its ``payload``.

    Raises:
        InvalidInput: It is no such object.
    """
    try:
        payload = json.loads(document)["payload"]
        event = json.loads(payload) if isinstance(payload, str) else payload
        records: list[Mapping[str, Any]] = list(event["Records"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("the object holds no failed stream records") from None
    if not all(isinstance(record, dict) for record in records):
        raise InvalidInput("the object holds something else than stream records")
    return records


def event_text(item: Mapping[str, Any]) -> str | None:
    """The enriched envelope in an item, packed or plain; ``None`` where the item only points to it."""
    packed = item.get("eventPacked")
    if packed is not None:
        return zlib.decompress(packed).decode()
    text: str | None = item.get("event")
    return text


def in_batches(publications: Sequence[Publication]) -> Iterator[list[Publication]]:
    """Cut into PutEvents requests: at most ten entries and 1 MB each, in order."""
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
    """DynamoDB's typed attributes as plain values (the few types that the table uses)."""
    return {name: _plain_value(value) for name, value in image.items()}


def _plain_value(value: Mapping[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "B":
        return content if isinstance(content, bytes) else base64.b64decode(content)
    if kind == "N":
        return int(content)
    return plain(content) if kind == "M" else content
