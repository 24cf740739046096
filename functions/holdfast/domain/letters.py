"""Messages in custody: their exact copy, the one attribute that a redriven message carries, and what it becomes.

Sizes and limits of SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.domain.envelope import identify
from holdfast.domain.errors import SnapshotMissing

TRIAGE_ATTRIBUTE = "Triage"
MAX_ATTRIBUTES = 10
#: Body plus names, types and values of the attributes.
MAX_MESSAGE_BYTES = 1_048_576
SNAPSHOT_PREFIX = "dead-letters/"
#: Far beyond any limit of rounds; a forged one must not be a number that no state of triage can read.
_MAX_REDRIVES = 1_000

#: What EventBridge adds to a message that it could not deliver to its target.
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

    ``message_attributes`` are in Lambda's spelling: name → ``{"dataType", "stringValue" | "binaryValue"}``, a binary
    value as base64 text. ``attributes`` are the system attributes (``SentTimestamp``, ``MessageGroupId`` …).
    """

    message_id: str
    body: str
    message_attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Message:
        """Copy a record of an SQS event source mapping."""
        return cls(
            message_id=record["messageId"],
            body=record["body"],
            message_attributes={
                name: {key: value for key, value in attribute.items() if isinstance(value, str)}
                for name, attribute in (record.get("messageAttributes") or {}).items()
            },
            attributes=dict(record.get("attributes") or {}),
        )

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Message:
        """Read what :meth:`as_json` wrote.

        Raises:
            KeyError, TypeError: It is something else.
        """
        if any(not isinstance(data[name], kind) for name, kind in _MESSAGE_FIELDS.items()):
            raise TypeError("a field of the message is not of its kind")
        return cls(data["messageId"], data["body"], data["messageAttributes"], data["attributes"])

    def as_json(self) -> dict[str, Any]:
        """The message as evidence and the archive keep it."""
        return {
            "messageId": self.message_id,
            "body": self.body,
            "messageAttributes": {name: dict(value) for name, value in self.message_attributes.items()},
            "attributes": dict(self.attributes),
        }

    def same_content(self, other: Message) -> bool:
        """Whether both are one message. System attributes differ from one receive to the next and do not count."""
        return (self.message_id, self.body, self.message_attributes) == (
            other.message_id,
            other.body,
            other.message_attributes,
        )

    @property
    def receive_count(self) -> int:
        """How often SQS has handed it out, this time included."""
        count = self.attributes.get("ApproximateReceiveCount", "1")
        return int(count) if count.isdecimal() else 1

    @property
    def sent_at_ms(self) -> int:
        """When it was sent, epoch milliseconds; 0 if SQS did not say."""
        stamp = self.attributes.get("SentTimestamp", "0")
        return int(stamp) if stamp.isdecimal() else 0

    @property
    def dead_lettered(self) -> bool:
        """Whether SQS moved it here after its last receive; a message sent straight to this queue has no such mark."""
        return "DeadLetterQueueSourceArn" in self.attributes

    @property
    def triage(self) -> TriageStamp | None:
        """The bookkeeping of the redrive that sent this message, if one did."""
        return TriageStamp.read(self.message_attributes.get(TRIAGE_ATTRIBUTE, {}).get("stringValue", ""))

    @property
    def rule_error(self) -> str | None:
        """EventBridge's error code, if this is an event that a rule could not deliver.

        What was redriven, or moved here by SQS, did reach the buffer: its attributes are its producer's own.
        """
        if TRIAGE_ATTRIBUTE in self.message_attributes or self.dead_lettered:
            return None
        return self.message_attributes.get("ERROR_CODE", {}).get("stringValue")


@dataclass(frozen=True, slots=True)
class TriageStamp:
    """The content of the ``Triage`` attribute: which execution sent the message, and how to tell it the outcome."""

    event_id: str
    execution: str
    redrives: int
    task_token: str

    @classmethod
    def read(cls, text: str) -> TriageStamp | None:
        """Read the attribute. It comes from a queue, so anything else than our own form counts as absent."""
        try:
            data = json.loads(text)
            stamp = cls(data["eventId"], data["execution"], data["redrives"], data["taskToken"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        texts = (stamp.event_id, stamp.execution, stamp.task_token)
        sound = all(isinstance(text, str) and text for text in texts) and type(stamp.redrives) is int
        return stamp if sound and 0 <= stamp.redrives <= _MAX_REDRIVES else None

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
    """A dead letter in custody: who it is, and its exact message."""

    event_id: str
    message: Message

    @classmethod
    def of(cls, message: Message) -> DeadLetter:
        """Identify a message."""
        letter, _ = identify(message.body)
        return cls(letter, message)

    @property
    def key(self) -> str:
        """Where its evidence stands in the archive bucket."""
        return f"{snapshot_folder(self.event_id)}{self.message.message_id}.json"

    @property
    def stamp(self) -> TriageStamp | None:
        """The stamp of the redrive that sent it, if it is about this very letter: another one's proves nothing."""
        stamp = self.message.triage
        return stamp if stamp and stamp.event_id == self.event_id else None

    @property
    def detail_type(self) -> str:
        """The event's topic, or what the body is instead."""
        _, described = identify(self.message.body)
        return (described or {}).get("detailType", "unreadable")

    def as_json(self) -> str:
        """The evidence object."""
        return json.dumps({"schemaVersion": 2, "eventId": self.event_id, "message": self.message.as_json()})

    @classmethod
    def of_json(cls, text: str) -> DeadLetter:
        """Read evidence, or the message out of an archive object (both hold ``eventId`` and ``message``).

        Raises:
            SnapshotMissing: The object is neither.
        """
        try:
            data = json.loads(text)
            return cls(data["eventId"], Message.of_json(data["message"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SnapshotMissing("the object is no evidence of a dead letter") from error


def snapshot_folder(event_id: str) -> str:
    """Where all evidence of a letter stands, and nobody else's."""
    return f"{SNAPSHOT_PREFIX}{event_id}/"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message ready to be sent: attributes in the spelling of SendMessage, binary values as bytes."""

    body: str
    message_attributes: dict[str, dict[str, Any]]
    group_id: str | None
    stamped: bool


def redriven(letter: DeadLetter, stamp: TriageStamp) -> Outgoing:
    """Turn a dead letter back into the message that it was: the same body, the same attributes with their types.

    An older ``Triage`` is replaced, and what EventBridge added for its dead-letter queue is taken off. Where ten
    attributes or 1,048,576 bytes would not hold ``Triage``, the message goes without it (``stamped`` is false): then
    the table tells the outcome.
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
    """The size that SQS counts: the body, and each attribute's name, type and value."""
    return len(body.encode()) + sum(
        len(name.encode()) + len(value["DataType"].encode()) + _value_bytes(value) for name, value in attributes.items()
    )


def _value_bytes(attribute: Mapping[str, Any]) -> int:
    if "BinaryValue" in attribute:
        return len(attribute["BinaryValue"])
    return len(attribute["StringValue"].encode())


def _sendable(attribute: Mapping[str, str]) -> dict[str, Any]:
    """Lambda hands a binary value over as base64 text; SendMessage wants the bytes (and encodes them itself)."""
    if "binaryValue" in attribute:
        return {"DataType": attribute["dataType"], "BinaryValue": base64.b64decode(attribute["binaryValue"])}
    return {"DataType": attribute["dataType"], "StringValue": attribute["stringValue"]}
