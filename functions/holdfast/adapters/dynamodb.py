"""The events table and the attempts table."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from holdfast.adapters.aws import chunks, named, translated
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.envelope import format_time
from holdfast.domain.errors import DEFERRED, Failure, HoldfastError, Unavailable
from holdfast.domain.ports import Deadline, Objects, StorableEvent, Stored

#: An item, its attributes typed as DynamoDB types them.
Item = Mapping[str, Any]

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
STATEMENTS_PER_CALL = 25
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html and API_BatchGetItem.html
WRITES_PER_CALL = 25
READS_PER_CALL = 100
#: The item limit of 409,600 bytes, less room for the other attributes.
EVENT_BYTES_LIMIT = 390_000
#: Below this, packing saves less in write units than it costs in time.
PACK_FROM_BYTES = 2_048
DUPLICATE = "DuplicateItem"
_BATCH_TRIES = 3


@dataclass(frozen=True, slots=True)
class EventsTable:
    """One conditional write per event, up to 25 in a request: PartiQL INSERT refuses a key that exists."""

    client: Any
    name: str
    retention_days: int
    overflow: Objects
    overflow_bucket: str

    def store(self, events: Sequence[StorableEvent], deadline: Deadline) -> Mapping[str, Stored | Failure]:
        """Write each event unless the table holds it; answers for every event given."""
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
            try:
                statements[event.event_id] = self._statement(event)
            except Exception as error:  # noqa: BLE001 - one event that finds no place must not take its mates with it
                results[event.event_id] = Failure.of(error)
        if statements:
            results |= self._execute(statements)
        return results

    def _execute(self, statements: Mapping[str, dict[str, Any]]) -> dict[str, Stored | Failure]:
        try:
            with translated("store events"):
                answer = self.client.batch_execute_statement(Statements=list(statements.values()))
        except HoldfastError as error:
            return dict.fromkeys(statements, Failure.of(error))
        return {
            event_id: _result(response.get("Error"))
            for event_id, response in zip(statements, answer["Responses"], strict=True)
        }

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
        """The event itself: plain, packed where that pays, or beside the table with a pointer to it."""
        if len(event.text) < PACK_FROM_BYTES:
            return {"event": {"S": event.text}}
        packed = zlib.compress(event.text.encode(), level=1)
        if len(packed) <= EVENT_BYTES_LIMIT:
            return {"eventPacked": {"B": packed}}
        key = f"events/{event.event_id}.json"
        self.overflow.create(key, event.text)  # what stands there already is the same event's first delivery
        return {"eventPointer": {"M": {"bucket": {"S": self.overflow_bucket}, "key": {"S": key}}}}

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
        """Pages of the items that were received from ``begin`` to before ``end`` (ISO UTC), in no order.

        Each comes with the key at which the next page starts. It reads the whole table: for repairs, not for work.
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


def _result(error: Mapping[str, Any] | None) -> Stored | Failure:
    if error is None:
        return Stored.NEW
    code = str(error.get("Code"))
    if code == DUPLICATE:
        return Stored.DUPLICATE
    ours = named(code, "store the event")
    return (
        Failure.of(ours) if ours else Failure("UNKNOWN", code, "store the event: a code that nobody has thought about")
    )


@dataclass(frozen=True, slots=True)
class AttemptsTable:
    """The attempt log: ``eventId`` and ``attempt`` = ``<messageId>#<receiveCount>``."""

    client: Any
    name: str
    retention_days: int

    def read(self, keys: Collection[AttemptKey]) -> Mapping[AttemptKey, Attempt]:
        """The attempts that exist among these (strongly consistent)."""
        found: list[Attempt] = []
        for chunk in chunks(keys, READS_PER_CALL):
            found += self._read_chunk([_key(key) for key in chunk])
        return {attempt.key: attempt for attempt in found}

    def _read_chunk(self, keys: Sequence[Mapping[str, Any]]) -> list[Attempt]:
        items: list[Mapping[str, Any]] = []
        pending: Mapping[str, Any] = {self.name: {"Keys": keys, "ConsistentRead": True}}
        for _ in range(_BATCH_TRIES):
            with translated("read attempts"):
                answer = self.client.batch_get_item(RequestItems=pending)
            items += answer["Responses"].get(self.name, [])
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                return [_attempt(item) for item in items]
        raise Unavailable("read attempts: some keys stayed unprocessed")

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Note attempts, 25 in a request; what stays unprocessed is tried again, then raised."""
        for chunk in chunks(attempts, WRITES_PER_CALL):
            pending = {self.name: [{"PutRequest": {"Item": self._item(attempt)}} for attempt in chunk]}
            for _ in range(_BATCH_TRIES):
                with translated("note attempts"):
                    answer = self.client.batch_write_item(RequestItems=pending)
                pending = answer.get("UnprocessedItems") or {}
                if not pending:
                    break
            else:
                raise Unavailable("note attempts: some items stayed unprocessed")

    def of_event(self, event_id: str) -> list[Attempt]:
        """All attempts of a letter (strongly consistent)."""
        query = {
            "TableName": self.name,
            "KeyConditionExpression": "eventId = :letter",
            "ExpressionAttributeValues": {":letter": {"S": event_id}},
            "ConsistentRead": True,
        }
        with translated("read the letter's attempts"):
            pages = self.client.get_paginator("query").paginate(**query)
            return [_attempt(item) for page in pages for item in page["Items"]]

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
        return item


def _key(key: AttemptKey) -> dict[str, Any]:
    return {"eventId": {"S": key.event_id}, "attempt": {"S": key.sort_key}}


def _attempt(item: Mapping[str, Any]) -> Attempt:
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
    )
