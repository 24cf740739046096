"""Builds and deploys the application with the real ``sam`` against the local engine.

The template is written for AWS. A copy of the built template leaves out what the engine does not support.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.engine import ROOT, client, client_environment
from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BIN = Path(sys.executable).parent
CONFIG = ("--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local")
Template = dict[str, Any]

# Types that the engine's CloudFormation does not support. It refuses a whole template with one of them.
UNSUPPORTED_TYPES = {
    "AWS::Athena::NamedQuery": "the engine has no saved queries",
    "AWS::Logs::QueryDefinition": "the engine has no saved queries",
    "AWS::ResourceGroups::Group": "the engine has no resource groups",
}

_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9]+)")


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack.

    Attributes:
        name: The stack's name.
        endpoint: The engine's endpoint.
        outputs: The stack's outputs.
        resources: Physical ids by logical id.
        left_out: The reason for each logical id that the engine does not support.
    """

    name: str
    endpoint: str
    outputs: dict[str, str]
    resources: dict[str, str]
    left_out: dict[str, str]

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
    _sam(arguments, directory, environment or {})
    return built / "template.yaml"


def code_folder(built: Path, logical_id: str) -> Path:
    """The artifact of a function in a built template."""
    code: str = _read(built)["Resources"][logical_id]["Properties"]["CodeUri"]
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
    local, left_out = without_unsupported(_read(built))
    local_file = built.with_name("template.local.yaml")
    _write(local_file, local)
    arguments = ["deploy", *CONFIG, "--template-file", str(local_file), "--stack-name", stack_name]
    if parameters:
        arguments += ["--parameter-overrides", *(f"{name}={_quoted(value)}" for name, value in parameters.items())]
    _sam(arguments, built.parent.parent, client_environment(endpoint))
    return describe(endpoint, stack_name, left_out)


def describe(endpoint: str, stack_name: str, left_out: dict[str, str] | None = None) -> Stack:
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
        left_out=left_out or {},
    )


def without_unsupported(template: Template) -> tuple[Template, dict[str, str]]:
    """A copy of the template without unsupported resources and without what refers to them.

    Returns:
        The copy, and the reason for each logical id that is not in it.
    """
    resources: dict[str, Any] = template["Resources"]
    left_out = {name: reason for name, found in resources.items() if (reason := UNSUPPORTED_TYPES.get(found["Type"]))}
    while referring := _referring(resources, left_out):
        left_out |= referring
    kept = {name: _without_dependencies(entry, left_out) for name, entry in resources.items() if name not in left_out}
    outputs = {
        name: out for name, out in template.get("Outputs", {}).items() if not set(_references(out)) & set(left_out)
    }
    copy = template | {"Resources": kept}
    return copy | ({"Outputs": outputs} if outputs else {}), left_out


def _referring(resources: dict[str, Any], left_out: dict[str, str]) -> dict[str, str]:
    """Resources that refer to one that is left out, and are not left out yet."""
    found = {}
    for name, resource in resources.items():
        gone = set(_references(resource.get("Properties", {}))) & set(left_out)
        if gone and name not in left_out:
            found[name] = f"it refers to {', '.join(sorted(gone))}"
    return found


def _without_dependencies(resource: dict[str, Any], left_out: dict[str, str]) -> dict[str, Any]:
    named = resource.get("DependsOn", [])
    named = [named] if isinstance(named, str) else named
    kept = [name for name in named if name not in left_out]
    return resource if kept == named else {**resource, "DependsOn": kept}


def _references(node: Any) -> Iterator[str]:
    """The logical ids to which a part of a template refers."""
    match node:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::GetAtt": str(path)}:
            yield path.split(".")[0]
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), *_]}:
            yield from _SUBSTITUTION.findall(text)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _references(child)


def _read(path: Path) -> Template:
    from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second

    template: Template = yaml_parse(path.read_text())
    return template


def _write(path: Path, template: Template) -> None:
    from samcli.yamlhelper import yaml_dump  # noqa: PLC0415 - half a second

    path.write_text(yaml_dump(template))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sam(arguments: list[str], directory: Path, environment: Mapping[str, str]) -> None:
    """Run sam with its own files below the directory."""
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
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise LocalError(f"sam {arguments[0]} failed:\n{done.stdout}")
