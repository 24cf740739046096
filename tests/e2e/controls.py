"""Changes to the deployed stack that a test makes and that are undone when it ends."""

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

from botocore.exceptions import ClientError

from local.mappings import changed_mapping
from local.workers import kill_workers
from tests.e2e.pipeline import WAIT_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.e2e.pipeline import Pipeline

    #: Takes ``forward`` and the statements of a store request; gives the answer.
    OnStore = Callable[[Callable[[], bytes], list[dict[str, Any]]], bytes | None]

STORE = "BatchExecuteStatement"
#: So short that a callback's time-out falls to the session's floor.
HURRIED_SCALE = 0.0005


class Controls:
    """Changes to the processor, the queues and the roles; ``restore`` undoes them, the last one first."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.processor = pipeline.outputs["ProcessorFunctionName"]
        self._lambda, self._sqs, self._iam = map(pipeline.client, ("lambda", "sqs", "iam"))
        self._began = int(time.time() * 1000)
        self._undo = contextlib.ExitStack()

    def restore(self) -> None:
        self._undo.close()

    def clear(self) -> None:
        """Drop what is in flight: messages, executions and their snapshots."""
        for output in ("BufferQueueUrl", "DeadLetterQueueUrl"):
            self._sqs.purge_queue(QueueUrl=self.pipeline.outputs[output])
        for arn in self._running():
            with contextlib.suppress(ClientError):  # it has ended since it was listed
                self.pipeline.client("stepfunctions").stop_execution(executionArn=arn)
        for key in self.pipeline.objects("dead-letters/"):
            self.pipeline.client("s3").delete_object(Bucket=self.pipeline.outputs["ArchiveBucketName"], Key=key)

    # -- changes -------------------------------------------------------------------------------------------------

    def configure(self, *, timeout: int | None = None, **variables: str) -> None:
        """Change the processor. As on AWS, new execution environments replace the old ones."""
        self._undo.enter_context(self.changed(self.processor, timeout=timeout, **variables))

    @contextlib.contextmanager
    def changed(self, function: str, *, timeout: int | None = None, **variables: str) -> Iterator[None]:
        before = self._lambda.get_function_configuration(FunctionName=function)
        environment = before["Environment"]["Variables"]
        self._update(function, timeout or before["Timeout"], environment | variables)
        try:
            yield
        finally:
            self._update(function, before["Timeout"], environment)

    def use_one_environment(self) -> None:
        """Let one new execution environment do all the work."""
        self._undo.callback(self._lambda.delete_function_concurrency, FunctionName=self.processor)
        self._lambda.put_function_concurrency(FunctionName=self.processor, ReservedConcurrentExecutions=1)
        self.configure()

    def set_queue(self, output: str = "BufferQueueUrl", **attributes: str) -> None:
        url = self.pipeline.outputs[output]
        before = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(attributes))["Attributes"]
        self._undo.callback(self._sqs.set_queue_attributes, QueueUrl=url, Attributes=before)
        self._sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def set_receives(self, count: int) -> None:
        """Let this many failed receives make a dead letter."""
        asked = {"QueueUrl": self.pipeline.outputs["DeadLetterQueueUrl"], "AttributeNames": ["QueueArn"]}
        arn = self._sqs.get_queue_attributes(**asked)["Attributes"]["QueueArn"]
        self.set_queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": count}))

    def set_batch_size(self, size: int) -> None:
        mapping, change = self._mapping(), self._lambda.update_event_source_mapping
        self._undo.callback(change, UUID=mapping["UUID"], BatchSize=mapping["BatchSize"])
        change(UUID=mapping["UUID"], BatchSize=size)

    def deny(self, role: str, action: str, resource: str) -> None:
        """Deny a role an action for the rest of the test."""
        self._undo.enter_context(self.denied(role, action, resource))

    @contextlib.contextmanager
    def denied(self, role: str, action: str, resource: str) -> Iterator[None]:
        policy = {"RoleName": self.pipeline.stack.resources[role], "PolicyName": "denied"}
        statement = {"Effect": "Deny", "Action": action, "Resource": resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._iam.put_role_policy(**policy, PolicyDocument=document)
        try:
            yield
        finally:
            self._iam.delete_role_policy(**policy)

    def scale_waits(self, scale: float = HURRIED_SCALE) -> None:
        """Scale the waits of the state machines by another factor than ``WAIT_SCALE``."""
        self._undo.callback(self._engine, "config", {"stepfunctions._SFN_WAIT_SCALE": WAIT_SCALE})
        self._engine("config", {"stepfunctions._SFN_WAIT_SCALE": scale})

    def purge_at_the_end(self) -> None:
        self._undo.callback(self._sqs.purge_queue, QueueUrl=self.pipeline.outputs["BufferQueueUrl"])

    def paused(self) -> AbstractContextManager[None]:
        """Pause processing. Up to ten messages that are sent inside are received as one batch."""
        return changed_mapping(self._lambda, self._mapping()["UUID"], enabled=False)

    def take_from_buffer(self) -> dict[str, Any]:
        """Receive one message from the buffer and delete it; empty if there is none."""
        url = self.pipeline.outputs["BufferQueueUrl"]
        answer = self._sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])
        message: dict[str, Any] = next(iter(answer.get("Messages", [])), {})
        if message:
            self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return message

    def intercept_stores(self, on_store: OnStore) -> None:
        """Let ``on_store`` answer each request that stores events; ``None`` closes the connection."""
        proxy = self._undo.enter_context(_proxy(self.pipeline.local.engine.endpoint, on_store))
        self.configure(AWS_ENDPOINT_URL_DYNAMODB=proxy)

    def kill(self) -> int:
        """Kill every worker of the processor. Returns how many there were."""
        return kill_workers(self.pipeline.local.engine.pid, self.processor)

    # -- observations --------------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Whether both queues are empty and no triage execution runs."""
        return not (self._running() or self.messages("BufferQueueUrl") or self.messages("DeadLetterQueueUrl"))

    def messages(self, output: str = "BufferQueueUrl") -> list[dict[str, Any]]:
        """Every message of a queue, visible or not."""
        asked = urlencode({"QueueUrl": self.pipeline.outputs[output]})
        accounts = self._engine(f"sqs/messages?{asked}")["messages"].values()
        queues = [queue for regions in accounts for found in regions.values() for queue in found.values()]
        return [message for queue in queues for message in queue]

    def logged(self) -> list[dict[str, Any]]:
        """What the processor has logged since the test began."""
        group = self._lambda.get_function_configuration(FunctionName=self.processor)["LoggingConfig"]["LogGroup"]
        pages = self.pipeline.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=group, startTime=self._began)
        lines = [line for page in found for event in page["events"] for line in event["message"].splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def batches(self) -> list[dict[str, Any]]:
        """The metrics of each batch since the test began."""
        return [{name: _number(value) for name, value in line.items()} for line in self.logged() if "Received" in line]

    def total(self, metric: str) -> int:
        return sum(batch.get(metric, 0) for batch in self.batches())

    # -- helpers -------------------------------------------------------------------------------------------------

    def _running(self) -> list[str]:
        workflows, machine = self.pipeline.client("stepfunctions"), self.pipeline.outputs["TriageStateMachineArn"]
        found = workflows.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]
        return [execution["executionArn"] for execution in found]

    def _mapping(self) -> dict[str, Any]:
        mapping: dict[str, Any]
        (mapping,) = self._lambda.list_event_source_mappings(FunctionName=self.processor)["EventSourceMappings"]
        return mapping

    def _update(self, name: str, timeout: int, variables: dict[str, str]) -> None:
        function = {"FunctionName": name}
        self._lambda.update_function_configuration(**function, Timeout=timeout, Environment={"Variables": variables})
        self._lambda.get_waiter("function_updated_v2").wait(**function, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    def _engine(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the engine's own API."""
        url = f"{self.pipeline.local.engine.endpoint}/_ministack/{path}"
        request = urllib.request.Request(url, data=json.dumps(body).encode() if body else None)  # noqa: S310 - the engine
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)


def _number(value: Any) -> Any:
    """Metrics are logged as lists of values."""
    return sum(value) if isinstance(value, list) else value


@contextlib.contextmanager
def _proxy(endpoint: str, on_store: OnStore) -> Iterator[str]:
    """A proxy in front of DynamoDB; yields its URL."""
    target = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep the test's output clean."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = 200

            def forward() -> bytes:
                nonlocal status
                connection = HTTPConnection(target.hostname or "", target.port, timeout=60)
                with contextlib.closing(connection):
                    connection.request("POST", self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    status = response.status
                    return response.read()

            stores = self.headers["X-Amz-Target"].endswith(STORE)
            answer = on_store(forward, json.loads(body)["Statements"]) if stores else forward()
            self.close_connection = True
            if answer is None:
                return
            with contextlib.suppress(OSError):  # the worker may have been killed
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
