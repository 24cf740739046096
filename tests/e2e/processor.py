"""The deployed processor as a saboteur sees it: what can be changed, held, frozen and killed, and put back."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from proof.fault_injector import kill_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.pipeline import Pipeline

STORE = "BatchExecuteStatement"


class Processor:
    """Changes to the deployed processor and its queue; ``restore`` takes all of them back, the last one first."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.name = pipeline.outputs["ProcessorFunctionName"]
        self.queue = pipeline.outputs["BufferQueueUrl"]
        self._began = int(time.time() * 1000)
        self._undo = contextlib.ExitStack()

    def restore(self) -> None:
        self._undo.close()

    def clear(self) -> None:
        """Drop whatever is in flight: messages, executions and the evidence they work on."""
        workflows, bucket = self.pipeline.client("stepfunctions"), self.pipeline.outputs["ArchiveBucketName"]
        for output in ("BufferQueueUrl", "DeadLetterQueueUrl"):
            self.pipeline.client("sqs").purge_queue(QueueUrl=self.pipeline.outputs[output])
        for execution in self._running():
            workflows.stop_execution(executionArn=execution["executionArn"])
        for key in self.pipeline.objects("dead-letters/"):
            self.pipeline.client("s3").delete_object(Bucket=bucket, Key=key)

    # -- changes -------------------------------------------------------------------------------------------------

    def configure(self, *, timeout: int | None = None, **variables: str) -> None:
        """Change the function; as on AWS, its next invocation finds a new execution environment."""
        before = self._lambda.get_function_configuration(FunctionName=self.name)
        environment = before["Environment"]["Variables"]
        self._undo.callback(self._update, before["Timeout"], environment)
        self._update(timeout or before["Timeout"], environment | variables)

    def run_alone(self) -> None:
        """From here on one new execution environment does all the work."""
        self._undo.callback(self._lambda.delete_function_concurrency, FunctionName=self.name)
        self._lambda.put_function_concurrency(FunctionName=self.name, ReservedConcurrentExecutions=1)
        self.configure()

    def set_visibility_timeout(self, seconds: int) -> None:
        """How soon messages come again whose worker never answered."""
        sqs = self.pipeline.client("sqs")
        asked = {"QueueUrl": self.queue, "AttributeNames": ["VisibilityTimeout"]}
        before = sqs.get_queue_attributes(**asked)["Attributes"]
        self._undo.callback(sqs.set_queue_attributes, QueueUrl=self.queue, Attributes=before)
        sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"VisibilityTimeout": str(seconds)})

    def set_batch_size(self, size: int) -> None:
        mapping = self._mapping()
        change = self._lambda.update_event_source_mapping
        self._undo.callback(change, UUID=mapping["UUID"], BatchSize=mapping["BatchSize"])
        change(UUID=mapping["UUID"], BatchSize=size)

    def deny(self, role: str, action: str, resource: str) -> None:
        """Take a permission away from a role of the stack."""
        iam, name = self.pipeline.client("iam"), self.pipeline.stack.stack.resources[role]
        document = {"Effect": "Deny", "Action": action, "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [document]})
        self._undo.callback(iam.delete_role_policy, RoleName=name, PolicyName="taken-away")
        iam.put_role_policy(RoleName=name, PolicyName="taken-away", PolicyDocument=policy)

    def scale_waits(self, scale: float, usual: float) -> None:
        """Let the state machines wait another fraction of their time than the rest of the session does."""
        self._undo.callback(self._engine, "config", {"stepfunctions._SFN_WAIT_SCALE": usual})
        self._engine("config", {"stepfunctions._SFN_WAIT_SCALE": scale})

    def empty_the_queue_at_the_end(self) -> None:
        self._undo.callback(self.pipeline.client("sqs").purge_queue, QueueUrl=self.queue)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is enqueued inside is received together."""
        mapping = self._mapping()["UUID"]
        self._lambda.update_event_source_mapping(UUID=mapping, Enabled=False)
        try:
            yield
        finally:
            self._lambda.update_event_source_mapping(UUID=mapping, Enabled=True)

    def tap(self, on_store: Callable[[Callable[[], bytes], list[dict[str, Any]]], bytes | None]) -> None:
        """Let ``on_store(forward, statements)`` decide what becomes of each call that stores events.

        What it answers is what the processor gets; ``None`` closes the connection.
        """
        proxy = self._undo.enter_context(_tapped(self.pipeline.stack.engine.endpoint, on_store))
        self.configure(AWS_ENDPOINT_URL_DYNAMODB=proxy)

    def kill(self) -> int:
        """Kill -9 every worker of the processor; answers how many there were."""
        return kill_workers(self.pipeline.stack.engine.pid, self.name)

    # -- what is seen --------------------------------------------------------------------------------------------

    def quiet(self) -> bool:
        """Nothing waits, nothing is worked on."""
        return not (self._running() or self.messages("BufferQueueUrl") or self.messages("DeadLetterQueueUrl"))

    def messages(self, output: str = "BufferQueueUrl") -> list[dict[str, Any]]:
        """Every message of a queue, visible or not."""
        asked = urlencode({"QueueUrl": self.pipeline.outputs[output]})
        accounts = self._engine(f"sqs/messages?{asked}")["messages"].values()
        queues = [queue for regions in accounts for found in regions.values() for queue in found.values()]
        return [message for queue in queues for message in queue]

    def logged(self) -> list[dict[str, Any]]:
        """The lines that the processor has logged since the test began."""
        group = self._lambda.get_function_configuration(FunctionName=self.name)["LoggingConfig"]["LogGroup"]
        pages = self.pipeline.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=group, startTime=self._began)
        lines = [line for page in found for event in page["events"] for line in event["message"].splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def batches(self) -> list[dict[str, Any]]:
        """The figures of the batches since the test began, as the dashboard gets them."""
        return [{name: _number(value) for name, value in line.items()} for line in self.logged() if "Received" in line]

    def total(self, figure: str) -> int:
        return sum(batch.get(figure, 0) for batch in self.batches())

    # -- helpers -------------------------------------------------------------------------------------------------

    def _running(self) -> list[dict[str, Any]]:
        machine = self.pipeline.outputs["TriageStateMachineArn"]
        workflows = self.pipeline.client("stepfunctions")
        found: list[dict[str, Any]] = workflows.list_executions(stateMachineArn=machine, statusFilter="RUNNING")[
            "executions"
        ]
        return found

    @property
    def _lambda(self) -> Any:
        return self.pipeline.client("lambda")

    def _mapping(self) -> dict[str, Any]:
        mapping: dict[str, Any]
        (mapping,) = self._lambda.list_event_source_mappings(FunctionName=self.name)["EventSourceMappings"]
        return mapping

    def _update(self, timeout: int, variables: dict[str, str]) -> None:
        self._lambda.update_function_configuration(
            FunctionName=self.name, Timeout=timeout, Environment={"Variables": variables}
        )
        self._lambda.get_waiter("function_updated_v2").wait(
            FunctionName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def _engine(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the engine itself."""
        url = f"{self.pipeline.stack.engine.endpoint}/_ministack/{path}"
        request = urllib.request.Request(url, data=json.dumps(body).encode() if body else None)  # noqa: S310 - the engine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)


def _number(value: Any) -> Any:
    """Metrics are logged as lists of values."""
    return sum(value) if isinstance(value, list) else value


@contextlib.contextmanager
def _tapped(endpoint: str, on_store: Callable[..., bytes | None]) -> Iterator[str]:
    """A way to DynamoDB on which each store can be held, cut or doubled; yields its URL."""
    target = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))

            def forward() -> bytes:
                connection = HTTPConnection(target.hostname or "", target.port, timeout=60)
                with contextlib.closing(connection):
                    connection.request("POST", self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    self.status = response.status
                    return response.read()

            self.status = 200
            stores = self.headers["X-Amz-Target"].endswith(STORE)
            answer = on_store(forward, json.loads(body)["Statements"]) if stores else forward()
            self.close_connection = True
            if answer is None:
                return
            with contextlib.suppress(OSError):  # whoever asked may be dead
                self.send_response(self.status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
