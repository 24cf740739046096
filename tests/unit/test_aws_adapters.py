"""The AWS adapters on real clients: every answer of a service becomes a value or a named error, partial failure too.

botocore's Stubber checks each request against the service's model and answers with botocore's own exceptions; what the
network does is produced by sockets on the loopback interface.
"""

from __future__ import annotations

import io
import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from holdfast.adapters import aws
from holdfast.adapters.batches import TRIES
from holdfast.adapters.dynamodb import (
    EVENT_BYTES_LIMIT,
    PACK_FROM_BYTES,
    AttemptsTable,
    AttemptsTableWriter,
    EventsTable,
    EventsTableWriter,
)
from holdfast.adapters.eventbridge import EnrichedBus, TriageEventBus
from holdfast.adapters.s3 import ArchiveBucket
from holdfast.adapters.secrets import Credentials, CredentialsSecret
from holdfast.adapters.sqs import BufferConsumer, BufferSender
from holdfast.adapters.stepfunctions import CallbackTokens, TriageExecutions
from holdfast.domain.attempts import Attempt, AttemptKey, Status
from holdfast.domain.errors import (
    DEFERRED,
    Failure,
    HoldfastError,
    InvalidEvent,
    InvalidInput,
    MalformedBody,
    Misconfigured,
    Rejected,
    SnapshotConflict,
    SnapshotMissing,
    Throttled,
    TransientError,
    Unavailable,
)
from holdfast.domain.fan_out import Publication
from holdfast.domain.letters import Outgoing
from holdfast.domain.ports import Execution, ExecutionReport, StorableEvent, Stored
from tests.fakes import NOW, FakeDeadline, FakeObjects
from tests.unit.samples import PERSONAL

MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:triage"
EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:triage:"


@cache
def client_of(service: str) -> Any:
    return boto3.client(service, region_name="eu-central-1", aws_access_key_id="nobody", aws_secret_access_key="nobody")


class Service:
    """One stubbed client: answers are queued, and all have to be asked for."""

    def __init__(self, name: str) -> None:
        self.client = client_of(name)
        self.stub = Stubber(self.client)
        self.stub.activate()

    def answers(self, operation: str, response: dict[str, Any], expected: dict[str, Any] | None = None) -> None:
        self.stub.add_response(operation, response, expected)

    def refuses(self, operation: str, code: str, status: int = 400) -> None:
        self.stub.add_client_error(operation, code, PERSONAL, status)


@pytest.fixture
def service() -> Iterator[Callable[[str], Service]]:
    made: list[Service] = []

    def make(name: str) -> Service:
        made.append(Service(name))
        return made[-1]

    yield make
    for one in made:
        one.stub.deactivate()
        one.stub.assert_no_pending_responses()


Make = Callable[[str], Service]

# -- the one table of errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, Throttled),
        ("ProvisionedThroughputExceededException", 400, Throttled),
        ("RequestLimitExceeded", 400, Throttled),
        ("TooManyRequestsException", 429, Throttled),
        ("InternalServerError", 500, Unavailable),
        ("TransactionConflictException", 400, Unavailable),
        ("SomethingNew", 500, Unavailable),
        ("SomethingNew", 503, Unavailable),
        ("AccessDeniedException", 400, Misconfigured),
        ("ResourceNotFoundException", 400, Misconfigured),
        ("UnrecognizedClientException", 400, Misconfigured),
        ("ExpiredTokenException", 400, Misconfigured),
        ("ValidationException", 400, Rejected),
        ("ItemCollectionSizeLimitExceeded", 400, Rejected),
    ],
)
def test_a_service_s_code_becomes_our_error_and_its_text_stays_out(
    service: Make, code: str, status: int, kind: type[HoldfastError]
) -> None:
    dynamodb = service("dynamodb")
    dynamodb.refuses("get_item", code, status)
    with pytest.raises(kind) as caught:
        reader(dynamodb).holds("event-1")
    assert type(caught.value) is kind
    assert str(caught.value) == f"look up the event: {code}"
    assert isinstance(caught.value.__cause__, ClientError)


def test_a_code_that_nobody_has_thought_about_passes_untouched(service: Make) -> None:
    dynamodb = service("dynamodb")
    dynamodb.refuses("get_item", "SomethingNew", 400)
    with pytest.raises(ClientError):
        reader(dynamodb).holds("event-1")


def loopback_client(port: int, **more: Any) -> Any:
    return boto3.client(
        "sqs",
        region_name="eu-central-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nobody",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, **more),
    )


def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        queue = BufferConsumer(loopback_client(unused.getsockname()[1]), "http://127.0.0.1/queue")
        with pytest.raises(Unavailable, match="delete_message_batch: EndpointConnectionError"):
            queue.delete(["receipt"])


