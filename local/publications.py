"""A consumer's queue on the enriched bus."""

from __future__ import annotations

import json

from holdfast.domain.fan_out import SOURCE
from local.stack import Stack

_NAME = "published-events"


def subscribe(stack: Stack) -> str:
    """Let a new queue receive every published event, as a user's rule would. Returns the queue's URL."""
    sqs, events = stack.client("sqs"), stack.client("events")
    bus = stack.outputs["EnrichedBusName"]
    url: str = sqs.create_queue(QueueName=_NAME)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_rule(Name=_NAME, EventBusName=bus, EventPattern=json.dumps({"source": [SOURCE]}))
    events.put_targets(Rule=_NAME, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    return url
