"""From the stream of the events table to the enriched bus: new items only, at least once, each with a stable id."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.domain.content import content_fields
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


@dataclass(slots=True)
class Answers:
    """The events that the bus did not accept.

    Attributes:
        refused: They can be sent again.
        invalid: They are refused every time.
        reasons: The last error of an event by its id. Accepted events may have one too, from an earlier try.
    """

    refused: list[Publication] = field(default_factory=list)
    invalid: list[Publication] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


class EventBus(Protocol):
    """The enriched bus, for the events of the events table."""

    def publish_all(self, publications: Sequence[Publication], deadline: Deadline) -> Answers:
        """Publish events, those with the same id in order. Refused ones are sent again while there is time.

        The answers have the order of the publications.
        """


@dataclass(frozen=True, slots=True)
class SetAside:
    """An item that cannot be published, because the processor did not write it or EventBridge does not accept it.

    Attributes:
        sequence_number: Of its stream record; empty when a range of the table is published again.
        has_key: Whether it has an ``eventId``.
        event_id: Its event, if EventBridge does not accept it; otherwise nothing of its content is kept.
        reason: EventBridge's error.
    """

    sequence_number: str
    has_key: bool
    event_id: str = ""
    reason: str = ""


@dataclass(slots=True)
class Published:
    """The result of publishing: how many events the bus accepted, and which it did not.

    ``start_at`` is where a range goes on, if the time was up before its end. ``reasons`` has the last error of each
    refused event by its id.
    """

    count: int = 0
    refused: list[Publication] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    start_at: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def first_refused(self) -> Publication | None:
        """The refused event that the stream has first."""
        return self.refused[0] if self.refused else None


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes events on the enriched bus. Table and archive are needed only to publish again."""

    bus: EventBus
    table: EventPages
    archive: ObjectReader

    def publish(self, records: Sequence[Mapping[str, Any]], deadline: Deadline) -> Published:
        """Publish the new items among stream records. An item that the processor did not write is set aside."""
        return self._publish(map(publication, records), deadline)

    def republish(self, request: Any, deadline: Deadline) -> Published:
        """Publish again what a request names. The handler documents its fields.

        Raises:
            InvalidInput: The request cannot be read.
            SnapshotMissing: The object that it names does not exist.
        """
        if not isinstance(request, dict):
            raise InvalidInput("republish must name a failure, or a range with from and to")
        if "failure" in request:
            return self._republish_failure(str(request["failure"]), deadline)
        begin, end = iso_time(request.get("from")), iso_time(request.get("to"))
        if begin is None or end is None:
            raise InvalidInput("republish must name a failure, or a range with from and to as ISO 8601 times")
        start_at = request.get("startAt")
        if not isinstance(start_at, str | None):
            raise InvalidInput("startAt must be the value that an earlier call returned")
        return self._republish_range(begin, end, start_at, deadline)

    def _republish_failure(self, key: str, deadline: Deadline) -> Published:
        document = self.archive.read(key)
        if document is None:
            raise SnapshotMissing("the archive bucket has no such object")
        return self.publish(failed_records(document), deadline)

    def _republish_range(self, begin: str, end: str, start_at: str | None, deadline: Deadline) -> Published:
        whole = Published(start_at=start_at)
        for items, next_start in self.table.received_between(begin, end, start_at):
            page = self._publish((item_publication(item, "") for item in items), deadline)
            whole.count += page.count
            whole.refused += page.refused
            whole.set_aside += page.set_aside
            whole.reasons |= page.reasons
            whole.start_at = next_start
            if deadline.remaining() <= 0:
                break
        return whole

    def _publish(self, found: Iterable[Publication | SetAside | None], deadline: Deadline) -> Published:
        publications, set_aside = [], []
        for one in found:
            if isinstance(one, SetAside):
                set_aside.append(one)
            elif one:
                publications.append(one)
        answers = self.bus.publish_all(publications, deadline)
        set_aside += [
            SetAside(
                one.sequence_number, has_key=True, event_id=one.event_id, reason=answers.reasons.get(one.event_id, "")
            )
            for one in answers.invalid
        ]
        accepted = len(publications) - len(answers.refused) - len(answers.invalid)
        reasons = {one.event_id: answers.reasons.get(one.event_id, "") for one in answers.refused}
        return Published(accepted, answers.refused, set_aside, reasons=reasons)


def publication(record: Mapping[str, Any]) -> Publication | SetAside | None:
    """Turn a stream record into a publication; ``None`` for anything but a new item.

    ``detail`` is ``{"eventId", "conversationId", "eventTime", "contentId", "correlationId", "event"}``. ``event`` is
    the whole enriched envelope. Above the limit of PutEvents or of a table item, ``eventPointer`` takes its place.
    An event above the limit of a table item has no ``contentId`` and no ``correlationId``.
    """
    change = record.get("dynamodb") or {}
    image = change.get("NewImage")
    if record.get("eventName") != "INSERT" or not image:
        return None
    return item_publication(image, change.get("SequenceNumber", ""))


def item_publication(image: Mapping[str, Any], sequence_number: str) -> Publication | SetAside:
    """Build the publication of an item with DynamoDB's typed attributes, unless the processor did not write it."""
    try:
        return published(plain(image), sequence_number)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, zlib.error):
        return SetAside(sequence_number, has_key=isinstance(image, dict) and "eventId" in image)


def published(item: Mapping[str, Any], sequence_number: str) -> Publication:
    """Build the publication of one table item, given its attributes as plain values."""
    text = event_text(item)
    stored = {name: item.get(name) for name in ("conversationId", "eventTime")}
    known = {"eventId": item["eventId"], **stored, **content_fields(text or "")}
    head = json.dumps({name: value for name, value in known.items() if value is not None})[:-1]
    detail = f'{head}, "event": {text}}}' if text is not None else _pointer(head, item)
    made = Publication(sequence_number, _text(item, "eventId"), _text(item, "detailType"), detail)
    if made.size <= MAX_REQUEST_BYTES:
        return made
    return Publication(sequence_number, made.event_id, made.detail_type, _pointer(head, item))


def _text(item: Mapping[str, Any], name: str) -> str:
    value = item[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not text")
    return value


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
    if not all(isinstance(record, dict) and isinstance(record.get("dynamodb", {}), dict) for record in records):
        raise InvalidInput("the object contains other data than stream records")
    return records


def event_text(item: Mapping[str, Any]) -> str | None:
    """The enriched envelope of an item, unpacked if needed; ``None`` if the item only points to it."""
    packed = item.get("eventPacked")
    if packed is not None:
        return zlib.decompress(packed).decode()
    text: str | None = item.get("event")
    return text


def in_order(publications: Sequence[Publication]) -> Iterator[list[Publication]]:
    """Split into parts whose publications may be sent at once: no part has an event id twice."""
    part: dict[str, Publication] = {}
    for one in publications:
        if one.event_id in part:
            yield list(part.values())
            part = {}
        part[one.event_id] = one
    if part:
        yield list(part.values())


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
