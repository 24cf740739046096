"""Builds and deploys the application with the real ``sam`` against the local engine, from the template for AWS."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.engine import ROOT, client, client_environment
from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

BIN = Path(sys.executable).parent
CONFIG = ("--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local")


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack.

    Attributes:
        name: The stack's name.
        endpoint: The engine's endpoint.
        outputs: The stack's outputs.
        resources: Physical ids by logical id.
    """

    name: str
    endpoint: str
    outputs: dict[str, str]
    resources: dict[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client of the account's root user."""
        return client(service, self.endpoint)

    def delete(self) -> None:
        """Delete the stack and wait until it is gone."""
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=self.name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1})


def build(root: Path, directory: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Run ``sam build`` on ``root/template.yaml``.

    Args:
        root: The folder with the template.
        directory: Where the build writes all its files, so that parallel runs are independent.
        environment: Variables on top of this process's.

    Returns:
        The built template.

    Raises:
        LocalError: The build failed; the message is sam's whole output.
    """
    built = directory / "build"
    arguments = ["build", *CONFIG, "--template-file", str(root / "template.yaml"), "--base-dir", str(root)]
    arguments += ["--build-dir", str(built), "--cache-dir", str(directory / "cache")]
    sam(arguments, directory, environment or {})
    return built / "template.yaml"


def code_folder(built: Path, logical_id: str) -> Path:
    """The artifact of a function in a built template."""
    from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

    code: str = yaml_parse(built.read_text())["Resources"][logical_id]["Properties"]["CodeUri"]
    return built.parent / code


def deploy(endpoint: str, built: Path, stack_name: str, parameters: Mapping[str, str] | None = None) -> Stack:
    """Run ``sam deploy`` on a built template, or update the stack of that name.

    Args:
        endpoint: The endpoint of the engine to deploy to.
        built: The built template that ``build`` returned.
        stack_name: The stack's name.
        parameters: Values of the template's parameters; the others keep their defaults.

    Raises:
        LocalError: The deployment failed; the message is sam's whole output.
    """
    arguments = ["deploy", *CONFIG, "--template-file", str(built), "--stack-name", stack_name]
    if parameters:
        arguments += ["--parameter-overrides", *(f"{name}={_quoted(value)}" for name, value in parameters.items())]
    sam(arguments, built.parent.parent, client_environment(endpoint))
    return describe(endpoint, stack_name)


def describe(endpoint: str, stack_name: str) -> Stack:
    """The current stack of this name on the engine."""
    cloudformation = client("cloudformation", endpoint)
    stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
    return Stack(
        name=stack_name,
        endpoint=endpoint,
        outputs={output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
        resources={
            entry["LogicalResourceId"]: entry.get("PhysicalResourceId", "")
            for page in pages
            for entry in page["StackResourceSummaries"]
        },
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def sam(arguments: list[str], directory: Path, environment: Mapping[str, str], answers: str = "") -> None:
    """Run sam with its own files below the directory, and give it these lines as standard input.

    Raises:
        LocalError: It failed; the message is its whole output.
    """
    directory.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own = {
        # sam finds uv and the Python of this environment first, and writes nothing to the home directory.
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)]),
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.5",  # seconds; the default of 5 is for AWS
        "AWS_DEFAULT_REGION": "us-east-1",
        "__SAM_CLI_APP_DIR": str(directory / "sam"),
    }
    done = subprocess.run(
        [str(BIN / "sam"), *arguments],
        check=False,
        env=inherited | own | dict(environment),
        input=answers,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise LocalError(f"sam {arguments[0]} failed:\n{done.stdout}")