def test_an_answer_that_never_comes_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = BufferConsumer(loopback_client(silent.getsockname()[1], read_timeout=0.05), "http://127.0.0.1/queue")
        with pytest.raises(Unavailable, match="ReadTimeoutError"):
            queue.delete(["receipt"])


def test_a_client_that_cannot_even_ask_is_misconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    nobody = boto3.session.Session(region_name="eu-central-1").client("sqs", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(Misconfigured, match="NoCredentialsError"):
        BufferConsumer(nobody, "http://127.0.0.1/queue").delete(["receipt"])


def test_the_tree_of_errors_says_what_a_retry_can_mend() -> None:
    transient = {Throttled, Unavailable, Misconfigured}
    permanent = {MalformedBody, InvalidEvent, Rejected, SnapshotConflict, SnapshotMissing, InvalidInput}
    assert {kind.permanent for kind in transient} == {False}
    assert {kind.permanent for kind in permanent} == {True}
    assert set(TransientError.__subclasses__()) == transient


def test_a_failure_is_short_and_an_unforeseen_error_shows_type_and_place_only() -> None:
    assert len(Failure.of(Unavailable("x" * 9_000)).message) == 500
    try:
        {}[PERSONAL]
    except KeyError as error:
        failure = Failure.of(error)
    assert (failure.category, failure.error_type) == ("UNKNOWN", "KeyError")
    assert re.fullmatch(r"unexpected error at test_aws_adapters.py:\d+", failure.message)


def test_clients_are_made_once() -> None:
    aws.client.cache_clear()
    assert aws.client("sqs") is aws.client("sqs")
    assert aws.client("sqs").meta.config.read_timeout == 10


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_chunks_are_full_in_order_and_leave_nothing_out(count: int, sizes: list[int]) -> None:
    found = list(aws.chunks(range(count), 3))
    assert [len(chunk) for chunk in found] == sizes
    assert [value for chunk in found for value in chunk] == list(range(count))


# -- the events table ----------------------------------------------------------------------------------------------


def table(dynamodb: Service, overflow: FakeObjects | None = None) -> EventsTableWriter:
    return EventsTableWriter(dynamodb.client, "events", 30, overflow or FakeObjects())  # type: ignore[arg-type]


def reader(dynamodb: Service) -> EventsTable:
    return EventsTable(dynamodb.client, "events")


def storable(event_id: str = "event-1", text: str = "{}") -> StorableEvent:
    return StorableEvent(event_id, "genesys.cloud", "topic", "2026-11-23T10:00:00.000Z", "conversation-1", NOW, text)


def test_one_statement_inserts_one_event_with_all_its_attributes(service: Make) -> None:
    dynamodb = service("dynamodb")
    statement = {
        "Statement": "INSERT INTO \"events\" VALUE {'eventId': ?, 'source': ?, 'detailType': ?, 'receivedAt': ?, "
        "'expiresAt': ?, 'eventTime': ?, 'conversationId': ?, 'event': ?}",
        "Parameters": [
            {"S": "event-1"},
            {"S": "genesys.cloud"},
            {"S": "topic"},
            {"S": "2026-11-23T12:00:00.000Z"},
            {"N": str(int(datetime(2026, 12, 23, 12, tzinfo=UTC).timestamp()))},
            {"S": "2026-11-23T10:00:00.000Z"},
            {"S": "conversation-1"},
            {"S": "{}"},
        ],
    }
    dynamodb.answers("batch_execute_statement", {"Responses": [{}]}, {"Statements": [statement]})
    assert table(dynamodb).store([storable()], FakeDeadline()) == {"event-1": Stored.NEW}


def test_what_an_event_does_not_name_is_left_out(service: Make) -> None:
    dynamodb = service("dynamodb")
    dynamodb.answers("batch_execute_statement", {"Responses": [{}]})
    bare = replace(storable(), event_time=None, conversation_id=None)
    assert "eventTime" not in table(dynamodb)._item(bare)
    assert table(dynamodb).store([bare], FakeDeadline()) == {"event-1": Stored.NEW}


@pytest.mark.parametrize(
    ("code", "category", "permanent"),
    [
        ("ThrottlingError", "THROTTLED_UPSTREAM", False),
        ("ProvisionedThroughputExceeded", "THROTTLED_UPSTREAM", False),
        ("RequestLimitExceeded", "THROTTLED_UPSTREAM", False),
        ("InternalServerError", "UNAVAILABLE", False),
        ("TransactionConflict", "UNAVAILABLE", False),
        ("AccessDenied", "MISCONFIGURED", False),
        ("ResourceNotFound", "MISCONFIGURED", False),
        ("ValidationError", "REJECTED", True),
        ("ItemCollectionSizeLimitExceeded", "REJECTED", True),
        ("ConditionalCheckFailed", "UNKNOWN", False),
    ],
)
def test_each_statement_has_its_own_result(service: Make, code: str, category: str, permanent: bool) -> None:
    dynamodb = service("dynamodb")
    errors = [{}, {"Error": {"Code": "DuplicateItem"}}, {"Error": {"Code": code, "Message": PERSONAL}}]
    dynamodb.answers("batch_execute_statement", {"Responses": errors})
    results = table(dynamodb).store([storable(f"event-{n}") for n in range(3)], FakeDeadline())
    assert (results["event-0"], results["event-1"]) == (Stored.NEW, Stored.DUPLICATE)
    failure = results["event-2"]
    assert isinstance(failure, Failure)
    assert (failure.category, failure.permanent) == (category, permanent)
    assert PERSONAL not in failure.message


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (24, 1), (25, 1), (26, 2), (51, 3)])
def test_a_request_holds_at_most_25_statements(service: Make, count: int, calls: int) -> None:
    dynamodb = service("dynamodb")
    for number in range(calls):
        size = min(25, count - number * 25)
        dynamodb.answers("batch_execute_statement", {"Responses": [{}] * size}, {"Statements": [ANY] * size})
    results = table(dynamodb).store([storable(f"event-{n}") for n in range(count)], FakeDeadline())
    assert list(results.values()) == [Stored.NEW] * count


