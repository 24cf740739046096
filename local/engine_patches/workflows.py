"""Bridges in Step Functions."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

import os
import threading
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import stepfunctions as engine

from local.engine_patches.context import Task, current_execution, current_task, current_token, waiting_for, working_on
from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable


WORKERS_PER_FUNCTION = 4


class _StoppedError(Exception):
    """The execution was stopped while its task waited; no Retry or Catch may see it."""


def share_a_few_workers() -> None:
    """Gap: a hundred executions at once start a hundred Python processes on this machine; AWS has machines for them.

    Here the executions' calls of one function wait for one of a few workers. A call takes milliseconds, the start of a
    worker most of a second of this machine's processors.
    """
    workers: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(WORKERS_PER_FUNCTION))
    lock = threading.Lock()

    @around(engine, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        with lock:
            free = workers[function]
        with free:
            return plain(function, event)


def evaluate_timeouts() -> None:
    """Gap: a JSONata ``TimeoutSeconds`` is compared as text, which crashes the execution; AWS evaluates it."""

    @around(engine, "_execute_task")
    def execute(plain: Callable[..., Any], state: Any, data: Any, execution: Any, context: Any) -> Any:
        if isinstance(state.get("TimeoutSeconds"), str):
            seconds = engine._jsonata_state_field(state, "TimeoutSeconds", "number", data, context)
            state = {**state, "TimeoutSeconds": seconds}
        with working_on(Task(execution, context)):
            return plain(state, data, execution, context)


def scale_callback_timeouts() -> None:
    """Gap: ``SFN_WAIT_SCALE`` leaves a callback's time-out alone, so a run that skips hours would wait for them here.

    ``LOCAL_CALLBACK_FLOOR_SECONDS`` is the least it is shortened to: the work behind the callback runs at true speed.
    """
    floor = float(os.environ["LOCAL_CALLBACK_FLOOR_SECONDS"])

    @around(engine, "_invoke_with_callback")
    def invoke(plain: Callable[..., Any], resource: str, data: Any, token: str, state: Any) -> Any:
        if "TimeoutSeconds" in state:
            seconds = float(state["TimeoutSeconds"])
            scaled = min(seconds, max(seconds * engine._SFN_WAIT_SCALE, floor))
            state = {**state, "TimeoutSeconds": scaled}
        return plain(resource, data, token, state)


def fail_callbacks_whose_function_failed() -> None:
    """Gap: an exception of the function behind ``lambda:invoke.waitForTaskToken`` is swallowed and the task waits on.

    In AWS it fails the task at once.
    """

    @around(engine, "_invoke_with_callback")
    def invoke(plain: Callable[..., Any], resource: str, data: Any, token: str, state: Any) -> Any:
        with waiting_for(token):
            return plain(resource, data, token, state)

    @around(engine, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        try:
            return plain(function, event)
        except engine._ExecutionError as err:
            pending = engine._task_tokens.get(current_token())
            if pending and not pending["event"].is_set():
                pending["error"] = {"Error": err.error, "Cause": err.cause}
                pending["event"].set()
            raise


def name_throttling() -> None:
    """Gap: a throttled function fails its task with ``Lambda.Unknown``; AWS: ``Lambda.TooManyRequestsException``."""

    @around(engine, "_call_lambda")
    def call(plain: Callable[..., Any], function: str, event: Any) -> Any:
        try:
            return plain(function, event)
        except engine._ExecutionError as err:
            if '"__type": "TooManyRequestsException"' in err.cause:
                raise engine._ExecutionError("Lambda.TooManyRequestsException", err.cause) from err
            raise


def give_every_attempt_its_own_token() -> None:
    """Gap: a retried callback task gets its first token again, so a late answer to one attempt ends the next.

    AWS makes a new token for each attempt.
    """

    @around(engine, "_invoke_with_callback")
    def invoke(plain: Callable[..., Any], *args: Any) -> Any:
        try:
            return plain(*args)
        except engine._ExecutionError:
            if task := current_task():
                task.context["Task"]["Token"] = str(uuid.uuid4())
            raise


def close_tokens_of_stopped_executions() -> None:
    """Gap: the task of a stopped execution goes on waiting, its token answers OK, and its time-out turns it to FAILED.

    In AWS an aborted execution is over: its token is dead and its history ends with ``ExecutionAborted``.
    """
    waiting: dict[str, list[str]] = {}

    @around(engine, "_invoke_with_callback")
    def invoke(plain: Callable[..., Any], resource: str, data: Any, token: str, state: Any) -> Any:
        execution = current_execution() or {}
        tokens = waiting.setdefault(execution.get("executionArn", ""), [])
        tokens.append(token)
        try:
            return plain(resource, data, token, state)
        finally:
            tokens.remove(token)
            if execution.get("status") == "ABORTED":
                raise _StoppedError

    @around(engine, "_stop_execution")
    def stop(plain: Callable[..., Any], request: Any) -> Any:
        response = plain(request)
        for token in list(waiting.get(request.get("executionArn"), ())):
            if pending := engine._task_tokens.pop(token, None):
                pending["event"].set()
        return response

    @around(engine, "_add_event")
    def add(plain: Callable[..., Any], execution: Any, kind: str, details: Any = None) -> Any:
        if execution.get("status") == "ABORTED" and kind != "ExecutionAborted":
            return None
        return plain(execution, kind, details)

    @around(engine, "_fail_execution")
    def fail(plain: Callable[..., Any], execution: Any, error: str, cause: str) -> None:
        if execution["status"] == "RUNNING":
            plain(execution, error, cause)


def start_a_name_once() -> None:
    """Gap: starting a running execution again is refused by ``StartExecution``, and done again by a ``.sync`` task.

    AWS answers with the running execution where name and input are the same, and otherwise refuses.
    """

    @around(engine, "_start_execution")
    def start(plain: Callable[..., Any], request: Any) -> Any:
        known = _execution_of(request)
        if known and known["status"] == "RUNNING" and known["input"] == request.get("input", "{}"):
            return json_response({"executionArn": known["executionArn"], "startDate": known["startDate"]})
        return plain(request)

    @around(engine, "_start_sync_execution")
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
