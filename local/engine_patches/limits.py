"""Engine patches for the size limits of SQS."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from ministack.services import sqs

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MESSAGE_BYTES = 1_048_576
MESSAGE_ATTRIBUTES = 10


def limit_message_size() -> None:
    """Gap: SQS counts only the body and accepts any number of attributes. AWS counts all and accepts ten."""

    @around(sqs, "_act_send_message", "(data, qurl)")
    def send(plain: Callable[..., Any], request: dict[str, Any], queue: str) -> Any:
        attributes = request.get("MessageAttributes") or {}
        size = len(request.get("MessageBody", "").encode()) + sum(map(_attribute_size, attributes.items()))
        if len(attributes) > MESSAGE_ATTRIBUTES:
            raise _refusal(f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [10].")
        if size > MESSAGE_BYTES:
            raise _refusal(f"Message must be shorter than {MESSAGE_BYTES} bytes with its attributes, and has {size}.")
        return plain(request, queue)

    sqs._HANDLERS["SendMessage"] = sqs._act_send_message


def _refusal(text: str) -> Exception:
    error: Exception = sqs._Err("InvalidParameterValue", text)
    return error


def _attribute_size(entry: tuple[str, dict[str, Any]]) -> int:
    """The bytes of an attribute's name, type and value."""
    name, attribute = entry
    binary = attribute.get("BinaryValue") or b""
    value = base64.b64decode(binary) if isinstance(binary, str) else binary
    text = name + attribute.get("DataType", "") + (attribute.get("StringValue") or "")
    return len(text.encode()) + len(value)
