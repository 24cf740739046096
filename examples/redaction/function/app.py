"""Publishes events on a second bus without the fields that contain personal data."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import boto3

events: Any = boto3.client("events")


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Process a batch of the queue. Only the messages that failed come again."""
    failed = []
    for record in event["Records"]:
        try:
            publish(json.loads(record["body"]))
        except Exception as error:  # noqa: BLE001 - the others are published
            # The message of an error may contain personal data, and so may a traceback.
            logging.error("%s failed: %s", record["messageId"], type(error).__name__)  # noqa: LOG015, TRY400 - one logger, no traceback
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def publish(event: dict[str, Any]) -> None:
    """Publish what is left. Source and detail-type stay, so that rules work on both buses."""
    removed = frozenset(os.environ["REMOVED_FIELDS"].split(","))
    entry = {
        "EventBusName": os.environ["REDACTED_BUS_NAME"],
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(without(removed, event["detail"]), ensure_ascii=False),
    }
    answer = events.put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise RuntimeError(answer["Entries"][0]["ErrorCode"])


def without(removed: frozenset[str], value: Any) -> Any:
    """A copy of the value without these fields, at any depth."""
    if isinstance(value, dict):
        return {name: without(removed, child) for name, child in value.items() if name not in removed}
    return [without(removed, child) for child in value] if isinstance(value, list) else value
