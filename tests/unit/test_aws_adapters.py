"""The AWS adapters on real clients: each response becomes a value or a named error, also after a partial failure.

botocore's Stubber checks every request against the service's model. Connection errors come from loopback sockets.
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
from holdfast.adapters.pace import Pace
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
    UnknownError,
)
from holdfast.domain.fan_out import Publication
from holdfast.domain.letters import Outgoing
from holdfast.domain.ports import ExecutionDescription, ExecutionStatus, StorableEvent, Stored
from tests.fakes import NOW, FakeDeadline, FakeDynamoDb, FakeObjects
from tests.unit.samples import PERSONAL

MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:triage"
EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:triage:"


@cache
def client_of(service: str) -> Any:
    return boto3.client(service, region_name="eu-central-1", aws_access_key_id="none", aws_secret_access_key="none")


class Service:
    """A stubbed client. Responses are queued, and every one must be used."""

    def __init__(self, name: str) -> None:
        self.client = client_of(name)
        self.stub = Stubber(self.client)
        self.stub.activate()

    def responds(self, operation: str, response: dict[str, Any], expected: dict[str, Any] | None = None) -> None:
        self.stub.add_response(operation, response, expected)

    def fails(self, operation: str, code: str, status: int = 400) -> None:
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


def fixture_of(name: str) -> Any:
    @pytest.fixture
    def stubbed(service: Make) -> Service:
        return service(name)

    return stubbed


dynamodb, sqs, s3 = fixture_of("dynamodb"), fixture_of("sqs"), fixture_of("s3")
states, events, manager = fixture_of("stepfunctions"), fixture_of("events"), fixture_of("secretsmanager")


def writer(dynamodb: Any, overflow: FakeObjects | None = None) -> EventsTableWriter:
    return EventsTableWriter(dynamodb, "events", 30, overflow or FakeObjects())  # type: ignore[arg-type]


def reader(dynamodb: Service) -> EventsTable:
    return EventsTable(dynamodb.client, "events")


def attempt_log(dynamodb: Service) -> AttemptsTableWriter:
    return AttemptsTableWriter(dynamodb.client, "attempts", 30)


def queue(sqs: Service) -> BufferConsumer:
    return BufferConsumer(sqs.client, "https://sqs/queue")


def bucket(s3: Service) -> ArchiveBucket:
    return ArchiveBucket(s3.client, "archive-bucket")


def executions(states: Service) -> TriageExecutions:
    return TriageExecutions(states.client, MACHINE)


def tokens(states: Service) -> CallbackTokens:
    return CallbackTokens(states.client)


def secret(manager: Service) -> CredentialsSecret:
    return CredentialsSecret(manager.client, "arn:secret")


def storable(event_id: str = "event-1", text: str = "{}") -> StorableEvent:
    return StorableEvent(event_id, "genesys.cloud", "topic", "2026-11-23T10:00:00.000Z", "conversation-1", NOW, text)


def attempt(number: int = 1, failure: Failure | None = None) -> Attempt:
    key = AttemptKey("event-1", f"message#{number}", 2)
    return Attempt(key, Status.FAILED if failure else Status.STARTED, "2026-11-23T12:00:00.000Z", "request-1", failure)


def attempt_item(number: int = 1, **failure: Any) -> dict[str, Any]:
    """The item of :func:`attempt`."""
    return {
        "eventId": {"S": "event-1"},
        "attempt": {"S": f"message#{number}#2"},
        "status": {"S": "failed" if failure else "started"},
        "at": {"S": "2026-11-23T12:00:00.000Z"},
        "requestId": {"S": "request-1"},
        "expiresAt": {"N": str(int(datetime(2026, 12, 23, 12, tzinfo=UTC).timestamp()))},
        **failure,
    }


def enriched(events: Service) -> EnrichedBus:
    return EnrichedBus(events.client, "enriched", map, sleep=lambda _seconds: None)


def publications(count: int) -> list[Publication]:
    return [Publication(str(n), f"event-{n}", "topic", "{}") for n in range(count)]


@cache
def incompressible() -> str:
    """A text that is too large for an item even when it is compressed."""
    text = "".join(chr(0x4E00 + (n * 7919 + n * n * 104_729) % 20_000) for n in range(400_000))
    assert len(zlib.compress(text.encode(), level=1)) > EVENT_BYTES_LIMIT
    return text


# -- errors --------------------------------------------------------------------------------------------------------

#: Every call of an adapter that raises the error of its service: the service, the operation, the call.
CALLS: dict[str, tuple[str, Callable[[Service], Any]]] = {
    "get_item": ("dynamodb", lambda made: reader(made).holds("event-1")),
    "scan": ("dynamodb", lambda made: list(reader(made).received_between("a", "b", None))),
    "query": ("dynamodb", lambda made: AttemptsTable(made.client, "attempts").of_event("event-1")),
    "batch_get_item": ("dynamodb", lambda made: attempt_log(made).read([attempt().key])),
    "batch_write_item": ("dynamodb", lambda made: attempt_log(made).write([attempt()])),
    "send_message": (
        "sqs",
        lambda made: BufferSender(made.client, "https://sqs/queue").send(Outgoing("body", {}, None, stamped=False)),
    ),
    "change_message_visibility_batch": ("sqs", lambda made: queue(made).set_visibility({"receipt": 0})),
    "delete_message_batch": ("sqs", lambda made: queue(made).delete(["receipt"])),
    "put_object": ("s3", lambda made: bucket(made).create("key", "text")),
    "get_object": ("s3", lambda made: bucket(made).read("key")),
    "delete_objects": ("s3", lambda made: bucket(made).delete(["key"])),
    "list_objects_v2": ("s3", lambda made: list(bucket(made).list("x"))),
    "start_execution": ("stepfunctions", lambda made: executions(made).start("name", {})),
    "describe_execution": ("stepfunctions", lambda made: executions(made).describe("name")),
    "get_execution_history": ("stepfunctions", lambda made: executions(made).last_input("name")),
    "send_task_success": ("stepfunctions", lambda made: tokens(made).succeed("token", {})),
    "send_task_failure": ("stepfunctions", lambda made: tokens(made).fail("token", "DeadLetteredAgain", {})),
    "put_events": ("events", lambda made: TriageEventBus(made.client, "enriched").publish("t", {})),
    "get_secret_value": ("secretsmanager", lambda made: secret(made).get()),
}


@pytest.mark.parametrize("operation", CALLS)
def test_every_call_raises_a_named_error_without_the_text_of_the_service(service: Make, operation: str) -> None:
    name, call = CALLS[operation]
    made = service(name)
    made.fails(operation, "AccessDeniedException")
    with pytest.raises(Misconfigured) as caught:
        call(made)
    assert PERSONAL not in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "kind", "codes"),
    [
        ("get_item", Throttled, ["ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"]),
        ("get_item", Throttled, ["ProvisionedThroughputExceededException"]),
        ("get_item", Unavailable, ["InternalServerError", "TransactionConflictException"]),
        (
            "get_item",
            Misconfigured,
            ["ResourceNotFoundException", "UnrecognizedClientException", "ExpiredTokenException"],
        ),
        ("get_item", Rejected, ["ValidationException", "ItemCollectionSizeLimitExceeded"]),
        ("send_message", Throttled, ["RequestThrottled", "OverLimit"]),
        ("send_message", Misconfigured, ["AWS.SimpleQueueService.NonExistentQueue"]),
        ("put_object", Throttled, ["SlowDown"]),
        ("put_object", Unavailable, ["ConditionalRequestConflict", "OperationAborted", "BadDigest", "InternalError"]),
        ("put_object", Misconfigured, ["AccessDenied", "NoSuchBucket"]),
        ("start_execution", Throttled, ["ExecutionLimitExceeded"]),
        ("start_execution", Misconfigured, ["StateMachineDoesNotExist"]),
    ],
)
def test_an_error_code_of_a_service_becomes_a_named_error(
    service: Make, operation: str, kind: type[HoldfastError], codes: list[str]
) -> None:
    name, call = CALLS[operation]
    made = service(name)
    for code in codes:
        made.fails(operation, code)
        with pytest.raises(kind) as caught:
            call(made)
        assert type(caught.value) is kind
        assert str(caught.value).endswith(f": {code}")
        assert isinstance(caught.value.__cause__, ClientError)


def test_an_unknown_error_code_is_unavailable_with_a_status_of_500_and_unknown_with_its_code_otherwise(
    dynamodb: Service,
) -> None:
    for status in (500, 503):
        dynamodb.fails("get_item", "SomethingNew", status)
        with pytest.raises(Unavailable, match="SomethingNew"):
            reader(dynamodb).holds("event-1")
    dynamodb.fails("get_item", "SomethingNew", 400)
    with pytest.raises(UnknownError, match=r"^look up the event: SomethingNew$"):
        reader(dynamodb).holds("event-1")


def loopback_queue(port: int, **more: Any) -> BufferConsumer:
    client = boto3.client(
        "sqs",
        region_name="eu-central-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, **more),
    )
    return BufferConsumer(client, "http://127.0.0.1/queue")


def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="delete_message_batch: EndpointConnectionError"):
            loopback_queue(unused.getsockname()[1]).delete(["receipt"])


def test_a_read_timeout_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="ReadTimeoutError"):
        loopback_queue(silent.getsockname()[1], read_timeout=0.05).delete(["receipt"])


def test_missing_credentials_are_misconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    client = boto3.session.Session(region_name="eu-central-1").client("sqs", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(Misconfigured, match="NoCredentialsError"):
        BufferConsumer(client, "http://127.0.0.1/queue").delete(["receipt"])


def test_an_error_is_permanent_if_a_retry_cannot_help() -> None:
    transient = {Throttled, Unavailable, Misconfigured}
    permanent = {MalformedBody, InvalidEvent, Rejected, SnapshotConflict, SnapshotMissing, InvalidInput}
    assert {kind.permanent for kind in transient} == {False}
    assert {kind.permanent for kind in permanent} == {True}
    assert set(TransientError.__subclasses__()) == transient


def test_a_failure_has_a_short_message_and_of_an_unexpected_error_only_type_and_place() -> None:
    assert len(Failure.of(Unavailable("x" * 9_000)).message) == 500
    try:
        {}[PERSONAL]
    except KeyError as error:
        failure = Failure.of(error)
    assert (failure.category, failure.error_type) == ("UNKNOWN", "KeyError")
    assert re.fullmatch(r"unexpected error at test_aws_adapters.py:\d+", failure.message)


# -- requests ------------------------------------------------------------------------------------------------------


def test_a_client_is_created_once() -> None:
    aws.client.cache_clear()
    assert aws.client("sqs") is aws.client("sqs")
    assert aws.client("sqs").meta.config.read_timeout == 10


class Recorder:
    """A client that accepts every batch request and records the number of entries."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def batch_execute_statement(self, **request: Any) -> dict[str, Any]:
        self.sizes.append(len(request["Statements"]))
        return {"Responses": [{}] * self.sizes[-1]}

    def _record(self, **request: Any) -> dict[str, Any]:
        (entries,) = (value for value in _values(request) if isinstance(value, list))
        self.sizes.append(len(entries))
        return {"Responses": {}}

    batch_write_item = batch_get_item = delete_message_batch = delete_objects = _record


