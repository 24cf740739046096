"""Synthetic SQS batches of Genesys Cloud events, with event bodies of a given size."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

_WORDS = ("yes", "I", "would", "like", "to", "know", "when", "my", "order", "is", "going", "arrive", "thank", "you")
_TOPIC = "v2.conversations.{id}.transcription"


def batch(records: int, kilobytes: int, users: Sequence[str]) -> dict[str, Any]:
    """The input of one invocation: ``records`` new events of about ``kilobytes`` each. The users take turns."""
    return {"Records": [_record(_body(kilobytes * 1024, users[number % len(users)])) for number in range(records)]}


def new_users(number: int) -> list[str]:
    """Random user ids, which no cache holds."""
    return [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(number)]


def _record(body: str) -> dict[str, Any]:
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "AQEB" + "x" * 400,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795435200000",
            "SenderId": "AIDAEXAMPLEEXAMPLE000",
            "ApproximateFirstReceiveTimestamp": "1795435200100",
        },
        "messageAttributes": {},
        "md5OfBody": "0" * 32,
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:holdfast-BufferQueue",
        "awsRegion": "us-east-1",
    }


def _body(size: int, user_id: str) -> str:
    """A transcription event, the topic with the largest events. Words are added until the size is reached."""
    conversation = str(uuid.uuid4())
    words: list[dict[str, Any]] = []
    transcript = {"utteranceId": str(uuid.uuid4()), "isFinal": True, "channel": "EXTERNAL", "words": words}
    envelope = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": _TOPIC,
        "source": "aws.partner/genesys.com/cloud/00000000-0000-4000-8000-000000000000/bench",
        "account": "000000000000",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "topicName": _TOPIC.replace("{id}", conversation),
            "version": "2",
            "timestamp": "2026-11-23T12:00:00.123Z",
            "eventBody": {
                "eventTime": "2026-11-23T12:00:00.100Z",
                "conversationId": conversation,
                "userId": user_id,
                "transcripts": [transcript],
            },
            "metadata": {"CorrelationId": str(uuid.uuid4())},
        },
    }
    left = size - len(_compact(envelope))
    offset = 0
    while left > 0:
        word = {
            "confidence": round(random.uniform(0.3, 1), 4),
            "word": random.choice(_WORDS),
            "startTimeMs": offset,
            "offsetMs": offset,
            "durationMs": random.randrange(40, 900),
        }
        offset += 310
        words.append(word)
        left -= len(_compact(word)) + 1
    return _compact(envelope)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