def test_a_request_that_fails_is_the_failure_of_its_own_events_only(service: Make) -> None:
    dynamodb = service("dynamodb")
    dynamodb.refuses("batch_execute_statement", "ThrottlingException")
    dynamodb.answers("batch_execute_statement", {"Responses": [{}]})
    results = table(dynamodb).store([storable(f"event-{n}") for n in range(26)], FakeDeadline())
    assert results["event-25"] is Stored.NEW
    assert {result.category for result in results.values() if isinstance(result, Failure)} == {"THROTTLED_UPSTREAM"}
    assert len(results) == 26


def test_without_time_for_a_further_request_its_events_are_deferred(service: Make) -> None:
    dynamodb = service("dynamodb")
    dynamodb.answers("batch_execute_statement", {"Responses": [{}] * 25})
    results = table(dynamodb).store([storable(f"event-{n}") for n in range(26)], FakeDeadline(1, 0))
    assert [result for result in results.values() if result is DEFERRED] == [DEFERRED]
    assert results["event-25"] is DEFERRED


def test_when_no_event_of_a_request_has_a_place_nothing_is_sent(service: Make) -> None:
    overflow = FakeObjects()
    overflow.journal.fail_always("objects.create", Unavailable("down"))
    noise = "".join(chr(0x4E00 + (n * 7919 + n * n * 104_729) % 20_000) for n in range(400_000))
    results = table(service("dynamodb"), overflow).store([storable(text=noise)], FakeDeadline())
    assert results == {"event-1": Failure.of(Unavailable("down"))}


def test_an_event_is_packed_where_that_pays() -> None:
    text = "é" * (PACK_FROM_BYTES - 1)
    assert EventsTableWriter(None, "t", 1, FakeObjects())._content(storable(text=text)) == {"event": {"S": text}}
    packed = EventsTableWriter(None, "t", 1, FakeObjects())._content(storable(text=text + "é"))
    assert zlib.decompress(packed["eventPacked"]["B"]).decode() == text + "é"


def test_an_event_too_large_for_an_item_stands_beside_the_table(service: Make) -> None:
    dynamodb = service("dynamodb")
    noise = "".join(chr(0x4E00 + (n * 7919 + n * n * 104_729) % 20_000) for n in range(400_000))
    assert len(zlib.compress(noise.encode(), level=1)) > EVENT_BYTES_LIMIT
    overflow = FakeObjects()
    for _ in range(2):  # what stands there already is the same event's first delivery
        dynamodb.answers("batch_execute_statement", {"Responses": [{}]})
        table(dynamodb, overflow).store([storable(text=noise)], FakeDeadline())
    assert overflow.texts == {"events/event-1.json": noise}
    pointer = table(dynamodb, overflow)._content(storable(text=noise))
    assert pointer == {"eventPointer": {"M": {"bucket": {"S": "archive-bucket"}, "key": {"S": "events/event-1.json"}}}}


@pytest.mark.parametrize("error", [Unavailable("down"), RuntimeError(PERSONAL)])
def test_an_event_that_finds_no_place_beside_the_table_costs_no_mate(service: Make, error: Exception) -> None:
    dynamodb = service("dynamodb")
    dynamodb.answers("batch_execute_statement", {"Responses": [{}]}, {"Statements": [ANY]})
    overflow = FakeObjects()
    overflow.journal.fail_always("objects.create", error)
    noise = "".join(chr(0x4E00 + (n * 7919 + n * n * 104_729) % 20_000) for n in range(400_000))
    results = table(dynamodb, overflow).store([storable("event-1", noise), storable("event-2")], FakeDeadline())
    assert results == {"event-1": Failure.of(error), "event-2": Stored.NEW}


