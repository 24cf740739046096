"""Counts the effects of events: inserts into the events table, and publications on the enriched bus.

The table's items cannot show a second insert, because the key is the same. Inserts are counted in the table's stream,
which has one record for every item that was inserted, changed or removed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

from local.publications import subscribe
from local.stack import Stack

_IDLE_SECONDS = 0.5
_RECORDS_PER_CALL = 1_000


class Effects:
    """Receives the events on the enriched bus for the time of a ``with`` block.

    Attributes:
        inserts: Inserts into the table, by event; counted by ``read_stream``.
        changes: How many items were changed or removed; none should be.
        publications: Publications, by event.
        contents: The different contents that were published, by event.
    """

    def __init__(self, stack: Stack) -> None:
        self.inserts: Counter[str] = Counter()
        self.changes = 0
        self.publications: Counter[str] = Counter()
        self.contents: defaultdict[str, set[str]] = defaultdict(set)
        self._stack = stack
        self._url = subscribe(stack)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def doubled(self) -> list[str]:
        """Events that were inserted more than once, or published with more than one content."""
        return sorted(
            {event_id for event_id, count in self.inserts.items() if count > 1}
            | {event_id for event_id, contents in self.contents.items() if len(contents) > 1}
        )

    def read_stream(self) -> None:
        """Count the records of the table's stream, from its beginning (the stream keeps 24 hours)."""
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
        sqs = self._stack.client("sqs")
        while not self._stop.is_set():
            received = sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
            for message in received:
                detail = json.loads(message["Body"])["detail"]
                text = json.dumps(detail, sort_keys=True)
                self.publications[detail["eventId"]] += 1
                self.contents[detail["eventId"]].add(hashlib.sha256(text.encode()).hexdigest())
            if received:
                entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(received)]
                sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            else:
                self._stop.wait(_IDLE_SECONDS)
