"""Messages, dead letters, and the ``Triage`` attribute that a redrive adds (the stamp).

Sizes and limits of SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.domain.envelope import ExaminedBody, examine
from holdfast.domain.errors import SnapshotMissing, readable

TRIAGE_ATTRIBUTE = "Triage"
MAX_ATTRIBUTES = 10
#: The body plus names, types and values of the attributes.
MAX_MESSAGE_BYTES = 1_048_576
#: More than a stamp needs, with the longest task token that Step Functions allows.
STAMP_BYTES = 4_096
SNAPSHOT_PREFIX = "dead-letters/"
#: Far above any limit on redrives. A forged stamp must not bring in a number that the state machine cannot handle.
_MAX_REDRIVES = 1_000
#: https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskFailure.html
_TASK_TOKEN_LIMIT = 2_048

#: The attributes that EventBridge adds to an event that it could not deliver.
#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
RULE_ATTRIBUTES = frozenset(
    {
        "RULE_ARN",
        "TARGET_ARN",
        "ERROR_CODE",
        "ERROR_MESSAGE",
        "EXHAUSTED_RETRY_CONDITION",
        "RETRY_ATTEMPTS",
    }
)
_MESSAGE_FIELDS = {"messageId": str, "body": str, "messageAttributes": dict, "attributes": dict}


@dataclass(frozen=True, slots=True)
class Message:
    """One SQS message, exactly as it was received.

    Attributes:
        message_id: Its id. A redrive gives the event a message with a new one.
        body: Its body.
        message_attributes: As Lambda spells them: name → ``{"dataType", "stringValue" | "binaryValue"}``; binary values
            are base64 text.
        attributes: The system attributes (``SentTimestamp``, ``MessageGroupId`` …).
        md5_of_body: The MD5 of the body as SQS received it; empty if unknown.
    """

    message_id: str
    body: str
    message_attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    md5_of_body: str = field(default="", compare=False)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Message:
        """Read a record of an SQS event source mapping."""
        return cls(
            message_id=record["messageId"],
            body=record["body"],
            message_attributes={
                name: {key: value for key, value in attribute.items() if isinstance(value, str)}
                for name, attribute in (record.get("messageAttributes") or {}).items()
            },
            attributes=dict(record.get("attributes") or {}),
            md5_of_body=record.get("md5OfBody") or "",
        )

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Message:
        """Read what :meth:`as_json` returned.

        Raises:
            KeyError, TypeError: It is something else.
        """
        if any(not isinstance(data[name], kind) for name, kind in _MESSAGE_FIELDS.items()):
            raise TypeError("a field of the message has another type")
        md5_of_body = str(data.get("md5OfBody") or "")
        return cls(data["messageId"], data["body"], data["messageAttributes"], data["attributes"], md5_of_body)

    def as_json(self) -> dict[str, Any]:
        """The message as snapshots and archive objects keep it. ``md5OfBody`` is present only if the body differs."""
        return {
            "messageId": self.message_id,
            "body": self.body,
            "messageAttributes": {name: dict(value) for name, value in self.message_attributes.items()},
            "attributes": dict(self.attributes),
            **({"md5OfBody": self.md5_of_body} if self.body_altered else {}),
        }

    @property
    def body_altered(self) -> bool:
        """Whether the body is not the one that SQS received: something between SQS and this function changed it."""
        if not self.md5_of_body:
            return False
        own = hashlib.md5(self.body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
        return own != self.md5_of_body

    @property
    def has_room_for_stamp(self) -> bool:
        """Whether a stamp of any length fits. A redriven message without this room may lack its stamp."""
        others = [item for item in self.message_attributes.items() if item[0] != TRIAGE_ATTRIBUTE]
        # A binary value is base64 text here, which is longer than the value.
        texts = [self.body, *(text for name, value in others for text in (name, *value.values()))]
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        return len(others) < MAX_ATTRIBUTES and size + STAMP_BYTES <= MAX_MESSAGE_BYTES

    def same_content(self, other: Message) -> bool:
        """Whether both are the same message. System attributes change with every receive and are not compared."""
        return (self.message_id, self.body, self.message_attributes) == (
            other.message_id,
            other.body,
            other.message_attributes,
        )

    @property
    def receive_count(self) -> int:
        """How often SQS has delivered it, this time included."""
        count = self.attributes.get("ApproximateReceiveCount", "1")
        return int(count) if count.isdecimal() else 1

    @property
    def sent_at_ms(self) -> int:
        """When it was sent, epoch milliseconds; 0 if unknown."""
        stamp = self.attributes.get("SentTimestamp", "0")
        return int(stamp) if stamp.isdecimal() else 0

    @property
    def dead_lettered(self) -> bool:
        """Whether SQS moved it from the buffer. A message that was sent to this queue directly lacks the attribute."""
        return "DeadLetterQueueSourceArn" in self.attributes

    @property
    def triage_stamp(self) -> TriageStamp | None:
        """The stamp of the redrive that sent this message, if one did."""
        attribute = self.message_attributes.get(TRIAGE_ATTRIBUTE)
        return TriageStamp.read(attribute.get("stringValue", "")) if attribute else None

    @property
    def rule_error(self) -> str | None:
        """EventBridge's error code, if a rule could not deliver this event to the buffer.

        A message that was redriven, or that SQS moved, did reach the buffer, so the producer wrote its ``ERROR_CODE``.
        """
        if TRIAGE_ATTRIBUTE in self.message_attributes or self.dead_lettered:
            return None
        code = self.message_attributes.get("ERROR_CODE", {}).get("stringValue")
        return None if code is None else readable(code)


@dataclass(frozen=True, slots=True)
class TriageStamp:
    """The content of the ``Triage`` attribute: which execution redrove the message, and its task token."""

    event_id: str
    execution: str
    redrives: int
    task_token: str

    @classmethod
    def read(cls, text: str) -> TriageStamp | None:
        """Read the attribute. Any producer can write one, so anything in another form is treated as absent."""
        try:
            data = json.loads(text)
            stamp = cls(data["eventId"], data["execution"], data["redrives"], data["taskToken"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        texts = (stamp.event_id, stamp.execution, stamp.task_token)
        valid = all(isinstance(text, str) and text for text in texts) and type(stamp.redrives) is int
        # Step Functions would refuse a request with any other token or execution, at every receive.
        sent = (stamp.execution, stamp.task_token)
        possible = valid and all(text.isascii() and len(text) <= _TASK_TOKEN_LIMIT for text in sent)
        return stamp if possible and 0 <= stamp.redrives <= _MAX_REDRIVES else None

    def write(self) -> str:
        """The attribute's text."""
        return json.dumps(
            {
                "eventId": self.event_id,
                "execution": self.execution,
                "redrives": self.redrives,
                "taskToken": self.task_token,
            },
            separators=(",", ":"),
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: the identity of its event, its exact message, and what the message's body holds."""

    event_id: str
    message: Message
    body: ExaminedBody = field(compare=False)  # it follows from the message

    @classmethod
    def of(cls, message: Message) -> DeadLetter:
        """Examine a message of the dead-letter queue."""
        body = examine(message.body)
        return cls(body.event_id, message, body)

    @property
    def key(self) -> str:
        """The key of its snapshot in the archive bucket."""
        return f"{snapshot_folder(self.event_id)}{self.message.message_id}.json"

    @property
    def stamp(self) -> TriageStamp | None:
        """The stamp of the redrive that sent it. A stamp for another event is ignored: it proves nothing."""
        stamp = self.message.triage_stamp
        return stamp if stamp and stamp.event_id == self.event_id else None

    @property
    def detail_type(self) -> str:
        """The event's topic, or ``unreadable``."""
        return (self.body.description or {}).get("detailType") or "unreadable"

    def as_json(self) -> str:
        """The snapshot."""
        return json.dumps({"schemaVersion": 2, "eventId": self.event_id, "message": self.message.as_json()})

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> DeadLetter:
        """Read a parsed snapshot or archive object. Both contain ``eventId`` and ``message``.

        Raises:
            SnapshotMissing: It is neither.
        """
        try:
            message = Message.of_json(document["message"])
            return cls(document["eventId"], message, examine(message.body))
        except (KeyError, TypeError) as error:
            raise SnapshotMissing("the object is not a snapshot of a dead letter") from error


def parse_document(text: str | None) -> Mapping[str, Any]:
    """Parse an object of the archive bucket. Returns an empty mapping if it is missing or not a JSON object."""
    try:
        document = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def snapshot_folder(event_id: str) -> str:
    """The folder of an event's snapshots."""
    return f"{SNAPSHOT_PREFIX}{event_id}/"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send: attributes as SendMessage spells them, binary values as bytes. ``stamped``: it has a stamp."""

    body: str
    message_attributes: dict[str, dict[str, Any]]
    group_id: str | None
    stamped: bool


def redriven(letter: DeadLetter, stamp: TriageStamp) -> Outgoing:
    """Build the message of a redrive: the same body, and the same attributes with their types.

    The stamp replaces an older one, and the attributes that EventBridge added are removed. If the stamp does not fit
    into ten attributes or 1,048,576 bytes, the message goes without it (``stamped`` is false). Its stamp is kept as a
    redrive record then (:mod:`holdfast.domain.redrive_records`).
    """
    message = letter.message
    dropped = {TRIAGE_ATTRIBUTE} | (RULE_ATTRIBUTES if message.rule_error else frozenset())
    attributes = {name: _sendable(value) for name, value in message.message_attributes.items() if name not in dropped}
    stamp_attribute = {"DataType": "String", "StringValue": stamp.write()}
    stamped = {**attributes, TRIAGE_ATTRIBUTE: stamp_attribute}
    fits = len(stamped) <= MAX_ATTRIBUTES and message_bytes(message.body, stamped) <= MAX_MESSAGE_BYTES
    return Outgoing(
        body=message.body,
        message_attributes=stamped if fits else attributes,
        group_id=message.attributes.get("MessageGroupId"),
        stamped=fits,
    )


def message_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """The size as SQS counts it: the body, and each attribute's name, type and value."""
    return len(body.encode()) + sum(
        len(name.encode()) + len(value["DataType"].encode()) + _value_bytes(value) for name, value in attributes.items()
    )


def _value_bytes(attribute: Mapping[str, Any]) -> int:
    if "BinaryValue" in attribute:
        return len(attribute["BinaryValue"])
    return len(attribute["StringValue"].encode())


def _sendable(attribute: Mapping[str, str]) -> dict[str, Any]:
    """Convert an attribute to SendMessage's spelling: binary values as bytes, where Lambda passes base64 text."""
    if "binaryValue" in attribute:
        return {"DataType": attribute["dataType"], "BinaryValue": base64.b64decode(attribute["binaryValue"])}
    return {"DataType": attribute["dataType"], "StringValue": attribute["stringValue"]}
