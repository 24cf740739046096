"""What CloudFormation deploys: the template after SAM's transform, with the values of its parameters."""

from __future__ import annotations

import copy
import json
import os
import re
from functools import cache
from typing import Any
from unittest.mock import patch

from samtranslator.translator.transform import transform

from tests.contract.project import NO_VALUE, template

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "holdfast",
    "AWS::URLSuffix": "amazonaws.com",
}


def transformed() -> dict[str, Any]:
    """A fresh copy of the template after SAM's transform. Intrinsic functions are not evaluated."""
    return copy.deepcopy(_transformed())


@cache
def _transformed() -> dict[str, Any]:
    source = template()
    # The transform accepts only code that is already in S3, where ``sam deploy`` puts it.
    source["Globals"]["Function"]["CodeUri"] = "s3://bucket/code"
    for resource in source["Resources"].values():
        if resource["Type"] == "AWS::Serverless::StateMachine":
            resource["Properties"]["DefinitionUri"] = "s3://bucket/definition"
    with patch.dict(os.environ, AWS_DEFAULT_REGION=PSEUDO["AWS::Region"]):
        # A change of the parameters is a change of the resources, so the transform must not evaluate them.
        found: dict[str, Any] = json.loads(json.dumps(transform(source, {}, None)))
    return found


def deployed(parameters: dict[str, Any], **pseudo: str) -> dict[str, dict[str, Any]]:
    """The resources of a deployment.

    Args:
        parameters: Values of parameters; the others have their defaults.
        pseudo: Values of pseudo parameters, for example ``Region``.

    Returns:
        Type and properties of each resource that is created. Parameters and conditions are evaluated. A reference to
        another resource remains as it is in the template.
    """
    source = _transformed()
    known = {name: str(parameter["Default"]) for name, parameter in source["Parameters"].items()}
    known |= {name: str(value) for name, value in parameters.items()}
    known |= PSEUDO | {f"AWS::{name}": value for name, value in pseudo.items()}
    evaluate = _Evaluation(source, known)
    return {
        name: {"Type": resource["Type"], "Properties": evaluate.value(resource.get("Properties", {}))}
        for name, resource in source["Resources"].items()
        if "Condition" not in resource or evaluate.condition(resource["Condition"])
    }


class _Evaluation:
    """CloudFormation's evaluation of conditions and parameters."""

    def __init__(self, source: dict[str, Any], known: dict[str, str]) -> None:
        self._source, self._known = source, known

    def condition(self, name: str) -> bool:
        return bool(self._truth(self._source["Conditions"][name]))

    def _truth(self, node: dict[str, Any]) -> bool:
        ((function, arguments),) = node.items()
        match function:
            case "Condition":
                return self.condition(arguments)
            case "Fn::Equals":
                left, right = (self.value(argument) for argument in arguments)
                return bool(left == right)
            case "Fn::Not":
                return not self._truth(arguments[0])
            case "Fn::And":
                return all(map(self._truth, arguments))
            case "Fn::Or":
                return any(map(self._truth, arguments))
        raise AssertionError(f"unknown condition function {function}")

    def value(self, node: Any) -> Any:
        match node:
            case [*entries]:
                return [one for one in map(self.value, entries) if one != NO_VALUE]
            case {"Ref": str(name)} if name in self._known:
                listed = self._source["Parameters"].get(name, {}).get("Type") == "CommaDelimitedList"
                return self._known[name].split(",") if listed else self._known[name]
            case {"Fn::If": [str(name), yes, no]}:
                return self.value(yes if self.condition(name) else no)
            case {"Fn::Select": [index, {"Ref": _} as entries]}:
                return self.value(entries)[int(index)]
            case {"Fn::Sub": str(text)}:
                return self._text(text)
            case {**entries}:
                found = {key: self.value(child) for key, child in entries.items()}
                node = {key: child for key, child in found.items() if child != NO_VALUE}
        return node

    def _text(self, text: str) -> Any:
        """The text if it needs parameters only; otherwise the function, because the reference is to a resource."""
        done = re.sub(r"\$\{([\w:]+)}", lambda match: self._known.get(match[1], match[0]), text)
        return done if "${" not in done else {"Fn::Sub": done}