@pytest.mark.parametrize(("answer", "holds"), [({"Item": {"eventId": {"S": "event-1"}}}, True), ({}, False)])
def test_whether_the_table_holds_an_event_is_a_consistent_read(
    service: Make, answer: dict[str, Any], holds: bool
) -> None:
    dynamodb = service("dynamodb")
    expected = {
        "TableName": "events",
        "Key": {"eventId": {"S": "event-1"}},
        "ConsistentRead": True,
        "ProjectionExpression": "eventId",
    }
    dynamodb.answers("get_item", answer, expected)
    assert reader(dynamodb).holds("event-1") is holds


def test_a_range_of_the_table_is_read_page_by_page_and_can_go_on_where_it_stopped(service: Make) -> None:
    dynamodb = service("dynamodb")
    request = {
        "TableName": "events",
        "FilterExpression": "receivedAt >= :begin AND receivedAt < :end",
        "ExpressionAttributeValues": {":begin": {"S": "a"}, ":end": {"S": "b"}},
    }
    items = [{"eventId": {"S": f"event-{n}"}} for n in (1, 2)]
    place = {"eventId": {"S": "event-1"}}
    dynamodb.answers("scan", {"Items": items[:1], "LastEvaluatedKey": place}, request)
    dynamodb.answers("scan", {"Items": items[1:]}, {**request, "ExclusiveStartKey": place})
    assert list(reader(dynamodb).received_between("a", "b", None)) == [(items[:1], "event-1"), (items[1:], None)]
    dynamodb.answers("scan", {"Items": items[1:]}, {**request, "ExclusiveStartKey": place})
    assert list(reader(dynamodb).received_between("a", "b", "event-1")) == [(items[1:], None)]
    dynamodb.refuses("scan", "ThrottlingException")
    with pytest.raises(Throttled):
        list(reader(dynamodb).received_between("a", "b", None))


# -- the attempt log ----------------------------------------------------------------------------------------------------


def attempt_log(dynamodb: Service) -> AttemptsTableWriter:
    return AttemptsTableWriter(dynamodb.client, "attempts", 30)


def history_of(dynamodb: Service) -> AttemptsTable:
    return AttemptsTable(dynamodb.client, "attempts")


def attempt(number: int = 1, failure: Failure | None = None) -> Attempt:
    key = AttemptKey("event-1", f"message#{number}", 2)
    return Attempt(key, Status.FAILED if failure else Status.STARTED, "2026-11-23T12:00:00.000Z", "request-1", failure)


@pytest.mark.parametrize("failure", [None, Failure("UNAVAILABLE", "U", "m"), Failure("X", "Y", "z", True, 1.5)])
def test_an_attempt_is_read_as_it_was_written(service: Make, failure: Failure | None) -> None:
    dynamodb = service("dynamodb")
    item = attempt_log(dynamodb)._item(attempt(failure=failure))
    dynamodb.answers(
        "batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": {"attempts": [{"PutRequest": {"Item": item}}]}}
    )
    dynamodb.answers("batch_get_item", {"Responses": {"attempts": [item]}})
    attempt_log(dynamodb).write([attempt(failure=failure)])
    assert item["attempt"] == {"S": "message#1#2"}
    assert attempt_log(dynamodb).read([attempt().key]) == {attempt().key: attempt(failure=failure)}


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (24, [24]), (25, [25]), (26, [25, 1])])
def test_a_request_holds_at_most_25_attempts(service: Make, count: int, sizes: list[int]) -> None:
    dynamodb = service("dynamodb")
    for size in sizes:
        dynamodb.answers("batch_write_item", {}, {"RequestItems": {"attempts": [ANY] * size}})
    attempt_log(dynamodb).write([attempt(n) for n in range(count)])


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (99, [99]), (100, [100]), (101, [100, 1])])
def test_a_request_asks_for_at_most_100_attempts(service: Make, count: int, sizes: list[int]) -> None:
    dynamodb = service("dynamodb")
    for size in sizes:
        expected = {"RequestItems": {"attempts": {"Keys": [ANY] * size, "ConsistentRead": True}}}
        dynamodb.answers("batch_get_item", {"Responses": {}}, expected)
    assert attempt_log(dynamodb).read([attempt(n).key for n in range(count)]) == {}


def test_items_left_unprocessed_are_written_again(service: Make) -> None:
    dynamodb = service("dynamodb")
    left = {"attempts": [{"PutRequest": {"Item": attempt_log(dynamodb)._item(attempt(2))}}]}
    dynamodb.answers("batch_write_item", {"UnprocessedItems": left})
    dynamodb.answers("batch_write_item", {}, {"RequestItems": left})
    attempt_log(dynamodb).write([attempt(1), attempt(2)])


def test_items_that_stay_unprocessed_are_an_error(service: Make) -> None:
    dynamodb = service("dynamodb")
    left = {"attempts": [{"PutRequest": {"Item": attempt_log(dynamodb)._item(attempt())}}]}
    for _ in range(TRIES):
        dynamodb.answers("batch_write_item", {"UnprocessedItems": left})
    with pytest.raises(Unavailable, match="unprocessed"):
        attempt_log(dynamodb).write([attempt()])