def _values(node: Any) -> Iterator[Any]:
    for value in node.values():
        yield value
        if isinstance(value, dict):
            yield from _values(value)


@pytest.mark.parametrize(
    ("limit", "call"),
    [
        (25, lambda made, n: writer(made).store([storable(f"event-{i}") for i in range(n)], FakeDeadline())),
        (25, lambda made, n: AttemptsTableWriter(made, "attempts", 30).write([attempt(i) for i in range(n)])),
        (100, lambda made, n: AttemptsTableWriter(made, "attempts", 30).read([attempt(i).key for i in range(n)])),
        (10, lambda made, n: BufferConsumer(made, "queue").delete([f"receipt-{i}" for i in range(n)])),
        (1_000, lambda made, n: ArchiveBucket(made, "bucket").delete([f"key-{i}" for i in range(n)])),
    ],
    ids=["statements", "attempt records", "attempt keys", "queue entries", "objects"],
)
def test_a_request_contains_at_most_the_entries_that_its_service_allows(
    limit: int, call: Callable[[Recorder, int], Any]
) -> None:
    client = Recorder()
    for count in (0, limit - 1, limit, limit + 1):
        call(client, count)
    assert client.sizes == [limit - 1, limit, limit, 1]


# -- the events table ------------------------------------------------------------------------------------------------


