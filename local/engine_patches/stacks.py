"""Engine patches of CloudFormation and of the event source mappings that it creates."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc
from ministack.services.cloudformation import changesets, handlers, provisioners, stacks

from local.engine import REGION
from local.engine_patches.patch import apply_settings, around
from local.engine_patches.roles import role_allows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The state of a mapping on its way to each other state, and how long it lasts.
_TRANSITIONS = {"Disabled": "Disabling", "Enabled": "Enabling"}
TRANSITION_SECONDS = 0.5
# What the execution role needs before Lambda accepts a mapping:
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html#events-sqs-permissions
# https://docs.aws.amazon.com/lambda/latest/dg/services-ddb.html
_READING = {
    "sqs": ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
    "dynamodb": (
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
    ),
}


def resolve_pseudo_parameters_in_conditions() -> None:
    """Gap: in a condition, a reference to ``AWS::Region`` or ``AWS::Partition`` is not replaced by its value."""
    values = {"AWS::Partition": "aws", "AWS::Region": REGION}
    pseudo = {name: {"Value": value, "NoEcho": False, "Type": "String"} for name, value in values.items()}

    for module in (changesets, handlers, stacks):

        @around(module, "_evaluate_conditions", "(template, params)")
        def evaluate(plain: Callable[..., Any], template: dict[str, Any], parameters: dict[str, Any]) -> Any:
            return plain(template, pseudo | parameters)


def accept_saved_queries() -> None:
    """Gap: a template with a saved query of CloudWatch Logs is refused. Here it is accepted and has no effect."""

    def create(logical_id: str, _properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        return f"{stack}-{logical_id}", {}

    def update(name: str, _old: Any, _new: Any, _stack: str) -> tuple[str, dict[str, Any]]:
        return name, {}

    provisioners._RESOURCE_HANDLERS["AWS::Logs::QueryDefinition"] = {
        "create": create,
        "update": update,
        "delete": lambda _name, _properties: None,
    }


def name_resources_of_each_stack() -> None:
    """Gap: the names that the engine generates depend on the stack's name only.

    So the queues and tables of a new stack replace those that a deleted stack of the same name kept, and their content
    is lost. AWS generates other names for each stack.
    """
    seed = provisioners._NAME_SEED

    @around(stacks, "_provision_keeping_seed", "(*args)")
    def provision(_plain: Callable[..., Any], *args: Any) -> tuple[Any, str]:
        token = seed.set(uuid.uuid4().hex[:8])
        try:
            return provisioners._provision_resource(*args), seed.get()
        finally:
            seed.reset(token)


def create_mappings() -> None:
    """Gaps in event source mappings.

    - A number that a template's parameter sets stays text, and the poller fails on it. AWS reads a number.
    - A mapping reads its source and writes to its destination whatever the function's role may do. AWS refuses to
      create a mapping if the role may not, so the deployment fails.
    """
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]

    @around(handler, "create", "(logical_id, props, stack_name)")
    def create(plain: Callable[..., Any], logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        if reason := _refusal(properties):
            raise ValueError(f"{logical_id}: {reason}")
        return plain(logical_id, _with_numbers(properties), stack)

    @around(handler, "update", "(physical_id, old_props, new_props, stack_name)")
    def update(plain: Callable[..., Any], mapping: str, old: Any, new: dict[str, Any], stack: str) -> Any:
        return plain(mapping, old, _with_numbers(new), stack)

    @around(lambda_svc, "_create_esm", "(data)")
    def create_by_call(plain: Callable[..., Any], properties: dict[str, Any]) -> Any:
        reason = _refusal(properties)
        return error_response_json("InvalidParameterValueException", reason, 400) if reason else plain(properties)


def pause_mappings() -> None:
    """Gap: a mapping is disabled and enabled at once.

    AWS returns ``Disabling`` or ``Enabling`` for some seconds, and refuses every change until then. Batches at work
    finish. https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
    """

    @around(lambda_svc, "_update_esm", "(esm_id, data)")
    def update(plain: Callable[..., Any], mapping: str, changes: dict[str, Any]) -> Any:
        found: dict[str, Any] = lambda_svc._esms.get(mapping) or {}
        before = found.get("State", "")
        if before in _TRANSITIONS.values():
            reason = f"The event source mapping is in the state {before}."
            return error_response_json("ResourceInUseException", reason, 400)
        status, headers, body = plain(mapping, changes)
        after = found.get("State", "")
        if after == before:
            return status, headers, body
        found["State"] = _TRANSITIONS[after]
        timer = threading.Timer(TRANSITION_SECONDS, lambda: found.update(State=after))
        timer.daemon = True
        timer.start()
        return status, headers, json.dumps(json.loads(body) | {"State": found["State"]}).encode()


def _with_numbers(properties: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: int(value) for name, value in properties.items() if isinstance(value, str) and value.isdecimal()}
    scaling = {name: int(value) for name, value in properties.get("ScalingConfig", {}).items()}
    return {**properties, **numbers, **({"ScalingConfig": scaling} if scaling else {})}


def _refusal(properties: dict[str, Any]) -> str | None:
    function = provisioners._lambda_function_for_cfn_ref(properties.get("FunctionName", ""))[0]
    role = (function or {}).get("config", {}).get("Role", "")
    missing = [f"{action} on {arn}" for action, arn in _needs(properties) if not role_allows(role, action, arn)]
    text = "The provided execution role does not have permissions to call "
    return text + ", ".join(missing) if missing else None


def _needs(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The actions and resources that a mapping needs.

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html for the on-failure destination.
    """
    source = properties.get("EventSourceArn", "")
    yield from ((action, source) for action in _READING.get(_service(source), ()))
    destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
    if _service(destination) == "s3":
        yield "s3:ListBucket", destination
        yield "s3:PutObject", f"{destination}/aws/lambda/any"


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.startswith("arn:") else ""


def apply_function_settings() -> None:
    """Gap: ``ReservedConcurrentExecutions`` and ``RecursiveLoop`` of a function in a template are ignored."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]

    def apply(function: str, properties: dict[str, Any]) -> None:
        reserved, found = properties.get("ReservedConcurrentExecutions"), lambda_svc._functions[function]
        found["concurrency"] = None if reserved is None else int(reserved)
        found["recursive_loop"] = properties.get("RecursiveLoop", "Terminate")

    apply_settings(handler, "(physical_id, old_props, new_props, stack_name, logical_id=None)", apply)