def test_keys_left_unprocessed_are_asked_for_again_and_then_an_error(service: Make) -> None:
    dynamodb = service("dynamodb")
    item = attempt_log(dynamodb)._item(attempt())
    keys = {"attempts": {"Keys": [{"eventId": item["eventId"], "attempt": item["attempt"]}], "ConsistentRead": True}}
    dynamodb.answers("batch_get_item", {"Responses": {"attempts": []}, "UnprocessedKeys": keys})
    dynamodb.answers("batch_get_item", {"Responses": {"attempts": [item]}}, {"RequestItems": keys})
    assert attempt_log(dynamodb).read([attempt().key]) == {attempt().key: attempt()}
    for _ in range(TRIES):
        dynamodb.answers("batch_get_item", {"Responses": {}, "UnprocessedKeys": keys})
    with pytest.raises(Unavailable, match="unprocessed"):
        attempt_log(dynamodb).read([attempt().key])


def test_all_attempts_of_a_letter_are_read_page_by_page(service: Make) -> None:
    dynamodb = service("dynamodb")
    items = [attempt_log(dynamodb)._item(attempt(n)) for n in range(2)]
    place = {"eventId": {"S": "event-1"}, "attempt": {"S": "x"}}
    dynamodb.answers("query", {"Items": items[:1], "LastEvaluatedKey": place})
    dynamodb.answers("query", {"Items": items[1:]})
    assert history_of(dynamodb).of_event("event-1") == [attempt(0), attempt(1)]


def test_a_ledger_that_refuses_is_a_named_error(service: Make) -> None:
    dynamodb = service("dynamodb")
    for operation in ("query", "batch_get_item", "batch_write_item"):
        dynamodb.refuses(operation, "AccessDeniedException")
    with pytest.raises(Misconfigured):
        history_of(dynamodb).of_event("event-1")
    with pytest.raises(Misconfigured):
        attempt_log(dynamodb).read([attempt().key])
    with pytest.raises(Misconfigured):
        attempt_log(dynamodb).write([attempt()])


# -- the buffer queue ----------------------------------------------------------------------------------------------


def sender(sqs: Service) -> BufferSender:
    return BufferSender(sqs.client, "https://sqs/queue")


def queue(sqs: Service) -> BufferConsumer:
    return BufferConsumer(sqs.client, "https://sqs/queue")


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (9, [9]), (10, [10]), (11, [10, 1])])
def test_a_request_of_the_queue_holds_at_most_ten_entries(service: Make, count: int, sizes: list[int]) -> None:
    sqs = service("sqs")
    for size in sizes:
        sqs.answers(
            "delete_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": ANY, "Entries": [ANY] * size}
        )
    queue(sqs).delete([f"receipt-{n}" for n in range(count)])


def test_visibilities_are_set_per_message(service: Make) -> None:
    sqs = service("sqs")
    entries = [
        {"Id": "0", "ReceiptHandle": "a", "VisibilityTimeout": 0},
        {"Id": "1", "ReceiptHandle": "b", "VisibilityTimeout": 42_300},
    ]
    expected = {"QueueUrl": "https://sqs/queue", "Entries": entries}
    sqs.answers("change_message_visibility_batch", {"Successful": [], "Failed": []}, expected)
    queue(sqs).set_visibility({"a": 0, "b": 42_300})


def test_refused_entries_are_an_error_after_all_were_tried(service: Make) -> None:
    sqs = service("sqs")
    refused = {"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": PERSONAL}
    sqs.answers("delete_message_batch", {"Successful": [], "Failed": [refused]})
    sqs.answers("delete_message_batch", {"Successful": [], "Failed": []})
    with pytest.raises(Unavailable, match="1 entries were refused"):
        queue(sqs).delete([f"receipt-{n}" for n in range(11)])


@pytest.mark.parametrize("group", [None, "group-1"])
def test_a_message_is_sent_with_its_attributes_and_its_group(service: Make, group: str | None) -> None:
    sqs = service("sqs")
    attributes = {"Bytes": {"DataType": "Binary", "BinaryValue": b"\x00"}}
    expected = {"QueueUrl": "https://sqs/queue", "MessageBody": "body", "MessageAttributes": attributes}
    sqs.answers("send_message", {"MessageId": "new-id"}, expected | ({"MessageGroupId": group} if group else {}))
    assert sender(sqs).send(Outgoing("body", attributes, group, stamped=True)) == "new-id"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", Misconfigured),
        ("RequestThrottled", Throttled),
        ("OverLimit", Throttled),
    ],
)
def test_a_queue_that_refuses_is_a_named_error(service: Make, code: str, kind: type[HoldfastError]) -> None:
    sqs = service("sqs")
    sqs.refuses("send_message", code)
    with pytest.raises(kind):
        sender(sqs).send(Outgoing("body", {}, None, stamped=False))


