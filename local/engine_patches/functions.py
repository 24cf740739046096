"""Bridges in Lambda and in the mapping from SQS."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

_DIED = ("Worker process died", "Worker returned no response", "Worker process exited immediately")
_LEAVE_CLASS_NAME = '"error": str(e), "trace": traceback.format_exc()'
_ADD_CLASS_NAME = '"errorType": type(e).__name__, ' + _LEAVE_CLASS_NAME


class _Message(str):
    """An error's text that remembers the class it had inside the function."""

    __slots__ = ("error_type", "trace")
    error_type: str
    trace: list[str]


def name_errors_by_their_class() -> None:
    """Gap: every exception of a function is a ``Runtime.HandlerError``, a dead worker too.

    AWS answers with the exception's class name as ``errorType``, which is what ``ErrorEquals`` is compared with, and
    with ``Runtime.ExitError`` when the process ended. (``Sandbox.Timedout`` the engine says itself.)
    """
    if _LEAVE_CLASS_NAME not in lambda_runtime._PYTHON_WORKER_SCRIPT:
        raise AttributeError("The engine's worker reports errors in another way now: look at this bridge.")
    lambda_runtime._PYTHON_WORKER_SCRIPT = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(
        _LEAVE_CLASS_NAME, _ADD_CLASS_NAME
    )

    @around(lambda_runtime.Worker, "invoke")
    def invoke(plain: Callable[..., Any], worker: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        answer: dict[str, Any] = plain(worker, *args, **kwargs)
        if answer.get("status") == "error" and (name := _error_type(answer)):
            message = _Message(answer["error"])
            message.error_type = name
            message.trace = answer.get("trace", "").splitlines()
            answer["error"] = message
        return answer

    @around(lambda_svc, "_execute_function_warm")
    def execute(plain: Callable[..., Any], func: Any, event: Any, request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = plain(func, event, request_id)
        body = result.get("body")
        if not result.get("error") or not isinstance(body, dict):
            return result
        message = body.get("errorMessage", "")
        if isinstance(message, _Message):
            result["body"] = {
                "errorMessage": str(message),
                "errorType": message.error_type,
                "requestId": request_id,
                "stackTrace": message.trace,
            }
        elif message.startswith(_DIED):  # it died while it was starting
            body["errorType"] = "Runtime.ExitError"
        return result


def _error_type(answer: dict[str, Any]) -> str | None:
    """The errorType that AWS would give, or None where the engine finds it itself."""
    if "errorType" in answer:
        return str(answer["errorType"])
    died = answer["error"].startswith(_DIED) or "Broken pipe" in answer["error"]
    return "Runtime.ExitError" if died else None


def tell_source_queue_of_dead_letters() -> None:
    """Gap: a record that a mapping reads from a dead-letter queue lacks ``DeadLetterQueueSourceArn``; AWS has it."""

    @around(lambda_svc, "_run_sqs_batch")
    def run(plain: Callable[..., Any], esm: Any, func: Any, event: Any, batch: Any, *queue: Any) -> None:
        sources = {message["id"]: message.get("sys", {}).get("DeadLetterQueueSourceArn") for message in batch}
        for record in event["Records"]:
            if source := sources.get(record["messageId"]):
                record["attributes"]["DeadLetterQueueSourceArn"] = source
        plain(esm, func, event, batch, *queue)


def count_concurrent_invocations() -> None:
    """Gap: the most invocations that ran at once cannot be asked for; AWS has the metric ``ConcurrentExecutions``.

    ``GET /_ministack/concurrency`` answers ``{"running": {function: n}, "peak": {function: n}}``, and
    ``/_ministack/concurrency/reset`` forgets the peaks.
    """
    lock = threading.Lock()
    peak: dict[str, int] = {}

    def running() -> dict[str, int]:
        return {key.rsplit(":", 1)[-1]: count for key, count in lambda_svc.executions_in_flight()[1].items()}

    @around(lambda_svc, "_acquire_execution_slot")
    def acquire(plain: Callable[..., Any], *args: Any) -> Any:
        slot = plain(*args)
        with lock:
            for name, count in running().items():
                peak[name] = max(count, peak.get(name, 0))
        return slot

    @around(app, "_handle_ready_request")
    def answer(plain: Callable[..., Any], path: str, request_id: str) -> Any:
        if not path.startswith("/_ministack/concurrency"):
            return plain(path, request_id)
        with lock:
            if path.endswith("/reset"):
                peak.clear()
            body = json.dumps({"running": running(), "peak": dict(peak)})
        return 200, {"Content-Type": "application/json"}, body.encode()
