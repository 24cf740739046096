"""The deployed stack as a test uses it: send events, and see where each of them is."""

from __future__ import annotations

import json
import uuid
import zlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer

from holdfast.domain.letters import DeadLetter, Message
from local.environment import SHORT_WAITS
from local.eventually import eventually
from local.traffic import envelope
from ops.deployed import executions, history, keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from local.environment import LocalStack
    from local.stack import Stack

#: The deployed stack's parameters. The waits are short; the decisions are the same.
PARAMETERS = {
    "EnrichmentPolicy": "required",
    **SHORT_WAITS,
    "MaxConcurrency": "4",
    "RetryBaseSeconds": "120",
    "MaxRetries": "3",
    # Tests of triage need dead letters: the circuit breaker has a stack of its own in test_circuit_breaker.py.
    "CircuitBreakerMinEvents": "1000000",
}
WAIT_SCALE = 0.01
#: How long a test waits for the slowest step on a busy machine.
SECONDS = 90
TOPIC = "v2.detail.events.conversation.{id}.user.start"
#: The attribute with which EventBridge marks an event that it could not deliver.
UNDELIVERED = {"ERROR_CODE": {"DataType": "String", "StringValue": "NO_PERMISSIONS"}}


def genesys_event(**body: Any) -> dict[str, Any]:
    """An envelope in Genesys Cloud's shape, with new ids."""
    conversation = str(uuid.uuid4())
    detail = {
        "topicName": TOPIC.replace("{id}", conversation),
        "version": "2",
        "timestamp": "2026-11-23T12:00:00.123Z",
        "eventBody": {"eventTime": 1795435200123, "conversationId": conversation, **body},
        "metadata": {"CorrelationId": str(uuid.uuid4())},
    }
    return envelope(str(uuid.uuid4()), TOPIC, detail, datetime(2026, 11, 23, 12, tzinfo=UTC))


def with_user(**body: Any) -> dict[str, Any]:
    """An event with a user that no cache holds."""
    return genesys_event(userId=str(uuid.uuid4()), **body)


def text_of(body: str | dict[str, Any]) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def event_id_of(text: str) -> str:
    return DeadLetter.of(Message("", text)).event_id


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """A DynamoDB item with Python's types."""
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


@dataclass(frozen=True)
class Execution:
    """One triage execution."""

    arn: str
    name: str
    status: str
    input: dict[str, Any]
    output: dict[str, Any] | None
    stack: Stack

    @property
    def ended(self) -> bool:
        return self.status != "RUNNING"

    @property
    def result(self) -> dict[str, Any]:
        """The output of an execution that has to have succeeded."""
        assert self.status == "SUCCEEDED", self.history[-1]
        assert self.output
        return self.output

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        return history(self.stack, self.arn)

    @property
    def path(self) -> list[str]:
        return [state["name"] for state in self._entered]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        return [verdict for state in self._entered if (verdict := _input(state, "Decide", "verdict"))]

    @property
    def delays(self) -> list[int]:
        """The wait of each BackOff in seconds, before scaling."""
        return [delay for state in self._entered if (delay := _input(state, "BackOff", "delaySeconds"))]

    @property
    def _entered(self) -> list[dict[str, Any]]:
        return [event["stateEnteredEventDetails"] for event in self.history if "stateEnteredEventDetails" in event]


def _input(state: dict[str, Any], name: str, field: str) -> Any:
    return json.loads(state["input"])[field] if state["name"] == name else None