def test_an_event_is_stored_with_its_attributes() -> None:
    dynamodb = FakeDynamoDb()
    assert writer(dynamodb).store([storable()], FakeDeadline()) == {"event-1": Stored.NEW}
    bare = {
        "eventId": {"S": "event-1"},
        "source": {"S": "genesys.cloud"},
        "detailType": {"S": "topic"},
        "receivedAt": {"S": "2026-11-23T12:00:00.000Z"},
        "expiresAt": {"N": str(int(datetime(2026, 12, 23, 12, tzinfo=UTC).timestamp()))},
        "event": {"S": "{}"},
    }
    optional = {"eventTime": {"S": "2026-11-23T10:00:00.000Z"}, "conversationId": {"S": "conversation-1"}}
    assert dynamodb.last_item == bare | optional
    writer(dynamodb).store([replace(storable(), event_time=None, conversation_id=None)], FakeDeadline())
    assert dynamodb.last_item == bare


@pytest.mark.parametrize(
    ("category", "codes"),
    [
        ("THROTTLED_UPSTREAM", ["ThrottlingError", "ProvisionedThroughputExceeded", "RequestLimitExceeded"]),
        ("UNAVAILABLE", ["InternalServerError", "TransactionConflict"]),
        ("MISCONFIGURED", ["AccessDenied", "ResourceNotFound"]),
        ("REJECTED", ["ValidationError", "ItemCollectionSizeLimitExceeded"]),
        ("UNKNOWN", ["ConditionalCheckFailed"]),
    ],
)
def test_each_statement_has_its_own_result(dynamodb: Service, category: str, codes: list[str]) -> None:
    failed = [{"Error": {"Code": code, "Message": PERSONAL}} for code in codes]
    dynamodb.responds("batch_execute_statement", {"Responses": [{}, {"Error": {"Code": "DuplicateItem"}}, *failed]})
    events = [storable(f"event-{n}") for n in range(2 + len(codes))]
    new, duplicate, *failures = writer(dynamodb.client).store(events, FakeDeadline()).values()
    assert (new, duplicate) == (Stored.NEW, Stored.DUPLICATE)
    for failure in failures:
        assert isinstance(failure, Failure)
        assert (failure.category, failure.permanent) == (category, category == "REJECTED")
        assert PERSONAL not in failure.message


def test_a_failed_request_fails_only_its_own_events(dynamodb: Service) -> None:
    dynamodb.fails("batch_execute_statement", "ThrottlingException")
    dynamodb.responds("batch_execute_statement", {"Responses": [{}]})
    results = writer(dynamodb.client).store([storable(f"event-{n}") for n in range(26)], FakeDeadline())
    assert results["event-25"] is Stored.NEW
    assert {result.category for result in results.values() if isinstance(result, Failure)} == {"THROTTLED_UPSTREAM"}


