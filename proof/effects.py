"""What events really did: items that the table took in, and publications on the enriched bus.

The events table refuses a second item under the same key, so that alone would prove nothing. An effect is counted where
it cannot hide: the table's stream has one record for every item that was ever inserted, changed or removed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

from local.demo import collect_publications
from local.stack import Stack

_IDLE_SECONDS = 0.5
_RECORDS_PER_CALL = 1_000


class Effects:
    """Watches the enriched bus for the time of a ``with`` block, as a consumer's queue does.

    Attributes:
        inserts: How often an item came into being, by event; counted by ``read_stream``.
        changes: How often an item was changed or removed; nothing ever does that.
        publications: How often an event was published.
        contents: The different contents that were published under one id.
    """

    def __init__(self, stack: Stack) -> None:
        self.inserts: Counter[str] = Counter()
        self.changes = 0
        self.publications: Counter[str] = Counter()
        self.contents: defaultdict[str, set[str]] = defaultdict(set)
        self._stack = stack
        self._url = collect_publications(stack)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def doubled(self) -> list[str]:
        """Events that came into being more than once, or were published with more than one content."""
        return sorted(
            {letter for letter, count in self.inserts.items() if count > 1}
            | {letter for letter, contents in self.contents.items() if len(contents) > 1}
        )

    def read_stream(self) -> None:
        """Count what the table's stream tells, from its beginning (it keeps a day)."""
        self.inserts.clear()
        self.changes = 0
        streams = self._stack.client("dynamodbstreams")
        (stream,) = streams.list_streams(TableName=self._stack.outputs["EventsTableName"])["Streams"]
        arn = stream["StreamArn"]
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            at = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = streams.get_shard_iterator(**at)["ShardIterator"]
            while iterator:
                page = streams.get_records(ShardIterator=iterator, Limit=_RECORDS_PER_CALL)
                for record in page["Records"]:
                    self._count(record["eventName"], record["dynamodb"]["Keys"]["eventId"]["S"])
                iterator = page.get("NextShardIterator") if page["Records"] else None

    def _count(self, kind: str, event_id: str) -> None:
        if kind == "INSERT":
            self.inserts[event_id] += 1
        else:
            self.changes += 1

    def _consume(self) -> None:
        sqs, asked = self._stack.client("sqs"), {"QueueUrl": self._url, "MaxNumberOfMessages": 10}
        while not self._over.is_set():
            received = sqs.receive_message(**asked).get("Messages", [])
            for message in received:
                detail = json.loads(message["Body"])["detail"]
                text = json.dumps(detail, sort_keys=True)
                self.publications[detail["eventId"]] += 1
                self.contents[detail["eventId"]].add(hashlib.sha256(text.encode()).hexdigest())
            if received:
                entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(received)]
                sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            else:
                self._over.wait(_IDLE_SECONDS)
