"""Every parameter can be changed, the stack can be deployed again after a deletion, and it deploys in every region."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.contract.deployed import deployed, transformed
from tests.contract.project import functions, values

Resources = dict[str, dict[str, Any]]
KEPT = {"BufferQueue", "DeadLetterQueue", "EventsTable", "AttemptsTable", "ArchiveBucket"}
#: The property with a resource's name, where it is not the only one that cannot change and ends in "Name".
NAMES = {
    "AWS::Events::Rule": ["Name"],
    "AWS::Glue::Database": ["DatabaseInput/Name"],
    "AWS::Glue::Table": [],
    "AWS::Lambda::Permission": [],
}
#: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html
RULE_NAME_LENGTH = 64
#: The longest suffix that CloudFormation generates.
SUFFIX_LENGTH = 13


@cache
def _create_only(kind: str) -> tuple[str, ...]:
    """The properties whose change replaces a resource, as AWS's schema of its type lists them."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    paths = [*schema.get("createOnlyProperties", []), *schema.get("conditionalCreateOnlyProperties", [])]
    return tuple(path.removeprefix("/properties/") for path in paths)


def _at(properties: Any, path: str) -> Any:
    for key in path.split("/"):
        properties = properties.get(key) if isinstance(properties, dict) else None
    return properties


class Stack:
    """Which parameters replace which resource."""

    def __init__(self, template: dict[str, Any]) -> None:
        self._template = template
        self.resources: Resources = template["Resources"]

    def replacing(self, name: str) -> set[str]:
        """The parameters whose change replaces a resource or creates and deletes it."""
        resource = self.resources[name]
        condition = self._in_condition(resource["Condition"]) if "Condition" in resource else set()
        properties = resource.get("Properties", {})
        return condition.union(*(self._in(_at(properties, path)) for path in _create_only(resource["Type"])))

    def _in(self, node: Any) -> set[str]:
        """The parameters on which a value depends. A reference to a resource depends on what replaces that resource."""
        found: set[str] = set()
        for name in {*values(node, "Ref"), *(_names_in(values(node, "Fn::Sub"))), *_first(values(node, "Fn::GetAtt"))}:
            if name in self._template["Parameters"]:
                found.add(name)
            elif name in self.resources:
                found |= self.replacing(name)
        for condition, *_ in values(node, "Fn::If"):
            found |= self._in_condition(condition)
        return found

    def _in_condition(self, name: str) -> set[str]:
        body = self._template["Conditions"][name]
        return self._in(body).union(*(self._in_condition(other) for other in values(body, "Condition")))

    def fixed_name(self, name: str) -> Any:
        """The name in the template; ``None`` if CloudFormation generates one."""
        resource = self.resources[name]
        kind = resource["Type"]
        paths = NAMES.get(kind, [path for path in _create_only(kind) if path.endswith("Name")])
        found = [_at(resource.get("Properties", {}), path) for path in paths]
        return next((one for one in found if one is not None), None)

    def collisions(self) -> set[str]:
        """Resources that a parameter replaces although their name is fixed: the new one would have the old one's name."""
        return {
            name
            for name, resource in self.resources.items()
            if self.fixed_name(name)
            and self.replacing(name) - (self._in_condition(resource["Condition"]) if "Condition" in resource else set())
        }


def _names_in(texts: Any) -> list[str]:
    return [
        name.partition(".")[0]
        for text in texts
        for name in re.findall(r"\$\{([\w:.]+)}", text if isinstance(text, str) else text[0])
    ]


def _first(attributes: Any) -> list[str]:
    return [found[0] if isinstance(found, list) else found.partition(".")[0] for found in attributes]


@pytest.fixture
def stack() -> Stack:
    return Stack(transformed())


# ------------------------------------------------------------------ changes of parameters


def test_no_parameter_replaces_a_resource_with_data(stack: Stack) -> None:
    assert {name: stack.replacing(name) for name in KEPT} == {name: set() for name in KEPT}


def test_no_parameter_replaces_a_resource_with_a_fixed_name(stack: Stack) -> None:
    assert stack.collisions() == set()


def test_another_bus_needs_another_rule_and_another_address_another_subscription(stack: Stack) -> None:
    """These replacements are known and safe. A new one has to be considered."""
    replaced = {name: stack.replacing(name) for name in stack.resources if "Condition" not in stack.resources[name]}
    assert {name: found for name, found in replaced.items() if found} == {"EventRule": {"EventBusName"}}
    assert stack.replacing("AlarmSubscription") == {"AlarmEmail"}


def test_a_rule_with_a_fixed_name_would_collide_when_the_bus_changes() -> None:
    template = transformed()
    template["Resources"]["EventRule"]["Properties"]["Name"] = {"Fn::Sub": "${AWS::StackName}-buffer"}
    assert Stack(template).collisions() == {"EventRule"}


def test_a_table_whose_key_is_a_parameter_would_be_replaced() -> None:
    template = transformed()
    template["Resources"]["EventsTable"]["Properties"]["TableName"] = {"Fn::Sub": "events-${LogLevel}"}
    assert Stack(template).replacing("EventsTable") == {"LogLevel"}


@pytest.mark.parametrize("name", ["BufferQueuePolicy", "DeadLetterQueuePolicy"])
def test_the_policies_of_the_queues_do_not_change_with_the_bus(name: str) -> None:
    """While CloudFormation changes the bus, the old rule still delivers. EventBridge does not retry a denied send."""
    assert deployed({"EventBusName": "a"})[name] == deployed({"EventBusName": "b"})[name] == deployed({})[name]