class SecondRequest:
    """DynamoDB: the first request succeeds, and the second one has another end."""

    def __init__(self, end: Exception | dict[str, Any]) -> None:
        self.end = end
        self.calls = 0

    def batch_execute_statement(self, Statements: list[Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.calls += 1
        if self.calls == 1:
            return {"Responses": [{}] * len(Statements)}
        if isinstance(self.end, Exception):
            raise self.end
        return self.end


@pytest.mark.parametrize(
    ("end", "category"),
    [
        (RuntimeError(PERSONAL), "UNKNOWN"),
        (ClientError({"Error": {"Code": "SomethingNew"}}, "x"), "UNKNOWN"),
        (ClientError({"Error": {"Code": "413"}, "ResponseMetadata": {"HTTPStatusCode": 413}}, "x"), "UNKNOWN"),  # type: ignore[typeddict-item]
        ({}, "UNAVAILABLE"),
        ({"Responses": None}, "UNAVAILABLE"),
        ({"Responses": [{}] * 4}, "UNAVAILABLE"),
        ({"Responses": [{}] * 6}, "UNAVAILABLE"),
    ],
)
def test_a_request_with_any_end_leaves_the_results_of_the_others(
    end: Exception | dict[str, Any], category: str
) -> None:
    results = writer(SecondRequest(end)).store([storable(f"event-{n}") for n in range(30)], FakeDeadline())
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert list(results.values())[:25] == [Stored.NEW] * 25
    assert [failure.category for failure in failures] == [category] * 5
    assert PERSONAL not in str(failures)


@pytest.mark.parametrize("code", ["x" * 2_600, "a\u2028b", PERSONAL])
def test_a_code_that_is_no_plain_word_reaches_no_failure(dynamodb: Service, code: str) -> None:
    dynamodb.responds("batch_execute_statement", {"Responses": [{"Error": {"Code": code}}]})
    (failure,) = writer(dynamodb.client).store([storable()], FakeDeadline()).values()
    assert failure == Failure("UNKNOWN", "UnknownError", "store the event: unreadable-code")


def test_events_of_a_request_for_which_no_time_is_left_are_deferred(dynamodb: Service) -> None:
    dynamodb.responds("batch_execute_statement", {"Responses": [{}] * 25})
    results = writer(dynamodb.client).store([storable(f"event-{n}") for n in range(26)], FakeDeadline(1, 0))
    assert list(results.values()) == [*[Stored.NEW] * 25, DEFERRED]


def test_a_large_event_is_compressed() -> None:
    dynamodb = FakeDynamoDb()
    text = "é" * (PACK_FROM_BYTES - 1)
    writer(dynamodb).store([storable(text=text)], FakeDeadline())
    assert dynamodb.last_item["event"] == {"S": text}
    writer(dynamodb).store([storable(text=text + "é")], FakeDeadline())
    assert zlib.decompress(dynamodb.last_item["eventPacked"]["B"]).decode() == text + "é"


def test_an_event_that_is_too_large_for_an_item_is_stored_in_the_bucket() -> None:
    dynamodb, overflow = FakeDynamoDb(), FakeObjects()
    for _ in range(2):  # a second delivery finds the object of the first one
        writer(dynamodb, overflow).store([storable(text=incompressible())], FakeDeadline())
    ((key, text),) = overflow.texts.items()
    assert re.fullmatch(r"events/event-1/[0-9a-f]{32}\.json", key)
    assert text == incompressible()
    assert dynamodb.last_item["eventPointer"] == {"M": {"bucket": {"S": "archive-bucket"}, "key": {"S": key}}}


def test_a_large_event_points_to_the_text_of_this_attempt() -> None:
    """The first attempt could not look the users up and failed after it had written its object."""
    dynamodb, overflow = FakeDynamoDb(), FakeObjects()
    for text in (incompressible() + "without names", incompressible() + "with names"):
        writer(dynamodb, overflow).store([storable(text=text)], FakeDeadline())
    assert overflow.texts[dynamodb.last_item["eventPointer"]["M"]["key"]["S"]].endswith("with names")


@pytest.mark.parametrize("error", [Unavailable("down"), RuntimeError(PERSONAL)])
def test_an_event_that_the_bucket_does_not_accept_fails_alone(error: Exception) -> None:
    dynamodb, overflow = FakeDynamoDb(), FakeObjects()
    overflow.journal.fail_always("objects.create", error)
    events = [storable("event-1", incompressible()), storable("event-2")]
    assert writer(dynamodb, overflow).store(events[:1], FakeDeadline()) == {"event-1": Failure.of(error)}
    assert dynamodb.statements == []
    assert writer(dynamodb, overflow).store(events, FakeDeadline())["event-2"] is Stored.NEW


@pytest.mark.parametrize(("answer", "holds"), [({"Item": {"eventId": {"S": "event-1"}}}, True), ({}, False)])
def test_an_event_is_looked_up_with_a_consistent_read(dynamodb: Service, answer: dict[str, Any], holds: bool) -> None:
    expected = {
        "TableName": "events",
        "Key": {"eventId": {"S": "event-1"}},
        "ConsistentRead": True,
        "ProjectionExpression": "eventId",
    }
    dynamodb.responds("get_item", answer, expected)
    assert reader(dynamodb).holds("event-1") is holds


def test_a_range_of_the_table_is_read_page_by_page_and_can_be_continued(dynamodb: Service) -> None:
    request = {
        "TableName": "events",
        "FilterExpression": "receivedAt >= :begin AND receivedAt < :end",
        "ExpressionAttributeValues": {":begin": {"S": "a"}, ":end": {"S": "b"}},
    }
    items = [{"eventId": {"S": f"event-{n}"}} for n in (1, 2)]
    place = {"eventId": {"S": "event-1"}}
    dynamodb.responds("scan", {"Items": items[:1], "LastEvaluatedKey": place}, request)
    dynamodb.responds("scan", {"Items": items[1:]}, {**request, "ExclusiveStartKey": place})
    assert list(reader(dynamodb).received_between("a", "b", None)) == [(items[:1], "event-1"), (items[1:], None)]
    dynamodb.responds("scan", {"Items": items[1:]}, {**request, "ExclusiveStartKey": place})
    assert list(reader(dynamodb).received_between("a", "b", "event-1")) == [(items[1:], None)]


# -- the attempt log -------------------------------------------------------------------------------------------------


FAILED = {"category": {"S": "X"}, "errorType": {"S": "Y"}, "errorMessage": {"S": "z"}, "permanent": {"BOOL": True}}


@pytest.mark.parametrize(
    ("failure", "attributes"),
    [
        (None, {}),
        (Failure("X", "Y", "z", True), FAILED),
        (Failure("X", "Y", "z", True, 1.5), {**FAILED, "retryAfter": {"N": "1.5"}}),
    ],
)
def test_an_attempt_is_written_and_read(dynamodb: Service, failure: Failure | None, attributes: dict[str, Any]) -> None:
    item = attempt_item(**attributes)
    dynamodb.responds(
        "batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": {"attempts": [{"PutRequest": {"Item": item}}]}}
    )
    dynamodb.responds("batch_get_item", {"Responses": {"attempts": [item]}})
    attempt_log(dynamodb).write([attempt(failure=failure)])
    assert attempt_log(dynamodb).read([attempt().key]) == {attempt().key: attempt(failure=failure)}


def test_unprocessed_items_are_written_again_and_are_an_error_in_the_end(dynamodb: Service) -> None:
    left = {"attempts": [{"PutRequest": {"Item": attempt_item(2)}}]}
    dynamodb.responds("batch_write_item", {"UnprocessedItems": left})
    dynamodb.responds("batch_write_item", {}, {"RequestItems": left})
    attempt_log(dynamodb).write([attempt(1), attempt(2)])
    for _ in range(TRIES):
        dynamodb.responds("batch_write_item", {"UnprocessedItems": left})
    with pytest.raises(Unavailable, match="unprocessed"):
        attempt_log(dynamodb).write([attempt(2)])


def test_unprocessed_keys_are_read_again_and_are_an_error_in_the_end(dynamodb: Service) -> None:
    item = attempt_item()
    keys = {"attempts": {"Keys": [{"eventId": item["eventId"], "attempt": item["attempt"]}], "ConsistentRead": True}}
    dynamodb.responds("batch_get_item", {"Responses": {"attempts": []}, "UnprocessedKeys": keys})
    dynamodb.responds("batch_get_item", {"Responses": {"attempts": [item]}}, {"RequestItems": keys})
    assert attempt_log(dynamodb).read([attempt().key]) == {attempt().key: attempt()}
    for _ in range(TRIES):
        dynamodb.responds("batch_get_item", {"Responses": {}, "UnprocessedKeys": keys})
    with pytest.raises(Unavailable, match="unprocessed"):
        attempt_log(dynamodb).read([attempt().key])


def test_all_attempts_of_an_event_are_read_page_by_page(dynamodb: Service) -> None:
    items = [attempt_item(n) for n in range(2)]
    place = {"eventId": {"S": "event-1"}, "attempt": {"S": "x"}}
    dynamodb.responds("query", {"Items": items[:1], "LastEvaluatedKey": place})
    dynamodb.responds("query", {"Items": items[1:]})
    assert AttemptsTable(dynamodb.client, "attempts").of_event("event-1") == [attempt(0), attempt(1)]


# -- the buffer queue ------------------------------------------------------------------------------------------------


def test_every_message_gets_its_own_visibility_timeout(sqs: Service) -> None:
    entries = [
        {"Id": "0", "ReceiptHandle": "a", "VisibilityTimeout": 0},
        {"Id": "1", "ReceiptHandle": "b", "VisibilityTimeout": 42_300},
    ]
    expected = {"QueueUrl": "https://sqs/queue", "Entries": entries}
    sqs.responds("change_message_visibility_batch", {"Successful": [], "Failed": []}, expected)
    queue(sqs).set_visibility({"a": 0, "b": 42_300})


@pytest.mark.parametrize("code", ["ThrottlingException", "SomethingNew"])
def test_the_other_requests_are_sent_after_one_has_failed(service: Make, code: str) -> None:
    sqs, s3 = service("sqs"), service("s3")
    sqs.fails("change_message_visibility_batch", code)
    sqs.responds("change_message_visibility_batch", {"Successful": [], "Failed": []})
    with pytest.raises((Throttled, UnknownError), match=code):
        queue(sqs).set_visibility({f"receipt-{number}": 0 for number in range(11)})
    s3.fails("delete_objects", code)
    s3.responds("delete_objects", {})
    with pytest.raises((Throttled, UnknownError), match=code):
        bucket(s3).delete([f"key-{number}" for number in range(1_001)])


def test_refused_entries_raise_an_error_after_all_requests_were_sent(sqs: Service) -> None:
    refused = {"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid", "Message": PERSONAL}
    sqs.responds("delete_message_batch", {"Successful": [], "Failed": [refused]})
    sqs.responds("delete_message_batch", {"Successful": [], "Failed": []})
    with pytest.raises(Unavailable, match="1 entries were refused"):
        queue(sqs).delete([f"receipt-{n}" for n in range(11)])


@pytest.mark.parametrize("group", [None, "group-1"])
def test_a_message_is_sent_with_its_attributes_and_its_group(sqs: Service, group: str | None) -> None:
    attributes = {"Bytes": {"DataType": "Binary", "BinaryValue": b"\x00"}}
    expected = {"QueueUrl": "https://sqs/queue", "MessageBody": "body", "MessageAttributes": attributes}
    sqs.responds("send_message", {"MessageId": "new-id"}, expected | ({"MessageGroupId": group} if group else {}))
    assert (
        BufferSender(sqs.client, "https://sqs/queue").send(Outgoing("body", attributes, group, stamped=True))
        == "new-id"
    )


# -- the archive bucket ----------------------------------------------------------------------------------------------


def streamed(data: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(data), len(data))}


