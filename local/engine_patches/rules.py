"""Engine patches of EventBridge."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from ministack.core.concurrency import esm_wake
from ministack.core.responses import get_account_id
from ministack.services import eventbridge, sqs, stepfunctions

from local.engine_patches.patch import around
from local.engine_patches.roles import role_allows

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTBRIDGE = "events.amazonaws.com"


def send_undeliverable_events_to_the_dead_letter_queue() -> None:
    """Gap: an event for a target that does not exist is dropped, and no permission is checked.

    AWS sends an event only if the queue's policy allows EventBridge to, and starts an execution only if the target's
    role may. It puts an event that it cannot deliver into
    the queue of the target's ``DeadLetterConfig``, with the reason in message attributes, and retries neither error.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """

    @around(eventbridge, "_invoke_target", "(target, event, rule, view=None)")
    def invoke(plain: Callable[..., Any], target: Any, event: Any, rule: Any, view: Any = None) -> None:
        problem = _problem(target["Arn"], rule["Arn"], target.get("RoleArn", ""))
        if problem is None:
            plain(target, event, rule, view)
            return
        dead_letters = target.get("DeadLetterConfig", {}).get("Arn", "")
        if _problem(dead_letters, rule["Arn"]) is None and (queue := sqs._queue_by_arn(dead_letters)):
            view = view or eventbridge._pattern_event_view(event)
            _put(queue, json.dumps(view.event_with_detail()), _attributes(problem, rule["Arn"], target["Arn"]))


def _problem(arn: str, rule: str, role: str = "") -> tuple[str, str] | None:
    """ERROR_CODE and ERROR_MESSAGE if EventBridge cannot deliver to this queue or machine. None for other targets."""
    if ":states:" in arn:
        if stepfunctions._resolve_state_machine_arn(arn) is None:
            return "NO_RESOURCE", "The specified state machine does not exist."
        if not role_allows(role, "states:StartExecution", arn):
            return "NO_PERMISSIONS", f"{role} may not start executions of {arn}."
    if ":sqs:" not in arn:
        return None
    if sqs._queue_by_arn(arn) is None:
        return "NO_RESOURCE", "The specified queue does not exist."
    if not sqs.queue_policy_allows(arn, EVENTBRIDGE, rule, get_account_id()):
        return "NO_PERMISSIONS", f"The policy of {arn} does not allow {EVENTBRIDGE} to send for {rule}."
    return None


def _attributes(problem: tuple[str, str], rule: str, target: str) -> dict[str, dict[str, str]]:
    code, message = problem
    texts = {"RULE_ARN": rule, "TARGET_ARN": target, "ERROR_CODE": code, "ERROR_MESSAGE": message}
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in texts.items()}
    return attributes | {"RETRY_ATTEMPTS": {"DataType": "Number", "StringValue": "0"}}


def _put(queue: dict[str, Any], body: str, attributes: dict[str, dict[str, str]]) -> None:
    now = time.time()
    queue["messages"].append(
        {
            "id": str(uuid.uuid4()),
            "body": body,
            "md5_body": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            "receipt_handle": None,
            "sent_at": now,
            "visible_at": now + sqs.queue_delay(queue),
            "receive_count": 0,
            "message_attributes": attributes,
            "sys": {"SenderId": get_account_id(), "SentTimestamp": str(int(now * 1000))},
        }
    )
    sqs._ensure_msg_fields(queue["messages"][-1])
    esm_wake.set()
