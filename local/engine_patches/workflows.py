"""Engine patches of Step Functions."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import json
import os
import threading
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import lambda_svc
from ministack.services import stepfunctions as engine
from ministack.services.cloudformation import provisioners

from local.engine_patches.context import Task, current_execution, current_task, working_on
from local.engine_patches.patch import around
from local.engine_patches.roles import role_allows

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS_PER_FUNCTION = 4
# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
STATE_BYTES = 262_144
#: The first error status of HTTP.
_FIRST_ERROR = 400
# Step Functions learns through this rule that an execution has ended for which a machine waits:
# https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html
_MANAGED_RULE = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
_MANAGED_RULE_ACTIONS = ("events:PutRule", "events:PutTargets", "events:DescribeRule")

#: The tokens for which the tasks of each execution wait.
_waiting: dict[str, list[str]] = defaultdict(list)
#: Each token that a task has sent, and its state machine.
issuers: dict[str, str] = {}


class _StoppedError(Exception):
    """The execution was stopped while its task waited. No Retry or Catch matches this error."""


def execute_tasks() -> None:
    """Gap: a JSONata ``TimeoutSeconds`` is compared as text, which crashes the execution. AWS evaluates it.

    This patch also records the current task for the other patches.
    """

    @around(engine, "_execute_task", "(state_def, raw_input, execution, ctx)")
    def execute(plain: Callable[..., Any], state: Any, data: Any, execution: Any, context: Any) -> Any:
        if isinstance(state.get("TimeoutSeconds"), str):
            seconds = engine._jsonata_state_field(state, "TimeoutSeconds", "number", data, context)
            state = {**state, "TimeoutSeconds": seconds}
        with working_on(Task(execution, context)):
            return plain(state, data, execution, context)


def call_functions() -> None:
    """Gaps in how a task calls a function.

    - Any machine may invoke any function. AWS checks the machine's role.
    - Input and result may have any size. AWS allows 262,144 bytes, then fails with ``States.DataLimitExceeded``.
    - A throttled function fails the task with ``Lambda.Unknown``; AWS: ``Lambda.TooManyRequestsException``.
    - An exception of the function behind ``lambda:invoke.waitForTaskToken`` is ignored, and the task waits on. AWS
      fails the task at once.
    - A hundred executions at once start a hundred Python processes on this machine. Here the calls of one function
      share a few workers: a call takes milliseconds, and starting a worker most of a second of processor time.
    """
    workers: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(WORKERS_PER_FUNCTION))
    lock = threading.Lock()

    @around(engine, "_call_lambda", "(func_ref, event)")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        config = lambda_svc._get_func_record_for_ref(function)[1] or {}
        with lock:
            worker = workers[function]
        try:
            arn = config.get("FunctionArn", function)
            _require(current_execution(), "lambda:InvokeFunction", arn, "Lambda.AWSLambdaException")
            _require_size(event, "input")
            with worker:
                result = plain(function, event)
            _require_size(result, "result")
        except engine._ExecutionError as error:
            if '"__type": "TooManyRequestsException"' in error.cause:
                error.error = "Lambda.TooManyRequestsException"
            task = current_task()
            pending = engine._task_tokens.get(task.token) if task else None
            if pending and not pending["event"].is_set():
                pending["error"] = {"Error": error.error, "Cause": error.cause}
                pending["event"].set()
            raise
        return result


def wait_for_callbacks() -> None:
    """Gaps in how a task waits for its token.

    - ``SFN_WAIT_SCALE`` does not scale a callback's time-out. Here it does, but not below
      ``LOCAL_CALLBACK_FLOOR_SECONDS``, because the work behind the callback is not scaled. Behind a token in a table
      there is none.
    - A retried task gets its first token again, so a late answer to one attempt ends the next. AWS makes a new one.
    - A task goes on after its execution was stopped, and runs its Retry and Catch.
    """
    floor = float(os.environ["LOCAL_CALLBACK_FLOOR_SECONDS"])

    @around(engine, "_invoke_with_callback", "(resource, input_data, token, state_def)")
    def invoke(plain: Callable[..., Any], resource: str, data: Any, token: str, state: Any) -> Any:
        if "TimeoutSeconds" in state:
            seconds = float(state["TimeoutSeconds"])
            least = 0 if ":dynamodb:" in resource else floor
            state = {**state, "TimeoutSeconds": min(seconds, max(seconds * engine._SFN_WAIT_SCALE, least))}
        execution = current_execution() or {}
        issuers[token] = execution.get("stateMachineArn", "")
        tokens = _waiting[execution.get("executionArn", "")]
        tokens.append(token)
        try:
            return plain(resource, data, token, state)
        except engine._ExecutionError:
            if task := current_task():
                task.context["Task"]["Token"] = str(uuid.uuid4())
            raise
        finally:
            tokens.remove(token)
            if execution.get("status") == "ABORTED":
                raise _StoppedError


def stop_executions() -> None:
    """Gap: the token of a stopped execution is still accepted, and the execution's time-out turns it to FAILED.

    In AWS the token of an aborted execution is invalid, and its history ends with ``ExecutionAborted``.
    """

    @around(engine, "_stop_execution", "(data)")
    def stop(plain: Callable[..., Any], request: Any) -> Any:
        response = plain(request)
        for token in list(_waiting[request.get("executionArn", "")]):
            if pending := engine._task_tokens.pop(token, None):
                pending["event"].set()
        return response

    @around(engine, "_add_event", "(execution, event_type, details=None)")
    def add(plain: Callable[..., Any], execution: Any, kind: str, details: Any = None) -> Any:
        if execution.get("status") == "ABORTED" and kind != "ExecutionAborted":
            return None
        return plain(execution, kind, details)

    @around(engine, "_fail_execution", "(execution, error, cause)")
    def fail(plain: Callable[..., Any], execution: Any, error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":
            plain(execution, error, cause)


def reuse_execution_names() -> None:
    """Gap: starting a running execution again is refused by ``StartExecution``, and done again by a ``.sync`` task.

    AWS returns the running execution if name and input are the same, and refuses otherwise.
    """

    @around(engine, "_start_execution", "(data)")
    def start(plain: Callable[..., Any], request: Any) -> Any:
        known = _execution_of(request)
        if known and known["status"] == "RUNNING" and known["input"] == request.get("input", "{}"):
            return json_response({"executionArn": known["executionArn"], "startDate": known["startDate"]})
        return plain(request)

    @around(engine, "_start_sync_execution", "(data)")
    def start_and_wait(plain: Callable[..., Any], request: Any) -> Any:
        if known := _execution_of(request):
            message = f"Execution Already Exists: '{known['executionArn']}'"
            return error_response_json("StepFunctions.ExecutionAlreadyExistsException", message, 400)
        return plain(request)


def _execution_of(request: dict[str, Any]) -> dict[str, Any] | None:
    machine = engine._state_machines.get(engine._resolve_state_machine_arn(request.get("stateMachineArn", "")))
    if not machine or "name" not in request:
        return None
    arn = f"arn:aws:states:{get_region()}:{get_account_id()}:execution:{machine['name']}:{request['name']}"
    execution: dict[str, Any] | None = engine._executions.get(arn)
    return execution


def check_role_of_nested_executions() -> None:
    """Gap: any machine may start executions of any other and wait for them (``.sync``).

    AWS starts them with the machine's role, and refuses to create a machine that waits if its role may not manage the
    rule by which Step Functions learns of their end.
    """

    @around(engine, "_nested_start_execution_request", "(input_data)")
    def start(plain: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        request = plain(arguments)
        machine = request["stateMachineArn"]
        _require(current_execution(), "states:StartExecution", machine, "StepFunctions.AccessDeniedException")
        return request

    def refusal(role: str, definition: str) -> str | None:
        rule = f"arn:aws:events:{get_region()}:{get_account_id()}:rule/{_MANAGED_RULE}"
        waits = "states:startExecution.sync" in definition
        allowed = all(role_allows(role, action, rule) for action in _MANAGED_RULE_ACTIONS)
        return f"'{role}' is not authorized to create managed-rule." if waits and not allowed else None

    handler = provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachine"]

    @around(handler, "create", "(logical_id, props, stack_name)")
    def create(plain: Callable[..., Any], logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        if reason := refusal(properties["RoleArn"], provisioners._sfn_definition(properties)):
            raise ValueError(f"{logical_id}: {reason}")
        return plain(logical_id, properties, stack)

    for name in ("_create_state_machine", "_update_state_machine"):

        @around(engine, name, "(data)")
        def write(plain: Callable[..., Any], request: dict[str, Any]) -> Any:
            after = {**engine._state_machines.get(request.get("stateMachineArn"), {}), **request}
            reason = refusal(after.get("roleArn", ""), after.get("definition", ""))
            return error_response_json("AccessDeniedException", reason, 400) if reason else plain(request)


def check_role_of_distributed_maps() -> None:
    """Gap: a Distributed Map may list any bucket and start its children. AWS checks the machine's role for both.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """

    @around(engine, "_run_distributed_map", "(state_def, raw_input, effective, iterator, execution, ctx)")
    def run(plain: Callable[..., Any], state: Any, raw: Any, effective: Any, *rest: Any) -> Any:
        _, execution, context = rest
        reader = state.get("ItemReader", {})
        if reader.get("Resource", "").endswith(":s3:listObjectsV2"):
            parameters = reader.get("Parameters") or reader.get("Arguments") or {}
            parameters = engine._resolve_params_obj(parameters, effective, context)
            _require(execution, "s3:ListBucket", f"arn:aws:s3:::{parameters.get('Bucket')}", "States.ItemReaderFailed")
        machine = execution["stateMachineArn"]
        _require(execution, "states:StartExecution", machine, "StepFunctions.AccessDeniedException")
        return plain(state, raw, effective, *rest)


