"""Read an EventBridge envelope out of an SQS body: :func:`decode` answers an :class:`Event` or says what is wrong.

Two shapes are events: Genesys Cloud's (``detail.eventBody`` with ``topicName``, ``timestamp``, ``metadata``) and the
plain one (``detail.attributes``). What the parser lets through and other consumers would refuse or read differently
is malformed: numbers that are no finite double, keys that stand twice, lone surrogates, nesting beyond the parser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isinf
from typing import Any

from holdfast.domain.errors import InvalidEvent, MalformedBody
from holdfast.domain.identity import event_id_of, letter_id, letter_id_of_bytes
from holdfast.domain.users import User, UserReference, references

#: A longer run of digits is no finite double (the largest has 309).
_INTEGER_DIGITS = 308
#: Every digit as a zero and everything else as a space, so that a run of digits can be searched for.
_DIGITS_AS_ZEROS = bytes(b"0"[0] if chr(byte).isdecimal() else b" "[0] for byte in range(256))
#: How many characters of a text are one in its sample.
_SAMPLED = 16
#: Everything but what nests and what hides it.
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_CONTAINERS = frozenset({dict, list})
_KEY_LIMIT = 256
#: Far below where any parser gives up; Python's own limit depends on the version and on who calls.
NESTING_LIMIT = 200


@dataclass(slots=True)
class Event:
    """A readable, valid event: what was read out of it, and its text, into which :meth:`enrich` writes.

    Either ``body`` is its text, as it came but for what was added; or what it says can only be told by writing ``tree``
    anew, and ``body`` is ``None``. Keeping the text saves the serialisation, a third of the CPU that an event costs, and
    keeps numbers and spaces as the producer wrote them. Letting go of the tree at once, while it is still in the
    processor's cache, saves another tenth (docs/performance.md).
    """

    letter_id: str
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
            self.tree = parse(self.body or "", parse_float=_finite)
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
        return serialise(self.envelope) if self.body is None else _encodable(self.body)

    def enrich(self, users: Mapping[str, User | None]) -> None:
        """Write what is known of users beside their ids. Whom nobody knows is left as it is."""
        for reference in self.references:
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
        elif self.body is not None:
            self.body = self.body.replace(place, f"{place},{_COMPACT.encode(fields)[1:-1]}", 1)
            self.tree = None


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
    payload = _payload(detail)
    # An escape may hide a lone surrogate, or a key from a search in the text.
    text = None if "\\" in body and "\\u" in body else body
    named = references(detail.get("topicName"), payload, text)
    in_text = text is not None and not any(isinstance(one.place, dict) for one in named)
    return Event(
        letter_id=letter_id(event_id),
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


def parse(body: str, *, parse_float: Callable[[str], float] = float) -> Any:
    """Parse JSON that every consumer reads alike.

    Raises:
        MalformedBody: With the reason, and nothing of the body.
    """
    settings = {
        # The parser calls back for every number only where the text has one that is too long: a tenth of its time.
        "parse_int": _bounded_integer if _has_long_number(body) else None,
        "parse_float": None if parse_float is float else parse_float,
        "parse_constant": _no_constant,
    }
    sizes: list[int] = []

    def counted(parsed: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(parsed))
        return parsed

    value = _decoded(body, json.JSONDecoder(object_hook=counted, **settings))
    if not _names_as_many_keys(body, sum(sizes)):
        value = _decoded(body, json.JSONDecoder(object_pairs_hook=_unique_keys, **settings))
    # Few bodies hold so many brackets that they could be nested too deeply; only those are measured.
    many = len(sizes) + body.count("[") > NESTING_LIMIT
    if many and not _is_shallow(body) and _depth(value) > NESTING_LIMIT:
        raise MalformedBody("the body is nested too deeply")
    return value


def _decoded(body: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error.msg} at character {error.pos}") from None


def _names_as_many_keys(body: str, keys: int) -> bool:
    """Whether the text proves that it names no key twice: it has no more of them than the parsed objects.

    Each key ends in a quote and a colon, and strings can only make these look more. Looking at each pair of each object
    instead takes half as long as the parsing (docs/performance.md); it is left to the texts that prove nothing.
    """
    spaced = "\n" in body or "\r" in body or "\t" in body or (" " in body and '" ' in body)
    return not spaced and body.count('":') == keys


def _has_long_number(body: str) -> bool:
    """Whether a run of digits is too long for a finite double: looked for in a sample first, which shows any of them."""
    return _has_digits(body[::_SAMPLED], _INTEGER_DIGITS // _SAMPLED) and _has_digits(body, _INTEGER_DIGITS + 1)


def _has_digits(text: str, number: int) -> bool:
    """Whether so many digits stand in a row."""
    return b"0" * number in text.encode("utf-8", "surrogatepass").translate(_DIGITS_AS_ZEROS)


def serialise(value: Any) -> str:
    """Write JSON as it is stored and published: compact, and readable as UTF-8 and by every parser.

    Raises:
        MalformedBody: It holds a number or a text that JSON in UTF-8 cannot carry.
    """
    try:
        text = _COMPACT.encode(value)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError:
        raise MalformedBody("the body holds a number that is no finite double") from None
    return _encodable(text)




def _encodable(text: str) -> str:
    if text.isascii():  # known without a look at it
        return text
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


def _is_shallow(body: str) -> bool:
    """Whether the text proves that it is not nested too deeply: three times as fast as measuring what was parsed.

    Pairs of brackets with nothing between them are taken out, at most one level of each kind at a time, until nothing
    is left. Strings go with their quotes; brackets in them can only make the proof fail, as quotes come in pairs where
    nothing is escaped.
    """
    if "\\" in body:
        return False
    left = body.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    for _ in range(NESTING_LIMIT // 2):
        if not left:
            return True
        left = left.replace(b'""', b"").replace(b"{}", b"").replace(b"[]", b"")
    return False


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
    if isinf(number):
        raise MalformedBody("the body holds a number that is no finite double")
    return number


def _no_constant(_name: str) -> None:
    raise MalformedBody("the body holds a number that is no finite double")
