"""The deployed stack for the permission checks: direct calls, prepared dead letters, and policies to change."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from holdfast.adapters.s3 import ArchiveBucket
from holdfast.domain.letters import MAX_ATTRIBUTES, DeadLetter, Message, TriageStamp
from holdfast.domain.redrive_records import note_sending
from local.mappings import changed_mapping
from tests.e2e.pipeline import Pipeline
from tests.iam.grants import as_list

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from local.environment import LocalStack
    from tests.iam.grants import Grant

#: What failed without each permission, for the summary of the run.
FAILURES = pytest.StashKey[dict[str, str]]()


class BrokenPromise(Exception):
    """A promise does not hold."""


def promise(kept: object, what: str) -> None:
    if not kept:
        raise BrokenPromise(what)


@contextlib.contextmanager
def accepted(what: str) -> Iterator[None]:
    """The promise that AWS accepts a call."""
    try:
        yield
    except ClientError as error:
        raise BrokenPromise(f"{what}: {error.response['Error']['Code']}") from error


def dead_letter(body: str | dict[str, Any] | None = None) -> dict[str, Any]:
    """A record as a mapping delivers it; by default its body is malformed."""
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "none",
        "body": json.dumps(body) if body else f"no JSON {uuid.uuid4()}",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(time.time() * 1000))},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }


def stamped(record: dict[str, Any], execution: str, token: str) -> dict[str, Any]:
    """The record as a redrive of this execution sends it."""
    stamp = TriageStamp(letter_of(record).event_id, execution, 0, token)
    return record | {"messageAttributes": {"Triage": {"dataType": "String", "stringValue": stamp.write()}}}


def without_room(record: dict[str, Any]) -> dict[str, Any]:
    """The record with so many attributes that a redrive cannot add the stamp."""
    attribute = {"dataType": "String", "stringValue": "x"}
    return record | {"messageAttributes": {f"Attribute{number}": attribute for number in range(MAX_ATTRIBUTES)}}


def letter_of(record: dict[str, Any]) -> DeadLetter:
    return DeadLetter.of(Message.of_record(record))


class World(Pipeline):
    """The stack with all mappings disabled: only the calls of a probe have effects. The caller is the root user."""

    def __init__(self, local: LocalStack) -> None:
        super().__init__(local)
        self._called: dict[str, int] = {}

    def name(self, logical_id: str) -> str:
        return self.stack.resources[logical_id]

    # -- functions -----------------------------------------------------------------------------------------------

    def invoke(self, function: str, payload: Any) -> Any:
        self._called.setdefault(function, int(time.time() * 1000))
        return super().invoke(function, payload)

    def done(self, function: str, payload: Any, what: str) -> Any:
        """The answer of a call that has to succeed."""
        answer = self.invoke(function, payload)
        error = answer.get("errorType") if isinstance(answer, dict) else None
        promise(error is None, f"{what} ({error})")
        return answer

    def logs(self, function: str) -> None:
        """The promise that the function has written its log since its first call."""
        asked = {
            "logGroupName": self.name(function.replace("Function", "Log")),
            "startTime": self._called.pop(function),
        }
        promise(self.client("logs").filter_log_events(**asked)["events"], f"{function} writes its log")

    def map_again(self, function: str) -> None:
        """The promise that Lambda accepts the function's mapping."""
        client = self.client("lambda")
        (mapping,) = client.list_event_source_mappings(FunctionName=self.name(function))["EventSourceMappings"]
        names = ("EventSourceArn", "StartingPosition", "DestinationConfig")
        asked = {name: mapping[name] for name in names if mapping.get(name)}
        with accepted(f"Lambda accepts the mapping of {function}"):
            made = client.create_event_source_mapping(FunctionName=mapping["FunctionArn"], **asked, Enabled=False)
        client.delete_event_source_mapping(UUID=made["UUID"])

    def processing(self) -> AbstractContextManager[None]:
        """Let the processor receive from the buffer for the time of a ``with`` block."""
        return changed_mapping(self.client("lambda"), self.name("ProcessorFunctionBuffer"), enabled=True)

    # -- the bucket and the tables -------------------------------------------------------------------------------

    @property
    def bucket(self) -> dict[str, str]:
        return {"Bucket": self.name("ArchiveBucket")}

    def write(self, key: str, text: str) -> str:
        self.client("s3").put_object(**self.bucket, Key=key, Body=text.encode())
        return key

    def snapshot(self, letter: DeadLetter) -> str:
        return self.write(letter.key, letter.as_json())

    def redrive_record(self, letter: DeadLetter, execution: str) -> None:
        """Record that this execution has redriven a letter without room for a stamp. Its token is not valid."""
        stamp = TriageStamp(letter.event_id, execution, 1, str(uuid.uuid4()))
        note_sending(ArchiveBucket(self.client("s3"), self.name("ArchiveBucket")), letter, stamp)

    def archive(self, letter: DeadLetter, name: str) -> str:
        """Put a dead letter into today's archive."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        document = json.loads(letter.as_json()) | {"archivedAt": f"{day}T00:00:00.000Z", "executionArn": f"arn:{name}"}
        return self.write(f"archive/category=UNKNOWN/dt={day}/fingerprint/{name}.json", json.dumps(document))

    def store(self, event_id: str) -> None:
        """Put an event into the table as the processor does."""
        received = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        self._put_item("EventsTable", eventId=event_id, detailType="t", source="s", receivedAt=received, event="{}")

    def put_attempt(self, record: dict[str, Any]) -> None:
        """Put an attempt record: a worker started this record's first receive and did not finish it."""
        self._put_item(
            "AttemptsTable",
            eventId=letter_of(record).event_id,
            attempt=f"{record['messageId']}#1",
            status="started",
            at="2026-11-24T00:00:00.000Z",
            requestId="r",
        )

    def _put_item(self, table: str, **texts: str) -> None:
        item = {name: {"S": value} for name, value in texts.items()}
        self.client("dynamodb").put_item(TableName=self.name(table), Item=item)

    # -- the queues ----------------------------------------------------------------------------------------------

    def drain(self, queue: str) -> None:
        self.client("sqs").purge_queue(QueueUrl=self.name(queue))

    def received(self, queue: str) -> list[dict[str, Any]]:
        """Receive up to ten visible messages."""
        asked = {"QueueUrl": self.name(queue), "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        found: list[dict[str, Any]] = self.client("sqs").receive_message(**asked).get("Messages", [])
        return found

    def queue_attribute(self, queue: str, name: str) -> str:
        asked = {"QueueUrl": self.name(queue), "AttributeNames": [name]}
        return str(self.client("sqs").get_queue_attributes(**asked)["Attributes"][name])

    # -- executions ----------------------------------------------------------------------------------------------

    def result(self, execution: str, what: str) -> dict[str, Any]:
        """The output of an execution that has to succeed."""
        ended = self.end_of(execution)
        promise(ended["status"] == "SUCCEEDED", f"{what} ({ended.get('error', ended['status'])})")
        output: dict[str, Any] = json.loads(ended["output"])
        return output

    # -- policies ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def without(self, grant: Grant) -> Iterator[None]:
        """Remove one action on one resource from its policy for the time of a ``with`` block."""
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
        if grant.grantee == "AlarmTopicPolicy":
            text = self.client("sns").get_topic_attributes(TopicArn=held)["Attributes"]["Policy"]
        else:
            text = self.queue_attribute(grant.holder, "Policy")
        return dict(json.loads(text))

    def _set_policy(self, grant: Grant, document: dict[str, Any]) -> None:
        held, text = self.name(grant.holder), json.dumps(document)
        if grant.policy and not document["Statement"]:  # its only permission is removed
            self.client("iam").delete_role_policy(RoleName=held, PolicyName=grant.policy)
        elif grant.policy:
            self.client("iam").put_role_policy(RoleName=held, PolicyName=grant.policy, PolicyDocument=text)
        elif grant.grantee == "AlarmTopicPolicy":
            asked = {"TopicArn": held, "AttributeName": "Policy", "AttributeValue": text}
            self.client("sns").set_topic_attributes(**asked)
        else:
            self.client("sqs").set_queue_attributes(QueueUrl=held, Attributes={"Policy": text})


def _without(document: dict[str, Any], grant: Grant) -> dict[str, Any]:
    """The policy without one action on one resource."""
    number, nth, mth = grant.place
    statements = as_list(document["Statement"])
    actions, on = as_list(statements[number]["Action"]), as_list(statements[number]["Resource"])
    assert grant.action == actions[nth], f"the deployed policy is not the template's: {grant}"
    others = [action for action in actions if action != actions[nth]]
    elsewhere = [resource for resource in on if resource != on[mth]]
    rest = [
        statements[number] | {"Action": kept, "Resource": where}
        for kept, where in ((others, on), ([actions[nth]], elsewhere))
        if kept and where
    ]
    return document | {"Statement": [*statements[:number], *rest, *statements[number + 1 :]]}
