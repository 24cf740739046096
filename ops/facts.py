"""The settings of a deployed stack: what its template declares, and what AWS reports. It only reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from ops.checks import NotCheckedError
from ops.deployed import DeployedStack, metric_query
from ops.errors import code_of
from ops.template import DeployedTemplate, Resource, UnresolvedError

_READERS = 16
#: Error codes of a setting or a resource that does not exist.
_ABSENT = re.compile("NotFound|NoSuch|DoesNotExist|NonExistent")

FUNCTION, MAPPING = "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping"
QUEUE, TABLE, BUCKET = "AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket"
ALARMS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
RULE, ROLE, LOGS = "AWS::Events::Rule", "AWS::IAM::Role", "AWS::Logs::LogGroup"
MACHINE, TOPIC = "AWS::StepFunctions::StateMachine", "AWS::SNS::Topic"

#: The action with which a role answers a triage execution.
_ANSWERS = {"ProcessorRole": "states:SendTaskSuccess", "DeadLetterIntakeRole": "states:SendTaskFailure"}
_LINEAGE_WINDOW = timedelta(days=14)
_DAY = 86_400

Properties = Mapping[str, Any]
Reader = Callable[[DeployedStack, DeployedTemplate, Resource], Any]


def is_local(stack: DeployedStack) -> bool:
    """Whether the stack is on the local engine."""
    host = urlsplit(stack.client("cloudformation").meta.endpoint_url).hostname or ""
    return host in {"localhost", "127.0.0.1", "::1"}


# -- what is read --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What the template declares, and what AWS reports.

    Attributes:
        declared: The template.
        answers: By kind and logical id: the answer, an error, or an empty mapping for what does not exist.
        local: Whether the local engine has answered.
        now: When it was read.
    """

    declared: DeployedTemplate
    answers: Mapping[tuple[str, str], Any]
    local: bool
    now: datetime

    def answer_about(self, kind: str, resource: Resource) -> Any:
        """An answer.

        Raises:
            ClientError, BotoCoreError, UnresolvedError: It could not be read.
        """
        answer = self.answers[kind, resource.logical_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def each(self, kind: str, *types: str) -> Iterator[tuple[Resource, Properties, Any]]:
        """The resources of these types with what is declared and what is seen."""
        for resource in self.declared.of_type(*types):
            yield resource, self.declared.properties(resource), self.answer_about(kind, resource)

    def one(self, kind: str, logical_id: str) -> tuple[Properties, Any]:
        """What is declared and what is seen of one resource."""
        resource = self.declared.resource(logical_id)
        return self.declared.properties(resource), self.answer_about(kind, resource)


def read(stack: DeployedStack, declared: DeployedTemplate, now: datetime) -> Facts:
    """Read all that the checks need, with up to 16 calls at once."""
    requests = [
        (kind, resource, reader)
        for resource_type, kinds in _READS.items()
        for resource in declared.of_type(resource_type)
        for kind, reader in kinds.items()
    ]
    with ThreadPoolExecutor(_READERS) as pool:
        together = {
            kind: (resources := declared.of_type(*types), pool.submit(_answer, reader, stack, resources))
            for kind, (types, reader) in _READ_TOGETHER.items()
        }
        answers = pool.map(lambda one: _answer(one[2], stack, declared, one[1]), requests)
        found = {(kind, one.logical_id): answer for (kind, one, _), answer in zip(requests, answers, strict=True)}
    for kind, (resources, future) in together.items():
        answer = future.result()
        for one in resources:
            found[kind, one.logical_id] = answer if isinstance(answer, Exception) else answer.get(one.name, {})
    return Facts(declared, found, is_local(stack), now)


def _answer(reader: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return reader(*arguments)
    except ClientError as error:
        return {} if _ABSENT.search(code_of(error)) else error
    except (BotoCoreError, UnresolvedError) as error:
        return error


def _call(service: str, operation: str, **arguments: str) -> Reader:
    """A reader that makes one call. ``{}`` in an argument is the resource's physical id."""

    def reader(stack: DeployedStack, _declared: DeployedTemplate, resource: Resource) -> Any:
        filled = {name: value.format(resource.physical_id) for name, value in arguments.items()}
        return getattr(stack.client(service), operation)(**filled)

    return reader


def _queue(stack: DeployedStack, _declared: DeployedTemplate, resource: Resource) -> Any:
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=resource.physical_id, AttributeNames=["All"])
    return answer["Attributes"]


def _rule(stack: DeployedStack, declared: DeployedTemplate, resource: Resource) -> Any:
    client, bus = stack.client("events"), declared.properties(resource).get("EventBusName", "default")
    name = resource.name.rpartition("|")[2]
    targets = client.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]
    return client.describe_rule(Name=name, EventBusName=bus) | {"Targets": targets}


def _role(stack: DeployedStack, _declared: DeployedTemplate, resource: Resource) -> Any:
    client, role = stack.client("iam"), {"RoleName": resource.name}
    names = client.list_role_policies(**role)["PolicyNames"]
    attached = client.list_attached_role_policies(**role)["AttachedPolicies"]
    return {
        "AssumeRolePolicyDocument": client.get_role(**role)["Role"]["AssumeRolePolicyDocument"],
        "Policies": {name: client.get_role_policy(**role, PolicyName=name)["PolicyDocument"] for name in names},
        "Attached": [one["PolicyArn"] for one in attached],
    }


