"""The buffer queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from holdfast.adapters.aws import translated
from holdfast.adapters.batches import send_all
from holdfast.adapters.mapping import EventSourceMapping
from holdfast.domain.circuit_breaker import MappingState
from holdfast.domain.errors import Unavailable, readable
from holdfast.domain.letters import Outgoing
from holdfast.domain.ports import Clock

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
ENTRIES_PER_CALL = 10
#: How many messages a queue holds: visible, in flight or waiting for their next receive, delayed.
_DEPTHS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
#: MessageRetentionPeriod of the buffer.
RETENTION = timedelta(days=14)
#: Enough for MaxReceiveCount 5: two waits after the third receive, each of 12 hours at most. With a larger value a
#: message can wait longer.
AGE_MARGIN = timedelta(hours=24)


def is_empty(sqs: Any, url: str) -> bool:
    """Whether the buffer holds no message. Messages that wait for their next receive are not visible, but count."""
    with translated("count the messages of the buffer"):
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))
    return not any(int(answer["Attributes"].get(name, 0)) for name in _DEPTHS)


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
        def send(chunk: Sequence[Mapping[str, Any]]) -> list[str]:
            numbered = [{"Id": str(number), **entry} for number, entry in enumerate(chunk)]
            with translated(operation):
                answer = getattr(self.client, operation)(QueueUrl=self.url, Entries=numbered)
            return [readable(entry.get("Code")) for entry in answer.get("Failed", [])]

        codes = send_all(send, entries, ENTRIES_PER_CALL)
        if codes:
            raise Unavailable(f"{operation}: {len(codes)} entries were refused: {', '.join(sorted(set(codes)))}")


@dataclass(frozen=True, slots=True)
class Buffer:
    """The buffer queue and its processing, as triage looks at them.

    Attributes:
        sqs: The client of SQS.
        cloudwatch: The client of CloudWatch.
        mapping: The event source mapping of the processor.
        url: The queue.
        clock: The time.
    """

    sqs: Any
    cloudwatch: Any
    mapping: EventSourceMapping
    url: str
    clock: Clock

    def paused(self) -> bool:
        """Whether processing is paused."""
        return self.mapping.read_state() is MappingState.PAUSED

    def may_hold(self, sent_at: datetime) -> bool:
        """Whether the buffer may still hold a message that was sent at this time. In doubt it may.

        It cannot if the queue is empty, if SQS has deleted the message, or if the oldest message is younger. The age of
        the oldest message leaves out messages that were received three times, so it counts with a margin.
        """
        age = self.clock() - sent_at
        if age >= RETENTION or is_empty(self.sqs, self.url):
            return False
        oldest = self._age_of_oldest()
        return oldest is None or age < oldest + AGE_MARGIN

    def _age_of_oldest(self) -> timedelta | None:
        """The largest age of the last quarter of an hour; ``None`` without data."""
        now = self.clock()
        with translated("read the age of the buffer"):
            answer = self.cloudwatch.get_metric_statistics(
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": self.url.rpartition("/")[2]}],
                StartTime=now - timedelta(minutes=15),
                EndTime=now,
                Period=60,
                Statistics=["Maximum"],
            )
        ages = [point["Maximum"] for point in answer["Datapoints"]]
        return timedelta(seconds=max(ages)) if ages else None


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
