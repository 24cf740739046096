"""Engine patches of DynamoDB streams and of the mapping from them to Lambda."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import contextvars
import copy
import json
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from ministack.core.concurrency import spawn_background
from ministack.core.lambda_runtime import execution_credentials
from ministack.services import dynamodb, lambda_svc

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

Records = list[dict[str, Any]]

# The mapping and the unfiltered batch that the poller of this thread works on.
_batch: contextvars.ContextVar[tuple[dict[str, Any], Records] | None] = contextvars.ContextVar("batch", default=None)


def record_partiql_writes() -> None:
    """Gap: PartiQL ``INSERT``, ``UPDATE`` and ``DELETE`` write no stream records. In AWS every write does."""
    with_data = "(table, parsed, data=None)"
    for name, parameters in (
        ("_partiql_insert", "(table, parsed)"),
        ("_partiql_update", with_data),
        ("_partiql_delete", with_data),
    ):

        @around(dynamodb, name, parameters)
        def write(plain: Callable[..., Any], table: Any, statement: Any, *rest: Any) -> Any:
            before = copy.deepcopy(_item(table, statement))
            response = plain(table, statement, *rest)
            after = _item(table, statement)
            if before != after:
                kind = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
                dynamodb._emit_stream_event(table["TableName"], kind, before, after)
            return response


def _item(table: dict[str, Any], statement: dict[str, Any]) -> dict[str, Any] | None:
    """The item on which a PartiQL statement works, as it is now."""
    if statement["op"] == "INSERT":
        new = statement.get("item", {})
        new = new["M"] if set(new) == {"M"} else new
        keys = [dynamodb._extract_key_val(new.get(table["pk_name"]))]
        sort = table["sk_name"]
        keys.append(dynamodb._extract_key_val(new.get(sort)) if sort else "__no_sort__")
    else:
        keys = list(dynamodb._partiql_key_target(table, statement)[:2])
    item: dict[str, Any] | None = table["items"].get(keys[0], {}).get(keys[1])
    return item


def poll_streams_beside_queues() -> None:
    """Gap: one thread polls queues and streams and waits for a stream's function. In AWS no mapping waits for another.

    Without this patch a busy fan-out halves the concurrency of the processor.
    """
    reading = threading.Lock()

    @around(lambda_svc, "_poll_dynamodb_streams", "()")
    def poll(plain: Callable[..., Any]) -> bool:
        def read_all() -> None:
            try:
                while plain():
                    pass
            finally:
                reading.release()

        if reading.acquire(blocking=False):
            spawn_background(read_all, thread_name="local-streams")
        return False


def retry_from_the_first_failure() -> None:
    """Gap: a stream mapping ignores ``batchItemFailures`` and ``MaximumRetryAttempts``.

    AWS retries from the first failed record. After the last retry it sends the batch to the on-failure destination and
    continues with the next one. ``BisectBatchOnFunctionError`` is still ignored.
    """
    failures: dict[str, int] = {}

    @around(lambda_svc, "_apply_filter_criteria", "(records, esm)")
    def note_batch(plain: Callable[..., Any], records: Records, esm: dict[str, Any]) -> Any:
        _batch.set((esm, records) if ":dynamodb:" in esm.get("EventSourceArn", "") else None)
        return plain(records, esm)

    @around(lambda_svc, "_execute_function", "(func, event)")
    def execute(plain: Callable[..., Any], func: Any, event: Any) -> Any:
        noted = _batch.get()
        if noted is None or not isinstance(event, dict) or not _from_stream(event):
            return plain(func, event)
        _batch.set(None)
        result = plain(func, event)
        esm, records = noted
        first = _first_failure(result, records)
        if first is None:
            return result
        attempt = f"{esm['UUID']}/{_number(records[first])}"
        failures[attempt] = failures.get(attempt, 0) + 1
        if failures[attempt] > _retries(esm):
            rest = records[first:]
            lambda_svc._send_ddb_stream_failure_record(
                esm, func, rest, esm["EventSourceArn"], result, "RetryAttemptsExhausted"
            )
            first = len(records)
        _advance(esm, first)
        # After an error the poller keeps the position and reads again after a second.
        return {
            "error": True,
            "body": {
                "errorType": "BatchItemFailures",
                "errorMessage": "retried from the first failed record",
            },
        }


def _from_stream(event: dict[str, Any]) -> bool:
    records = event.get("Records") or [{}]
    return isinstance(records[0], dict) and records[0].get("eventSource") == "aws:dynamodb"


def _number(record: dict[str, Any]) -> str:
    return str(record["dynamodb"]["SequenceNumber"])


def _retries(esm: dict[str, Any]) -> float:
    """How often a batch is retried. -1 means until the record expires."""
    retries = int(esm.get("MaximumRetryAttempts", -1))
    return float("inf") if retries < 0 else retries


def _first_failure(result: dict[str, Any], records: Records) -> int | None:
    """The first failed record: the first of the batch after an exception or for an unknown identifier."""
    if result.get("error"):
        return 0
    body = result.get("body")
    reported = body.get("batchItemFailures") if isinstance(body, dict) else None
    if not reported:
        return None
    numbers = [_number(record) for record in records]
    names = [failure.get("itemIdentifier") for failure in reported]
    return min(numbers.index(name) if name in numbers else 0 for name in names)


def _advance(esm: dict[str, Any], count: int) -> None:
    with lambda_svc._dynamodb_stream_positions_lock:
        lambda_svc._dynamodb_stream_positions[esm["UUID"]] += count


def write_failures_to_a_bucket() -> None:
    """Gap: a stream mapping's on-failure destination can only be SQS or SNS.

    To a bucket AWS writes the invocation record and, unlike elsewhere, the records too, with the function's role.
    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
    """

    @around(
        lambda_svc,
        "_send_ddb_stream_failure_record",
        "(esm, func_rec, batch, stream_arn, result, condition)",
    )
    def send(plain: Callable[..., Any], esm: Any, func: Any, batch: Records, *rest: Any) -> None:
        target = esm.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
        if ":s3:::" not in target:
            plain(esm, func, batch, *rest)
            return
        stream, _result, condition = rest
        moment = time.gmtime()
        key = (
            f"aws/lambda/{esm['UUID']}/{time.strftime('%Y/%m/%d', moment)}/"
            f"{time.strftime('%Y-%m-%dT%H.%M.%S', moment)}-{uuid.uuid4()}"
        )
        record = _invocation_record(func["config"]["FunctionArn"], batch, stream, condition)
        _bucket_client(func["config"]).put_object(
            Bucket=target.rpartition(":")[2], Key=key, Body=json.dumps(record).encode()
        )


def _invocation_record(function: str, batch: Records, stream: str, condition: str) -> dict[str, Any]:
    def arrival(record: dict[str, Any]) -> str:
        seconds = float(record["dynamodb"].get("ApproximateCreationDateTime", time.time()))
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

    return {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": function,
            "condition": condition,
            "approximateInvokeCount": 1,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "DDBStreamBatchInfo": {
            "shardId": "shardId-00000000000000000000-00000000",
            "startSequenceNumber": _number(batch[0]),
            "endSequenceNumber": _number(batch[-1]),
            "approximateArrivalOfFirstRecord": arrival(batch[0]),
            "approximateArrivalOfLastRecord": arrival(batch[-1]),
            "batchSize": len(batch),
            "streamArn": stream,
        },
        "payload": json.dumps({"Records": batch}),
    }


def _bucket_client(config: dict[str, Any]) -> Any:
    """S3 with the credentials of the function's role, so that a missing permission fails here as in AWS."""
    role = execution_credentials(config)
    session = boto3.session.Session(
        role["AWS_ACCESS_KEY_ID"], role["AWS_SECRET_ACCESS_KEY"], role["AWS_SESSION_TOKEN"], "us-east-1"
    )
    endpoint = f"http://{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"
    return session.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
