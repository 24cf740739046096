"""The engine comes up alone, enforces IAM, and leaves nothing behind however its parent ends."""

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
from tests.integration.cloud import Cloud, eventually

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
    """A process that has an engine with a warm function; its first line names both processes and the directory."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
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

    assert eventually(lambda: not _runs(int(engine)) and not _runs(int(worker)))
    assert eventually(lambda: not Path(directory).exists())


def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LocalError, match=f"Port {port} of .* is taken: stop what listens there") as caught:
            Engine(port=port).start()
    assert "\n" not in str(caught.value)


def test_two_engines_share_nothing() -> None:
    with Engine() as one, Engine() as two:
        url = one.client("sqs").create_queue(QueueName="mine")["QueueUrl"]
        assert one.endpoint in url
        assert not two.client("sqs").list_queues().get("QueueUrls")


def test_stopping_removes_what_the_engine_wrote_and_frees_its_port() -> None:
    with Engine() as engine:
        engine.client("s3").create_bucket(Bucket="bucket")
        engine.client("s3").put_object(Bucket="bucket", Key="k", Body=b"x")
        directory, endpoint = engine.directory, engine.endpoint
        assert engine.log.exists()
    assert not directory.exists()
    assert not is_up(endpoint)
    engine.stop()  # once more does nothing


def test_a_function_may_do_only_what_its_role_allows(bridged: Cloud) -> None:
    url, _ = bridged.queue()
    body = f"boto3.client('sqs').send_message(QueueUrl={url!r}, MessageBody='x')\nreturn 'sent'"
    allowed = bridged.function(body, role=bridged.role(("sqs:SendMessage",)))
    denied = bridged.function(body, role=bridged.role(("sqs:ReceiveMessage",)))

    assert _invoke(bridged, allowed) == '"sent"'
    assert "not authorized to perform: sqs:SendMessage" in _invoke(bridged, denied)


def test_an_unknown_key_is_refused(bridged: Cloud) -> None:
    outside = subprocess.run(
        [sys.executable, "-c", "import boto3; boto3.client('sqs').list_queues()"],
        check=False,
        env={**os.environ, **bridged.engine.environment(), "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"},
        capture_output=True,
        text=True,
    )
    assert "security token included in the request is invalid" in outside.stderr


def test_functions_see_neither_the_project_nor_this_shell(bridged: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    function = bridged.function(
        "return [os.environ.get('AWS_PROFILE'), os.environ.get('PYTHONPATH'), os.path.exists('local')]"
    )
    assert _invoke(bridged, function) == "[null, null, false]"


def test_peak_concurrency_counts_invocations_that_overlap(bridged: Cloud) -> None:
    function = bridged.function("time.sleep(1)")
    bridged.engine.reset_concurrency()
    for _ in range(3):
        bridged.client("lambda").invoke(FunctionName=function, InvocationType="Event")

    assert eventually(lambda: bridged.engine.concurrency()["running"].get(function) == 3)
    assert eventually(lambda: function not in bridged.engine.concurrency()["running"])
    assert bridged.engine.concurrency()["peak"][function] == 3


def test_a_function_that_takes_too_long_is_a_sandbox_timeout(bridged: Cloud) -> None:
    start = time.monotonic()
    assert '"Sandbox.Timedout"' in _invoke(bridged, bridged.function("time.sleep(30)", timeout=1))
    assert time.monotonic() - start < 10


def test_the_engine_answers_with_aws_errors(bridged: Cloud) -> None:
    with pytest.raises(ClientError, match="TaskDoesNotExist"):
        bridged.client("stepfunctions").send_task_success(taskToken="none", output="{}")


def _invoke(cloud: Cloud, function: str) -> str:
    payload: str = cloud.client("lambda").invoke(FunctionName=function)["Payload"].read().decode()
    return payload


def _runs(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent to ask is over."""
    if not exists(pid):
        return False
    ask = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(ask, check=False, capture_output=True, text=True)  # noqa: S603
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")
