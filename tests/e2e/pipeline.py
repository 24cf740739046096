"""The deployed stack as a test sees it: what goes in, and where every event is."""

from __future__ import annotations

import json
import time
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.domain.envelope import identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local.environment import LocalStack

T = TypeVar("T")

PATIENCE_SECONDS = 90
TOPIC = "v2.detail.events.conversation.{id}.user.start"


def genesys_event(**body: Any) -> dict[str, Any]:
    """An envelope in Genesys Cloud's shape, with ids made up for the occasion."""
    conversation = str(uuid.uuid4())
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": TOPIC,
        "source": "genesys.cloud",
        "account": "000000000000",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "topicName": TOPIC.replace("{id}", conversation),
            "version": "2",
            "timestamp": "2026-11-23T12:00:00.123Z",
            "eventBody": {"eventTime": 1795435200123, "conversationId": conversation, **body},
            "metadata": {"CorrelationId": str(uuid.uuid4())},
        },
    }


def with_user(**body: Any) -> dict[str, Any]:
    """An event that names a user nobody has asked for yet."""
    return genesys_event(userId=str(uuid.uuid4()), **body)


@dataclass(frozen=True)
class Execution:
    """One triage execution."""

    arn: str
    name: str
    status: str
    input: dict[str, Any]
    output: dict[str, Any] | None
    history: list[dict[str, Any]]

    @property
    def path(self) -> list[str]:
        return [event["stateEnteredEventDetails"]["name"] for event in self.history if _entered(event)]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        entered = [json.loads(event["stateEnteredEventDetails"]["input"]) for event in self.history if _entered(event)]
        names = zip(self.path, entered, strict=True)
        return [state["verdict"] for name, state in names if name == "Decide"]

    @property
    def delays(self) -> list[int]:
        """How long each BackOff waited, in the seconds of the definition."""
        entered = [json.loads(event["stateEnteredEventDetails"]["input"]) for event in self.history if _entered(event)]
        return [state["delaySeconds"] for name, state in zip(self.path, entered, strict=True) if name == "BackOff"]