# -- the archive bucket --------------------------------------------------------------------------------------------


def bucket(s3: Service) -> ArchiveBucket:
    return ArchiveBucket(s3.client, "archive-bucket")


def streamed(data: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(data), len(data))}


def test_an_object_is_written_once_and_checked_by_its_sha_256(service: Make) -> None:
    s3 = service("s3")
    expected = {
        "Bucket": "archive-bucket",
        "Key": "key",
        "Body": "Zoë".encode(),
        "ContentType": "application/json",
        "ChecksumAlgorithm": "SHA256",
        "IfNoneMatch": "*",
    }
    s3.answers("put_object", {}, expected)
    s3.refuses("put_object", "PreconditionFailed", 412)
    assert bucket(s3).create("key", "Zoë") is True
    assert bucket(s3).create("key", "Zoë") is False


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ConditionalRequestConflict", 409, Unavailable),
        ("OperationAborted", 409, Unavailable),
        ("BadDigest", 400, Unavailable),
        ("SlowDown", 503, Throttled),
        ("AccessDenied", 403, Misconfigured),
        ("NoSuchBucket", 404, Misconfigured),
        ("InternalError", 500, Unavailable),
    ],
)
def test_an_object_that_could_not_be_written_is_a_named_error(
    service: Make, code: str, status: int, kind: type[HoldfastError]
) -> None:
    s3 = service("s3")
    s3.refuses("put_object", code, status)
    with pytest.raises(kind):
        bucket(s3).create("key", "text")


def test_an_object_is_read_or_is_not_there(service: Make) -> None:
    s3 = service("s3")
    s3.answers("get_object", streamed("Zoë".encode()))
    s3.refuses("get_object", "NoSuchKey", 404)
    s3.refuses("get_object", "AccessDenied", 403)
    assert bucket(s3).read("key") == "Zoë"
    assert bucket(s3).read("key") is None
    with pytest.raises(Misconfigured):
        bucket(s3).read("key")


def test_tags_are_read_as_they_were_written(service: Make) -> None:
    s3 = service("s3")
    tags = {"TagSet": [{"Key": "replayed", "Value": "true"}]}
    s3.answers("put_object_tagging", {}, {"Bucket": "archive-bucket", "Key": "key", "Tagging": tags})
    s3.answers("get_object_tagging", tags)
    bucket(s3).tag("key", {"replayed": "true"})
    assert bucket(s3).tags("key") == {"replayed": "true"}


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (999, [999]), (1_000, [1_000]), (1_001, [1_000, 1])])
def test_a_request_deletes_at_most_a_thousand_objects(service: Make, count: int, sizes: list[int]) -> None:
    s3 = service("s3")
    for size in sizes:
        s3.answers(
            "delete_objects", {}, {"Bucket": "archive-bucket", "Delete": {"Objects": [ANY] * size, "Quiet": True}}
        )
    bucket(s3).delete([f"key-{n}" for n in range(count)])


def test_objects_that_could_not_be_deleted_are_an_error(service: Make) -> None:
    s3 = service("s3")
    s3.answers("delete_objects", {"Errors": [{"Key": "key", "Code": "InternalError"}]})
    with pytest.raises(Unavailable, match="1 objects"):
        bucket(s3).delete(["key"])


def test_all_objects_below_a_prefix_are_listed_page_by_page(service: Make) -> None:
    s3 = service("s3")
    s3.answers(
        "list_objects_v2",
        {"Contents": [{"Key": "a", "LastModified": NOW}], "IsTruncated": True, "NextContinuationToken": "t"},
    )
    s3.answers("list_objects_v2", {"Contents": [{"Key": "b", "LastModified": NOW}], "IsTruncated": False})
    s3.answers("list_objects_v2", {"IsTruncated": False})
    assert [found.key for found in bucket(s3).list("x")] == ["a", "b"]
    assert list(bucket(s3).list("x")) == []


def test_a_bucket_that_cannot_be_listed_is_a_named_error(service: Make) -> None:
    s3 = service("s3")
    s3.refuses("list_objects_v2", "AccessDenied", 403)
    with pytest.raises(Misconfigured):
        list(bucket(s3).list("x"))


# -- the triage machine --------------------------------------------------------------------------------------------


def machine(states: Service) -> TriageExecutions:
    return TriageExecutions(states.client, MACHINE)


def tokens(states: Service) -> CallbackTokens:
    return CallbackTokens(states.client)


