"""Reads a deployed stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import boto3


class DeployedStack(Protocol):
    """A deployed stack, in AWS or on the local engine."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """The stack's outputs."""

    def client(self, service: str) -> Any:
        """A boto3 client."""


@dataclass(frozen=True, slots=True)
class AwsStack:
    """A stack that is read with boto3's usual configuration: credentials, region, endpoint."""

    outputs: Mapping[str, str]

    @classmethod
    def named(cls, name: str) -> AwsStack:
        """Read the outputs of the stack with this name."""
        (found,) = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        return cls({output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])})

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return boto3.client(service)  # type: ignore[call-overload]  # the name is no literal


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


def history(stack: DeployedStack, execution_arn: str) -> list[dict[str, Any]]:
    """The events in an execution's history."""
    pages = stack.client("stepfunctions").get_paginator("get_execution_history")
    return [event for page in pages.paginate(executionArn=execution_arn) for event in page["events"]]
