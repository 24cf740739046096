"""A lower bound for the cost of a batch: parse the bodies and send one request that was prepared beforehand.

It does not validate, enrich, serialise, pack or sign. It uses urllib3, the HTTP client inside boto3 and requests.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from typing import Any

import urllib3

pool = urllib3.connection_from_url(os.environ["AWS_ENDPOINT_URL"])
HEADERS = {"X-Amz-Target": "DynamoDB_20120810.BatchExecuteStatement", "Content-Type": "application/x-amz-json-1.0"}
_prepared = {"request": b""}


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Parse the bodies, send the prepared request and read the answer."""
    for record in event["Records"]:
        json.loads(record["body"])
    pool.urlopen("POST", "/", body=_prepared["request"], headers=HEADERS)
    return {"batchItemFailures": []}


def prepare(event: dict[str, Any]) -> None:
    """Prepare the request for a batch. This is not measured."""
    statements = [_statement(record["body"]) for record in event["Records"]]
    _prepared["request"] = json.dumps({"Statements": statements}).encode()


def _statement(body: str) -> dict[str, Any]:
    packed = base64.b64encode(zlib.compress(body.encode(), level=1)).decode()
    return {
        "Statement": "INSERT INTO \"events\" VALUE {'eventId': ?, 'eventPacked': ?}",
        "Parameters": [{"S": json.loads(body)["id"]}, {"B": packed}],
    }