def _entered(event: dict[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


class Pipeline:
    """The whole application on the local engine."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.outputs = stack.outputs
        self.genesys = stack.genesys
        self._settled: dict[str, Execution] = {}

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    # -- in ------------------------------------------------------------------------------------------------------

    def put(self, *events: dict[str, Any]) -> list[str]:
        """Send events through the bus, as Genesys does; answers their ids, which EventBridge makes."""
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
        """Send bodies straight into the buffer; answers their letter ids."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        for text in texts:
            self.client("sqs").send_message(QueueUrl=self.outputs["BufferQueueUrl"], MessageBody=text, **optional)
        return [identify(text)[0] for text in texts]

    def bury(self, body: str | dict[str, Any], **attributes: str) -> str:
        """Send a body straight into the dead-letter queue, as EventBridge does with what it cannot deliver."""
        text = body if isinstance(body, str) else json.dumps(body)
        typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        url = self.outputs["DeadLetterQueueUrl"]
        self.client("sqs").send_message(QueueUrl=url, MessageBody=text, MessageAttributes=typed)
        return identify(text)[0]

    # -- by hand -------------------------------------------------------------------------------------------------

    def sweep(self) -> dict[str, int]:
        """Sweep the evidence, whatever its age."""
        name = self.stack.stack.resources["EvidenceSweepFunction"]
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps({"olderThanHours": 0}))
        report: dict[str, int] = json.loads(answer["Payload"].read())
        return report

    def replay(self, asked: dict[str, object]) -> dict[str, Any]:
        """Run a replay to its end."""
        workflows, machine = self.client("stepfunctions"), self.outputs["ReplayStateMachineArn"]
        arn = workflows.start_execution(stateMachineArn=machine, input=json.dumps(asked))["executionArn"]

        def ended() -> dict[str, Any]:
            found: dict[str, Any] = workflows.describe_execution(executionArn=arn)
            return found if found["status"] != "RUNNING" else {}

        execution = self.eventually(ended, "the replay has ended")
        assert execution["status"] == "SUCCEEDED", execution
        output: dict[str, Any] = json.loads(execution["output"])
        return output

    # -- where it is ---------------------------------------------------------------------------------------------

    def item(self, event_id: str) -> dict[str, Any] | None:
        """The table's item of an event."""
        key = {"eventId": {"S": event_id}}
        answer = self.client("dynamodb").get_item(TableName=self.outputs["EventsTableName"], Key=key)
        found: dict[str, Any] | None = answer.get("Item")
        return found

    def event(self, event_id: str) -> dict[str, Any]:
        """The enriched event in the table."""
        item = self.item(event_id)
        assert item, f"{event_id} is not stored"
        if "eventPointer" in item:
            return self.document(item["eventPointer"]["M"]["key"]["S"])
        packed = item.get("eventPacked", {}).get("B")
        event: dict[str, Any] = json.loads(zlib.decompress(packed) if packed else item["event"]["S"])
        return event

    def attempts(self, event_id: str) -> list[dict[str, Any]]:
        """The attempt log's lines on an event."""
        answer = self.client("dynamodb").query(
            TableName=self.outputs["AttemptsTableName"],
            KeyConditionExpression="eventId = :letter",
            ExpressionAttributeValues={":letter": {"S": event_id}},
        )
        items: list[dict[str, Any]] = answer["Items"]
        return items

    def objects(self, prefix: str) -> list[str]:
        """Keys in the archive bucket."""
        pages = self.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.outputs["ArchiveBucketName"], Prefix=prefix)
        return [entry["Key"] for page in found for entry in page.get("Contents", [])]

    def document(self, key: str) -> dict[str, Any]:
        """An object of the archive bucket."""
        body = self.client("s3").get_object(Bucket=self.outputs["ArchiveBucketName"], Key=key)["Body"].read()
        document: dict[str, Any] = json.loads(body)
        return document

    def executions(self, event_id: str | None = None) -> list[Execution]:
        """The triage executions of a letter, or all."""
        pages = self.client("stepfunctions").get_paginator("list_executions")
        found = pages.paginate(stateMachineArn=self.outputs["TriageStateMachineArn"])
        every = [self._execution(entry) for page in found for entry in page["executions"]]
        return [one for one in every if event_id is None or one.input.get("eventId") == event_id]

    def _execution(self, entry: dict[str, Any]) -> Execution:
        arn = entry["executionArn"]
        if arn in self._settled:
            return self._settled[arn]
        workflows = self.client("stepfunctions")
        described = workflows.describe_execution(executionArn=arn)
        pages = workflows.get_paginator("get_execution_history").paginate(executionArn=arn)
        execution = Execution(
            arn=arn,
            name=described["name"],
            status=described["status"],
            input=json.loads(described["input"]),
            output=json.loads(described["output"]) if described.get("output") else None,
            history=[event for page in pages for event in page["events"]],
        )
        if execution.status != "RUNNING":
            self._settled[arn] = execution
        return execution

    # -- waiting -------------------------------------------------------------------------------------------------

    def eventually(self, ask: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
        """Ask until the answer is truthy."""
        end = time.monotonic() + seconds
        while not (answer := ask()):
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.3)
        return answer

    def stored(self, event_ids: Iterable[str]) -> None:
        """Wait until the table holds these events."""
        for event_id in event_ids:
            self.eventually(lambda letter=event_id: self.item(letter), f"{event_id} is stored")

    def settled(self, event_id: str, seconds: float = PATIENCE_SECONDS) -> Execution:
        """Wait until the letter's one execution has ended."""

        def ended() -> list[Execution]:
            return [one for one in self.executions(event_id) if one.status != "RUNNING"]

        return self.eventually(ended, f"the execution of {event_id} has ended", seconds)[0]

    def archived(self, event_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until the letter is archived; answers the archive object."""
        execution = self.settled(event_id, seconds)
        assert execution.output, f"{execution.name} {execution.status}"
        assert execution.output["outcome"] == "ARCHIVED"
        return self.document(execution.output["archive"]["key"])
