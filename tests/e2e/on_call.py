"""Somebody on call, who hears the alarms of the deployed stack."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.pipeline import Pipeline


class OnCall:
    """Somebody who has subscribed to the topic of the alarms."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._sqs, self._sns = pipeline, pipeline.client("sqs"), pipeline.client("sns")
        self._names = {physical: name for name, physical in pipeline.stack.stack.resources.items()}
        self._url = self._sqs.create_queue(QueueName=f"on-call-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        asked = {"QueueUrl": self._url, "AttributeNames": ["QueueArn"]}
        queue = self._sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"]
        allowed = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = {"Version": "2012-10-17", "Statement": [{**allowed, "Resource": queue}]}
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": json.dumps(policy)})
        subscribed = self._sns.subscribe(TopicArn=pipeline.outputs["AlarmTopicArn"], Protocol="sqs", Endpoint=queue)
        self._subscription = subscribed["SubscriptionArn"]
        self.heard: list[dict[str, Any]] = []

    def hears(self) -> list[str]:
        """The alarms that have rung so far, by logical id."""
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                self.heard.append(json.loads(json.loads(message["Body"])["Message"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return [self._names[notice["AlarmName"]] for notice in self.heard]

    def on(self) -> set[str]:
        """The alarms that are on, signs included."""
        kinds = ["MetricAlarm", "CompositeAlarm"]
        found = self._pipeline.client("cloudwatch").describe_alarms(AlarmTypes=kinds, StateValue="ALARM")
        alarms = found["MetricAlarms"] + found["CompositeAlarms"]
        return {self._names[one["AlarmName"]] for one in alarms if one["AlarmName"] in self._names}

    def hangs_up(self) -> None:
        self._sns.unsubscribe(SubscriptionArn=self._subscription)
        self._sqs.delete_queue(QueueUrl=self._url)
