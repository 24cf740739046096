"""Letters that wait in triage for their next redrive.

Each letter that waits in the state BackOff has an item in the attempts table, below one key. It names the letter, its
last verdict and the end of the wait, and holds the task token that ends the wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops import screen
from ops.deployed import DeployedStack

#: The key of the items of waiting letters. It has a space, which no event id has.
WAITING_KEY = "waiting letters"


@dataclass(frozen=True, slots=True)
class WaitingLetter:
    """A letter that waits for its next redrive.

    Attributes:
        event_id: The event.
        execution: The name of its triage execution.
        category: Of its last verdict.
        rule: Of its last verdict.
        fingerprint: Of its last verdict.
        next_try_at: The end of the wait.
    """

    event_id: str
    execution: str
    category: str
    rule: str
    fingerprint: str
    next_try_at: datetime


def waiting_letters(stack: DeployedStack, now: datetime) -> Iterator[tuple[WaitingLetter, str]]:
    """The letters that wait, and their task tokens. Items of waits that are over are left out."""
    pages = stack.client("dynamodb").get_paginator("query")
    found = pages.paginate(
        TableName=stack.outputs["AttemptsTableName"],
        KeyConditionExpression="eventId = :waiting",
        ExpressionAttributeValues={":waiting": {"S": WAITING_KEY}},
    )
    for item in (item for page in found for item in page["Items"]):
        letter = _letter(item)
        if letter.next_try_at > now:
            yield letter, item["taskToken"]["S"]


def _letter(item: Mapping[str, Any]) -> WaitingLetter:
    return WaitingLetter(
        event_id=item["letter"]["S"],
        execution=item["attempt"]["S"],
        category=item["category"]["S"],
        rule=item["rule"]["S"],
        fingerprint=item["fingerprint"]["S"],
        next_try_at=screen.parse_time(item["nextTryAt"]["S"]),
    )