def test_an_execution_is_started_by_its_name_or_the_name_is_taken(service: Make) -> None:
    states = service("stepfunctions")
    answer = {"executionArn": EXECUTION + "name", "startDate": NOW}
    states.answers("start_execution", answer, {"stateMachineArn": MACHINE, "name": "name", "input": '{"a": 1}'})
    states.refuses("start_execution", "ExecutionAlreadyExists")
    assert machine(states).start("name", {"a": 1}) is True
    assert machine(states).start("name", {"a": 1}) is False


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", Throttled),
        ("ExecutionLimitExceeded", Throttled),
        ("StateMachineDoesNotExist", Misconfigured),
        ("AccessDeniedException", Misconfigured),
    ],
)
def test_a_start_that_fails_is_a_named_error(service: Make, code: str, kind: type[HoldfastError]) -> None:
    states = service("stepfunctions")
    states.refuses("start_execution", code)
    with pytest.raises(kind):
        machine(states).start("name", {})


def described(status: str, **more: Any) -> dict[str, Any]:
    return {
        "executionArn": EXECUTION + "name", "stateMachineArn": MACHINE, "status": status, "startDate": NOW, **more,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["name", EXECUTION + "name"])
def test_an_execution_is_looked_at_by_its_name_or_its_arn(service: Make, name: str) -> None:
    states = service("stepfunctions")
    told = described("SUCCEEDED", input='{"eventId": "event-1"}', output='{"a": 1}')
    states.answers("describe_execution", told, {"executionArn": EXECUTION + "name"})
    assert machine(states).describe(name) == ExecutionReport(Execution.SUCCEEDED, "event-1", {"a": 1})


@pytest.mark.parametrize("status", [status for status in Execution if status is not Execution.ABSENT])
def test_every_status_of_an_execution_is_known(service: Make, status: Execution) -> None:
    states = service("stepfunctions")
    states.answers("describe_execution", described(status.value))
    assert machine(states).describe("name") == ExecutionReport(status)


@pytest.mark.parametrize("code", ["ExecutionDoesNotExist", "InvalidArn", "ValidationException"])
def test_an_execution_that_nobody_knows_is_absent(service: Make, code: str) -> None:
    states = service("stepfunctions")
    states.refuses("describe_execution", code)
    assert machine(states).describe("name").status is Execution.ABSENT


def test_another_machine_s_execution_is_absent_without_asking(service: Make) -> None:
    states = service("stepfunctions")
    another = EXECUTION.replace("triage", "payroll") + "name"
    assert machine(states).describe(another).status is Execution.ABSENT
    assert machine(states).last_input(another) == {}


def history(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [{"timestamp": NOW, "id": number, **event} for number, event in enumerate(events, 1)]
    return {"events": numbered, **more}


def test_the_last_input_is_that_of_the_state_that_was_entered_last(service: Make) -> None:
    states = service("stepfunctions")
    asked = {"executionArn": EXECUTION + "name", "reverseOrder": True}
    aborted = {"type": "ExecutionAborted", "executionAbortedEventDetails": {}}
    failed = {"type": "TaskFailed", "taskFailedEventDetails": {"resourceType": "lambda", "resource": "invoke"}}
    entered = {
        "type": "TaskStateEntered",
        "stateEnteredEventDetails": {"name": "Redrive", "input": '{"redrives": 2}'},
    }
    older = {
        "type": "TaskStateEntered",
        "stateEnteredEventDetails": {"name": "Classify", "input": '{"redrives": 1}'},
    }
    states.answers("get_execution_history", history(aborted, failed, nextToken="more"), asked)
    states.answers("get_execution_history", history(entered, older), {**asked, "nextToken": "more"})
    assert machine(states).last_input("name") == {"redrives": 2}


def test_an_execution_that_entered_no_state_has_what_it_was_started_with(service: Make) -> None:
    states = service("stepfunctions")
    started = {"type": "ExecutionStarted", "executionStartedEventDetails": {"input": '{"redrives": 0}'}}
    states.answers("get_execution_history", history(started))
    assert machine(states).last_input("name") == {"redrives": 0}


def test_a_history_that_is_gone_or_empty_hands_over_nothing(service: Make) -> None:
    states = service("stepfunctions")
    states.refuses("get_execution_history", "ExecutionDoesNotExist")
    states.answers("get_execution_history", history())
    assert machine(states).last_input("name") == machine(states).last_input("name") == {}
    states.refuses("get_execution_history", "ThrottlingException")
    with pytest.raises(Throttled):
        machine(states).last_input("name")


def test_a_waiting_execution_is_woken_or_nobody_waits(service: Make) -> None:
    states = service("stepfunctions")
    states.answers("send_task_success", {}, {"taskToken": "token", "output": '{"outcome": "STORED"}'})
    states.answers(
        "send_task_failure", {}, {"taskToken": "token", "error": "DeadLetteredAgain", "cause": '{"snapshot": "k"}'}
    )
    assert tokens(states).succeed("token", {"outcome": "STORED"}) is True
    assert tokens(states).fail("token", "DeadLetteredAgain", {"snapshot": "k"}) is True
    for code in ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken"):
        states.refuses("send_task_success", code)
        states.refuses("send_task_failure", code)
        assert tokens(states).succeed("token", {}) is False
        assert tokens(states).fail("token", "DeadLetteredAgain", {}) is False


def test_an_answer_that_fails_is_a_named_error(service: Make) -> None:
    states = service("stepfunctions")
    states.refuses("send_task_success", "ThrottlingException")
    with pytest.raises(Throttled):
        tokens(states).succeed("token", {})
    states.refuses("describe_execution", "ThrottlingException")
    with pytest.raises(Throttled):
        machine(states).describe("name")


# -- the enriched bus ----------------------------------------------------------------------------------------------


def bus(events: Service) -> EnrichedBus:
    return EnrichedBus(events.client, "enriched")


def triage_bus(events: Service) -> TriageEventBus:
    return TriageEventBus(events.client, "enriched")


def publications(count: int) -> list[Publication]:
    return [Publication(str(n), f"event-{n}", "topic", "{}") for n in range(count)]


def test_an_outcome_is_published_under_triage_s_own_source(service: Make) -> None:
    events = service("events")
    entry = {
        "EventBusName": "enriched",
        "Source": "holdfast.triage",
        "DetailType": "Dead Letter Archived",
        "Detail": '{"a": 1}',
    }
    events.answers("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]}, {"Entries": [entry]})
    triage_bus(events).publish("Dead Letter Archived", {"a": 1})


@pytest.mark.parametrize(("code", "kind"), [("ThrottlingException", Throttled), ("SomethingNew", Unavailable)])
def test_an_outcome_that_the_bus_does_not_take_is_an_error(service: Make, code: str, kind: type[HoldfastError]) -> None:
    events = service("events")
    events.answers("put_events", {"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": PERSONAL}]})
    with pytest.raises(kind) as caught:
        triage_bus(events).publish("t", {})
    assert PERSONAL not in str(caught.value)


