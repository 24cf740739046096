"""Read an EventBridge envelope out of an SQS body: :func:`decode` answers an :class:`Event` or says what is wrong.

Two shapes are events: Genesys Cloud's (``detail.eventBody`` with ``topicName``, ``timestamp``, ``metadata``) and the
plain one (``detail.attributes``). What the parser lets through and other consumers would refuse or read differently
is malformed: numbers that are no finite double, keys that stand twice, lone surrogates, nesting beyond the parser.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.identity import event_id_of, letter_id, letter_id_of_bytes

#: A longer run of digits is no finite double (the largest has 309).
_INTEGER_DIGITS = 308
_LONG_RUN = b"0" * (_INTEGER_DIGITS + 1)
#: Every digit as a zero and everything else as a space, so that a run of digits can be searched for.
_DIGITS_AS_ZEROS = bytes(b"0"[0] if chr(byte).isdecimal() else b" "[0] for byte in range(256))
_CONTAINERS = frozenset({dict, list})
_KEY_LIMIT = 256
#: Far below where any parser gives up; Python's own limit depends on the version and on who calls.
NESTING_LIMIT = 200


@dataclass(slots=True)
class Event:
    """A readable, valid event. ``envelope`` is ours alone: :meth:`add` writes into it.

    ``body`` is the same envelope as text, or ``None`` once only writing it anew can tell. Keeping the text as it came
    saves the serialisation, a third of the CPU that an event costs (docs/performance.md), and keeps its numbers and
    spaces as the producer wrote them.
    """

    letter_id: str
    source: str
    detail_type: str
    envelope: dict[str, Any]
    body: str | None

    @property
    def payload(self) -> dict[str, Any]:
        """The object that carries the business data, in either shape."""
        detail = self.envelope["detail"]
        payload: dict[str, Any] = (
            detail["eventBody"] if isinstance(detail.get("eventBody"), dict) else detail["attributes"]
        )
        return payload

    @property
    def conversation_id(self) -> str | None:
        """The conversation that the event belongs to, where it names one that can be an index key."""
        value = self.payload.get("conversationId")
        return value if isinstance(value, str) and 0 < len(value) <= _KEY_LIMIT else None

    @property
    def time(self) -> str | None:
        """When it happened, ISO 8601 UTC with milliseconds.

        The body's ``eventTime`` (epoch milliseconds on ``v2.detail.events.*``, text on ``v2.audits.*``), else Genesys'
        ``detail.timestamp``, else the envelope's ``time``; ``None`` if none of them can be read.
        """
        candidates = (
            self.payload.get("eventTime"),
            self.envelope["detail"].get("timestamp"),
            self.envelope.get("time"),
        )
        return next((iso for iso in map(iso_time, candidates) if iso), None)

    @property
    def text(self) -> str:
        """The envelope as JSON, what was added included.

        Raises:
            MalformedBody: It holds something that JSON in UTF-8 cannot carry.
        """
        return serialise(self.envelope) if self.body is None else _encodable(self.body)

    def names_only_in(self, holder: Mapping[str, Any], key: str) -> bool:
        """Whether the text proves that no object but ``holder`` has this key. False where it cannot tell."""
        return self.body is not None and self.body.count(f'"{key}"') <= (key in holder)

    def add(self, holder: dict[str, Any], fields: Mapping[str, str], *, beside: str = "") -> None:
        """Add fields to one of the event's objects; ``beside`` is the key in it that they belong to."""
        self.body = self._body_with(holder, fields, beside)
        holder.update(fields)

    def _body_with(self, holder: Mapping[str, Any], fields: Mapping[str, str], beside: str) -> str | None:
        """The text with the fields in it, if their place is certain: only one object has the key, spelt plainly."""
        place = f'"{beside}":"{holder.get(beside)}"'
        if self.body is None or place not in self.body or not self.names_only_in(holder, beside):
            return None
        return self.body.replace(place, f"{place},{_compact(fields)[1:-1]}")


