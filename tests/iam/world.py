"""The deployed stack as a check of its permissions sees it: calls, letters and messages, and policies to change."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from holdfast.domain.letters import DeadLetter, Message, TriageStamp
from tests.iam.grants import as_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.environment import LocalStack
    from tests.iam.grants import Grant

#: An upper bound, passed by nobody who is well: a replay whose workers all start cold on a busy machine took over 30.
PATIENCE_SECONDS = 120
#: What did not hold any more without a permission, for the end of the run.
SEEN = pytest.StashKey[dict[str, str]]()


class Broken(Exception):
    """A promise that does not hold."""


def promise(kept: object, what: str) -> None:
    if not kept:
        raise Broken(what)


@contextlib.contextmanager
def accepted(what: str) -> Iterator[None]:
    """The promise that AWS takes a call of ours."""
    try:
        yield
    except ClientError as error:
        raise Broken(f"{what}: {error.response['Error']['Code']}") from error


def dead_letter(body: str = "", **attributes: str) -> dict[str, Any]:
    """A record as a mapping hands it over; without a body it is one that no retry can help."""
    typed = {name: {"dataType": "String", "stringValue": value} for name, value in attributes.items()}
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "none",
        "body": body or f"no JSON {uuid.uuid4()}",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(time.time() * 1000))},
        "messageAttributes": typed,
        "eventSource": "aws:sqs",
    }


def stamped(record: dict[str, Any], execution: str) -> dict[str, Any]:
    """The record as a redrive of this execution would have sent it; nobody waits for its token."""
    stamp = TriageStamp(letter_of(record).event_id, execution, 0, str(uuid.uuid4()))
    return record | {"messageAttributes": {"Triage": {"dataType": "String", "stringValue": stamp.write()}}}


def letter_of(record: dict[str, Any]) -> DeadLetter:
    return DeadLetter.of(Message.of_record(record))


@dataclass
class World:
    """The stack, driven by root: no mapping runs, so that nothing happens but what a probe asks for."""

    stack: LocalStack
    _asked: dict[str, int] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    def name(self, logical_id: str) -> str:
        return self.stack.stack.resources[logical_id]

    def arn(self, logical_id: str, attribute: str) -> str:
        """An attribute of a queue: ``QueueArn``."""
        asked = {"QueueUrl": self.name(logical_id), "AttributeNames": [attribute]}
        return str(self.client("sqs").get_queue_attributes(**asked)["Attributes"][attribute])

    # -- functions -----------------------------------------------------------------------------------------------

    def invoke(self, function: str, payload: Any) -> Any:
        """Call a function; its answer, or ``{"errorType", …}``."""
        self._asked.setdefault(function, int(time.time() * 1000))
        answer = self.client("lambda").invoke(FunctionName=self.name(function), Payload=json.dumps(payload))
        return json.load(answer["Payload"])

    def done(self, function: str, payload: Any, what: str) -> Any:
        """The answer of a call that has to succeed."""
        answer = self.invoke(function, payload)
        error = answer.get("errorType") if isinstance(answer, dict) else None
        promise(error is None, f"{what} ({error})")
        return answer

    def logs(self, function: str) -> None:
        """The promise that what this function printed since it was first asked can be read."""
        group = self.name(function.replace("Function", "Log"))
        asked = {"logGroupName": group, "startTime": self._asked.pop(function)}
        promise(self.client("logs").filter_log_events(**asked)["events"], f"{function} writes its log")

    def map_again(self, function: str) -> None:
        """The promise that Lambda would take the function's mapping."""
        client = self.client("lambda")
        (mapping,) = client.list_event_source_mappings(FunctionName=self.name(function))["EventSourceMappings"]
        names = ("EventSourceArn", "FunctionArn", "StartingPosition", "DestinationConfig")
        given = {name: mapping[name] for name in names if mapping.get(name)}
        asked = {"FunctionName" if name == "FunctionArn" else name: value for name, value in given.items()}
        with accepted(f"Lambda takes the mapping of {function}"):
            made = client.create_event_source_mapping(**asked, Enabled=False)
        client.delete_event_source_mapping(UUID=made["UUID"])

    # -- the bucket ----------------------------------------------------------------------------------------------

    @property
    def bucket(self) -> dict[str, str]:
        return {"Bucket": self.name("ArchiveBucket")}

    def put(self, key: str, text: str) -> str:
        self.client("s3").put_object(**self.bucket, Key=key, Body=text.encode())
        return key

    def get(self, key: str) -> str | None:
        try:
            body: bytes = self.client("s3").get_object(**self.bucket, Key=key)["Body"].read()
        except self.client("s3").exceptions.NoSuchKey:
            return None
        return body.decode()

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(**self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def evidence(self, letter: DeadLetter) -> str:
        return self.put(letter.key, letter.as_json())

    def archived(self, letter: DeadLetter, name: str) -> str:
        """Put a letter into today's archive."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        document = json.loads(letter.as_json()) | {"archivedAt": f"{day}T00:00:00.000Z", "executionArn": f"arn:{name}"}
        return self.put(f"archive/category=UNKNOWN/dt={day}/{name}.json", json.dumps(document))

    # -- the tables ----------------------------------------------------------------------------------------------

    def item(self, event_id: str) -> dict[str, Any] | None:
        key = {"eventId": {"S": event_id}}
        found: dict[str, Any] | None = (
            self.client("dynamodb").get_item(TableName=self.name("EventsTable"), Key=key).get("Item")
        )
        return found

    def store(self, event_id: str) -> None:
        """Put an event into the table as if it had been processed."""
        received = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        texts = {"eventId": event_id, "detailType": "t", "source": "s", "receivedAt": received, "event": "{}"}
        item = {name: {"S": value} for name, value in texts.items()}
        self.client("dynamodb").put_item(TableName=self.name("EventsTable"), Item=item)

    def attempts(self, event_id: str) -> list[dict[str, Any]]:
        asked = {"KeyConditionExpression": "eventId = :l", "ExpressionAttributeValues": {":l": {"S": event_id}}}
        found: list[dict[str, Any]] = self.client("dynamodb").query(TableName=self.name("AttemptsTable"), **asked)[
            "Items"
        ]
        return found

    def attempted(self, record: dict[str, Any]) -> None:
        """Note that a worker started on this record's first receive and never closed it."""
        texts = {
            "eventId": letter_of(record).event_id,
            "attempt": f"{record['messageId']}#1",
            "status": "started",
            "at": "2026-11-24T00:00:00.000Z",
            "requestId": "r",
        }
        item = {name: {"S": value} for name, value in texts.items()}
        self.client("dynamodb").put_item(TableName=self.name("AttemptsTable"), Item=item)

    # -- the queues ----------------------------------------------------------------------------------------------

    def drain(self, queue: str) -> None:
        self.client("sqs").purge_queue(QueueUrl=self.name(queue))

    def received(self, queue: str) -> list[dict[str, Any]]:
        """What can be received now, hidden from then on."""
        asked = {"QueueUrl": self.name(queue), "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        found: list[dict[str, Any]] = self.client("sqs").receive_message(**asked).get("Messages", [])
        return found

    def held(self, queue: str) -> int:
        """How many messages are there, hidden or not."""
        counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.name(queue), AttributeNames=counts)
        return sum(int(answer["Attributes"][count]) for count in counts)

    # -- executions ----------------------------------------------------------------------------------------------

    def start(self, machine: str, name: str, given: dict[str, Any]) -> str:
        asked = {"stateMachineArn": self.name(machine), "name": name, "input": json.dumps(given)}
        return str(self.client("stepfunctions").start_execution(**asked)["executionArn"])

    def ended(self, execution: str) -> dict[str, Any] | None:
        """The execution, if it has ended."""
        found: dict[str, Any] = self.client("stepfunctions").describe_execution(executionArn=execution)
        return None if found["status"] == "RUNNING" else found

    def output(self, execution: str, what: str) -> dict[str, Any]:
        """What an execution came to that has to succeed."""
        ended = eventually(lambda: self.ended(execution), what)
        promise(ended["status"] == "SUCCEEDED", f"{what} ({ended.get('error', ended['status'])})")
        output: dict[str, Any] = json.loads(ended["output"])
        return output

    # -- policies ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def without(self, grant: Grant) -> Iterator[None]:
        """Take one action on one resource away, and give it back."""
        before = self._policy(grant)
        self._set_policy(grant, _without(before, grant))
        try:
            yield
        finally:
            self._set_policy(grant, before)

    def _policy(self, grant: Grant) -> dict[str, Any]:
        held = self.name(grant.holder)
        if grant.policy:
            asked = {"RoleName": held, "PolicyName": grant.policy}
            document: dict[str, Any] = self.client("iam").get_role_policy(**asked)["PolicyDocument"]
            return document
        if grant.who == "AlarmTopicPolicy":
            text = self.client("sns").get_topic_attributes(TopicArn=held)["Attributes"]["Policy"]
        else:
            text = self.arn(grant.holder, "Policy")
        return dict(json.loads(text))

    def _set_policy(self, grant: Grant, document: dict[str, Any]) -> None:
        held, text = self.name(grant.holder), json.dumps(document)
        if grant.policy:
            self.client("iam").put_role_policy(RoleName=held, PolicyName=grant.policy, PolicyDocument=text)
        elif grant.who == "AlarmTopicPolicy":
            asked = {"TopicArn": held, "AttributeName": "Policy", "AttributeValue": text}
            self.client("sns").set_topic_attributes(**asked)
        else:
            self.client("sqs").set_queue_attributes(QueueUrl=held, Attributes={"Policy": text})


def _without(document: dict[str, Any], grant: Grant) -> dict[str, Any]:
    """The policy less one action on one resource."""
    number, nth, mth = grant.place
    statements = as_list(document["Statement"])
    actions, on = as_list(statements[number]["Action"]), as_list(statements[number]["Resource"])
    assert grant.action == actions[nth], f"the deployed policy differs from the template's: {grant}"
    others = [action for action in actions if action != actions[nth]]
    elsewhere = [resource for resource in on if resource != on[mth]]
    rest = [
        statements[number] | {"Action": kept, "Resource": where}
        for kept, where in ((others, on), ([actions[nth]], elsewhere))
        if kept and where
    ]
    return document | {"Statement": [*statements[:number], *rest, *statements[number + 1 :]]}


def eventually(ask: Any, what: str) -> Any:
    """Ask until the answer is truthy."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        promise(time.monotonic() < end, f"{what} (not within {PATIENCE_SECONDS} s)")
        time.sleep(0.05)
    return answer
