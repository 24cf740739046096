"""Read an EventBridge envelope out of an SQS body: :func:`examine` returns an :class:`Event`, or what is wrong.

Two shapes are events: Genesys Cloud's (``detail.eventBody`` with ``topicName``, ``timestamp``, ``metadata``) and the
plain one (``detail.attributes``). JSON that parsers interpret differently is malformed
(:mod:`holdfast.domain.strict_json`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.identity import UUID, event_id_of_bytes, producer_id_of, to_event_id
from holdfast.domain.strict_json import encodable, members, parse, parse_any_number, serialise
from holdfast.domain.users import USERS_ONLY, EntitiesByKind, Kind, Reference, references

_KEY_LIMIT = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Smaller numbers are no epoch milliseconds but, for example, seconds. As milliseconds they would be days in 1970.
_LEAST_MILLISECONDS = 946_684_800_000  # 2000-01-01
_CONVERSATION_IN_TOPIC = re.compile(rf"v2\.(?:conversations|detail\.events\.conversation)\.({UUID})\.")
#: Topics whose ``eventBody`` is a conversation, for example ``v2.users.{id}.conversations.calls``.
_TOPIC_OF_CONVERSATIONS = re.compile(rf"v2\.[a-z.]+\.{UUID}\.conversations(?:\.[a-z]+)*$")


@dataclass(slots=True, repr=False)  # it contains personal data
class Event:
    """A valid event.

    Attributes:
        event_id: Its identity in key form.
        source: The envelope's ``source``.
        detail_type: The envelope's ``detail-type``.
        time: When it happened, ISO 8601 UTC with milliseconds; ``None`` if the event does not say.
        conversation_id: The conversation that it belongs to, if it names one.
        envelope: The event as data.
        payload: The object in it with the business data.
        text: The event as JSON: the producer's own text, and what was added. Some texts are written anew: those with
            Unicode escapes, and those with an added field that has no unique place. Their fractions become doubles, so
            that digits beyond the 17th are lost.
    """

    event_id: str
    source: str
    detail_type: str
    time: str | None
    conversation_id: str | None
    envelope: dict[str, Any]
    payload: dict[str, Any]
    text: str

    def references(self, kinds: Collection[Kind] = USERS_ONLY) -> list[Reference]:
        """The users, queues or wrap-up codes that it names."""
        return references(self.envelope["detail"].get("topicName"), self.payload, self.text, kinds)

    def enrich(self, named: Sequence[Reference], found: EntitiesByKind) -> None:
        """Add name and e-mail of what was found beside the ids."""
        for reference in named:
            fields = reference.additions(found[reference.kind].get(reference.id))
            if fields:
                self._add(fields, reference)

    def mark(self, name: str, value: str) -> None:
        """Write a field into the detail."""
        self.envelope["detail"][name] = value
        self.text = serialise(self.envelope)

    def _add(self, fields: dict[str, str], reference: Reference) -> None:
        reference.holder.update(fields)
        # If the name of the field occurs once, this is the member of the holder. Writing the whole text anew would take
        # half as long as all other work on the event.
        once = self.text.count(f'"{reference.key}"') == 1
        longer = self.text.replace(reference.member, reference.with_fields(members(fields))) if once else ""
        self.text = longer if len(longer) > len(self.text) else serialise(self.envelope)


@dataclass(frozen=True, slots=True, repr=False)  # it contains personal data
class ExaminedBody:
    """What a message body holds.

    Attributes:
        event_id: The identity of the event. A body without an id is identified by its bytes.
        content: The event, or the error that says why the body is not an event.
        envelope: The parsed body, or ``None``.
    """

    event_id: str
    content: Event | MalformedBody | InvalidEvent
    envelope: Any

    @property
    def kind(self) -> str:
        """``EVENT``, ``MALFORMED`` or ``INVALID``."""
        return "EVENT" if isinstance(self.content, Event) else self.content.category.value

    @property
    def description(self) -> dict[str, str | None] | None:
        """``id``, ``source``, ``detailType`` and ``time`` of the envelope, shortened; ``None`` if it has no id."""
        producer_id = producer_id_of(self.envelope)
        if producer_id is None:
            return None
        words = {name: self.envelope.get(key) for name, key in _DESCRIBED.items()}
        texts = {name: word[:_KEY_LIMIT] if isinstance(word, str) else None for name, word in words.items()}
        return {"id": producer_id, **texts}


_DESCRIBED = {"source": "source", "detailType": "detail-type", "time": "time"}


def examine(body: str) -> ExaminedBody:
    """Read one message body as the processor does. It never raises; a body is parsed once unless it is malformed."""
    try:
        envelope = parse(body)
    except MalformedBody as error:
        envelope = _parsed_anyway(body)
        return ExaminedBody(_event_id_of(envelope, body), error, envelope)
    event_id = _event_id_of(envelope, body)
    try:
        return ExaminedBody(event_id, _event(event_id, envelope, body), envelope)
    except (MalformedBody, InvalidEvent) as error:
        return ExaminedBody(event_id, error, envelope)


def _parsed_anyway(body: str) -> Any:
    """The content of a malformed body whose only fault is a number, so that its id can be read; else ``None``."""
    try:
        return parse_any_number(body)
    except MalformedBody:
        return None


def _event_id_of(envelope: Any, body: str) -> str:
    producer_id = producer_id_of(envelope)
    return event_id_of_bytes(body) if producer_id is None else to_event_id(producer_id)


def _event(event_id: str, envelope: Any, body: str) -> Event:
    """Check an envelope and read what the processor needs of it.

    Raises:
        InvalidEvent: It is not an event.
        MalformedBody: It contains text that UTF-8 cannot carry.
    """
    if not isinstance(envelope, dict):
        raise InvalidEvent("the body is not a JSON object")
    source, detail_type, detail = envelope.get("source"), envelope.get("detail-type"), envelope.get("detail")
    if not isinstance(detail, dict):
        raise InvalidEvent("the envelope has no detail object")
    if not (isinstance(source, str) and source and isinstance(detail_type, str) and detail_type):
        raise InvalidEvent("the envelope has no source or no detail-type")
    if producer_id_of(envelope) is None:
        raise InvalidEvent("neither the envelope nor its detail has an id")
    if not (isinstance(detail.get("eventBody"), dict) or isinstance(detail.get("attributes"), dict)):
        raise InvalidEvent("the detail has neither an eventBody nor attributes")
    payload = _payload(detail)
    # An escape may stand for a lone surrogate, which shows only when the text is written anew.
    text = serialise(envelope) if "\\" in body and "\\u" in body else encodable(body)
    return Event(
        event_id=event_id,
        source=source,
        detail_type=detail_type,
        time=_time_of(envelope, payload),
        conversation_id=_conversation_of(payload, detail.get("topicName")),
        envelope=envelope,
        payload=payload,
        text=text,
    )


def _payload(detail: Mapping[str, Any]) -> dict[str, Any]:
    event_body = detail.get("eventBody")
    found: dict[str, Any] = event_body if isinstance(event_body, dict) else detail["attributes"]
    return found


def _conversation_of(payload: Mapping[str, Any], topic: Any) -> str | None:
    """The conversation that the event belongs to, if its id can be an index key.

    Some topics have it only in their name, and in others the body is the conversation.
    """
    value = payload.get("conversationId")
    if not value and isinstance(topic, str):
        in_topic = _CONVERSATION_IN_TOPIC.match(topic)
        value = in_topic[1] if in_topic else payload.get("id") if _TOPIC_OF_CONVERSATIONS.match(topic) else None
    return value if isinstance(value, str) and 0 < len(value) <= _KEY_LIMIT else None


def _time_of(envelope: Mapping[str, Any], payload: Mapping[str, Any]) -> str | None:
    """When it happened, ISO 8601 UTC with milliseconds.

    The first of these that can be read: the body's ``eventTime`` (epoch milliseconds on ``v2.detail.events.*``, text on
    ``v2.audits.*``), Genesys' ``detail.timestamp``, the envelope's ``time``.
    """
    candidates = (payload.get("eventTime"), envelope["detail"].get("timestamp"), envelope.get("time"))
    return next((iso for iso in map(iso_time, candidates) if iso), None)


def iso_time(value: Any) -> str | None:
    """Normalise epoch milliseconds or ISO 8601 text to ISO UTC with milliseconds; ``None`` for anything else.

    Epoch milliseconds may be text too. Numbers before the year 2000 are not accepted.
    """
    try:
        if isinstance(value, str) and value.isdecimal() and value.isascii():
            value = int(value)
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            if value < _LEAST_MILLISECONDS:
                return None
            moment = _EPOCH + timedelta(milliseconds=int(value))
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return format_time(moment)


def format_time(moment: datetime) -> str:
    """ISO 8601 UTC with milliseconds and a ``Z``: the only form that this product writes."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