def decode(body: str) -> Event:
    """Read one SQS body.

    Raises:
        MalformedBody: It is not JSON that every consumer reads alike.
        InvalidEvent: It is JSON, but no event.
    """
    envelope = parse(body, parse_float=_finite)
    if not isinstance(envelope, dict):
        raise InvalidEvent("the body is no JSON object")
    source, detail_type, detail = envelope.get("source"), envelope.get("detail-type"), envelope.get("detail")
    if not isinstance(detail, dict):
        raise InvalidEvent("the envelope has no detail object")
    if not (isinstance(source, str) and source and isinstance(detail_type, str) and detail_type):
        raise InvalidEvent("the envelope lacks its source or its detail-type")
    event_id = event_id_of(envelope)
    if event_id is None:
        raise InvalidEvent("neither the envelope nor its detail has an id")
    if not (isinstance(detail.get("eventBody"), dict) or isinstance(detail.get("attributes"), dict)):
        raise InvalidEvent("the detail has neither an eventBody nor attributes")
    return Event(
        letter_id=letter_id(event_id),
        source=source,
        detail_type=detail_type,
        envelope=envelope,
        # An escape may hide a lone surrogate, or a key from a search in the text.
        body=None if "\\u" in body else body,
    )


def parse(body: str, *, parse_float: Callable[[str], float] = float) -> Any:
    """Parse JSON that every consumer reads alike.

    Raises:
        MalformedBody: With the reason, and nothing of the body.
    """
    # The parser calls back for every number only where the text has one that is too long: a tenth of its time.
    long_run = _LONG_RUN in body.encode("utf-8", "surrogatepass").translate(_DIGITS_AS_ZEROS)
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique_keys,
        parse_int=_bounded_integer if long_run else None,
        parse_float=None if parse_float is float else parse_float,
        parse_constant=_no_constant,
    )
    try:
        value = decoder.decode(body)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    # Few bodies hold so many brackets that they could be nested too deeply; only those are measured.
    if body.count("[") + body.count("{") > NESTING_LIMIT and _depth(value) > NESTING_LIMIT:
        raise MalformedBody("the body is nested too deeply")
    return value


def serialise(value: Any) -> str:
    """Write JSON as it is stored and published: compact, and readable as UTF-8 and by every parser.

    Raises:
        MalformedBody: It holds a number or a text that JSON in UTF-8 cannot carry.
    """
    try:
        text = _compact(value)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError:
        raise MalformedBody("the body holds a number that is no finite double") from None
    return _encodable(text)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedBody("the body holds text that is no valid UTF-8") from None
    return text


def examine(body: str) -> Event:
    """Decide as the processor would whether this body can be processed: decoded *and* writable.

    Raises:
        MalformedBody, InvalidEvent: As :func:`decode` and :attr:`Event.text`.
    """
    event = decode(body)
    _ = event.text
    return event


def identify(body: str) -> tuple[str, dict[str, str] | None]:
    """The letter id of any body, and the envelope's own words where it has some.

    Never fails. An id is taken from whatever can be parsed; a body that gives none is known by its bytes.
    """
    try:
        envelope = parse(body)
    except MalformedBody:
        return letter_id_of_bytes(body), None
    event_id = event_id_of(envelope)
    if event_id is None:
        return letter_id_of_bytes(body), None
    described = {"id": event_id}
    for name, key in (("source", "source"), ("detailType", "detail-type"), ("time", "time")):
        value = envelope.get(key)
        if isinstance(value, str):
            described[name] = value[:_KEY_LIMIT]
    return letter_id(event_id), described


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


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested, level by level: no recursion here."""
    depth = 0
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        depth += 1
        # The parser makes exact dicts and lists, and comparing types is three times as fast as isinstance.
        children = (node.values() if type(node) is dict else node for node in level)
        level = [child for some in children for child in some if type(child) in _CONTAINERS]
    return depth


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise MalformedBody("the body names a key twice")
    return parsed


def _bounded_integer(digits: str) -> int:
    if len(digits) > _INTEGER_DIGITS:
        raise MalformedBody("the body holds a number that is no finite double")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise MalformedBody("the body holds a number that is no finite double")
    return number


def _no_constant(_name: str) -> None:
    raise MalformedBody("the body holds a number that is no finite double")
