"""What consumers of the enriched bus get, seen on the deployed stack."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.pipeline import genesys_event

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            self.seen.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [event for event in self.seen if event["detail"].get(key) == event_id]

    def leave(self) -> None:
        self._events.remove_targets(Rule=self._rule, EventBusName=self._bus, Ids=["q"])
        self._events.delete_rule(Name=self._rule, EventBusName=self._bus)
        self._sqs.delete_queue(QueueUrl=self._url)


@pytest.fixture
def consumer(pipeline: Pipeline) -> Iterator[Consumer]:
    made = Consumer(pipeline, "holdfast.events")
    yield made
    made.leave()


def test_a_stored_event_is_published_whole_with_a_stable_id(pipeline: Pipeline, consumer: Consumer) -> None:
    (letter_id,) = pipeline.put(genesys_event(note="hello"))
    (published,) = pipeline.eventually(lambda: consumer.of(letter_id), "it is published")
    assert published["detail"]["event"] == pipeline.event(letter_id)
    assert published["detail-type"] == published["detail"]["event"]["detail-type"]


def test_a_range_of_the_table_is_published_again_on_demand(pipeline: Pipeline, consumer: Consumer) -> None:
    begin = datetime.now(UTC)
    (letter_id,) = pipeline.put(genesys_event())
    pipeline.eventually(lambda: consumer.of(letter_id), "it is published")
    end = datetime.now(UTC) + timedelta(seconds=1)
    asked = {"republish": {"from": begin.isoformat(), "to": end.isoformat()}}
    name = pipeline.stack.stack.resources["FanOutFunction"]
    answer = json.loads(
        pipeline.client("lambda").invoke(FunctionName=name, Payload=json.dumps(asked))["Payload"].read()
    )
    assert answer == {"published": 1, "refused": [], "startAt": None}
    first, second = pipeline.eventually(lambda: consumer.of(letter_id)[1:] and consumer.of(letter_id), "it comes again")
    assert first["detail"] == second["detail"]


def test_the_outcome_of_triage_is_announced(pipeline: Pipeline) -> None:
    consumer = Consumer(pipeline, "holdfast.triage")
    try:
        (letter_id,) = pipeline.enqueue("{ no event")
        told = pipeline.eventually(lambda: consumer.of(letter_id, "letterId"), "its outcome is announced")[0]
    finally:
        consumer.leave()
    assert told["detail-type"] == "Dead Letter Archived"
    assert told["detail"] == pipeline.settled(letter_id).output
