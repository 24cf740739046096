"""Runs a function of the built artifact without Docker, in AWS's runtime interface emulator (RIE).

``sam local invoke`` runs the same two programs in its container: the RIE, which is part of SAM CLI, and AWS's runtime
client ``awslambdaric``. The function gets Lambda's context and time-out, and its errors are reported as in Lambda. It
runs with this machine's Python and the credentials of its role.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local.engine import HOST, client_environment, free_port
from local.errors import LocalError
from local.eventually import NotReachedError, eventually
from local.stack import code_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.stack import Stack

INVOCATIONS = "/2015-03-31/functions/function/invocations"
START_SECONDS = 10
STOP_SECONDS = 5
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function and its artifact.

    Attributes:
        code: The folder of its artifact.
        variables: Its environment, with the credentials of its role.
        timeout: Seconds.
        memory: MB.
    """

    name: str
    handler: str
    code: Path
    variables: Mapping[str, str]
    timeout: int
    memory: int

    @classmethod
    def of(cls, stack: Stack, logical_id: str, built: Path) -> Function:
        """The deployed function with this logical id, and its artifact beside the built template.

        Raises:
            LocalError: The stack has no such function.
        """
        functions = sorted(name for name in stack.resources if name.endswith("Function"))
        if logical_id not in functions:
            raise LocalError(f"The stack has no function '{logical_id}'. Its functions: {', '.join(functions)}")
        name = stack.resources[logical_id]
        config = stack.client("lambda").get_function_configuration(FunctionName=name)
        role = stack.client("sts").assume_role(RoleArn=config["Role"], RoleSessionName="invoke")["Credentials"]
        credentials = {
            "AWS_ACCESS_KEY_ID": role["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": role["SecretAccessKey"],
            "AWS_SESSION_TOKEN": role["SessionToken"],
        }
        return cls(
            name=config["FunctionName"],
            handler=config["Handler"],
            code=code_folder(built, logical_id),
            variables=client_environment(stack.endpoint) | credentials | config["Environment"]["Variables"],
            timeout=config["Timeout"],
            memory=config["MemorySize"],
        )


class Emulator:
    """One execution environment of a function, for the length of a ``with`` block. The first call is a cold start."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="holdfast-", ignore_cleanup_errors=True)
        self._log = Path(self._directory.name) / "log"
        self._port = free_port()

    def __enter__(self) -> Self:
        address = ["--runtime-interface-emulator-address", f"{HOST}:{self._port}"]
        runtime_api = ["--runtime-api-address", f"{HOST}:{free_port()}"]
        runtime = [sys.executable, "-m", "awslambdaric", self._function.handler]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(_program()), *address, *runtime_api, "--log-level", "error", *runtime],
                cwd=self._function.code,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.send_signal(signal.SIGTERM)  # it also ends its runtime
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._directory.cleanup()

    @property
    def log(self) -> str:
        """The function's log with Lambda's START and REPORT lines."""
        return self._log.read_text(errors="replace")

    def invoke(self, event: bytes) -> Any:
        """Invoke the function and return its result, or ``{"errorType", "errorMessage", …}`` as Lambda reports it.

        Raises:
            LocalError: The emulator did not start.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def answer() -> bytes | None:
            if self._process and self._process.poll() is not None:
                raise NotReachedError
            try:
                with opener.open(f"http://{HOST}:{self._port}{INVOCATIONS}", data=event) as response:
                    content: bytes = response.read()
                    return content
            except urllib.error.URLError:
                return None

        try:
            return _payload(eventually(answer, "the emulator accepts an event", START_SECONDS, every=0.02))
        except NotReachedError:
            raise LocalError(f"The Lambda emulator did not start. Its log:\n{self.log}") from None

    def _environment(self) -> dict[str, str]:
        """The function's own variables, and from this machine only what every program needs."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self._function.code),
            "LAMBDA_TASK_ROOT": str(self._function.code),
            "AWS_LAMBDA_FUNCTION_NAME": self._function.name,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self._function.timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._function.memory),
            **self._function.variables,
        }


def _payload(answer: bytes) -> Any:
    """The response as JSON. The emulator reports a time-out as plain text."""
    try:
        return json.loads(answer)
    except ValueError:
        return {"errorType": "Sandbox.Timedout", "errorMessage": answer.decode(errors="replace")}


def _program() -> Path:
    """The emulator's program, which is part of SAM CLI.

    Raises:
        LocalError: SAM CLI has none for this machine.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or architecture is None:
        raise LocalError(
            "AWS's Lambda emulator runs on Linux (x86-64 or ARM) only. Invoke the function on the local stack "
            "instead: . .local/env && sam remote invoke <function> --event-file <event>"
        )
    samcli = find_spec("samcli")
    if samcli is None or samcli.origin is None:
        raise LocalError("SAM CLI is not installed in this environment: run make setup")
    return Path(samcli.origin).parent / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
