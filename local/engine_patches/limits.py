# ruff: noqa: SLF001 - a bridge reaches into the engine
"""Bridges to AWS's size limits, so that a design which holds them is proved and not assumed."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from ministack.services import sqs
from ministack.services import stepfunctions as engine

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
STATE_BYTES = 262_144
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MESSAGE_BYTES = 1_048_576
MESSAGE_ATTRIBUTES = 10


def limit_what_a_state_holds() -> None:
    """Gap: a task's input and result may be of any size; in AWS 262,144 bytes, or ``States.DataLimitExceeded``."""

    @around(engine, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        _demand_fit(event, "input")
        result = plain(function, event)
        _demand_fit(result, "result")
        return result


def limit_what_a_message_holds() -> None:
    """Gap: SQS counts the body only, and any number of attributes; in AWS they count towards the 1 MiB, and ten fit."""

    @around(sqs, "_act_send_message")
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


def _demand_fit(value: Any, what: str) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > STATE_BYTES:
        reason = f"The task's {what} has {size} bytes, more than {STATE_BYTES}."
        raise engine._ExecutionError("States.DataLimitExceeded", reason)
