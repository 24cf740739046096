"""Sends an event to the stack of ``make up``: ``python -m local.send [file with an event]``."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.background import demand
from local.engine import client
from local.errors import LocalError, exit_code
from local.fixture_setup import read_event


def main() -> int:
    """Send the event in a file, or an example event."""
    state = demand()
    event = json.loads(read_event(Path(sys.argv[1]))) if sys.argv[1:] else example()
    if not {"source", "detail-type", "detail"} <= event.keys():
        raise LocalError(
            "The event has no source, detail-type or detail. Send an EventBridge envelope; the fixtures of events/ "
            "are for make invoke."
        )
    entry = {
        "EventBusName": state.outputs["EventBusName"],
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
    }
    answer = client("events", state.endpoint).put_events(Entries=[entry])
    print(json.dumps(answer["Entries"][0]))
    return int(answer["FailedEntryCount"] > 0)


def example() -> dict[str, Any]:
    """An event in the shape of Genesys Cloud, with random ids."""
    conversation, agent = str(uuid.uuid4()), str(uuid.uuid4())
    now = datetime.now(UTC)
    return {
        "source": "genesys.cloud",
        "detail-type": "v2.detail.events.conversation.{id}.user.start",
        "detail": {
            "topicName": f"v2.detail.events.conversation.{conversation}.user.start",
            "version": "2",
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "eventBody": {
                "eventTime": int(now.timestamp() * 1000),
                "conversationId": conversation,
                "participantId": str(uuid.uuid4()),
                "sessionId": str(uuid.uuid4()),
                "mediaType": "VOICE",
                "provider": "Edge",
                "direction": "INBOUND",
                "userId": agent,
            },
            "metadata": {"CorrelationId": str(uuid.uuid4())},
        },
    }


if __name__ == "__main__":
    sys.exit(exit_code(main))
