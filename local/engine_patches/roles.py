"""Bridges to IAM where AWS's own services act, with a role or by leave of a resource's policy.

The engine checks only what comes in over HTTP.
"""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import cloudwatch, lambda_svc, sns, stepfunctions
from ministack.services.cloudformation import provisioners

from local.engine_patches.context import current_execution
from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
# How Step Functions hears that an execution which a machine waits for has ended:
# https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html
_MANAGED_RULE = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
_MANAGING = ("events:PutRule", "events:PutTargets", "events:DescribeRule")


def let_mappings_read_only_with_their_role() -> None:
    """Gap: a mapping reads its source and writes to its destination whatever the function's role may do.

    AWS refuses to create a mapping whose role may not, so the deployment fails.
    """

    def refusal(properties: dict[str, Any]) -> str | None:
        function = provisioners._lambda_function_for_cfn_ref(properties.get("FunctionName", ""))[0]
        role = (function or {}).get("config", {}).get("Role", "")
        missing = [f"{action} on {arn}" for action, arn in _needs(properties) if not role_allows(role, action, arn)]
        text = "The provided execution role does not have permissions to call "
        return text + ", ".join(missing) if missing else None

    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    handler["create"] = _refusing(handler["create"], refusal)

    @around(lambda_svc, "_create_esm")
    def create(plain: Callable[..., Any], properties: dict[str, Any]) -> Any:
        reason = refusal(properties)
        return error_response_json("InvalidParameterValueException", reason, 400) if reason else plain(properties)


def _needs(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a mapping needs, as actions and resources.

    https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html for the on-failure destination.
    """
    source = properties.get("EventSourceArn", "")
    yield from ((action, source) for action in _READING.get(_service(source), ()))
    destination = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
    if _service(destination) == "s3":
        yield "s3:ListBucket", destination
        yield "s3:PutObject", f"{destination}/aws/lambda/any"


def let_state_machines_act_only_with_their_role() -> None:
    """Gap: a state machine invokes any function and starts any execution; AWS does both with the machine's role."""

    @around(stepfunctions, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        config = lambda_svc._get_func_record_for_ref(function)[1] or {}
        arn = config.get("FunctionArn", function)
        _demand(current_execution(), "lambda:InvokeFunction", arn, "Lambda.AWSLambdaException")
        return plain(function, event)

    @around(stepfunctions, "_nested_start_execution_request")
    def start(plain: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        request = plain(arguments)
        machine = request["stateMachineArn"]
        _demand(current_execution(), "states:StartExecution", machine, "StepFunctions.AccessDeniedException")
        return request


def let_distributed_maps_run_only_with_their_role() -> None:
    """Gap: a Distributed Map lists any bucket and starts its children freely; AWS does both with the machine's role.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """

    @around(stepfunctions, "_run_distributed_map")
    def run(plain: Callable[..., Any], state: Any, raw: Any, effective: Any, *rest: Any) -> Any:
        _, execution, context = rest
        reader = state.get("ItemReader", {})
        if reader.get("Resource", "").endswith(":s3:listObjectsV2"):
            asked = reader.get("Parameters") or reader.get("Arguments") or {}
            asked = stepfunctions._resolve_params_obj(asked, effective, context)
            bucket = f"arn:aws:s3:::{asked.get('Bucket')}"
            _demand(execution, "s3:ListBucket", bucket, "States.ItemReaderFailed")
        machine = execution["stateMachineArn"]
        _demand(execution, "states:StartExecution", machine, "StepFunctions.AccessDeniedException")
        return plain(state, raw, effective, *rest)


def let_state_machines_wait_only_with_their_role() -> None:
    """Gap: any machine may wait for executions of another (``.sync``).

    AWS refuses to create a machine whose role may not manage the rule by which Step Functions hears of their end.
    """

    def refusal(role: str, definition: str) -> str | None:
        rule = f"arn:aws:events:{get_region()}:{get_account_id()}:rule/{_MANAGED_RULE}"
        waits = "states:startExecution.sync" in definition
        allowed = all(role_allows(role, action, rule) for action in _MANAGING)
        return f"'{role}' is not authorized to create managed-rule." if waits and not allowed else None

    handler = provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachine"]
    handler["create"] = _refusing(
        handler["create"], lambda properties: refusal(properties["RoleArn"], provisioners._sfn_definition(properties))
    )
    for name in ("_create_state_machine", "_update_state_machine"):

        @around(stepfunctions, name)
        def write(plain: Callable[..., Any], asked: dict[str, Any]) -> Any:
            machine = stepfunctions._state_machines.get(asked.get("stateMachineArn")) or {}
            after = {**machine, **asked}
            reason = refusal(after.get("roleArn", ""), after.get("definition", ""))
            return error_response_json("AccessDeniedException", reason, 400) if reason else plain(asked)


def let_functions_log_only_with_their_role() -> None:
    """Gap: what a function prints is logged whatever its role may do; AWS loses it where the role may not log.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    """

    @around(lambda_svc, "_emit_lambda_logs")
    def emit(plain: Callable[..., Any], function: dict[str, Any], *rest: Any, **named: Any) -> None:
        config = function.get("config") or function
        group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
        stream = f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}:log-stream:any"
        if all(role_allows(config["Role"], action, stream) for action in ("logs:CreateLogStream", "logs:PutLogEvents")):
            plain(function, *rest, **named)


def let_alarms_publish_only_where_they_may() -> None:
    """Gap: an alarm publishes to any topic; in AWS the topic's policy has to let CloudWatch in.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """

    @around(cloudwatch, "_dispatch_alarm_actions")
    def dispatch(plain: Callable[..., Any], alarm: dict[str, Any], *rest: Any) -> None:
        def let_in(topic: str) -> bool:
            return bool(sns.topic_policy_allows(topic, "cloudwatch.amazonaws.com", alarm["AlarmArn"], get_account_id()))

        names = ("AlarmActions", "OKActions", "InsufficientDataActions")
        plain({**alarm, **{name: [topic for topic in alarm.get(name) or [] if let_in(topic)] for name in names}}, *rest)


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


def _demand(execution: dict[str, Any] | None, action: str, resource: str, error: str) -> None:
    """Fail the state unless the machine's role allows this; a child of a Distributed Map acts with its parent's."""
    arn = (execution or {}).get("stateMachineArn", "").partition("/")[0]
    machine = stepfunctions._state_machines.get(arn)
    if machine and not role_allows(machine["roleArn"], action, resource):
        raise stepfunctions._ExecutionError(
            error, f"User: {machine['roleArn']} is not authorized to perform: {action} on resource: {resource}"
        )


def _refusing(create: Callable[..., Any], refusal: Callable[[dict[str, Any]], str | None]) -> Callable[..., Any]:
    """The creation of a resource by CloudFormation, which fails where there is a reason to refuse it."""

    def creating(logical_id: str, properties: dict[str, Any], *rest: Any) -> Any:
        if reason := refusal(properties):
            raise ValueError(f"{logical_id}: {reason}")
        return create(logical_id, properties, *rest)

    return creating


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.startswith("arn:") else ""
