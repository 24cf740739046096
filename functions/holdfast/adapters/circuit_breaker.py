"""What the circuit breaker of the pipeline calls: the processor's mapping, its own executions, and the processor."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from botocore.exceptions import ClientError

from holdfast.adapters.aws import code_of, translated
from holdfast.adapters.sqs import BufferConsumer, is_empty
from holdfast.domain.circuit_breaker import BreakerExecution, BreakerOutcome, LastIncident, ProbeResult
from holdfast.domain.errors import HoldfastError
from holdfast.domain.letters import parse_document

#: A synchronous invocation takes 6 MB: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_PAYLOAD_BYTES = 5_500_000
#: Without a wait, SQS answers from a part of its servers and may miss a message.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
_POLL_SECONDS = 5
#: The last incident is among so many executions. Those that found the circuit open already are short and few.
_NEWEST = 10
#: So many first events of a history contain the state Open, unless Inspect was retried more than 300 times.
_FIRST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class CircuitBreakerExecutions:
    """The executions of the circuit breaker. Their state machine is that of the execution in each argument."""

    client: Any

    def others(self, execution_arn: str) -> Sequence[BreakerExecution]:
        """The other executions that run. One call, and one more for each of them."""
        with translated("list the circuit breaker's executions"):
            return [
                BreakerExecution(arn, one["startDate"].astimezone(UTC), opened=self._opened(arn))
                for one in self._newest(execution_arn, "RUNNING")
                if (arn := one["executionArn"]) != execution_arn
            ]

    def last_incident(self, execution_arn: str) -> LastIncident | None:
        """The last one that a healthy probe ended, if it is among the newest executions."""
        with translated("list the circuit breaker's executions"):
            for one in self._newest(execution_arn, "SUCCEEDED"):
                output = parse_document(self.client.describe_execution(executionArn=one["executionArn"]).get("output"))
                if output.get("outcome") == BreakerOutcome.CLOSED:
                    return LastIncident(one["stopDate"].astimezone(UTC), int(output["waitSeconds"]))
        return None

    def _newest(self, execution_arn: str, status: str) -> Sequence[Mapping[str, Any]]:
        machine = execution_arn.replace(":execution:", ":stateMachine:").rsplit(":", 1)[0]
        try:
            answer = self.client.list_executions(stateMachineArn=machine, statusFilter=status, maxResults=_NEWEST)
        except ClientError as error:
            if code_of(error) == "StateMachineDoesNotExist":
                return []
            raise
        found: Sequence[Mapping[str, Any]] = answer["executions"]
        return found

    def _opened(self, execution_arn: str) -> bool:
        """Whether the execution has entered the state Open."""
        found = self.client.get_execution_history(
            executionArn=execution_arn, maxResults=_FIRST_EVENTS, includeExecutionData=False
        )
        return any(event.get("stateEnteredEventDetails", {}).get("name") == "Open" for event in found["events"])


@dataclass(frozen=True, slots=True)
class ProcessorProbe:
    """Hands messages of the buffer to the processor as its event source mapping does.

    Attributes:
        consumer: The buffer queue.
        queue_arn: Its ARN.
        functions: A client of Lambda that waits for the answer of the processor.
        function_name: The processor.
    """

    consumer: BufferConsumer
    queue_arn: str
    functions: Any
    function_name: str

    def probe(self, messages: int) -> ProbeResult:
        """Receive at most so many messages, let the processor work on them, and delete those that it processed.

        A message that the processor did not process stays in the buffer.

        Raises:
            HoldfastError: The messages could not be received, handed over or deleted. They are received again.
        """
        records = self._received(messages)
        if not records:
            return ProbeResult(buffer_empty=is_empty(self.consumer.client, self.consumer.url))
        try:
            answer = self._invoked(records)
        except HoldfastError:
            self.consumer.set_visibility({record["receiptHandle"]: 0 for record in records})
            raise
        if answer is None:
            return ProbeResult(
                received=len(records), failed_for_now=len(records), error="the processor ended in an error"
            )
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        done = [record["receiptHandle"] for record in records if record["messageId"] not in failed]
        if done:
            self.consumer.delete(done)
        counts = answer["probe"]
        return ProbeResult(len(records), counts["stored"], counts["failedForNow"], counts["failedForGood"])

    def _received(self, messages: int) -> list[dict[str, Any]]:
        """The messages that fit into one invocation. The others are visible again at once."""
        with translated("receive from the buffer"):
            answer = self.consumer.client.receive_message(
                QueueUrl=self.consumer.url,
                MaxNumberOfMessages=messages,
                WaitTimeSeconds=_POLL_SECONDS,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        taken: list[dict[str, Any]] = []
        left: dict[str, int] = {}
        size = 0
        for record in (as_record(message, self.queue_arn) for message in answer.get("Messages", [])):
            size += len(json.dumps(record))
            if taken and size > _PAYLOAD_BYTES:
                left[record["receiptHandle"]] = 0
            else:
                taken.append(record)
        if left:
            self.consumer.set_visibility(left)
        return taken

    def _invoked(self, records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The processor's answer; ``None`` if it ended in an error."""
        with translated("invoke the processor"):
            answer = self.functions.invoke(
                FunctionName=self.function_name, Payload=json.dumps({"Records": records, "probe": True})
            )
        if answer.get("FunctionError"):
            return None
        found: Mapping[str, Any] = json.loads(answer["Payload"].read())
        return found


def as_record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    """A received message as Lambda hands it to a function: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "BinaryValue" in value:
        return {**shown, "binaryValue": base64.b64encode(value["BinaryValue"]).decode()}
    return {**shown, "stringValue": value.get("StringValue", "")}
