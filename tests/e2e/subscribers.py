"""Queues that receive what the deployed stack publishes, as its users attach them."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from local.eventually import eventually
from tests.e2e.pipeline import genesys_event
from tests.schemas import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pipeline import Pipeline


class SubscribedQueue:
    """A new queue to which a service may send."""

    def __init__(self, sqs: Any, service: str) -> None:
        self._sqs = sqs
        self.url = sqs.create_queue(QueueName=f"subscriber-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        asked = {"QueueUrl": self.url, "AttributeNames": ["QueueArn"]}
        self.arn = sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"]
        allowed = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sqs:SendMessage"}
        policy = {"Version": "2012-10-17", "Statement": [{**allowed, "Resource": self.arn}]}
        sqs.set_queue_attributes(QueueUrl=self.url, Attributes={"Policy": json.dumps(policy)})

    def take(self) -> Iterator[dict[str, Any]]:
        """Receive and delete every message; yields the bodies."""
        while messages := self._sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])

    def close(self) -> None:
        self._sqs.delete_queue(QueueUrl=self.url)


class Consumer(SubscribedQueue):
    """A rule on the enriched bus, or on another one, with a queue as its target."""

    def __init__(self, pipeline: Pipeline, source: str, bus: str = "") -> None:
        super().__init__(pipeline.client("sqs"), "events.amazonaws.com")
        self._pipeline, self._events = pipeline, pipeline.client("events")
        bus = bus or pipeline.outputs["EnrichedBusName"]
        self._rule = {"Rule": f"consumer-{uuid.uuid4().hex[:8]}", "EventBusName": bus}
        pattern = json.dumps({"source": [source]})
        self._events.put_rule(Name=self._rule["Rule"], EventBusName=self._rule["EventBusName"], EventPattern=pattern)
        self._events.put_targets(**self._rule, Targets=[{"Id": "queue", "Arn": self.arn}])
        self.seen: list[dict[str, Any]] = []

    def of(self, event_id: str) -> list[dict[str, Any]]:
        """What was published about one event so far. Everything that was published matches its schema."""
        for event in self.take():
            check(event)
            self.seen.append(event)
        return [event for event in self.seen if event["detail"].get("eventId") == event_id]

    def assert_published_once(self, *event_ids: str) -> None:
        """Wait until these events and one that is sent after them are published, and compare."""
        (marker,) = self._pipeline.enqueue(genesys_event())
        for event_id in (*event_ids, marker):
            eventually(partial(self.of, event_id), f"{event_id} is published")
        assert [len(self.of(event_id)) for event_id in event_ids] == [1] * len(event_ids)

    def close(self) -> None:
        self._events.remove_targets(**self._rule, Ids=["queue"])
        self._events.delete_rule(Name=self._rule["Rule"], EventBusName=self._rule["EventBusName"])
        super().close()


class AlarmSubscriber(SubscribedQueue):
    """A queue that is subscribed to the topic of the alarms."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline.client("sqs"), "sns.amazonaws.com")
        self._sns, self._cloudwatch = pipeline.client("sns"), pipeline.client("cloudwatch")
        self._names = {physical: name for name, physical in pipeline.stack.resources.items()}
        topic = pipeline.outputs["AlarmTopicArn"]
        self._subscription = self._sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.arn)["SubscriptionArn"]
        self.notices: list[dict[str, Any]] = []

    def received(self) -> list[str]:
        """The logical ids of the alarms that were notified so far."""
        self.notices += [json.loads(body["Message"]) for body in self.take()]
        return [self._names[notice["AlarmName"]] for notice in self.notices]

    def active(self) -> set[str]:
        """The logical ids of the alarms in state ALARM."""
        kinds = ["MetricAlarm", "CompositeAlarm"]
        found = self._cloudwatch.describe_alarms(AlarmTypes=kinds, StateValue="ALARM")
        alarms = found["MetricAlarms"] + found["CompositeAlarms"]
        return {self._names[one["AlarmName"]] for one in alarms if one["AlarmName"] in self._names}

    def close(self) -> None:
        self._sns.unsubscribe(SubscriptionArn=self._subscription)
        super().close()
