"""Engine patches of Lambda and of the mapping from SQS."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import cloudwatch, lambda_svc

from local.engine_patches.patch import EngineChangedError, around

if TYPE_CHECKING:
    from collections.abc import Callable

_EXIT = "Runtime.ExitError"
_DIED = ("Worker process died", "Worker returned no response", "Worker process exited immediately")
_LEAVE_CLASS_NAME = '"error": str(e), "trace": traceback.format_exc()'
_ADD_CLASS_NAME = '"errorType": type(e).__name__, ' + _LEAVE_CLASS_NAME
#: What a worker reports if the function's module cannot be imported.
_IMPORT_FAILED = "Worker init failed: "
_LEAVE_TRACE = '{"status": "error", "error": str(e)}'
_ADD_TRACE = (
    '{"status": "error", "error": json.dumps({"module": module_name, "error": str(e), '
    '"import": isinstance(e, ImportError), "errorType": type(e).__name__, "trace": traceback.format_exc()})}'
)


class _Message(str):
    """An error's text with the name of its class inside the function."""

    __slots__ = ("error_type", "trace")
    error_type: str
    trace: list[str]


def report_error_classes() -> None:
    """Gaps in how a function's error is reported.

    - The ``errorType`` of every exception and of a worker that died is ``Runtime.HandlerError``. In AWS it is the
      exception's class name, which ``ErrorEquals`` is compared with, or ``Runtime.ExitError`` if the process ended. The
      engine itself reports ``Sandbox.Timedout``.
    - A worker that died, or whose module cannot be imported, leaves no line in its log, and the ``errorType`` of one
      that cannot start is ``RuntimeError``. AWS logs the error, and reports ``Runtime.ImportModuleError`` or its class
      name.
      https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-execution.html
    """
    for found, wanted in ((_LEAVE_CLASS_NAME, _ADD_CLASS_NAME), (_LEAVE_TRACE, _ADD_TRACE)):
        if found not in lambda_runtime._PYTHON_WORKER_SCRIPT:
            raise EngineChangedError(
                f"The script of the engine's workers no longer contains {found!r}. Compare the patch in {__name__} "
                "with the script and adapt it."
            )
        lambda_runtime._PYTHON_WORKER_SCRIPT = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(found, wanted)

    @around(
        lambda_runtime.Worker,
        "invoke",
        "(self, event, request_id, *, trace_id=None, depth=None, durable=None, invoked_function_arn=None)",
    )
    def invoke(plain: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        answer: dict[str, Any] = plain(*args, **kwargs)
        if answer.get("status") == "error" and (name := _error_type(answer)):
            message = _Message(answer["error"])
            message.error_type = name
            message.trace = answer.get("trace", "").splitlines()
            answer["error"] = message
        return answer

    @around(lambda_svc, "_execute_function_warm", "(func, event, request_id)")
    def execute(plain: Callable[..., Any], func: Any, event: Any, request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = plain(func, event, request_id)
        body = result.get("body")
        return _reported(result, body, request_id) if result.get("error") and isinstance(body, dict) else result


def _reported(result: dict[str, Any], body: dict[str, Any], request_id: str) -> dict[str, Any]:
    """A failed result with the errorType and the log line that it would have in AWS."""
    message = body.get("errorMessage", "")
    if message.startswith(_IMPORT_FAILED):
        return result | _import_error(json.loads(message.removeprefix(_IMPORT_FAILED)))
    if isinstance(message, _Message):
        body = {
            "errorMessage": str(message),
            "errorType": message.error_type,
            "requestId": request_id,
            "stackTrace": message.trace,
        }
    elif message.startswith(_DIED):  # it died while it was starting
        body["errorType"] = _EXIT
    log = {"log": _exit_line(request_id, message)} if body.get("errorType") == _EXIT else {}
    return result | {"body": body} | log


def _exit_line(request_id: str, message: str) -> str:
    return f"RequestId: {request_id} Error: {_EXIT}: {message}"


def _import_error(failure: dict[str, Any]) -> dict[str, Any]:
    """The body and the log of a function whose module cannot be imported."""
    message, kind = failure["error"], failure["errorType"]
    if failure["import"]:
        message, kind = f"Unable to import module '{failure['module']}': {message}", "Runtime.ImportModuleError"
    return {
        "body": {"errorMessage": message, "errorType": kind, "stackTrace": failure["trace"].splitlines()},
        "log": f"[ERROR] {kind}: {message}\n{failure['trace']}",
    }


def _error_type(answer: dict[str, Any]) -> str | None:
    """The errorType that AWS would report, or None if the engine reports it itself."""
    if "errorType" in answer:
        return str(answer["errorType"])
    died = answer["error"].startswith(_DIED) or "Broken pipe" in answer["error"]
    return _EXIT if died else None


def add_source_of_dead_letters() -> None:
    """Gap: a record that a mapping reads from a dead-letter queue has no ``DeadLetterQueueSourceArn``. AWS sets it."""

    @around(lambda_svc, "_run_sqs_batch", "(esm, func_rec, event, batch, queue_url, queue_name)")
    def run(plain: Callable[..., Any], esm: Any, func: Any, event: Any, batch: Any, *queue: Any) -> None:
        sources = {message["id"]: message.get("sys", {}).get("DeadLetterQueueSourceArn") for message in batch}
        for record in event["Records"]:
            if source := sources.get(record["messageId"]):
                record["attributes"]["DeadLetterQueueSourceArn"] = source
        plain(esm, func, event, batch, *queue)


def count_invocations() -> None:
    """Gap: only invocations through the API are counted, and a throttled one counts as an invocation.

    AWS also counts those of event source mappings and state machines, and counts a throttled one as throttled only.
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """

    @around(lambda_svc, "_execute_function_dispatch", "(func, config, event, request_id, started)")
    def dispatch(plain: Callable[..., Any], func: Any, config: Any, *rest: Any) -> dict[str, Any]:
        began = time.monotonic()
        result: dict[str, Any] = plain(func, config, *rest)
        function = {"FunctionName": config.get("FunctionName", "")}
        cloudwatch.record_metric("AWS/Lambda", "Invocations", 1, "Count", function)
        cloudwatch.record_metric("AWS/Lambda", "Errors", int(bool(result.get("error"))), "Count", function)
        milliseconds = 1000 * (time.monotonic() - began)
        cloudwatch.record_metric("AWS/Lambda", "Duration", milliseconds, "Milliseconds", function)
        return result

    @around(lambda_svc, "_emit_lambda_metrics", "(function_name, duration_ms, error, throttle)")
    def emit(_plain: Callable[..., Any], function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
        del error
        # The API reports a throttled invocation a second time, with a duration.
        if throttle and not duration_ms:
            cloudwatch.record_metric("AWS/Lambda", "Throttles", 1, "Count", {"FunctionName": function_name})


def count_concurrent_invocations() -> None:
    """Gap: the engine does not record how many invocations ran at once. AWS has the metric ``ConcurrentExecutions``.

    ``GET /_ministack/concurrency`` returns ``{"running": {function: n}, "peak": {function: n}}``, and
    ``/_ministack/concurrency/reset`` deletes the peaks.
    """
    lock = threading.Lock()
    peak: dict[str, int] = {}

    def running() -> dict[str, int]:
        return {key.rsplit(":", 1)[-1]: count for key, count in lambda_svc.executions_in_flight()[1].items()}

    @around(lambda_svc, "_acquire_execution_slot", "(func, config)")
    def acquire(plain: Callable[..., Any], *args: Any) -> Any:
        slot = plain(*args)
        with lock:
            for name, count in running().items():
                peak[name] = max(count, peak.get(name, 0))
        return slot

    @around(app, "_handle_ready_request", "(path, request_id)")
    def answer(plain: Callable[..., Any], path: str, request_id: str) -> Any:
        if not path.startswith("/_ministack/concurrency"):
            return plain(path, request_id)
        with lock:
            if path.endswith("/reset"):
                peak.clear()
            body = json.dumps({"running": running(), "peak": dict(peak)})
        return 200, {"Content-Type": "application/json"}, body.encode()
