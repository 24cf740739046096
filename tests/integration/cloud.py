"""The few AWS resources that a test of the engine makes itself."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.engine import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.engine import Engine

EVERYTHING = ("*",)


@dataclass(frozen=True)
class Cloud:
    """An engine, and shorthands for what tests make on it. Every name is new, so tests share the engine."""

    engine: Engine

    def client(self, service: str) -> Any:
        return self.engine.client(service)

    def name(self, prefix: str = "t") -> str:
        return f"{prefix}-{uuid.uuid4().hex[:8]}"

    def role(self, actions: tuple[str, ...] = EVERYTHING) -> str:
        iam, name = self.client("iam"), self.name("role")
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument='{"Statement": []}')["Role"]["Arn"]
        if actions:
            statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
        return arn

    def function(self, body: str, *, role: str | None = None, timeout: int = 5) -> str:
        """A function whose handler has this body."""
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            lines = "\n    ".join(body.splitlines())
            archive.writestr(
                "app.py", f"import boto3, json, os, time\ndef lambda_handler(event, context):\n    {lines}\n"
            )
        answer = self.client("lambda").create_function(
            FunctionName=self.name("f"),
            Runtime="python3.13",
            Handler="app.lambda_handler",
            Role=role or self.role(),
            Code={"ZipFile": code.getvalue()},
            Timeout=timeout,
        )
        return str(answer["FunctionName"])

    def machine(self, state: dict[str, Any], *, role: str | None = None) -> str:
        """A state machine with this one state."""
        definition = {"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {**state, "End": True}}}
        answer = self.client("stepfunctions").create_state_machine(
            name=self.name("m"), definition=json.dumps(definition), roleArn=role or self.role()
        )
        return str(answer["stateMachineArn"])

    def start(self, machine: str, **arguments: Any) -> str:
        return str(self.client("stepfunctions").start_execution(stateMachineArn=machine, **arguments)["executionArn"])

    def outcome(self, execution: str, seconds: float = 10) -> dict[str, Any]:
        """The execution once it has ended, or as it is when the time is over."""
        stepfunctions = self.client("stepfunctions")
        deadline = time.monotonic() + seconds
        while True:
            described: dict[str, Any] = stepfunctions.describe_execution(executionArn=execution)
            if described["status"] != "RUNNING" or time.monotonic() > deadline:
                return described
            time.sleep(0.05)

    def queue(self, **attributes: str) -> tuple[str, str]:
        """The URL and the ARN of a new queue."""
        sqs, name = self.client("sqs"), self.name("q")
        url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def table(self) -> tuple[str, str]:
        """The name and the stream's ARN of a new table with the key ``id``."""
        table = self.client("dynamodb").create_table(
            TableName=self.name("t"),
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]
        return table["TableName"], table["LatestStreamArn"]

    def stack(self, resources: dict[str, Any]) -> str:
        """Deploy a template with these resources; the answer is the stack's final status."""
        cloudformation, name = self.client("cloudformation"), self.name("s")
        cloudformation.create_stack(
            StackName=name, TemplateBody=json.dumps({"Resources": resources}), Capabilities=["CAPABILITY_IAM"]
        )
        found = eventually(
            lambda: next(
                status
                for stack in cloudformation.describe_stacks(StackName=name)["Stacks"]
                if not (status := stack["StackStatus"]).endswith("IN_PROGRESS")
            )
        )
        return str(found)


def eventually(ask: Callable[[], Any], seconds: float = 10) -> Any:
    """Ask until the answer is truthy; the last answer when the time is over. No answer at all counts as none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ask()
        except StopIteration:
            answer = None
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)