def change_mappings() -> None:
    """Gap: a task cannot change an event source mapping. In AWS it is an SDK integration, and needs a permission.

    https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
    """

    @around(engine, "_dispatch_aws_sdk_lambda_rest", "(service_info, service_name, action, input_data)")
    def dispatch(plain: Callable[..., Any], info: Any, service: str, action: str, data: dict[str, Any]) -> Any:
        if action != "updateEventSourceMapping":
            return plain(info, service, action, data)
        changes = {name: value for name, value in data.items() if name != "Uuid"}
        arn = f"arn:aws:lambda:{get_region()}:{get_account_id()}:event-source-mapping:{data['Uuid']}"
        _require(current_execution(), "lambda:UpdateEventSourceMapping", arn, "Lambda.AccessDeniedException")
        status, _, body = lambda_svc._update_esm(data["Uuid"], changes)
        answer: dict[str, Any] = json.loads(body)
        if status >= _FIRST_ERROR:
            raise engine._ExecutionError(f"Lambda.{answer['__type']}", answer.get("message", ""))
        return answer


def write_items_from_tasks() -> None:
    """Gap: any machine may call DynamoDB. AWS checks the machine's role.

    https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
    """

    @around(engine, "_dispatch_aws_sdk_json", "(service_info, service_name, action, input_data)")
    def dispatch(plain: Callable[..., Any], info: Any, service: str, action: str, data: dict[str, Any]) -> Any:
        if service == "dynamodb":
            arn = f"arn:aws:dynamodb:{get_region()}:{get_account_id()}:table/{data['TableName']}"
            permission = f"dynamodb:{action[0].upper()}{action[1:]}"
            _require(current_execution(), permission, arn, "DynamoDb.AccessDeniedException")
        return plain(info, service, action, data)


