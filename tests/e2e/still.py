"""The deployed stack with everything at rest: what is seen afterwards is what one invocation did.

No mapping takes a message or a stream record, and a triage execution only waits.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from local.fixture_setup import FixtureSetup
from local.runtime_emulator import Function
from tests.e2e.consumer import Consumer
from tests.e2e.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from local.environment import LocalStack

WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}}


class StillStack:
    """A stack of its own: what it holds is thrown away before every fixture."""

    def __init__(self, stack: LocalStack, built: Path) -> None:
        self._stack = stack
        self._built = built
        self._pipeline = Pipeline(stack)
        self._still()
        self._consumers = [Consumer(self._pipeline, source) for source in ("holdfast.events", "holdfast.triage")]

    def _still(self) -> None:
        mappings, workflows = self._stack.client("lambda"), self._stack.client("stepfunctions")
        for mapping in mappings.list_event_source_mappings()["EventSourceMappings"]:
            mappings.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        workflows.update_state_machine(
            stateMachineArn=self._stack.outputs["TriageStateMachineArn"], definition=json.dumps(WAITING)
        )

    def function(self, logical_id: str) -> Function:
        """A function as it is deployed."""
        return Function.of(self._stack.stack, logical_id, self._built)

    def prepare(self, setup: Mapping[str, Any]) -> None:
        """Have this here, and nothing else."""
        self._clear()
        FixtureSetup(self._stack.stack).apply(setup)
        self._stack.genesys.set_faults(setup.get("genesys"))

    def leaves(self) -> dict[str, list[str]]:
        """What is there now, by place; a place that is empty is left out."""
        found = {
            "stored": [self._stored(item) for item in self._items("EventsTableName")],
            "attempts": [
                f"{item['attempt']['S']} {item['status']['S']} {item.get('category', {}).get('S', '')}".rstrip()
                for item in self._items("AttemptsTableName")
            ],
            "objects": [f"{key}{self._tags(key)}" for key in self._pipeline.objects("")],
            "executions": [one.name for one in self._pipeline.executions() if one.status == "RUNNING"],
            "sent": [f"{name} with {attributes}".removesuffix(" with ") for name, attributes in self._sent()],
            "published": [
                f"{event['detail-type']} {event['detail'].get('eventId') or event['detail']['eventId']}"
                for consumer in self._consumers
                for event in consumer.take()
            ],
        }
        return {place: sorted(what) for place, what in found.items() if what}

    def _stored(self, item: Mapping[str, Any]) -> str:
        """The event's id, whether it is packed, and what enrichment added."""
        event_id = item["eventId"]["S"]
        added = sorted(set(re.findall(r'"(\w*[uU]ser(?:Name|Email))"', json.dumps(self._pipeline.event(event_id)))))
        packed = " packed" if "eventPacked" in item else ""
        return f"{event_id}{packed}{' with ' if added else ''}{', '.join(added)}"

    def _tags(self, key: str) -> str:
        bucket = self._stack.outputs["ArchiveBucketName"]
        tags = self._stack.client("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return "".join(f" {tag['Key']}={tag['Value']}" for tag in tags)

    def _sent(self) -> Iterator[tuple[str, str]]:
        """Letters in the buffer, with the names of their messages' attributes."""
        sqs, url = self._stack.client("sqs"), self._stack.outputs["BufferQueueUrl"]
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])["id"], ", ".join(sorted(message.get("MessageAttributes", {})))

    def _items(self, table: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._stack.client("dynamodb").scan(TableName=self._stack.outputs[table])["Items"]
        return items

    def _clear(self) -> None:
        s3, dynamodb, workflows = map(self._stack.client, ("s3", "dynamodb", "stepfunctions"))
        for key in self._pipeline.objects(""):
            s3.delete_object(Bucket=self._stack.outputs["ArchiveBucketName"], Key=key)
        for table, names in (("EventsTableName", ("eventId",)), ("AttemptsTableName", ("eventId", "attempt"))):
            for item in self._items(table):
                key = {name: item[name] for name in names}
                dynamodb.delete_item(TableName=self._stack.outputs[table], Key=key)
        for execution in self._pipeline.executions():
            if execution.status == "RUNNING":
                workflows.stop_execution(executionArn=execution.arn)
        self.leaves()  # takes what is in the queues
