"""The engine enforces IAM, isolates functions, and leaves nothing behind however its parent ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from local.background import exists
from local.engine import HOST, ROOT, Engine, is_up
from local.errors import LocalError
from local.eventually import eventually
from tests.integration.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = """
import time
from local.engine import Engine
from tests.integration.cloud import Cloud
engine = Engine()
engine.start()
cloud = Cloud(engine)
function = cloud.function("return os.getpid()")
worker = cloud.client("lambda").invoke(FunctionName=function)["Payload"].read().decode()
print(engine.pid, worker, engine.directory, flush=True)
time.sleep(60)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process with an engine and a warm function. Its first line names both processes and the directory."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own command
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_engine_and_functions_end_with_their_parent(parent: subprocess.Popen[str], how: signal.Signals) -> None:
    assert parent.stdout
    engine, worker, directory = parent.stdout.readline().split()
    assert exists(int(engine))
    assert exists(int(worker))

    os.kill(parent.pid, how)
    parent.wait()

    eventually(lambda: not _runs(int(engine)) and not _runs(int(worker)), "both processes have ended", 10)
    left = Path(directory)
    eventually(lambda: not list(left.parent.glob(f"{left.name}*")), "the directory is removed", 10)


def test_a_stopped_engine_leaves_no_files() -> None:
    with Engine() as engine:
        directory = engine.directory
    time.sleep(0.5)  # a process that removes files would be seen by now
    assert not list(directory.parent.glob(f"{directory.name}*"))


def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LocalError, match=f"Port {port} of .* is in use. Stop the process") as caught:
            Engine(port=port).start()
    assert "\n" not in str(caught.value)


def test_two_engines_share_nothing() -> None:
    with Engine() as one, Engine() as two:
        url = one.client("sqs").create_queue(QueueName="mine")["QueueUrl"]
        assert one.endpoint in url
        assert not two.client("sqs").list_queues().get("QueueUrls")


def test_stop_removes_the_files_and_frees_the_port() -> None:
    with Engine() as engine:
        engine.client("s3").create_bucket(Bucket="bucket")
        engine.client("s3").put_object(Bucket="bucket", Key="k", Body=b"x")
        directory, endpoint = engine.directory, engine.endpoint
        assert engine.log.exists()
    assert not directory.exists()
    assert not is_up(endpoint)
    engine.stop()  # a second time does nothing


def test_a_function_may_do_only_what_its_role_allows(patched: Cloud) -> None:
    url, _ = patched.queue()
    body = f"boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody='x')\nreturn 'sent'"
    allowed = patched.function(body, role=patched.role(("sqs:SendMessage",)))
    denied = patched.function(body, role=patched.role(("sqs:ReceiveMessage",)))

    assert _invoke(patched, allowed) == '"sent"'
    assert "not authorized to perform: sqs:SendMessage" in _invoke(patched, denied)


def test_an_unknown_key_is_refused(patched: Cloud) -> None:
    outside = subprocess.run(
        [sys.executable, "-c", "import boto3; boto3.client('sqs').list_queues()"],
        check=False,
        env={**os.environ, **patched.engine.environment(), "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"},
        capture_output=True,
        text=True,
    )
    assert "security token included in the request is invalid" in outside.stderr


def test_a_function_inherits_neither_the_project_nor_this_shell(
    patched: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ("iam", "lambda"):
        patched.client(service)  # this process could not make one with a profile that does not exist
    monkeypatch.setenv("AWS_PROFILE", "production")
    function = patched.function(
        "return [os.environ.get('AWS_PROFILE'), os.environ.get('PYTHONPATH'), os.path.exists('local')]"
    )
    assert _invoke(patched, function) == "[null, null, false]"


def test_peak_concurrency_counts_invocations_that_overlap(patched: Cloud) -> None:
    function = patched.function("time.sleep(1)")
    patched.engine.reset_concurrency()
    for _ in range(3):
        patched.client("lambda").invoke(FunctionName=function, InvocationType="Event")

    def running() -> int | None:
        return patched.engine.concurrency()["running"].get(function)

    eventually(lambda: running() == 3, "three invocations run", 10)
    eventually(lambda: running() is None, "the invocations have ended", 10)
    assert patched.engine.concurrency()["peak"][function] == 3


def test_a_function_that_exceeds_its_timeout_is_a_sandbox_timeout(patched: Cloud) -> None:
    start = time.monotonic()
    assert '"Sandbox.Timedout"' in _invoke(patched, patched.function("time.sleep(30)", timeout=1))
    assert time.monotonic() - start < 10


def test_the_engine_returns_the_errors_of_aws(patched: Cloud) -> None:
    with pytest.raises(ClientError, match="TaskDoesNotExist"):
        patched.client("stepfunctions").send_task_success(taskToken="none", output="{}")


def _invoke(cloud: Cloud, function: str) -> str:
    payload: str = cloud.client("lambda").invoke(FunctionName=function)["Payload"].read().decode()
    return payload


def _runs(pid: int) -> bool:
    """Whether the process runs. A zombie does not."""
    if not exists(pid):
        return False
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own command
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")
