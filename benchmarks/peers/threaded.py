"""Record by record over a pool of ten threads: the strongest thing that a user would write.

A low-level client, because clients may be shared between threads and resources may not
(https://docs.aws.amazon.com/boto3/latest/guide/clients.html).
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.exceptions import ClientError

from benchmarks.peers.genesys import bearer_token, user

dynamodb = boto3.client("dynamodb")
pool = ThreadPoolExecutor(10)


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Process one batch, all its records at once."""
    bearer_token()  # once, before ten threads ask for it
    failed = [name for name in pool.map(attempt, event["Records"]) if name]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}


def attempt(record: dict[str, Any]) -> str | None:
    """Process one record; answers its message id if it failed."""
    try:
        process(json.loads(record["body"]))
    except Exception:  # noqa: BLE001 - one record's failure is its own
        return str(record["messageId"])
    return None


def process(envelope: dict[str, Any]) -> None:
    """Enrich one event and store it once."""
    body = envelope["detail"]["eventBody"]
    if "userId" in body:
        found = user(body["userId"])
        body.update(userName=found["name"], userEmail=found["email"])
    item = {
        "eventId": {"S": envelope["id"]},
        "source": {"S": envelope["source"]},
        "detailType": {"S": envelope["detail-type"]},
        "eventTime": {"S": str(body["eventTime"])},
        "conversationId": {"S": body["conversationId"]},
        "event": {"S": json.dumps(envelope)},
    }
    try:
        dynamodb.put_item(
            TableName=os.environ["EVENTS_TABLE_NAME"], Item=item, ConditionExpression="attribute_not_exists(eventId)"
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
