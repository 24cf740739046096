"""Messages at the limits of SQS."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

from holdfast.domain.letters import message_bytes

TEXT = 'Zoë \U0001f4de 汉字 \u0085\u2028\ue000\ufffd\x7f \\ " / \\u0000'


def attributes_of_every_type(prefix: str) -> dict[str, dict[str, Any]]:
    return {
        f"{prefix}.text": {"DataType": "String", "StringValue": TEXT + "\t\r\n"},
        f"{prefix}.own": {"DataType": "String.genesys", "StringValue": "x"},
        f"{prefix}.number": {"DataType": "Number", "StringValue": "-12345678901234567890.0123456789"},
        f"{prefix}.float": {"DataType": "Number.float", "StringValue": "1e125"},
        f"{prefix}.bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
        f"{prefix}.gzip": {"DataType": "Binary.gzip", "BinaryValue": b"\x00"},
    }


#: As many attributes as a message can have.
TEN_ATTRIBUTES = dict(list({**attributes_of_every_type("a"), **attributes_of_every_type("b")}.items())[:10])


def padded(event: dict[str, Any], attributes: dict[str, Any], size: int) -> str:
    """The event as JSON that has this many bytes together with its attributes and cannot be compressed well."""
    event["detail"]["eventBody"]["note"] = "é"
    missing = size - message_bytes(json.dumps(event, ensure_ascii=False), attributes)
    event["detail"]["eventBody"]["note"] += secrets.token_hex(missing)[:missing]
    return json.dumps(event, ensure_ascii=False)


def archived_attributes(document: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
    """The message attributes in an archive object, in the form of ``sent_attributes``."""
    return {
        name: (one["dataType"], base64.b64decode(one["binaryValue"]))
        if "binaryValue" in one
        else (one["dataType"], one["stringValue"].encode())
        for name, one in document["message"]["messageAttributes"].items()
    }


def sent_attributes(attributes: dict[str, dict[str, Any]]) -> dict[str, tuple[str, bytes]]:
    return {
        name: (one["DataType"], one.get("BinaryValue") or one["StringValue"].encode())
        for name, one in attributes.items()
    }