def test_an_object_is_written_once_with_a_checksum(s3: Service) -> None:
    expected = {
        "Bucket": "archive-bucket",
        "Key": "key",
        "Body": "Zoë".encode(),
        "ContentType": "application/json",
        "ChecksumAlgorithm": "SHA256",
        "IfNoneMatch": "*",
    }
    s3.responds("put_object", {}, expected)
    s3.fails("put_object", "PreconditionFailed", 412)
    assert bucket(s3).create("key", "Zoë") is True
    assert bucket(s3).create("key", "Zoë") is False


def test_an_object_is_read_and_a_missing_one_is_none(s3: Service) -> None:
    s3.responds("get_object", streamed("Zoë".encode()))
    s3.fails("get_object", "NoSuchKey", 404)
    assert bucket(s3).read("key") == "Zoë"
    assert bucket(s3).read("key") is None


def test_tags_are_written_and_read(s3: Service) -> None:
    tags = {"TagSet": [{"Key": "replayed", "Value": "true"}]}
    s3.responds("put_object_tagging", {}, {"Bucket": "archive-bucket", "Key": "key", "Tagging": tags})
    s3.responds("get_object_tagging", tags)
    bucket(s3).tag("key", {"replayed": "true"})
    assert bucket(s3).tags("key") == {"replayed": "true"}


