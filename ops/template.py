"""The template of a deployed stack, with the values that its deployment gave to parameters and references.

CloudFormation returns the template as it was deployed, with the expanded transform. :class:`DeployedTemplate` evaluates
its intrinsic functions with the parameters of the stack and the physical ids of its resources, so that the settings can
be compared with what AWS reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.deployed import DeployedStack

_SUBSTITUTION = re.compile(r"\$\{(!?)([^}]+)\}")
#: The value of a property that is left out.
_NO_VALUE = object()

#: The ARN of a resource: service, and the resource part, in which ``{}`` is its name.
_ARNS = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm:{}"),
    "AWS::CloudWatch::CompositeAlarm": ("cloudwatch", "alarm:{}"),
    "AWS::DynamoDB::Table": ("dynamodb", "table/{}"),
    "AWS::Events::EventBus": ("events", "event-bus/{}"),
    "AWS::Events::Rule": ("events", "rule/{}"),
    "AWS::Lambda::Function": ("lambda", "function:{}"),
    "AWS::Logs::LogGroup": ("logs", "log-group:{}:*"),
    "AWS::SQS::Queue": ("sqs", "{}"),
}


class UnresolvedError(Exception):
    """A part of the template uses something that is not evaluated here. The message names it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the template that the deployment created."""

    logical_id: str
    type: str
    physical_id: str

    @property
    def name(self) -> str:
        """Its name. The physical id of a queue is a URL, that of a composite alarm can be an ARN."""
        if self.type == "AWS::SQS::Queue":
            return self.physical_id.rpartition("/")[2]
        return self.physical_id.rpartition(":")[2] if self.physical_id.startswith("arn:") else self.physical_id


@dataclass(frozen=True)
class DeployedTemplate:
    """The settings of a deployed stack as its template declares them.

    Attributes:
        template: The template after its transforms.
        parameters: The values of its parameters.
        physical_ids: By logical id.
        stack_id: The stack's ARN.
        look_up: Returns an attribute that does not follow from a physical id, such as ``StreamArn``.
    """

    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    physical_ids: Mapping[str, str]
    stack_id: str
    look_up: Callable[[Resource, str], str]
    _conditions: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def read(cls, stack: DeployedStack) -> DeployedTemplate:
        """Read template, parameters and resources from CloudFormation. Three calls, and one per 100 resources."""
        client = stack.client("cloudformation")
        (found,) = client.describe_stacks(StackName=stack.name)["Stacks"]
        body = client.get_template(StackName=stack.name, TemplateStage="Processed")["TemplateBody"]
        pages = client.get_paginator("list_stack_resources").paginate(StackName=stack.name)
        return cls(
            template=json.loads(body) if isinstance(body, str) else body,
            parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
            physical_ids={
                one["LogicalResourceId"]: one["PhysicalResourceId"]
                for page in pages
                for one in page["StackResourceSummaries"]
                if one.get("PhysicalResourceId")
            },
            stack_id=found["StackId"],
            look_up=lambda resource, attribute: _read_attribute(stack, resource, attribute),
        )

    def of_type(self, *types: str) -> list[Resource]:
        """The resources of these types whose condition is true, in the order of the template."""
        return [self.resource(name) for name, one in self.template["Resources"].items() if self._has(one, types)]

    def resource(self, logical_id: str) -> Resource:
        """One resource.

        Raises:
            UnresolvedError: The stack has none with this logical id.
        """
        if logical_id not in self.physical_ids or logical_id not in self.template["Resources"]:
            raise UnresolvedError(f"the stack has no resource {logical_id}")
        return Resource(logical_id, self.template["Resources"][logical_id]["Type"], self.physical_ids[logical_id])

    def properties(self, resource: Resource) -> dict[str, Any]:
        """The properties of a resource, evaluated.

        Raises:
            UnresolvedError: They use something that is not evaluated here.
        """
        found: dict[str, Any] = self._value(self.template["Resources"][resource.logical_id].get("Properties", {}))
        return found

    def arn(self, resource: Resource) -> str:
        """The ARN of a resource."""
        if resource.physical_id.startswith("arn:"):
            return resource.physical_id
        _, partition, _, region, account = self.stack_id.split(":")[:5]
        if resource.type == "AWS::S3::Bucket":
            return f"arn:{partition}:s3:::{resource.name}"
        if resource.type == "AWS::IAM::Role":
            return f"arn:{partition}:iam::{account}:role/{resource.name}"
        if resource.type not in _ARNS:
            raise UnresolvedError(f"the ARN of {resource.logical_id}, {resource.type}, does not follow from its name")
        service, form = _ARNS[resource.type]
        return f"arn:{partition}:{service}:{region}:{account}:{form.format(self._name_in_arn(resource))}"

    def _name_in_arn(self, resource: Resource) -> str:
        """The name as an ARN contains it. For a rule on another bus than the default one, the bus is part of it."""
        if resource.type != "AWS::Events::Rule":
            return resource.name
        name = resource.name.rpartition("|")[2]
        bus = self._value(self.template["Resources"][resource.logical_id]["Properties"].get("EventBusName", "default"))
        return name if bus == "default" else f"{bus}/{name}"

    def _has(self, entry: Mapping[str, Any], types: tuple[str, ...]) -> bool:
        return entry["Type"] in types and ("Condition" not in entry or self._condition(entry["Condition"]))

    # -- intrinsic functions ---------------------------------------------------------------------------------------

    def _value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for one in node if (value := self._value(one)) is not _NO_VALUE]
        if not isinstance(node, Mapping):
            return node
        if len(node) == 1:
            (name, argument), *_ = node.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._call(name.removeprefix("Fn::"), argument)
        return {name: value for name, one in node.items() if (value := self._value(one)) is not _NO_VALUE}

    def _call(self, function: str, argument: Any) -> Any:
        functions: Mapping[str, Callable[..., Any]] = {
            "Ref": self._ref,
            "GetAtt": self._attribute,
            "Sub": self._sub,
            "If": lambda condition, then, other: self._value(then if self._condition(condition) else other),
            "Select": lambda index, values: self._value(values)[int(index)],
            "Split": lambda separator, text: self._value(text).split(separator),
            "Join": lambda separator, values: separator.join(self._value(values)),
        }
        if function not in functions:
            raise UnresolvedError(f"the function {function} is not evaluated")
        if function == "GetAtt" and isinstance(argument, str):
            argument = argument.split(".", 1)
        return functions[function](*argument) if isinstance(argument, list) else functions[function](argument)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name.startswith("AWS::"):
            return self._pseudo(name)
        declared = self.template.get("Parameters", {}).get(name)
        if declared is None:
            return self.resource(name).physical_id
        value = self.parameters.get(name, declared.get("Default", ""))
        return str(value).split(",") if declared["Type"] == "CommaDelimitedList" else str(value)

    def _pseudo(self, name: str) -> str:
        _, partition, _, region, account, stack = self.stack_id.split(":", 5)
        values = {
            "AWS::AccountId": account,
            "AWS::Partition": partition,
            "AWS::Region": region,
            "AWS::StackId": self.stack_id,
            "AWS::StackName": stack.split("/")[1],
        }
        if name not in values:
            raise UnresolvedError(f"{name} is not evaluated")
        return values[name]

    def _attribute(self, logical_id: str, attribute: str) -> str:
        resource = self.resource(logical_id)
        if attribute == "Arn":
            return self.arn(resource)
        return resource.name if attribute in {"Name", "QueueName"} else self.look_up(resource, attribute)

    def _sub(self, text: str, own: Mapping[str, Any] | None = None) -> str:
        own = own or {}

        def value(match: re.Match[str]) -> str:
            literal, name = match[1], match[2].strip()
            if literal:
                return f"${{{name}}}"
            if name in own:
                return str(self._value(own[name]))
            return str(self._attribute(*name.split(".", 1)) if "." in name else self._ref(name))

        return _SUBSTITUTION.sub(value, text)

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            self._conditions[name] = self._holds(self.template["Conditions"][name])
        return self._conditions[name]

    def _holds(self, node: Mapping[str, Any]) -> bool:
        ((function, argument),) = node.items()
        match function:
            case "Condition":
                return self._condition(argument)
            case "Fn::Equals":
                left, right = (self._value(one) for one in argument)
                return bool(left == right)
            case "Fn::Not":
                return not self._holds(argument[0])
            case "Fn::And":
                return all(map(self._holds, argument))
            case "Fn::Or":
                return any(map(self._holds, argument))
        raise UnresolvedError(f"the condition {function} is not evaluated")


def _read_attribute(stack: DeployedStack, resource: Resource, attribute: str) -> str:
    if (resource.type, attribute) != ("AWS::DynamoDB::Table", "StreamArn"):
        raise UnresolvedError(f"{resource.logical_id}.{attribute} is not evaluated")
    table = stack.client("dynamodb").describe_table(TableName=resource.physical_id)["Table"]
    if "LatestStreamArn" not in table:
        raise UnresolvedError(f"{resource.logical_id} has no stream")
    return str(table["LatestStreamArn"])
