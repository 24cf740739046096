"""AWS resources for the tests of the engine."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.engine import ACCOUNT, REGION
from local.eventually import NotReachedError, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.engine import Engine

EVERYTHING = ("*",)


@dataclass(frozen=True)
class Cloud:
    """Creates resources on an engine. Every name is new, so tests can share the engine."""

    engine: Engine

    def client(self, service: str) -> Any:
        return self.engine.client(service)

    def name(self, prefix: str = "t") -> str:
        return f"{prefix}-{uuid.uuid4().hex[:8]}"

    def role(self, actions: tuple[str, ...] = EVERYTHING, resource: str = "*") -> str:
        iam, name = self.client("iam"), self.name("role")
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument='{"Statement": []}')["Role"]["Arn"]
        if actions:
            statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
        return arn

    def function(self, body: str, *, role: str | None = None, timeout: int = 5, first: str = "") -> str:
        """A function whose handler has this body. ``first`` is a statement of its module."""
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            lines = "\n    ".join(body.splitlines())
            archive.writestr(
                "app.py", f"import boto3, json, os, time\n{first}\ndef lambda_handler(event, context):\n    {lines}\n"
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
        """The execution after it has ended, or as it is after this time."""

        def described() -> dict[str, Any]:
            answer: dict[str, Any] = self.client("stepfunctions").describe_execution(executionArn=execution)
            return answer

        within(seconds, lambda: described()["status"] != "RUNNING")
        return described()

    def bucket(self) -> str:
        name = self.name("bucket")
        self.client("s3").create_bucket(Bucket=name)
        return name

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
        """Deploy a template with these resources and return the stack's final status."""
        cloudformation, name = self.client("cloudformation"), self.name("s")
        cloudformation.create_stack(
            StackName=name, TemplateBody=json.dumps({"Resources": resources}), Capabilities=["CAPABILITY_IAM"]
        )

        def status() -> str:
            (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
            return "" if stack["StackStatus"].endswith("IN_PROGRESS") else str(stack["StackStatus"])

        return eventually(status, "the stack is deployed or rolled back", 10, every=0.05)


def within(seconds: float, probe: Callable[[], Any]) -> Any:
    """What the probe returns within this time, None if it returns nothing truthy."""
    with contextlib.suppress(NotReachedError):
        return eventually(probe, "", seconds, every=0.05)
    return None
