"""Bridges to IAM where AWS's own services act with a role: the engine checks only what comes in over HTTP."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import dynamodb, lambda_svc, stepfunctions
from ministack.services.cloudformation import provisioners

from local.bridges.context import current_execution
from local.bridges.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

# What the execution role needs before Lambda accepts a mapping:
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
_READING = {
    "sqs": ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
    "dynamodb": ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
}


_PARTIQL_CALLS = {"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}


def let_mappings_read_only_with_their_role() -> None:
    """Gap: a mapping reads its queue or stream whatever the function's role may do.

    AWS refuses to create a mapping whose role may not read the source, so the deployment fails.
    """
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    plain = handler["create"]

    def create(logical_id: str, props: dict[str, Any], *rest: Any) -> Any:
        function = provisioners._lambda_function_for_cfn_ref(props.get("FunctionName", ""))[0]
        source = props.get("EventSourceArn", "")
        role = (function or {}).get("config", {}).get("Role", "")
        missing = [action for action in _READING.get(_service(source), ()) if not role_allows(role, action, source)]
        if missing:
            raise ValueError(
                f"{logical_id}: The provided execution role does not have permissions to call "
                f"{', '.join(missing)} on {source}"
            )
        return plain(logical_id, props, *rest)

    handler["create"] = create


def let_state_machines_act_only_with_their_role() -> None:
    """Gap: a state machine invokes any function and starts any execution; AWS does both with the machine's role."""

    @around(stepfunctions, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        config = lambda_svc._get_func_record_for_ref(function)[1] or {}
        _demand("lambda:InvokeFunction", config.get("FunctionArn", function), "Lambda.AWSLambdaException")
        return plain(function, event)

    @around(stepfunctions, "_nested_start_execution_request")
    def start(plain: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        request = plain(arguments)
        _demand("states:StartExecution", request["stateMachineArn"], "StepFunctions.AccessDeniedException")
        return request


def ask_for_single_message_permissions() -> None:
    """Gap: a batch call of SQS needs a permission such as ``sqs:SendMessageBatch``, which AWS does not know.

    AWS asks for the permission of the single call, ``sqs:SendMessage``.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    """

    @around(iam_actions, "extract_iam_action")
    def extract(plain: Callable[..., Any], service: str, *request: Any) -> Any:
        action = plain(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action


def ask_for_partiql_permissions() -> None:
    """Gap: a PartiQL call needs the permission ``dynamodb:BatchExecuteStatement``, which AWS does not know.

    AWS asks for ``dynamodb:PartiQLInsert``, ``…Select``, ``…Update`` or ``…Delete`` on the table of each statement.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
    """

    @around(iam_actions, "dynamodb_transaction_checks")
    def checks(plain: Callable[..., Any], action: str, body: bytes, region: str, account: str) -> Any:
        if action.removeprefix("dynamodb:") not in _PARTIQL_CALLS:
            return plain(action, body, region, account)
        request = json.loads(body)
        statements = request.get("Statements") or request.get("TransactStatements") or [request]
        return [
            (f"dynamodb:PartiQL{kind.capitalize()}", iam_actions._dynamodb_table_arn(table, region, account))
            for kind, table in map(_statement_target, statements)
        ]


def count_the_loopback_as_tls() -> None:
    """Gap: the engine listens without TLS, so a policy that denies plain transport would deny every call.

    On AWS every SDK call is over TLS. Nothing leaves this machine here.
    """

    @around(iam_evaluator, "_resolve_condition_key")
    def resolve(plain: Callable[..., Any], key: str, *rest: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else plain(key, *rest)


def _statement_target(statement: dict[str, Any]) -> tuple[str, str]:
    """The kind of a PartiQL statement and its table; one that cannot be read is refused later, with its own error."""
    try:
        parsed = dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters", []))
    except (KeyError, ValueError):
        return "Select", "*"
    return parsed["op"], parsed["table"]


def role_allows(role: str, action: str, resource: str) -> bool:
    """Whether the policies of this role allow the action on the resource."""
    account = get_account_id()
    policies = iam_evaluator._gather_role_policies(role.rsplit("/", 1)[-1], account)
    request = iam_evaluator.EvalContext(
        principal_arn=role,
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource,
        region=get_region(),
    )
    return bool(iam_evaluator.evaluate(request, policies).decision == "Allow")


def _demand(action: str, resource: str, error: str) -> None:
    execution = current_execution()
    machine = stepfunctions._state_machines.get((execution or {}).get("stateMachineArn"))
    if machine and not role_allows(machine["roleArn"], action, resource):
        raise stepfunctions._ExecutionError(
            error, f"User: {machine['roleArn']} is not authorized to perform: {action} on resource: {resource}"
        )


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.startswith("arn:") else ""
