"""Sends a planned burst and remembers the identity of everything that was taken over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from holdfast.domain.envelope import identify
from local.errors import LocalError
from local.reconciliation import Sent
from local.stack import Stack
from local.traffic import BusEvent, Expected, Item, QueueBody, SecondCopy, envelope

#: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html, and the same for SendMessageBatch
ENTRIES_PER_CALL = 10
_TRIES = 3


class Sender:
    """Sends to one stack.

    Attributes:
        sent: What was taken over, by identity.
        deliveries: How many deliveries that were, copies included.
        copies: How many of them were second copies.
        copied: The identities of which there were some.
    """

    def __init__(self, stack: Stack) -> None:
        self._events = stack.client("events")
        self._sqs = stack.client("sqs")
        self._bus = stack.outputs["EventBusName"]
        self._buffer = stack.outputs["BufferQueueUrl"]
        self._envelopes: list[str] = []
        self.sent: dict[str, Sent] = {}
        self.deliveries = 0
        self.copies = 0
        self.copied: set[str] = set()

    def send(self, items: Sequence[Item]) -> None:
        """Send up to ten deliveries: what is an event by the bus, everything else straight into the buffer.

        Raises:
            LocalError: Something was refused again and again.
        """
        if events := [item for item in items if isinstance(item, BusEvent)]:
            self._put(events)
        if bodies := [self._body(item) for item in items if not isinstance(item, BusEvent)]:
            self._queue(bodies)
        self.deliveries += len(items)

    def _put(self, events: Sequence[BusEvent]) -> None:
        """PutEvents answers per entry, and a refused one was not sent: only those go again."""
        for _ in range(_TRIES):
            entries = [self._entry(event) for event in events]
            answers = self._events.put_events(Entries=entries)["Entries"]
            for event, answer in zip(events, answers, strict=True):
                if "EventId" in answer:
                    self._remember(event, answer["EventId"])
            events = [event for event, answer in zip(events, answers, strict=True) if "EventId" not in answer]
            if not events:
                return
        raise LocalError(f"The event bus refused {len(events)} events {_TRIES} times.")

    def _entry(self, event: BusEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._bus,
            "Source": "genesys.cloud",
            "DetailType": event.detail_type,
            "Detail": json.dumps(event.detail),
        }

    def _remember(self, event: BusEvent, event_id: str) -> None:
        text = json.dumps(envelope(event_id, event.detail_type, event.detail, datetime.now(UTC)))
        event_id = identify(text)[0]
        self.sent[event_id] = Sent(event_id, event.expected, detail=event.detail, names_user=event.names_user)
        if event.expected is Expected.STORED:
            self._envelopes.append(text)

    def _body(self, item: QueueBody | SecondCopy) -> str:
        if isinstance(item, SecondCopy):
            text = self._envelopes[-min(item.back, len(self._envelopes))]
            self.copies += 1
            self.copied.add(identify(text)[0])
            return text
        event_id = identify(item.text)[0]
        self.sent[event_id] = Sent(event_id, item.expected, body=item.text)
        return item.text

    def _queue(self, bodies: Sequence[str]) -> None:
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        for _ in range(_TRIES):
            failed = {
                entry["Id"]
                for entry in self._sqs.send_message_batch(QueueUrl=self._buffer, Entries=entries).get("Failed", [])
            }
            entries = [entry for entry in entries if entry["Id"] in failed]
            if not entries:
                return
        raise LocalError(f"The buffer queue refused {len(entries)} messages {_TRIES} times.")
