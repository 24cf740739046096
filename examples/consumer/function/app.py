"""Counts the events of every conversation and keeps the latest one. Each event is processed once."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

import boto3

#: Longer than the time after which an event is published again. Holdfast keeps events for 400 days by default.
KEEP_IDS_SECONDS = 30 * 86_400
#: A newer event replaces the latest one. An event that arrives late is counted only.
NEWER = {
    "UpdateExpression": "SET eventTime = :time, detailType = :type, eventId = :id ADD events :one",
    "ConditionExpression": "attribute_not_exists(eventTime) OR eventTime <= :time",
}
LATE = {"UpdateExpression": "ADD events :one"}

dynamodb: Any = boto3.client("dynamodb")


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Process a batch of the queue. Only the messages that failed come again."""
    failed = []
    for record in event["Records"]:
        try:
            process(json.loads(record["body"]))
        except Exception as error:  # noqa: BLE001 - the others are processed
            # The message of an error may contain personal data, and so may a traceback.
            logging.error("%s failed: %s", record["messageId"], type(error).__name__)  # noqa: LOG015, TRY400 - one logger, no traceback
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def process(event: dict[str, Any]) -> None:
    """Do the work and remember the event, in one transaction."""
    for change in (NEWER, LATE):
        try:
            write(event, change)
        except dynamodb.exceptions.TransactionCanceledException as error:
            seen, late = (
                reason["Code"] == "ConditionalCheckFailed" for reason in error.response["CancellationReasons"]
            )
            if seen:
                return
            if not late:
                raise
        else:
            return


def write(event: dict[str, Any], change: dict[str, str]) -> None:
    """Write both items or none."""
    detail, table = event["detail"], os.environ["TABLE_NAME"]
    # Genesys Cloud can send one event twice under two ids. Its content has one id.
    content = detail.get("contentId", detail["eventId"])
    expires = str(int(time.time()) + KEEP_IDS_SECONDS)
    values = {":one": {"N": "1"}}
    if change is NEWER:
        values |= {
            ":time": {"S": detail["eventTime"]},
            ":type": {"S": event["detail-type"]},
            ":id": {"S": detail["eventId"]},
        }
    dynamodb.transact_write_items(
        TransactItems=[
            {
                "Put": {
                    "TableName": table,
                    "Item": {"id": {"S": f"event#{content}"}, "expiresAt": {"N": expires}},
                    "ConditionExpression": "attribute_not_exists(id)",
                }
            },
            {
                "Update": {
                    "TableName": table,
                    "Key": {"id": {"S": f"conversation#{detail['conversationId']}"}},
                    "ExpressionAttributeValues": values,
                    **change,
                }
            },
        ]
    )
