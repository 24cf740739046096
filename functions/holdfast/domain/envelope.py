"""Read an EventBridge envelope out of an SQS body: :func:`decode` answers an :class:`Event` or says what is wrong.

Two shapes are events: Genesys Cloud's (``detail.eventBody`` with ``topicName``, ``timestamp``, ``metadata``) and the
plain one (``detail.attributes``). What is no JSON that every consumer reads alike is malformed
(:mod:`holdfast.domain.strict_json`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.identity import event_id_of_bytes, producer_id_of, to_event_id
from holdfast.domain.strict_json import encodable, members, parse, serialise
from holdfast.domain.users import User, UserReference, references

_KEY_LIMIT = 256


@dataclass(slots=True, repr=False)  # what it holds is personal data
class Event:
    """A readable, valid event: what was read out of it, and its text, into which :meth:`enrich` writes.

    ``body`` is the text, as it came but for what was added; ``None`` where only writing ``tree`` anew can tell what it
    is. ``tree`` is what was read, kept where references are objects of it. Keeping the text saves the serialisation, a
    third of what an event costs, and keeps numbers as their producer wrote them. Letting go of the tree at once, while
    it is in the processor's cache, saves a little more (docs/performance.md).
    """

    event_id: str
    source: str
    detail_type: str
    time: str | None
    conversation_id: str | None
    references: Sequence[UserReference]
    body: str | None
    tree: dict[str, Any] | None

    @property
    def envelope(self) -> dict[str, Any]:
        """The event as data, read again where nobody has kept it."""
        if self.tree is None:
            self.tree = parse(self.text)
        return self.tree

    @property
    def payload(self) -> dict[str, Any]:
        """The object that carries the business data, in either shape."""
        return _payload(self.envelope["detail"])

    @property
    def text(self) -> str:
        """The envelope as JSON, what was added included.

        Raises:
            MalformedBody: It holds something that JSON in UTF-8 cannot carry.
        """
        return serialise(self.envelope) if self.body is None else encodable(self.body)

    def enrich(self, users: Mapping[str, User | None]) -> None:
        """Write what is known of users beside their ids, once. Whom nobody knows is left as it is."""
        asked, self.references = self.references, ()
        for reference in asked:
            fields = reference.additions(users.get(reference.user_id))
            if fields:
                self._add(fields, reference.place)

    def mark(self, name: str, value: str) -> None:
        """Write a field into the detail."""
        self._add({name: value}, self.envelope["detail"])

    def _add(self, fields: dict[str, str], place: str | dict[str, Any]) -> None:
        if isinstance(place, dict):
            place.update(fields)
            self.body = None
        else:
            self.body = self.text.replace(place, f"{place},{members(fields)}", 1)
            self.tree = None


def decode(body: str) -> Event:
    """Read one SQS body.

    Raises:
        MalformedBody: It is not JSON that every consumer reads alike.
        InvalidEvent: It is JSON, but no event.
    """
    envelope = parse(body)
    if not isinstance(envelope, dict):
        raise InvalidEvent("the body is no JSON object")
    source, detail_type, detail = envelope.get("source"), envelope.get("detail-type"), envelope.get("detail")
    if not isinstance(detail, dict):
        raise InvalidEvent("the envelope has no detail object")
    if not (isinstance(source, str) and source and isinstance(detail_type, str) and detail_type):
        raise InvalidEvent("the envelope lacks its source or its detail-type")
    producer_id = producer_id_of(envelope)
    if producer_id is None:
        raise InvalidEvent("neither the envelope nor its detail has an id")
    if not (isinstance(detail.get("eventBody"), dict) or isinstance(detail.get("attributes"), dict)):
        raise InvalidEvent("the detail has neither an eventBody nor attributes")
    payload = _payload(detail)
    # An escape may hide a lone surrogate, or a key from a search in the text. One character is found faster than two.
    text = None if "\\" in body and "\\u" in body else body
    named = references(detail.get("topicName"), payload, text)
    in_text = text is not None and not any(isinstance(one.place, dict) for one in named)
    return Event(
        event_id=to_event_id(producer_id),
        source=source,
        detail_type=detail_type,
        time=_time_of(envelope, payload),
        conversation_id=_conversation_of(payload),
        references=named,
        body=text,
        tree=None if in_text else envelope,
    )


def _payload(detail: Mapping[str, Any]) -> dict[str, Any]:
    event_body = detail.get("eventBody")
    found: dict[str, Any] = event_body if isinstance(event_body, dict) else detail["attributes"]
    return found


def _conversation_of(payload: Mapping[str, Any]) -> str | None:
    """The conversation that the event belongs to, where it names one that can be an index key."""
    value = payload.get("conversationId")
    return value if isinstance(value, str) and 0 < len(value) <= _KEY_LIMIT else None


def _time_of(envelope: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
    """When it happened, ISO 8601 UTC with milliseconds.

    The body's ``eventTime`` (epoch milliseconds on ``v2.detail.events.*``, text on ``v2.audits.*``), else Genesys'
    ``detail.timestamp``, else the envelope's ``time``; ``None`` if none of them can be read.
    """
    candidates = (payload.get("eventTime"), envelope["detail"].get("timestamp"), envelope.get("time"))
    return next((iso for iso in map(iso_time, candidates) if iso), None)


def examine(body: str) -> Event:
    """Decide as the processor would whether this body can be processed: decoded *and* writable.

    Raises:
        MalformedBody, InvalidEvent: As :func:`decode` and :attr:`Event.text`.
    """
    event = decode(body)
    _ = event.text
    return event


def identify(body: str) -> tuple[str, dict[str, str] | None]:
    """The event id of any body, and the envelope's own words where it has some.

    Never fails. An id is taken from whatever can be parsed; a body that gives none is known by its bytes.
    """
    try:
        envelope = parse(body, finite=False)
    except MalformedBody:
        return event_id_of_bytes(body), None
    producer_id = producer_id_of(envelope)
    if producer_id is None:
        return event_id_of_bytes(body), None
    described = {"id": producer_id}
    for name, key in (("source", "source"), ("detailType", "detail-type"), ("time", "time")):
        value = envelope.get(key)
        if isinstance(value, str):
            described[name] = value[:_KEY_LIMIT]
    return to_event_id(producer_id), described


def iso_time(value: Any) -> str | None:
    """Normalise epoch milliseconds or ISO 8601 text to ISO UTC with milliseconds; ``None`` for anything else."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            moment = datetime.fromtimestamp(value / 1000, UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return format_time(moment)


def format_time(moment: datetime) -> str:
    """ISO 8601 UTC with milliseconds and a ``Z``: the one form that this product writes."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