@pytest.mark.parametrize("code", ["NoSuchKey", "MethodNotAllowed"])
def test_an_object_that_expired_is_not_tagged(s3: Service, code: str) -> None:
    s3.fails("put_object_tagging", code)
    bucket(s3).tag("key", {"replayed": "true"})


def test_an_object_is_written_over_another_and_a_listing_can_begin_after_a_key(s3: Service) -> None:
    whole = {"Bucket": "archive-bucket", "Key": "k", "Body": b"{}", "ContentType": ANY, "ChecksumAlgorithm": "SHA256"}
    s3.responds("put_object", {}, whole)
    bucket(s3).write("k", "{}")
    s3.responds("list_objects_v2", {}, {"Bucket": "archive-bucket", "Prefix": "p/", "StartAfter": "p/5"})
    assert list(bucket(s3).list("p/", "p/5")) == []


def test_objects_that_could_not_be_deleted_raise_an_error(s3: Service) -> None:
    s3.responds("delete_objects", {"Errors": [{"Key": "key", "Code": "InternalError"}]})
    with pytest.raises(Unavailable, match=r"1 objects could not be deleted: InternalError$"):
        bucket(s3).delete(["key"])


def test_all_objects_below_a_prefix_are_listed_page_by_page(s3: Service) -> None:
    s3.responds(
        "list_objects_v2",
        {"Contents": [{"Key": "a", "LastModified": NOW}], "IsTruncated": True, "NextContinuationToken": "t"},
    )
    s3.responds("list_objects_v2", {"Contents": [{"Key": "b", "LastModified": NOW}], "IsTruncated": False})
    s3.responds("list_objects_v2", {"IsTruncated": False})
    assert [found.key for found in bucket(s3).list("x")] == ["a", "b"]
    assert list(bucket(s3).list("x")) == []


# -- executions and task tokens --------------------------------------------------------------------------------------


def test_an_execution_starts_unless_its_name_exists(states: Service) -> None:
    answer = {"executionArn": EXECUTION + "name", "startDate": NOW}
    states.responds("start_execution", answer, {"stateMachineArn": MACHINE, "name": "name", "input": '{"a": 1}'})
    states.fails("start_execution", "ExecutionAlreadyExists")
    assert executions(states).start("name", {"a": 1}) is True
    assert executions(states).start("name", {"a": 1}) is False