# ------------------------------------------------------------------ deletion and a second deployment


def test_exactly_the_resources_with_data_are_kept_but_not_after_a_failed_first_deployment(stack: Stack) -> None:
    policies = {name: resource.get("DeletionPolicy") for name, resource in stack.resources.items()}
    assert {name: policy for name, policy in policies.items() if policy} == dict.fromkeys(KEPT, "RetainExceptOnCreate")


def test_no_resource_that_is_kept_has_a_fixed_name(stack: Stack) -> None:
    """Otherwise a new deployment with the same stack name would find the name taken."""
    assert {name: stack.fixed_name(name) for name in KEPT} == dict.fromkeys(KEPT)


def test_resources_with_a_fixed_name_are_named_after_the_stack(stack: Stack) -> None:
    named = {name: json.dumps(found) for name in stack.resources if (found := stack.fixed_name(name))}
    assert named.keys() >= {
        "EventBus",
        "EnrichedBus",
        "ProcessorLog",
        "ArchiveDatabase",
        "EvidenceSweepFunctionRegularly",
    }
    assert [name for name, text in named.items() if "${AWS::StackName}" not in text] == []


def test_no_function_can_create_a_log_group(stack: Stack) -> None:
    """A function that still runs during the deletion would create its group again, and the next deployment would fail."""
    assert "logs:CreateLogGroup" not in json.dumps(stack.resources)


def test_the_rule_is_created_after_everything_that_can_fail(stack: Stack) -> None:
    """A failed first deployment deletes the queues, so no event may be in them."""

    def required(name: str) -> set[str]:
        resource = stack.resources[name]
        named = resource.get("DependsOn", [])
        direct = {*([named] if isinstance(named, str) else named)}
        properties = resource.get("Properties", {})
        for node in ("Ref", "Fn::GetAtt", "Fn::Sub"):
            found = list(values(properties, node))
            direct |= {*(_first(found) if node == "Fn::GetAtt" else _names_in(found) if node == "Fn::Sub" else found)}
        direct &= stack.resources.keys()
        return direct.union(*map(required, direct))

    before = required("EventRule")
    kinds = {"AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::StepFunctions::StateMachine"}
    assert {name for name, found in stack.resources.items() if found["Type"] in kinds} <= before
    assert before >= KEPT


def test_a_stack_name_is_refused_before_the_name_of_the_rule_is_cut() -> None:
    """The queue policies match the whole stack name at the start of the rule's name."""
    for length, fits in ((40, True), (41, False)):
        schedule = deployed({}, StackName="s" * length)["EvidenceSweepFunctionRegularly"]["Properties"]["Name"]
        assert (len(schedule) <= RULE_NAME_LENGTH) is fits
        assert (length + len("-EventRule-") + SUFFIX_LENGTH <= RULE_NAME_LENGTH) is fits


# ------------------------------------------------------------------ accounts and regions


@pytest.mark.parametrize(
    ("partition", "region", "offered"),
    [
        ("aws", "us-east-1", True),
        ("aws", "eu-central-1", True),
        ("aws", "mx-central-1", False),
        ("aws", "ap-southeast-6", False),
        ("aws-us-gov", "us-gov-west-1", False),
        ("aws-cn", "cn-north-1", False),
        ("aws-eusc", "eusc-de-east-1", False),
    ],
)
def test_recursive_loop_is_set_only_where_lambda_offers_it(partition: str, region: str, offered: bool) -> None:
    resources = deployed({}, Partition=partition, Region=region)
    found = {name for name, resource in resources.items() if "RecursiveLoop" in resource["Properties"]}
    assert found == ({"DeadLetterIntakeFunction"} if offered else set())


def test_without_archive_queries_there_is_nothing_of_glue() -> None:
    """Under Lake Formation a role needs a permission of its own to create a Glue database."""
    kinds = {name: resource["Type"] for name, resource in deployed({"ArchiveQueries": "false"}).items()}
    assert [name for name, kind in kinds.items() if kind.startswith("AWS::Glue::")] == []
    assert {"ArchiveDatabase", "ArchiveLetters"} <= deployed({}).keys()


@pytest.mark.parametrize("traces", ["true", "false"])
def test_everything_is_traced_with_the_parameter_and_nothing_without(traces: str) -> None:
    resources = deployed({"Tracing": traces})
    modes = {resource["Properties"].get("TracingConfig", {}).get("Mode") for resource in _of(resources, "Function")}
    enabled = {str(found["Properties"]["TracingConfiguration"]["Enabled"]) for found in _of(resources, "StateMachine")}
    roles = {name: one["Properties"] for name, one in resources.items() if one["Type"] == "AWS::IAM::Role"}
    del roles["CircuitBreakerRuleRole"]  # EventBridge traces nothing with it
    policies = {json.dumps(role.get("ManagedPolicyArns")) for role in roles.values()}
    expected = ({"Active"}, {"True"}, {'[{"Ref": "TracingPolicy"}]'}) if traces == "true" else None
    assert (modes, enabled, policies) == (expected or ({"PassThrough"}, {"False"}, {"null"}))
    assert ("xray:" in json.dumps(resources)) is (traces == "true")
    assert len(_of(resources, "Function")) == len(functions())


def _of(resources: Resources, kind: str) -> list[dict[str, Any]]:
    return [resource for resource in resources.values() if resource["Type"].endswith(f"::{kind}")]
