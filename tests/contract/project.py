"""The files of the project, and functions that read them for the contract tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "functions"
EVENTS = ROOT / "events"
TEMPLATE = ROOT / "template.yaml"
MACHINES = {name: ROOT / "statemachine" / f"{name}.asl.json" for name in ("triage", "replay", "circuit_breaker")}
NO_VALUE = {"Ref": "AWS::NoValue"}
#: Folder of each function: its logical id.
FUNCTION_IDS = {
    "processor": "ProcessorFunction",
    "fan_out": "FanOutFunction",
    "dead_letter_intake": "DeadLetterIntakeFunction",
    "classify": "ClassifyFunction",
    "redrive": "RedriveFunction",
    "archive": "ArchiveFunction",
    "settle": "SettleFunction",
    "evidence_sweep": "EvidenceSweepFunction",
    "replay": "ReplayFunction",
    "circuit_breaker": "CircuitBreakerFunction",
}
#: A possible value for each substitution of the definitions.
SAMPLES = {
    "Partition": "aws",
    "ClassifyFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:classify",
    "RedriveFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:redrive",
    "ArchiveFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:archive",
    "SettleFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:settle",
    "ReplayFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:replay",
    "TriageStateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:triage",
    "ArchiveBucketName": "archive-bucket",
    "AttemptsTableName": "attempts",
    "CircuitBreakerFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:circuitbreaker",
    "ProcessorMappingId": "11111111-1111-4111-8111-111111111111",
    "EnrichedBusName": "enriched",
    "RetryBaseSeconds": "120",
    "RetryCapSeconds": "21600",
    "OutcomeTimeoutSeconds": "21600",
}


def template() -> dict[str, Any]:
    """A fresh copy of the template, with the long forms of intrinsic functions."""
    parsed: dict[str, Any] = json.loads(_template_as_json())
    return parsed


@cache
def _template_as_json() -> str:
    return json.dumps(yaml_parse(TEMPLATE.read_text()))


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The resources of one type."""
    return {name: found for name, found in template()["Resources"].items() if found["Type"] == kind}


def properties(logical_id: str) -> dict[str, Any]:
    """The properties of one resource."""
    found: dict[str, Any] = template()["Resources"][logical_id]["Properties"]
    return found


def functions() -> dict[str, dict[str, Any]]:
    """The properties of every function, merged with ``Globals`` as SAM merges them."""
    common = template()["Globals"]["Function"]
    variables = common["Environment"]["Variables"]
    found = {name: common | one["Properties"] for name, one in resources("AWS::Serverless::Function").items()}
    for one in found.values():
        one["Environment"] = {"Variables": variables | one["Environment"]["Variables"]}
    return found


def decided(node: Any, **conditions: bool) -> Any:
    """A part of the template with these conditions evaluated, and all others left as they are."""
    if isinstance(node, list):
        return [one for one in (decided(child, **conditions) for child in node) if one != NO_VALUE]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node and node["Fn::If"][0] in conditions:
        name, yes, no = node["Fn::If"]
        return decided(yes if conditions[name] else no, **conditions)
    return {key: one for key, child in node.items() if (one := decided(child, **conditions)) != NO_VALUE}


def machine_text(name: str, samples: dict[str, str] | None = None) -> str:
    """The text of a definition after its substitutions."""
    text = MACHINES[name].read_text()
    for key, value in (SAMPLES | (samples or {})).items():
        text = text.replace(f"${{{key}}}", value)
    return text


def machine(name: str, samples: dict[str, str] | None = None) -> dict[str, Any]:
    """A definition after its substitutions."""
    parsed: dict[str, Any] = json.loads(machine_text(name, samples))
    return parsed


def fixtures(*folders: str) -> list[Path]:
    """The fixtures in these folders of events/, or all of them, without the expected results."""
    found = sorted(EVENTS.glob("*/*.json"))
    return [path for path in found if not folders or path.parent.name in folders]


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(node, dict):
        for name, child in node.items():
            if name == key:
                yield child
            yield from values(child, key)
    elif isinstance(node, list):
        for child in node:
            yield from values(child, key)