class Pipeline:
    """A deployed stack on the local engine; ``stack`` is one beside the session's own."""

    def __init__(self, local: LocalStack, stack: Stack | None = None) -> None:
        self.local = local
        self.stack = stack or local.stack
        self.outputs = self.stack.outputs
        self.genesys = local.genesys
        self._ended: dict[str, Execution] = {}

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    # -- send ----------------------------------------------------------------------------------------------------

    def put(self, *events: dict[str, Any]) -> list[str]:
        """Send events through the bus, as Genesys does. Returns their ids, which EventBridge creates."""
        entries = [
            {
                "EventBusName": self.outputs["EventBusName"],
                "Source": event["source"],
                "DetailType": event["detail-type"],
                "Detail": json.dumps(event["detail"]),
            }
            for event in events
        ]
        answer = self.client("events").put_events(Entries=entries)
        assert answer["FailedEntryCount"] == 0
        return [entry["EventId"] for entry in answer["Entries"]]

    def enqueue(self, *bodies: str | dict[str, Any], **optional: Any) -> list[str]:
        """Send bodies straight to the buffer. Returns their event ids."""
        return [self._send("BufferQueueUrl", body, optional) for body in bodies]

    def bury(self, body: str | dict[str, Any], attributes: dict[str, Any] | None = None, **optional: Any) -> str:
        """Send a body straight to the dead-letter queue, as EventBridge does. Returns its event id."""
        return self._send("DeadLetterQueueUrl", body, {"MessageAttributes": attributes or {}, **optional})

    def _send(self, queue: str, body: str | dict[str, Any], optional: dict[str, Any]) -> str:
        text = text_of(body)
        self.client("sqs").send_message(QueueUrl=self.outputs[queue], MessageBody=text, **optional)
        return event_id_of(text)

    # -- run -----------------------------------------------------------------------------------------------------

    def invoke(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        name = self.stack.resources[function]
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(payload))
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def sweep(self) -> dict[str, Any]:
        """Sweep all snapshots, whatever their age."""
        return self.invoke("EvidenceSweepFunction", {"olderThanHours": 0})

    def start(self, machine: str, asked: dict[str, Any], **optional: str) -> str:
        """Start ``Triage``, ``Replay`` or ``CircuitBreaker``. Returns the execution's ARN."""
        arn = self.outputs[f"{machine}StateMachineArn"]
        started = self.client("stepfunctions").start_execution(stateMachineArn=arn, input=json.dumps(asked), **optional)
        return str(started["executionArn"])

    def end_of(self, arn: str) -> dict[str, Any]:
        """Wait until an execution has ended."""

        def ended() -> dict[str, Any]:
            found: dict[str, Any] = self.client("stepfunctions").describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else {}

        return eventually(ended, f"{arn} has ended", SECONDS)

    def run(self, machine: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Run a state machine to its end. Returns its output."""
        execution = self.end_of(self.start(machine, asked))
        assert execution["status"] == "SUCCEEDED", execution
        output: dict[str, Any] = json.loads(execution["output"])
        return output

    def replay(self, **asked: object) -> dict[str, Any]:
        return self.run("Replay", asked)

    # -- look ----------------------------------------------------------------------------------------------------

    def item(self, event_id: str) -> dict[str, Any] | None:
        """The table's item of an event."""
        key = {"eventId": {"S": event_id}}
        found = self.client("dynamodb").get_item(TableName=self.outputs["EventsTableName"], Key=key).get("Item")
        return plain(found) if found else None

    def event(self, event_id: str) -> dict[str, Any]:
        """The enriched event in the table, or in the bucket where the item points to it."""
        item = self.item(event_id)
        assert item, f"{event_id} is not stored"
        if "eventPointer" in item:
            return self.document(item["eventPointer"]["key"])
        packed = item.get("eventPacked")
        event: dict[str, Any] = json.loads(zlib.decompress(bytes(packed)) if packed else item["event"])
        return event

    def attempts(self, event_id: str) -> list[dict[str, Any]]:
        """The attempt records of an event."""
        found = self.client("dynamodb").query(
            TableName=self.outputs["AttemptsTableName"],
            KeyConditionExpression="eventId = :id",
            ExpressionAttributeValues={":id": {"S": event_id}},
        )
        return [plain(item) for item in found["Items"]]

    def attempted(self) -> set[str]:
        """The events with attempt records."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=self.outputs["AttemptsTableName"])
        return {item["eventId"]["S"] for page in pages for item in page["Items"]}

    def objects(self, prefix: str) -> list[str]:
        """Keys in the archive bucket."""
        return keys(self.stack, prefix)

    def snapshots(self, event_id: str) -> list[str]:
        return self.objects(f"dead-letters/{event_id}/")

    def document(self, key: str) -> dict[str, Any]:
        """An object of the archive bucket."""
        body = self.client("s3").get_object(Bucket=self.outputs["ArchiveBucketName"], Key=key)["Body"].read()
        document: dict[str, Any] = json.loads(body)
        return document

    def executions(self, event_id: str | None = None) -> list[Execution]:
        """The triage executions of an event, or all."""
        every = [self._execution(entry["executionArn"]) for entry in executions(self.stack)]
        return [one for one in every if event_id is None or one.input.get("eventId") == event_id]

    def executions_of(self, event_ids: Iterable[str]) -> dict[str, list[Execution]]:
        """The triage executions by event."""
        found = defaultdict(list)
        for execution in self.executions():
            found[execution.input.get("eventId")].append(execution)
        return {event_id: found[event_id] for event_id in event_ids}

    def _execution(self, arn: str) -> Execution:
        if arn in self._ended:
            return self._ended[arn]
        described = self.client("stepfunctions").describe_execution(executionArn=arn)
        execution = Execution(
            arn=arn,
            name=described["name"],
            status=described["status"],
            input=json.loads(described["input"]),
            output=json.loads(described["output"]) if described.get("output") else None,
            stack=self.stack,
        )
        if execution.ended:
            self._ended[arn] = execution
        return execution

    # -- wait ----------------------------------------------------------------------------------------------------

    def stored(self, event_ids: Iterable[str]) -> None:
        """Wait until the table holds these events."""
        for event_id in event_ids:
            eventually(partial(self.item, event_id), f"{event_id} is stored", SECONDS)

    def dead(self, event_id: str) -> Execution:
        """Wait until the event has a triage execution."""
        return eventually(lambda: self.executions(event_id), f"{event_id} is a dead letter", SECONDS)[0]

    def settled(self, event_id: str, seconds: float = SECONDS) -> Execution:
        """Wait until an execution of the event has ended."""
        return eventually(
            lambda: [one for one in self.executions(event_id) if one.ended],
            f"the execution of {event_id} has ended",
            seconds,
        )[0]

    def all_settled(self, event_ids: Collection[str]) -> dict[str, list[Execution]]:
        """Wait until each event has an execution and none of them runs."""

        def ended() -> dict[str, list[Execution]]:
            found = self.executions_of(event_ids)
            return found if all(ones and all(one.ended for one in ones) for ones in found.values()) else {}

        return eventually(ended, f"the executions of {len(event_ids)} events have ended", 120)

    def archived(self, event_id: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until the event is archived. Returns the archive object."""
        result = self.settled(event_id, seconds).result
        assert result["outcome"] == "ARCHIVED"
        return self.document(result["archive"]["key"])
