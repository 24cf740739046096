"""A consumer of the enriched bus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.pipeline import Pipeline


class Consumer:
    """A rule on the enriched bus with a queue behind it, as a user attaches one."""

    def __init__(self, pipeline: Pipeline, source: str) -> None:
        self._sqs, self._events = pipeline.client("sqs"), pipeline.client("events")
        self._bus = pipeline.outputs["EnrichedBusName"]
        self._rule = f"consumer-{source.replace('.', '-')}"
        self._url = self._sqs.create_queue(QueueName=self._rule)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        allowed = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{**allowed, "Resource": arn}]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        self._events.put_rule(Name=self._rule, EventBusName=self._bus, EventPattern=json.dumps({"source": [source]}))
        self._events.put_targets(Rule=self._rule, EventBusName=self._bus, Targets=[{"Id": "q", "Arn": arn}])
        self.seen: list[dict[str, Any]] = []

    def of(self, event_id: str, key: str = "eventId") -> list[dict[str, Any]]:
        """What has come for one event so far."""
        self.seen += self.take()
        return [event for event in self.seen if event["detail"].get(key) == event_id]

    def take(self) -> list[dict[str, Any]]:
        """What has come since the last look, ten at most."""
        messages = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def leave(self) -> None:
        self._events.remove_targets(Rule=self._rule, EventBusName=self._bus, Ids=["q"])
        self._events.delete_rule(Name=self._rule, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)
