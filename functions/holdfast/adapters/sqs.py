"""The buffer queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import translated
from holdfast.adapters.batches import send_all
from holdfast.domain.errors import Unavailable
from holdfast.domain.letters import Outgoing

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
ENTRIES_PER_CALL = 10


@dataclass(frozen=True, slots=True)
class BufferConsumer:
    """The consumer's side of the buffer queue."""

    client: Any
    url: str

    def set_visibility(self, seconds_by_receipt: Mapping[str, int]) -> None:
        """Set the visibility timeout of each message. Raises if any was refused, after all were tried."""
        entries = [{"ReceiptHandle": r, "VisibilityTimeout": s} for r, s in seconds_by_receipt.items()]
        self._batched("change_message_visibility_batch", entries)

    def delete(self, receipts: Collection[str]) -> None:
        """Delete messages. Raises if any was refused, after all were tried."""
        self._batched("delete_message_batch", [{"ReceiptHandle": receipt} for receipt in receipts])

    def _batched(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
        def send(chunk: Sequence[Mapping[str, Any]]) -> int:
            numbered = [{"Id": str(number), **entry} for number, entry in enumerate(chunk)]
            with translated(operation):
                answer = getattr(self.client, operation)(QueueUrl=self.url, Entries=numbered)
            return len(answer.get("Failed", []))

        refused = send_all(send, entries, ENTRIES_PER_CALL)
        if refused:
            raise Unavailable(f"{operation}: {refused} entries were refused")


@dataclass(frozen=True, slots=True)
class BufferSender:
    """The sender's side of the buffer queue."""

    client: Any
    url: str

    def send(self, message: Outgoing) -> str:
        """Send one message and return its new id."""
        optional = {"MessageGroupId": message.group_id} if message.group_id else {}
        with translated("send to the buffer"):
            answer = self.client.send_message(
                QueueUrl=self.url,
                MessageBody=message.body,
                MessageAttributes=message.message_attributes,
                **optional,
            )
        return str(answer["MessageId"])