def described(status: str, **more: Any) -> dict[str, Any]:
    return {
        "executionArn": EXECUTION + "name", "stateMachineArn": MACHINE, "status": status, "startDate": NOW, **more,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["name", EXECUTION + "name"])
def test_an_execution_is_described_by_its_name_or_arn(states: Service, name: str) -> None:
    response = described("SUCCEEDED", input='{"eventId": "event-1"}', output='{"a": 1}')
    states.responds("describe_execution", response, {"executionArn": EXECUTION + "name"})
    assert executions(states).describe(name) == ExecutionDescription(ExecutionStatus.SUCCEEDED, "event-1", {"a": 1})


@pytest.mark.parametrize("status", [status for status in ExecutionStatus if status is not ExecutionStatus.ABSENT])
def test_every_status_of_an_execution_is_supported(states: Service, status: ExecutionStatus) -> None:
    states.responds("describe_execution", described(status.value))
    assert executions(states).describe("name") == ExecutionDescription(status)


@pytest.mark.parametrize("code", ["ExecutionDoesNotExist", "InvalidArn", "ValidationException"])
def test_an_execution_that_does_not_exist_is_absent(states: Service, code: str) -> None:
    states.fails("describe_execution", code)
    assert executions(states).describe("name").status is ExecutionStatus.ABSENT


def test_an_execution_of_another_state_machine_is_absent_without_a_call(states: Service) -> None:
    another = EXECUTION.replace("triage", "payroll") + "name"
    assert executions(states).describe(another).status is ExecutionStatus.ABSENT
    assert executions(states).last_input(another) == {}


def history(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbered = [{"timestamp": NOW, "id": number, **event} for number, event in enumerate(events, 1)]
    return {"events": numbered, **more}


def test_the_names_of_running_executions_are_listed_page_by_page_at_the_pace(states: Service) -> None:
    waits: list[float] = []
    pace = Pace(1, clock=lambda: 0.0, sleep=waits.append)
    started = {"executionArn": EXECUTION + "x", "stateMachineArn": MACHINE, "status": "RUNNING", "startDate": NOW}
    request = {"stateMachineArn": MACHINE, "statusFilter": "RUNNING", "maxResults": 1_000}
    first = {"executions": [{**started, "name": name} for name in ("a", "b")], "nextToken": "next"}
    states.responds("list_executions", first, request)
    states.responds("list_executions", {"executions": [{**started, "name": "c"}]}, request | {"nextToken": "next"})
    found = TriageExecutions(states.client, MACHINE, listing=pace).running_names()
    assert list(found) == ["a", "b", "c"]
    assert len(waits) == 2


def test_the_last_input_is_the_input_of_the_last_entered_state(states: Service) -> None:
    request = {"executionArn": EXECUTION + "name", "reverseOrder": True}
    aborted = {"type": "ExecutionAborted", "executionAbortedEventDetails": {}}
    failed = {"type": "TaskFailed", "taskFailedEventDetails": {"resourceType": "lambda", "resource": "invoke"}}
    entered, older = (
        {"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": name, "input": f'{{"redrives": {redrives}}}'}}
        for name, redrives in (("Redrive", 2), ("Classify", 1))
    )
    states.responds("get_execution_history", history(aborted, failed, nextToken="more"), request)
    states.responds("get_execution_history", history(entered, older), {**request, "nextToken": "more"})
    assert executions(states).last_input("name") == {"redrives": 2}


def test_the_last_input_without_an_entered_state_is_that_of_the_execution_or_empty(states: Service) -> None:
    started = {"type": "ExecutionStarted", "executionStartedEventDetails": {"input": '{"redrives": 0}'}}
    states.responds("get_execution_history", history(started))
    states.responds("get_execution_history", history())
    states.fails("get_execution_history", "ExecutionDoesNotExist")
    assert [executions(states).last_input("name") for _ in range(3)] == [{"redrives": 0}, {}, {}]


def test_a_callback_reaches_a_waiting_execution_or_reports_that_none_waits(states: Service) -> None:
    states.responds("send_task_success", {}, {"taskToken": "token", "output": '{"outcome": "STORED"}'})
    states.responds(
        "send_task_failure", {}, {"taskToken": "token", "error": "DeadLetteredAgain", "cause": '{"snapshot": "k"}'}
    )
    assert tokens(states).succeed("token", {"outcome": "STORED"}) is True
    assert tokens(states).fail("token", "DeadLetteredAgain", {"snapshot": "k"}) is True
    for code in ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken"):
        states.fails("send_task_success", code)
        states.fails("send_task_failure", code)
        assert tokens(states).succeed("token", {}) is False
        assert tokens(states).fail("token", "DeadLetteredAgain", {}) is False


# -- the enriched bus ------------------------------------------------------------------------------------------------