def _alarms(stack: DeployedStack, alarms: Sequence[Resource]) -> Any:
    """The alarms by name. One call: it takes up to 100 names."""
    answer = stack.client("cloudwatch").describe_alarms(
        AlarmNames=[one.name for one in alarms], AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=100
    )
    return {one["AlarmName"]: one for one in (*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ()))}


def _log_groups(stack: DeployedStack, _groups: Sequence[Resource]) -> Any:
    pages = stack.client("logs").get_paginator("describe_log_groups")
    found = pages.paginate(logGroupNamePrefix=f"/aws/lambda/{stack.name}/")
    return {one["logGroupName"]: one for page in found for one in page["logGroups"]}


def _answers(stack: DeployedStack, declared: DeployedTemplate, resource: Resource) -> Any:
    """What IAM's policy simulator decides on the call with which this role answers a triage execution.

    For a role that answers none, and on the local engine, it is ``allowed`` without a call.
    """
    action = _ANSWERS.get(resource.logical_id)
    if not action or is_local(stack):
        return "allowed"
    (result,) = stack.client("iam").simulate_principal_policy(
        PolicySourceArn=declared.arn(resource),
        ActionNames=[action],
        ResourceArns=[stack.outputs["TriageStateMachineArn"]],
    )["EvaluationResults"]
    return result["EvalDecision"]


def _lineage(stack: DeployedStack, _declared: DeployedTemplate, resource: Resource) -> Any:
    """How many letters were redriven in 14 days, and how many events Lambda dropped as a recursive loop."""
    if resource.logical_id != "ProcessorFunction":
        return {}
    function = {"FunctionName": resource.name}
    queries = {
        "redriven": (f"Holdfast/{stack.name}", "Redriven", {"service": "redrive"}),
        "dropped": ("AWS/Lambda", "RecursiveInvocationsDropped", function),
    }
    end = datetime.now(UTC)
    answer = stack.client("cloudwatch").get_metric_data(
        MetricDataQueries=[metric_query(name, *metric, stat="Sum", seconds=_DAY) for name, metric in queries.items()],
        StartTime=end - _LINEAGE_WINDOW,
        EndTime=end,
    )
    return {result["Id"]: sum(result["Values"]) for result in answer["MetricDataResults"]}


def _machine(stack: DeployedStack, declared: DeployedTemplate, resource: Resource) -> Any:
    """The state machine, and the definition that the deployment uploaded."""
    return {
        "machine": stack.client("stepfunctions").describe_state_machine(stateMachineArn=resource.physical_id),
        "uploaded": _uploaded(stack, declared.properties(resource)),
    }


def _uploaded(stack: DeployedStack, properties: Properties) -> Any:
    """The text of the definition; why it cannot be read, if it cannot."""
    if "DefinitionString" in properties:
        return properties["DefinitionString"]
    place = properties["DefinitionS3Location"]
    request = {"Bucket": place["Bucket"], "Key": place["Key"]}
    try:
        text: str = stack.client("s3").get_object(**request)["Body"].read().decode()
    except ClientError as error:
        return NotCheckedError(f"the uploaded definition cannot be read ({code_of(error)})")
    return text


def _subscriptions(stack: DeployedStack, _declared: DeployedTemplate, resource: Resource) -> Any:
    pages = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=resource.physical_id)
    return [one for page in pages for one in page["Subscriptions"]]


_READS: Mapping[str, Mapping[str, Reader]] = {
    FUNCTION: {
        "function": _call("lambda", "get_function", FunctionName="{}"),
        "recursion": _call("lambda", "get_function_recursion_config", FunctionName="{}"),
        "policy": _call("lambda", "get_policy", FunctionName="{}"),
        "lineage": _lineage,
    },
    MAPPING: {"mapping": _call("lambda", "get_event_source_mapping", UUID="{}")},
    QUEUE: {"queue": _queue},
    TABLE: {
        "table": _call("dynamodb", "describe_table", TableName="{}"),
        "ttl": _call("dynamodb", "describe_time_to_live", TableName="{}"),
        "backups": _call("dynamodb", "describe_continuous_backups", TableName="{}"),
    },
    BUCKET: {
        "public": _call("s3", "get_public_access_block", Bucket="{}"),
        "ownership": _call("s3", "get_bucket_ownership_controls", Bucket="{}"),
        "encryption": _call("s3", "get_bucket_encryption", Bucket="{}"),
        "versioning": _call("s3", "get_bucket_versioning", Bucket="{}"),
        "lifecycle": _call("s3", "get_bucket_lifecycle_configuration", Bucket="{}"),
        "policy": _call("s3", "get_bucket_policy", Bucket="{}"),
    },
    RULE: {"rule": _rule},
    ROLE: {"role": _role, "answers": _answers},
    MACHINE: {"machine": _machine},
    TOPIC: {
        "topic": _call("sns", "get_topic_attributes", TopicArn="{}"),
        "subscriptions": _subscriptions,
    },
}

#: What one call reads for all resources of some types, by their names.
_READ_TOGETHER: Mapping[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "alarm": (ALARMS, _alarms),
    "logs": ((LOGS,), _log_groups),
}
