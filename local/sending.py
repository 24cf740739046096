"""Sends planned traffic and records the id of every accepted event."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast.domain.envelope import examine
from local.errors import LocalError
from local.stack import Stack
from local.traffic import BusEvent, Item, QueueBody, SecondCopy, envelope
from ops.reconciliation import Expected, SentEvent

#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html, and the same for SendMessageBatch
ENTRIES_PER_CALL = 10
_ATTEMPTS = 3


class Sender:
    """Sends to one stack.

    Attributes:
        sent: The accepted events, by event id.
        deliveries: How many deliveries there were, second copies included.
        copies: How many of them were second copies.
        copied: The events that were delivered twice.
    """

    def __init__(self, stack: Stack) -> None:
        self._events = stack.client("events")
        self._sqs = stack.client("sqs")
        self._bus = stack.outputs["EventBusName"]
        self._buffer = stack.outputs["BufferQueueUrl"]
        self._envelopes: list[str] = []
        self.sent: dict[str, SentEvent] = {}
        self.deliveries = 0
        self.copies = 0
        self.copied: set[str] = set()

    def send(self, items: Sequence[Item]) -> None:
        """Send up to ten deliveries: events through the bus, everything else straight into the buffer.

        Raises:
            LocalError: An entry was refused several times.
        """
        if events := [item for item in items if isinstance(item, BusEvent)]:
            self._put(events)
        if bodies := [self._body(item) for item in items if not isinstance(item, BusEvent)]:
            send_messages(self._sqs, self._buffer, bodies)
        self.deliveries += len(items)

    def send_at_rate(self, items: Sequence[Item], per_second: float, until: float = math.inf) -> None:
        """Send deliveries at a steady rate, until all are sent or ``time.monotonic()`` reaches ``until``."""
        due = time.monotonic()
        for first in range(0, len(items), ENTRIES_PER_CALL):
            part = items[first : first + ENTRIES_PER_CALL]
            self.send(part)
            due += len(part) / per_second
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() > until:
                return

    def _put(self, events: Sequence[BusEvent]) -> None:
        """Send entries, and send the refused ones again."""
        for _ in range(_ATTEMPTS):
            entries = [self._entry(event) for event in events]
            answers = self._events.put_events(Entries=entries)["Entries"]
            for event, answer in zip(events, answers, strict=True):
                if "EventId" in answer:
                    self._remember(event, answer["EventId"])
            events = [event for event, answer in zip(events, answers, strict=True) if "EventId" not in answer]
            if not events:
                return
        raise LocalError(f"The event bus refused {len(events)} events {_ATTEMPTS} times.")

    def _entry(self, event: BusEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": event.source,
            "DetailType": event.detail_type,
            "Detail": json.dumps(event.detail),
        }

    def _remember(self, event: BusEvent, event_id: str) -> None:
        text = json.dumps(envelope(event_id, event.detail_type, event.detail, datetime.now(UTC)))
        event_id = examine(text).event_id
        self.sent[event_id] = SentEvent(event_id, event.expected, detail=event.detail, names_user=event.names_user)
        if event.expected is Expected.STORED:
            self._envelopes.append(text)

    def _body(self, item: QueueBody | SecondCopy) -> str:
        if isinstance(item, SecondCopy):
            text = self._envelopes[-min(item.back, len(self._envelopes))]
            self.copies += 1
            self.copied.add(examine(text).event_id)
            return text
        event_id = examine(item.text).event_id
        self.sent[event_id] = SentEvent(event_id, item.expected, body=item.text)
        return item.text


def send_messages(sqs: Any, queue_url: str, bodies: Sequence[str]) -> None:
    """Send up to ten messages to a queue, and send the refused ones again.

    Raises:
        LocalError: A message was refused several times.
    """
    entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
    for _ in range(_ATTEMPTS):
        answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
        failed = {entry["Id"] for entry in answer.get("Failed", [])}
        entries = [entry for entry in entries if entry["Id"] in failed]
        if not entries:
            return
    raise LocalError(f"The queue {queue_url} refused {len(entries)} messages {_ATTEMPTS} times.")
