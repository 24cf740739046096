"""A deployed stack that does nothing by itself, so that all changes come from one invocation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from local.fixture_setup import FixtureSetup
from local.runtime_emulator import Function
from tests.e2e.pipeline import Pipeline, plain
from tests.e2e.subscribers import Consumer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from local.environment import LocalStack

WAITING = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 3600, "End": True}}}


class IdleStack:
    """A stack whose mappings are disabled and whose triage executions only wait. Its data can be replaced and read."""

    def __init__(self, local: LocalStack, built: Path) -> None:
        self._pipeline = Pipeline(local)
        self._built = built
        mappings, workflows = self._client("lambda"), self._client("stepfunctions")
        for mapping in mappings.list_event_source_mappings()["EventSourceMappings"]:
            mappings.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        machine = self._pipeline.outputs["TriageStateMachineArn"]
        workflows.update_state_machine(stateMachineArn=machine, definition=json.dumps(WAITING))
        self._consumers = [Consumer(self._pipeline, source) for source in ("holdfast.events", "holdfast.triage")]

    def function(self, logical_id: str) -> Function:
        """A function as it is deployed."""
        return Function.of(self._pipeline.stack, logical_id, self._built)

    def prepare(self, setup: Mapping[str, Any]) -> None:
        """Remove all data and put the fixture's own in place."""
        self._clear()
        FixtureSetup(self._pipeline.stack).apply(setup)
        self._pipeline.genesys.set_faults(setup.get("genesys"))

    def effects(self) -> dict[str, list[str]]:
        """What the stack holds and has sent, by place; empty places are left out."""
        found = {
            "stored": [self._stored(item) for item in map(plain, self._items("EventsTableName"))],
            "attempts": [
                f"{item['attempt']} {item['status']} {item.get('category', '')}".rstrip()
                for item in map(plain, self._items("AttemptsTableName"))
            ],
            "objects": [f"{key}{self._tags(key)}" for key in self._pipeline.objects("")],
            "executions": [one.name for one in self._pipeline.executions() if not one.ended],
            "sent": [f"{name} with {attributes}".removesuffix(" with ") for name, attributes in self._sent()],
            "published": [
                f"{event['detail-type']} {event['detail']['eventId']}"
                for consumer in self._consumers
                for event in consumer.take()
            ],
        }
        return {place: sorted(what) for place, what in found.items() if what}

    def _client(self, service: str) -> Any:
        return self._pipeline.client(service)

    def _stored(self, item: Mapping[str, Any]) -> str:
        """The event's id, whether it is packed, and what enrichment added."""
        event = json.dumps(self._pipeline.event(item["eventId"]))
        added = sorted(set(re.findall(r'"(\w*[uU]ser(?:Name|Email))"', event)))
        packed = " packed" if "eventPacked" in item else ""
        return f"{item['eventId']}{packed}{' with ' if added else ''}{', '.join(added)}"

    def _tags(self, key: str) -> str:
        bucket = self._pipeline.outputs["ArchiveBucketName"]
        tags = self._client("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return "".join(f" {tag['Key']}={tag['Value']}" for tag in tags)

    def _sent(self) -> Iterator[tuple[str, str]]:
        """Receive and delete the messages of the buffer; yields ids with the names of the attributes."""
        sqs, url = self._client("sqs"), self._pipeline.outputs["BufferQueueUrl"]
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])["id"], ", ".join(sorted(message.get("MessageAttributes", {})))

    def _items(self, table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client("dynamodb").scan(TableName=self._pipeline.outputs[table])["Items"]
        return found

    def _clear(self) -> None:
        outputs = self._pipeline.outputs
        for name in self._pipeline.objects(""):
            self._client("s3").delete_object(Bucket=outputs["ArchiveBucketName"], Key=name)
        for table, names in (("EventsTableName", ("eventId",)), ("AttemptsTableName", ("eventId", "attempt"))):
            for item in self._items(table):
                key = {name: item[name] for name in names}
                self._client("dynamodb").delete_item(TableName=outputs[table], Key=key)
        for execution in self._pipeline.executions():
            if not execution.ended:
                self._client("stepfunctions").stop_execution(executionArn=execution.arn)
        self.effects()  # empties the queues