def publish_from_tasks() -> None:
    """Gap: any machine may publish on any bus. AWS checks the machine's role.

    https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html
    """

    @around(engine._SERVICE_DISPATCH, "arn:aws:states:::events:putEvents", "(resource, input_data)")
    def put(plain: Callable[..., Any], resource: str, data: dict[str, Any]) -> Any:
        for entry in data["Entries"]:
            bus = entry.get("EventBusName", "default").rpartition("/")[2]
            arn = f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}"
            _require(current_execution(), "events:PutEvents", arn, "Events.AccessDeniedException")
        return plain(resource, data)


def _require(execution: dict[str, Any] | None, action: str, resource: str, error: str) -> None:
    """Fail the state unless the machine's role allows the action. A Distributed Map's children use their parent's."""
    arn = (execution or {}).get("stateMachineArn", "").partition("/")[0]
    machine = engine._state_machines.get(arn)
    if machine and not role_allows(machine["roleArn"], action, resource):
        raise engine._ExecutionError(
            error, f"User: {machine['roleArn']} is not authorized to perform: {action} on resource: {resource}"
        )


def _require_size(value: Any, what: str) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > STATE_BYTES:
        reason = f"The task's {what} has {size} bytes, more than {STATE_BYTES}."
        raise engine._ExecutionError("States.DataLimitExceeded", reason)
