"""The events table and the attempts table."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from holdfast.adapters.aws import chunks, mapped, translated
from holdfast.adapters.batches import retry_rest
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.envelope import format_time
from holdfast.domain.errors import DEFERRED, Failure, Unavailable, guarded
from holdfast.domain.ports import Deadline, StorableEvent, Stored

#: An item with DynamoDB's typed attributes.
Item = Mapping[str, Any]

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
STATEMENTS_PER_CALL = 25
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html and API_BatchGetItem.html
WRITES_PER_CALL = 25
READS_PER_CALL = 100
#: The item limit is 409,600 bytes; the rest is for the other attributes.
EVENT_BYTES_LIMIT = 390_000
#: A smaller event is not compressed: the time costs more than the write units that it saves.
PACK_FROM_BYTES = 2_048
DUPLICATE = "DuplicateItem"


@dataclass(frozen=True, slots=True)
class EventsTableWriter:
    """The events table, for the processor: one conditional write per event, up to 25 in a request.

    PartiQL's ``INSERT`` refuses a key that exists, and it answers per statement.
    """

    client: Any
    name: str
    retention_days: int
    overflow: ArchiveBucket

    def store(self, events: Sequence[StorableEvent], deadline: Deadline) -> Mapping[str, Stored | Failure]:
        """Write each event unless the table holds it. The result has an entry for every event id."""
        results: dict[str, Stored | Failure] = {}
        for chunk in chunks(events, STATEMENTS_PER_CALL):
            if deadline.remaining() <= 0:
                results |= {event.event_id: DEFERRED for event in chunk}
            else:
                results |= self._store_chunk(chunk)
        return results

    def _store_chunk(self, events: Sequence[StorableEvent]) -> dict[str, Stored | Failure]:
        statements: dict[str, dict[str, Any]] = {}
        results: dict[str, Stored | Failure] = {}
        for event in events:
            statement = guarded(partial(self._statement, event))
            if isinstance(statement, Failure):
                results[event.event_id] = statement
            else:
                statements[event.event_id] = statement
        return results | (self._execute(statements) if statements else {})

    def _execute(self, statements: Mapping[str, dict[str, Any]]) -> dict[str, Stored | Failure]:
        """The results of one request. Whatever goes wrong with it, the results of the other requests stand."""
        responses = guarded(partial(self._responses, list(statements.values())))
        if isinstance(responses, Failure):
            return dict.fromkeys(statements, responses)
        return {
            event_id: guarded(partial(_result, response))
            for event_id, response in zip(statements, responses, strict=True)
        }

    def _responses(self, statements: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        with translated("store events"):
            answer = self.client.batch_execute_statement(Statements=statements)
        responses: Sequence[Mapping[str, Any]] = answer.get("Responses") or []
        if len(responses) != len(statements):
            # Which statement has no response cannot be seen. A write that succeeded is a duplicate at the next receive.
            raise Unavailable(f"store events: {len(responses)} responses to {len(statements)} statements")
        return responses

    def _statement(self, event: StorableEvent) -> dict[str, Any]:
        item = self._item(event)
        fields = ", ".join(f"'{name}': ?" for name in item)
        return {"Statement": f'INSERT INTO "{self.name}" VALUE {{{fields}}}', "Parameters": list(item.values())}

    def _item(self, event: StorableEvent) -> dict[str, dict[str, Any]]:
        expires = event.received_at + timedelta(days=self.retention_days)
        item: dict[str, dict[str, Any]] = {
            "eventId": {"S": event.event_id},
            "source": {"S": event.source},
            "detailType": {"S": event.detail_type},
            "receivedAt": {"S": format_time(event.received_at)},
            "expiresAt": {"N": str(int(expires.timestamp()))},
        }
        if event.event_time:
            item["eventTime"] = {"S": event.event_time}
        if event.conversation_id:
            item["conversationId"] = {"S": event.conversation_id}
        return item | self._content(event)

    def _content(self, event: StorableEvent) -> dict[str, dict[str, Any]]:
        """The event itself: plain, compressed, or as a pointer to an object in the archive bucket."""
        if len(event.text) < PACK_FROM_BYTES:
            return {"event": {"S": event.text}}
        # A window of 16 kB takes half the time of the default for 10 kB, and compresses as well.
        packed = zlib.compress(event.text.encode(), level=1, wbits=14)
        if len(packed) <= EVENT_BYTES_LIMIT:
            return {"eventPacked": {"B": packed}}
        # The key contains the hash of the text: an earlier receive may have written the event with other fields.
        key = f"events/{event.event_id}/{hashlib.sha256(event.text.encode()).hexdigest()[:32]}.json"
        self.overflow.create(key, event.text)
        return {"eventPointer": {"M": {"bucket": {"S": self.overflow.name}, "key": {"S": key}}}}


@dataclass(frozen=True, slots=True)
class EventsTable:
    """The events table, for triage and for publishing a range again."""

    client: Any
    name: str

    def holds(self, event_id: str) -> bool:
        """Whether the table holds the event (strongly consistent)."""
        with translated("look up the event"):
            answer = self.client.get_item(
                TableName=self.name,
                Key={"eventId": {"S": event_id}},
                ConsistentRead=True,
                ProjectionExpression="eventId",
            )
        return "Item" in answer

    def received_between(self, begin: str, end: str, start_at: str | None) -> Iterator[tuple[list[Item], str | None]]:
        """Read the items received from ``begin`` to before ``end`` (ISO UTC), page by page, in no order.

        Each page comes with the key at which the next one starts. It scans the whole table: use it for repairs only.
        """
        request: dict[str, Any] = {
            "TableName": self.name,
            "FilterExpression": "receivedAt >= :begin AND receivedAt < :end",
            "ExpressionAttributeValues": {":begin": {"S": begin}, ":end": {"S": end}},
        }
        while True:
            if start_at:
                request["ExclusiveStartKey"] = {"eventId": {"S": start_at}}
            with translated("read a range of events"):
                answer = self.client.scan(**request)
            start_at = answer.get("LastEvaluatedKey", {}).get("eventId", {}).get("S")
            yield answer["Items"], start_at
            if not start_at:
                return


def _result(response: Mapping[str, Any]) -> Stored | Failure:
    """The result of one statement. Its error codes lack the suffix "Exception"."""
    error = response.get("Error")
    if error is None:
        return Stored.NEW
    code = error.get("Code")
    return Stored.DUPLICATE if code == DUPLICATE else Failure.of(mapped(code, "store the event"))


@dataclass(frozen=True, slots=True)
class AttemptsTableWriter:
    """The attempts table, for the processor. Keys: ``eventId``, ``attempt`` = ``<messageId>#<receiveCount>``."""

    client: Any
    name: str
    retention_days: int

    def read(self, keys: Collection[AttemptKey]) -> Mapping[AttemptKey, Attempt]:
        """Return the readable attempt records that exist for these keys (strongly consistent)."""
        found: list[Attempt] = []
        for chunk in chunks(keys, READS_PER_CALL):
            found += self._read_chunk([_key(key) for key in chunk])
        return {attempt.key: attempt for attempt in found if attempt.status is not Status.UNREADABLE}

    def _read_chunk(self, keys: Sequence[Mapping[str, Any]]) -> list[Attempt]:
        items: list[Mapping[str, Any]] = []

        def call(pending: Mapping[str, Any]) -> Mapping[str, Any]:
            with translated("read attempts"):
                answer = self.client.batch_get_item(RequestItems=pending)
            items.extend(answer["Responses"].get(self.name, []))
            return answer.get("UnprocessedKeys") or {}

        request: Mapping[str, Any] = {self.name: {"Keys": keys, "ConsistentRead": True}}
        if retry_rest(call, request):
            raise Unavailable("read attempts: some keys stayed unprocessed")
        return [_attempt(item) for item in items]

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Write attempt records, 25 in a request. Raises if any stays unprocessed."""

        def call(pending: Mapping[str, Any]) -> Mapping[str, Any]:
            with translated("write attempts"):
                answer = self.client.batch_write_item(RequestItems=pending)
            return answer.get("UnprocessedItems") or {}

        for chunk in chunks(attempts, WRITES_PER_CALL):
            puts = [{"PutRequest": {"Item": self._item(attempt)}} for attempt in chunk]
            request: Mapping[str, Any] = {self.name: puts}
            if retry_rest(call, request):
                raise Unavailable("write attempts: some items stayed unprocessed")

    def _item(self, attempt: Attempt) -> dict[str, Any]:
        expires = datetime.fromisoformat(attempt.at) + timedelta(days=self.retention_days)
        item = _key(attempt.key) | {
            "status": {"S": attempt.status.value},
            "at": {"S": attempt.at},
            "requestId": {"S": attempt.request_id},
            "expiresAt": {"N": str(int(expires.timestamp()))},
        }
        failure = attempt.failure
        if failure:
            item |= {
                "category": {"S": failure.category},
                "errorType": {"S": failure.error_type},
                "errorMessage": {"S": failure.message},
                "permanent": {"BOOL": failure.permanent},
            }
            if failure.retry_after is not None:
                item["retryAfter"] = {"N": str(failure.retry_after)}
            if failure.correlation_id:
                item["correlationId"] = {"S": failure.correlation_id}
        return item


@dataclass(frozen=True, slots=True)
class AttemptsTable:
    """The attempts table, for triage."""

    client: Any
    name: str

    def of_event(self, event_id: str) -> list[Attempt]:
        """Return all attempts of an event, unreadable ones too (strongly consistent)."""
        query = {
            "TableName": self.name,
            "KeyConditionExpression": "eventId = :event",
            "ExpressionAttributeValues": {":event": {"S": event_id}},
            "ConsistentRead": True,
        }
        with translated("read the event's attempts"):
            pages = self.client.get_paginator("query").paginate(**query)
            return [_attempt(item) for page in pages for item in page["Items"]]


def _key(key: AttemptKey) -> dict[str, Any]:
    return {"eventId": {"S": key.event_id}, "attempt": {"S": key.sort_key}}


def _attempt(item: Mapping[str, Any]) -> Attempt:
    """Read an item. One that another version wrote in another form is an unreadable attempt."""
    try:
        return _readable(item)
    except (KeyError, TypeError, ValueError):
        message_id, _, count = item["attempt"]["S"].rpartition("#")
        key = AttemptKey(item["eventId"]["S"], message_id, int(count) if count.isdecimal() else 0)
        return Attempt(key, Status.UNREADABLE, at="", request_id="")


def _readable(item: Mapping[str, Any]) -> Attempt:
    message_id, _, count = item["attempt"]["S"].rpartition("#")
    return Attempt(
        key=AttemptKey(item["eventId"]["S"], message_id, int(count)),
        status=Status(item["status"]["S"]),
        at=item["at"]["S"],
        request_id=item["requestId"]["S"],
        failure=_failure(item) if "category" in item else None,
    )


def _failure(item: Mapping[str, Any]) -> Failure:
    retry_after = item.get("retryAfter", {}).get("N")
    return Failure(
        category=item["category"]["S"],
        error_type=item["errorType"]["S"],
        message=item["errorMessage"]["S"],
        permanent=item["permanent"]["BOOL"],
        retry_after=float(retry_after) if retry_after is not None else None,
        correlation_id=item.get("correlationId", {}).get("S"),
    )
