"""Synthetic events and SQS records in the formats of Genesys Cloud and Lambda."""

from __future__ import annotations

import json
from typing import Any

from holdfast.domain.envelope import Event, examine
from holdfast.domain.letters import Message, TriageStamp

#: The personal data of the samples. Tests search logs and error messages for it.
PERSONAL = "Zoë Müller tel:+15550100"
USER_ID = "5f1c0a3e-0000-4000-8000-000000000001"
OTHER_USER_ID = "5f1c0a3e-0000-4000-8000-000000000002"
ACD_START = "v2.detail.events.conversation.{id}.acd.start"


def envelope(event_id: str = "event-1", **changes: Any) -> dict[str, Any]:
    """An event in the format of Genesys Cloud; ``changes`` replace envelope fields, and ``None`` removes one."""
    made = {
        "version": "0",
        "id": event_id,
        "detail-type": ACD_START,
        "source": "aws.partner/genesys.com/cloud/5f1c0a3e-0000-4000-8000-00000000000f/contact-centre",
        "account": "123456789012",
        "time": "2026-11-23T10:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": {
            "topicName": "v2.detail.events.conversation.5f1c0a3e-0000-4000-8000-00000000000a.acd.start",
            "version": "2",
            "timestamp": "2026-11-23T10:00:00.250Z",
            "eventBody": {
                "eventTime": 1795428000123,
                "conversationId": "5f1c0a3e-0000-4000-8000-00000000000a",
                "userId": USER_ID,
                "ani": PERSONAL,
            },
            "metadata": {"CorrelationId": "5f1c0a3e-0000-4000-8000-00000000000b"},
        },
    }
    made |= {name.replace("detail_type", "detail-type"): value for name, value in changes.items()}
    return {name: value for name, value in made.items() if value is not None}


def plain_envelope(detail_id: str = "plain-1", **attributes: Any) -> dict[str, Any]:
    """An event in the plain format: its id is in the detail."""
    detail = {"id": detail_id, "attributes": {"userId": USER_ID, **attributes}}
    return {"source": "genesys.cloud", "detail-type": "Agent Event", "detail": detail}


def body(event_id: str = "event-1", **changes: Any) -> str:
    """An SQS body with an event in the format of Genesys Cloud."""
    return json.dumps(envelope(event_id, **changes))


def quiet_body(event_id: str = "event-1") -> str:
    """An event that names no user."""
    return body(event_id, detail={"topicName": "v2.x", "eventBody": {"note": PERSONAL}})


def event_of(text: str) -> Event:
    """The event in a body. Raises the error of a body that is not an event."""
    content = examine(text).content
    if isinstance(content, Exception):
        raise content
    return content


def payload_of(event: Event) -> dict[str, Any]:
    """The business data of an event, in either format."""
    detail = event.envelope["detail"]
    payload: dict[str, Any] = detail["eventBody"] if isinstance(detail.get("eventBody"), dict) else detail["attributes"]
    return payload


def record(
    text: str,
    message_id: str = "message-1",
    *,
    receives: int = 1,
    attributes: dict[str, dict[str, Any]] | None = None,
    system: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A record of an SQS event source mapping."""
    return {
        "messageId": message_id,
        "receiptHandle": f"receipt-{message_id}",
        "body": text,
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": "1795428000000", **(system or {})},
        "messageAttributes": attributes or {},
        "eventSource": "aws:sqs",
    }


def stamp(event_id: str = "event-1", *, execution: str = "execution-1", redrives: int = 1) -> TriageStamp:
    """The stamp of a redrive; its task token is ``token-1``."""
    return TriageStamp(event_id, execution, redrives, "token-1")


def stamped(event_id: str = "event-1", **changes: Any) -> dict[str, dict[str, Any]]:
    """Message attributes of a redriven message."""
    return {"Triage": {"dataType": "String", "stringValue": stamp(event_id, **changes).write()}}


def message(text: str, message_id: str = "message-1", **changes: Any) -> Message:
    """An SQS message."""
    return Message.of_record(record(text, message_id, **changes))