def test_entries_that_failed_are_tried_again_before_they_are_given_up(service: Make) -> None:
    events = service("events")
    refused = {"ErrorCode": "InternalFailure"}
    events.answers(
        "put_events", {"FailedEntryCount": 2, "Entries": [{"EventId": "x"}, refused, refused]}, {"Entries": [ANY] * 3}
    )
    events.answers(
        "put_events", {"FailedEntryCount": 1, "Entries": [{"EventId": "x"}, refused]}, {"Entries": [ANY] * 2}
    )
    events.answers("put_events", {"FailedEntryCount": 1, "Entries": [refused]}, {"Entries": [ANY]})
    assert [one.sequence_number for one in bus(events).publish_all(publications(3))] == ["2"]


def test_a_request_that_fails_at_every_try_gives_up_its_own_entries_only(service: Make) -> None:
    events = service("events")
    for _ in range(TRIES):
        events.refuses("put_events", "ThrottlingException")
    events.answers("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})
    assert bus(events).publish_all(publications(11)) == publications(10)


def test_nothing_to_publish_asks_nobody(service: Make) -> None:
    assert bus(service("events")).publish_all([]) == []


# -- the secret ----------------------------------------------------------------------------------------------------


def secret(manager: Service) -> CredentialsSecret:
    return CredentialsSecret(manager.client, "arn:secret")


def test_the_secret_is_read_once_and_again_when_it_was_refused(service: Make) -> None:
    manager = service("secretsmanager")
    for password in ("old", "old", "new"):
        text = json.dumps({"clientId": "id", "clientSecret": password})
        manager.answers("get_secret_value", {"SecretString": text}, {"SecretId": "arn:secret"})
    credentials = secret(manager)
    assert credentials.get() is credentials.get()
    assert credentials.renewed() is False
    assert credentials.renewed() is True
    assert credentials.get().client_secret == "new"


@pytest.mark.parametrize("text", ["oops hunter2", "null", "[]", '{"clientId": "hunter2"}', '"hunter2"'])
def test_a_secret_that_is_none_is_misconfigured_and_not_told(service: Make, text: str) -> None:
    manager = service("secretsmanager")
    manager.answers("get_secret_value", {"SecretString": text})
    with pytest.raises(Misconfigured) as caught:
        secret(manager).get()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_binary_secret_is_misconfigured(service: Make) -> None:
    manager = service("secretsmanager")
    manager.answers("get_secret_value", {"SecretBinary": b"hunter2"})
    with pytest.raises(Misconfigured):
        secret(manager).get()


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
def test_a_secret_that_cannot_be_read_is_misconfigured(service: Make, code: str) -> None:
    manager = service("secretsmanager")
    manager.refuses("get_secret_value", code)
    with pytest.raises(Misconfigured):
        secret(manager).get()


def test_credentials_do_not_show_themselves() -> None:
    shown = f"{Credentials('id-x', 'secret-x')} {Credentials('id-x', 'secret-x')!r}"
    assert "id-x" not in shown
    assert "secret-x" not in shown
