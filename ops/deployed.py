"""Reads a deployed stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from ops.errors import CommandError, code_of

#: A command reads many things at once, within AWS's quotas: adaptive mode slows down when a service throttles.
_CONFIG = Config(retries={"mode": "adaptive", "total_max_attempts": 8}, max_pool_connections=32, connect_timeout=5)
#: An invocation lasts up to 15 minutes. boto3 must not send it again meanwhile.
_INVOCATIONS = Config(read_timeout=910).merge(_CONFIG)


class DeployedStack(Protocol):
    """A deployed stack, in AWS or on the local engine."""

    @property
    def name(self) -> str:
        """The stack's name."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs."""

    def client(self, service: str) -> Any:
        """A boto3 client."""


@dataclass(frozen=True)
class AwsStack:
    """A stack that is read with boto3's usual configuration: profile, credentials, region, endpoint.

    Attributes:
        name: The stack's name.
        outputs: Its outputs.
        session: Makes the clients.
    """

    name: str
    outputs: Mapping[str, str]
    session: Any
    _clients: dict[str, Any] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def named(cls, name: str, *, profile: str | None = None, region: str | None = None) -> AwsStack:
        """Read the stack with this name. One call.

        Raises:
            CommandError: There is no such stack in this region, or it is not this application.
        """
        session = boto3.session.Session(profile_name=profile, region_name=region)
        found = _describe(session, name)
        outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        if "TriageStateMachineArn" not in outputs:
            raise CommandError(
                f"The stack '{name}' has no output TriageStateMachineArn, so it is another application or its first "
                "deployment did not finish. Choose the stack with --stack."
            )
        return cls(name, outputs, session)

    @property
    def region(self) -> str:
        """The stack's region."""
        return str(self.session.region_name)

    def client(self, service: str) -> Any:
        """A boto3 client. Clients are made once, by one thread at a time: a session is not thread-safe."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self.session.client(
                    service, config=_INVOCATIONS if service == "lambda" else _CONFIG
                )
            return self._clients[service]


def _describe(session: Any, name: str) -> Mapping[str, Any]:
    try:
        (found,) = session.client("cloudformation", config=_CONFIG).describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if code_of(error) != "ValidationError":
            raise
        raise CommandError(
            f"There is no stack '{name}' in {session.region_name}. Choose another with --stack or --region, or deploy "
            "it with: sam deploy --guided"
        ) from None
    return found  # type: ignore[no-any-return]


def keys(stack: DeployedStack, prefix: str) -> list[str]:
    """The keys in the archive bucket below a prefix."""
    pages = stack.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=stack.outputs["ArchiveBucketName"], Prefix=prefix)
    return [entry["Key"] for page in found for entry in page.get("Contents", [])]


def executions(stack: DeployedStack, machine: str = "Triage", **filters: str) -> Iterator[dict[str, Any]]:
    """Executions of ``Triage``, ``CircuitBreaker`` or ``Replay``, the newest first."""
    pages = stack.client("stepfunctions").get_paginator("list_executions")
    for page in pages.paginate(stateMachineArn=stack.outputs[f"{machine}StateMachineArn"], **filters):
        yield from page["executions"]


def execution_arn(stack: DeployedStack, name: str) -> str:
    """The ARN of the triage execution with this name."""
    return f"{stack.outputs['TriageStateMachineArn'].replace(':stateMachine:', ':execution:')}:{name}"


def metric_query(
    name: str, namespace: str, metric: str, dimensions: Mapping[str, str], *, stat: str, seconds: int
) -> dict[str, Any]:
    """One query of GetMetricData: a statistic of a metric for each period of so many seconds."""
    named = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    described = {"Namespace": namespace, "MetricName": metric, "Dimensions": named}
    return {"Id": name, "MetricStat": {"Metric": described, "Period": seconds, "Stat": stat}}


def history(stack: DeployedStack, execution_arn: str) -> list[dict[str, Any]]:
    """The events in an execution's history."""
    pages = stack.client("stepfunctions").get_paginator("get_execution_history")
    return [event for page in pages.paginate(executionArn=execution_arn) for event in page["events"]]