def test_an_outcome_is_published_with_the_source_of_triage(events: Service) -> None:
    entry = {
        "EventBusName": "enriched",
        "Source": "holdfast.triage",
        "DetailType": "Dead Letter Archived",
        "Detail": '{"a": 1}',
    }
    events.responds("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]}, {"Entries": [entry]})
    TriageEventBus(events.client, "enriched").publish("Dead Letter Archived", {"a": 1})


@pytest.mark.parametrize(
    ("code", "kind"),
    [("ThrottlingException", Throttled), ("SomethingNew", Unavailable), ("a\u2028b", Unavailable), (None, Unavailable)],
)
def test_an_outcome_that_the_bus_refuses_raises_an_error(
    events: Service, code: str | None, kind: type[HoldfastError]
) -> None:
    events.responds(
        "put_events",
        {"FailedEntryCount": 1, "Entries": [{"ErrorMessage": PERSONAL} | ({"ErrorCode": code} if code else {})]},
    )
    with pytest.raises(kind) as caught:
        TriageEventBus(events.client, "enriched").publish("t", {})
    shown = code if code in ("ThrottlingException", "SomethingNew") else "unreadable-code"
    assert str(caught.value) == f"publish the outcome: {shown}"


def test_refused_entries_are_published_again_before_they_are_returned(events: Service) -> None:
    refused = {"ErrorCode": "InternalFailure"}
    events.responds(
        "put_events", {"FailedEntryCount": 2, "Entries": [{"EventId": "x"}, refused, refused]}, {"Entries": [ANY] * 3}
    )
    events.responds(
        "put_events", {"FailedEntryCount": 1, "Entries": [{"EventId": "x"}, refused]}, {"Entries": [ANY] * 2}
    )
    events.responds("put_events", {"FailedEntryCount": 1, "Entries": [refused]}, {"Entries": [ANY]})
    answers = enriched(events).publish_all(publications(3), FakeDeadline(10, 10, 0))
    assert (answers.refused, answers.invalid) == ([publications(3)[2]], [])
    assert answers.reasons["event-2"] == "publish events: InternalFailure"


def test_a_request_that_always_fails_returns_only_its_own_entries(events: Service) -> None:
    for _ in range(TRIES):
        events.fails("put_events", "ThrottlingException")
    events.responds("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})
    answers = enriched(events).publish_all(publications(11), FakeDeadline(*[10] * (TRIES - 1), 0))
    assert answers.refused == publications(10)
    assert set(answers.reasons.values()) == {"publish events: ThrottlingException"}


def test_a_request_without_permission_is_not_sent_again(events: Service) -> None:
    events.fails("put_events", "AccessDeniedException")
    events.responds("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})
    answers = enriched(events).publish_all(publications(11), FakeDeadline())
    assert (answers.refused, answers.invalid) == (publications(10), [])
    assert set(answers.reasons.values()) == {"publish events: AccessDeniedException"}


@pytest.mark.parametrize("code", ["MalformedDetail", "InvalidArgument"])
def test_an_entry_that_is_never_accepted_is_not_sent_again(events: Service, code: str) -> None:
    entries = [{"EventId": "x"}, {"ErrorCode": code}, {"EventId": "y"}]
    events.responds("put_events", {"FailedEntryCount": 1, "Entries": entries})
    answers = enriched(events).publish_all(publications(3), FakeDeadline())
    assert (answers.refused, answers.invalid) == ([], [publications(3)[1]])
    assert answers.reasons == {"event-1": f"publish events: {code}"}


def test_a_code_of_a_refused_entry_that_is_no_plain_word_reaches_no_reason(events: Service) -> None:
    entry = {"ErrorCode": "x" * 2_600 + "\u2028"}
    events.responds("put_events", {"FailedEntryCount": 1, "Entries": [entry]})
    answers = enriched(events).publish_all(publications(1), FakeDeadline(0))
    assert answers.reasons == {"event-0": "publish events: unreadable-code"}


# -- the secret ------------------------------------------------------------------------------------------------------


def test_the_secret_is_cached_until_it_is_renewed(manager: Service) -> None:
    for password in ("old", "old", "new"):
        text = json.dumps({"clientId": "id", "clientSecret": password})
        manager.responds("get_secret_value", {"SecretString": text}, {"SecretId": "arn:secret"})
    credentials = secret(manager)
    assert credentials.get() is credentials.get()
    assert credentials.renewed() is False
    assert credentials.renewed() is True
    assert credentials.get().client_secret == "new"


@pytest.mark.parametrize(
    "response",
    [
        *({"SecretString": text} for text in ("oops hunter2", "null", "[]", '{"clientId": "hunter2"}', '"hunter2"')),
        *(
            {"SecretString": json.dumps({"clientId": "id", "clientSecret": "hunter2", name: value})}
            for name in ("clientId", "clientSecret")
            for value in (None, "", 7, ["hunter2"])
        ),
        {"SecretBinary": b"hunter2"},
    ],
)
def test_a_secret_in_another_format_is_misconfigured_and_not_in_the_error(
    manager: Service, response: dict[str, Any]
) -> None:
    manager.responds("get_secret_value", response)
    with pytest.raises(Misconfigured) as caught:
        secret(manager).get()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_credentials_are_not_in_their_representation() -> None:
    shown = f"{Credentials('id-x', 'secret-x')} {Credentials('id-x', 'secret-x')!r}"
    assert "id-x" not in shown
    assert "secret-x" not in shown
