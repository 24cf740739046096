"""`sam deploy --guided` with the suggested answers, with other parameters and on a partner's bus, and `sam delete`."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest

from local.engine import ROOT, client_environment
from local.stack import Stack, deploy, describe, sam
from tests.contract.project import resources, template
from tests.e2e.pipeline import Pipeline, genesys_event

if TYPE_CHECKING:
    from local.environment import LocalStack

DATA = [name for kind in ("SQS::Queue", "DynamoDB::Table", "S3::Bucket") for name in resources(f"AWS::{kind}")]
#: Other values of parameters that change a queue, a table, the bucket, the processor or a role.
CHANGES = {
    "DetailTypes": "v2.users.{id}.presence",
    "DetailTypePrefix": "v2.detail.",
    "MaxReceiveCount": "7",
    "ArchiveRetentionDays": "90",
    "ReserveConcurrency": "true",
    "MaxConcurrency": "3",
    "Tracing": "true",
}


def deploy_beside(deployed: LocalStack, name: str, parameters: dict[str, str] | None = None) -> Pipeline:
    """Deploy another stack to the session's engine, or update it."""
    assert deployed.built
    return Pipeline(deployed, deploy(deployed.engine.endpoint, deployed.built, name, parameters))


@pytest.fixture(scope="module")
def first(deployed: LocalStack) -> Pipeline:
    """A stack whose user has typed its name only, and has accepted every other answer that ``--guided`` suggests."""
    assert deployed.built
    endpoint = deployed.engine.endpoint
    region_and_parameters = [""] * (1 + len(template()["Parameters"]))
    confirm_changes, create_roles, disable_rollback, save = "n", "", "", "n"
    answers = ["first", *region_and_parameters, confirm_changes, create_roles, disable_rollback, save]
    arguments = ["deploy", "--guided", "--template-file", str(deployed.built)]
    arguments += ["--config-file", str(ROOT / "samconfig.toml")]
    sam(arguments, deployed.engine.directory, client_environment(endpoint), "\n".join(answers) + "\n")
    return Pipeline(deployed, describe(endpoint, "first"))


def reserved(pipeline: Pipeline) -> int | None:
    function = pipeline.outputs["ProcessorFunctionName"]
    answer = pipeline.client("lambda").get_function_concurrency(FunctionName=function)
    found: int | None = answer.get("ReservedConcurrentExecutions")
    return found


def own_key(deployed: LocalStack) -> str:
    arn: str = deployed.client("kms").create_key(Description="for the tests")["KeyMetadata"]["Arn"]
    return arn


def test_a_stack_with_the_suggested_parameters_processes_events(first: Pipeline) -> None:
    first.stored(first.put(genesys_event()))
    assert reserved(first) is None


def test_an_update_of_the_parameters_and_back_keeps_all_data(first: Pipeline, deployed: LocalStack) -> None:
    (event_id,) = first.put(genesys_event())
    first.stored([event_id])
    bus = f"partner/genesys-{uuid.uuid4().hex[:8]}"
    deployed.client("events").create_event_bus(Name=bus)
    changes = CHANGES | {"KmsKeyArn": own_key(deployed), "EventBusName": bus}
    assert replaced(first.stack, changes) == []
    updated = deploy_beside(deployed, "first", changes)
    before, after = first.stack.resources, updated.stack.resources
    assert [after[name] for name in DATA] == [before[name] for name in DATA]
    assert updated.item(event_id)
    assert reserved(updated) == 3
    updated.stored(updated.put(genesys_event()))

    defaults = {name: str(template()["Parameters"][name]["Default"]) for name in changes}
    restored = deploy_beside(deployed, "first", defaults)
    assert [restored.stack.resources[name] for name in DATA] == [before[name] for name in DATA]
    assert restored.item(event_id)
    restored.stored(restored.put(genesys_event()))
    assert deployed.client("events").list_rules(EventBusName=bus)["Rules"] == []


def replaced(stack: Stack, changes: dict[str, str]) -> list[str]:
    """The resources with data that an update with these parameters would replace, by its change set."""
    cloudformation = stack.client("cloudformation")
    known = cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]["Parameters"]
    kept = [name for one in known if (name := one["ParameterKey"]) not in changes]
    named = {"StackName": stack.name, "ChangeSetName": "other-parameters"}
    cloudformation.create_change_set(
        **named,
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in changes.items()]
        + [{"ParameterKey": name, "UsePreviousValue": True} for name in kept],
    )
    found = [one["ResourceChange"] for one in cloudformation.describe_change_set(**named)["Changes"]]
    changed = {one["LogicalResourceId"]: one["Replacement"] for one in found if one["Action"] == "Modify"}
    assert set(DATA) <= changed.keys()
    cloudformation.delete_change_set(**named)
    # For some properties of a bucket the engine answers Conditional.
    return [name for name in DATA if changed[name] == "True"]


def test_a_stack_on_a_partner_bus_with_its_own_key_keeps_all_data_when_deleted(deployed: LocalStack) -> None:
    bus, key = f"partner/genesys-{uuid.uuid4().hex[:8]}", own_key(deployed)
    deployed.client("events").create_event_bus(Name=bus)
    pipeline = deploy_beside(deployed, "second", {"EventBusName": bus, "KmsKeyArn": key})
    stack = pipeline.stack
    assert stack.outputs["EventBusName"] == bus
    (stored,) = pipeline.put(genesys_event())
    pipeline.stored([stored])
    (refused,) = pipeline.enqueue(f"no JSON {uuid.uuid4()}")
    archived = pipeline.archived(refused)
    for queue in ("BufferQueueUrl", "DeadLetterQueueUrl"):  # the engine keeps no key of tables and buckets
        assert attributes(stack, queue, "KmsMasterKeyId") == [key]

    function = stack.outputs["ProcessorFunctionName"]
    stack.client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    pipeline.put(genesys_event())
    stack.delete()

    assert pipeline.item(stored)
    assert archived["eventId"] == refused
    assert [key for key in pipeline.objects("archive/") if pipeline.document(key) == archived]
    messages = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    assert sum(map(int, attributes(stack, "BufferQueueUrl", *messages))) == 1
    assert sum(map(int, attributes(stack, "DeadLetterQueueUrl", *messages))) == 0
    assert deployed.client("events").describe_event_bus(Name=bus)["Name"] == bus
    assert deployed.client("events").list_rules(EventBusName=bus)["Rules"] == []
    with contextlib.suppress(stack.client("lambda").exceptions.ResourceNotFoundException):
        pytest.fail(f"the function still exists: {stack.client('lambda').get_function(FunctionName=function)}")


def attributes(stack: Stack, queue: str, *names: str) -> list[str]:
    asked = {"QueueUrl": stack.outputs[queue], "AttributeNames": names}
    found = stack.client("sqs").get_queue_attributes(**asked)["Attributes"]
    return [found[name] for name in names]
