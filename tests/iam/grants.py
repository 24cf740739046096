"""The permissions in the template, one grant for each action on each resource, and the tables that explain them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.contract.project import ROOT, resources, template, values

PAGE = ROOT / "docs" / "security.md"
#: The heading of the permissions that the local engine does not need.
UNNOTICED = "What only AWS notices"
RESOURCE_POLICIES = ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy")

#: Grantee, action and resource, as in a row of the page.
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Grant:
    """One action on one resource.

    Attributes:
        grantee: The logical id of the function or the state machine; for a resource's policy, that of the policy.
        action: ``Deny`` precedes a denied action.
        resource: Logical ids instead of ARNs.
        holder: The logical id of the role or the resource that has the policy.
        policy: The name of the role's policy; empty for a resource's policy.
        place: The index of the statement, of its action and of its resource.
    """

    grantee: str
    action: str
    resource: str
    holder: str
    policy: str
    place: tuple[int, int, int]

    @property
    def row(self) -> Row:
        return self.grantee, self.action, self.resource


def grants() -> list[Grant]:
    """Every grant of the template, conditional ones included."""
    return [*_of_roles(), *_of_resources()]


def removable() -> list[Grant]:
    """The permissions that can be removed in turn to see what fails.

    Without a denial, only more is allowed. X-Ray does not exist on the local engine.
    """
    return [grant for grant in grants() if not (grant.action.startswith("Deny ") or grant.grantee == "TracingPolicy")]


def _of_roles() -> Iterator[Grant]:
    owners = {role: who for who, role in _roles_of_owners()}
    for name, role in resources("AWS::IAM::Role").items():
        for policy in role["Properties"]["Policies"]:
            yield from _granted(owners[name], name, policy["PolicyName"], policy["PolicyDocument"])
    for found in resources("AWS::IAM::Policy").values():
        policy = found["Properties"]
        (role,) = policy["Roles"]
        yield from _granted(owners[role["Ref"]], role["Ref"], policy["PolicyName"], policy["PolicyDocument"])
    for name, found in resources("AWS::IAM::ManagedPolicy").items():
        yield from _granted(name, name, name, found["Properties"]["PolicyDocument"])


def _of_resources() -> Iterator[Grant]:
    for kind in RESOURCE_POLICIES:
        for name, found in resources(kind).items():
            properties = found["Properties"]
            (holder,) = properties.get("Queues") or properties.get("Topics") or [properties.get("Bucket")]
            yield from _granted(name, holder["Ref"], "", properties["PolicyDocument"])


def _roles_of_owners() -> Iterator[tuple[str, str]]:
    for name, found in template()["Resources"].items():
        role = found.get("Properties", {}).get("Role", {})
        if role:
            yield name, role["Fn::GetAtt"][0]
        for target in found.get("Properties", {}).get("Targets", []) if found["Type"] == "AWS::Events::Rule" else []:
            if "RoleArn" in target:
                yield name, target["RoleArn"]["Fn::GetAtt"][0]


def _granted(who: str, holder: str, policy: str, document: dict[str, Any]) -> Iterator[Grant]:
    for number, statement in enumerate(map(chosen, document["Statement"])):
        for nth, action in enumerate(as_list(statement["Action"])):
            for mth, resource in enumerate(as_list(statement["Resource"])):
                denied = "Deny " if statement["Effect"] == "Deny" else ""
                yield Grant(who, denied + action, shown(resource), holder, policy, (number, nth, mth))


def chosen(statement: dict[str, Any]) -> dict[str, Any]:
    """The statement inside an ``!If``."""
    branches: list[dict[str, Any]] = statement.get("Fn::If", ["", statement])[1:]
    (one,) = [branch for branch in branches if "Effect" in branch]
    return one


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def shown(resource: Any) -> str:
    """A resource by its logical id, with what follows it: ``ArchiveBucket/archive/*``, ``execution:Machine:*``."""
    match resource:
        case {"Ref": str(name)} | {"Fn::GetAtt": [str(name), "Arn"]}:
            return name
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"{name}.{attribute}"
        case {"Fn::Sub": str(text)}:
            text = re.sub(r"arn:\$\{AWS::Partition}:\w+:\$\{AWS::Region}:\$\{AWS::AccountId}:", "", text)
            return re.sub(r"\$\{(\w+)(?:\.\w+)?}", r"\1", text)
    return str(resource)


def explained() -> list[tuple[str, str, str, str]]:
    """The rows of the tables: grantee, action, resource and reason."""
    tables = [(heading, _rows(text)) for heading, text in _sections() if heading != UNNOTICED]
    return [(who, action, resource, why) for who, rows in tables for action, resource, why in rows]


def unnoticed() -> dict[Row, str]:
    """The permissions that the local engine does not need, with the source that says that AWS does."""
    (text,) = [text for heading, text in _sections() if heading == UNNOTICED]
    return {(who, action, resource): source for who, action, resource, source in _rows(text)}


def _sections() -> list[tuple[str, str]]:
    permissions = PAGE.read_text().partition("\n## Permissions\n")[2]
    parts = re.split(r"^##+ (.+)$", permissions, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _rows(text: str) -> list[tuple[str, ...]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split(" | ")) for line in lines]


def chosen_conditions(action: str) -> list[str]:
    """The condition of each statement with this action; empty for an unconditional one."""
    policies = resources("AWS::IAM::Role") | resources("AWS::IAM::Policy")
    documents = [found for policy in policies.values() for found in values(policy["Properties"], "PolicyDocument")]
    statements = [statement for document in documents for statement in document["Statement"]]
    return [one.get("Fn::If", [""])[0] for one in statements if action in as_list(chosen(one)["Action"])]
