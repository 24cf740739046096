"""As in the tutorials: fetch a user and put an item for each record, one record after the other.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html (partial batch responses) and
https://docs.aws.amazon.com/boto3/latest/guide/dynamodb.html (the table resource).
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError

from benchmarks.peers.genesys import add_user

table = boto3.resource("dynamodb").Table(os.environ["EVENTS_TABLE_NAME"])


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Process one batch, record by record."""
    failures = []
    for record in event["Records"]:
        try:
            process(json.loads(record["body"]))
        except Exception:  # noqa: BLE001 - as in the tutorial
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


def process(envelope: dict[str, Any]) -> None:
    """Enrich one event and store it once."""
    body = envelope["detail"]["eventBody"]
    add_user(body)
    item = {
        "eventId": envelope["id"],
        "source": envelope["source"],
        "detailType": envelope["detail-type"],
        "eventTime": str(body["eventTime"]),
        "conversationId": body["conversationId"],
        "event": json.dumps(envelope),
    }
    try:
        table.put_item(Item=item, ConditionExpression="attribute_not_exists(eventId)")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
