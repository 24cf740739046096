"""The deployed application in the hands of a saboteur: the network around its functions, the workers inside them.

``Saboteur`` puts itself between every function and AWS and into every worker. Everything it does can be asked for
afterwards: a fault that never hit proves nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.environment import LocalStack
from proof.network import Network

FUNCTIONS = (
    "ProcessorFunction",
    "FanOutFunction",
    "DeadLetterIntakeFunction",
    "ClassifyFunction",
    "RedriveFunction",
    "ArchiveFunction",
    "SettleFunction",
    "EvidenceSweepFunction",
    "ReplayFunction",
)
WAYS = ("exit", "kill", "memory", "loop")
INSIDE = Path(__file__).parent / "inside"
_TAKEN = ".taken"


class Saboteur:
    """Everything that can be done to a deployed stack; leaving the ``with`` block stops doing it.

    Args:
        local: The running stack.
        seed: Makes the same draws again.
        timeout_seconds: The functions' time-out here, so that an endless loop does not take minutes.
    """

    def __init__(self, local: LocalStack, *, seed: int | None = None, timeout_seconds: int = 15) -> None:
        self._local = local
        self._timeout = timeout_seconds
        self._numbers = 0
        self._orders = Path(tempfile.mkdtemp(prefix="orders-", dir=local.engine.directory))
        self.network = Network(local.engine.endpoint, seed)
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self.network.__enter__()
        for function in FUNCTIONS:
            self._infiltrate(function)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, trace)

    # -- workers -------------------------------------------------------------------------------------------------

    def order(self, function: str, operation: str, moment: str, way: str) -> None:
        """Let the next worker of a function die before or after its next call of an operation (``Any``: of any)."""
        self._numbers += 1
        (self._orders / f"{function}.{operation}.{moment}.{way}.{self._numbers}").touch()

    def withdraw(self) -> None:
        """Take back what nobody has taken."""
        for order in self._orders.iterdir():
            if order.suffix != _TAKEN:
                order.unlink(missing_ok=True)

    def taken(self) -> Counter[tuple[str, str, str, str]]:
        """The orders that were carried out: function, operation, moment, way."""
        names = (order.name.split(".") for order in self._orders.iterdir() if order.suffix == _TAKEN)
        return Counter((name[0], name[1], name[2], name[3]) for name in names)

    def kill(self, function: str) -> int:
        """Kill -9 every worker of a function from outside, whatever it is doing; answers how many there were."""
        killed = kill_workers(self._local.engine.pid, self._physical(function))
        self.killed[function] += killed
        return killed

    # -- the engine ----------------------------------------------------------------------------------------------

    def throttle(self, function: str, *, at: int | None = 0) -> None:
        """Let a function run this often at once; ``None`` takes the limit off."""
        functions, name = self._local.client("lambda"), self._physical(function)
        if at is None:
            functions.delete_function_concurrency(FunctionName=name)
        else:
            functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=at)

    def deny(self, role: str, action: str | None) -> None:
        """Take a permission away from a role of the stack; ``None`` gives everything back."""
        iam, name = self._local.client("iam"), self._physical(role)
        if action is None:
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                iam.delete_role_policy(RoleName=name, PolicyName="taken-away")
            return
        statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=name, PolicyName="taken-away", PolicyDocument=policy)

    def set_visibility_timeouts(self, seconds: int) -> None:
        """How soon messages come again whose worker never answered."""
        for output in ("BufferQueueUrl", "DeadLetterQueueUrl"):
            self._local.client("sqs").set_queue_attributes(
                QueueUrl=self._local.outputs[output], Attributes={"VisibilityTimeout": str(seconds)}
            )

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function; answers what it answered."""
        answer = self._local.client("lambda").invoke(
            FunctionName=self._physical(function), Payload=json.dumps(event).encode()
        )
        return json.load(answer["Payload"])

    # -- helpers -------------------------------------------------------------------------------------------------

    def _physical(self, logical: str) -> str:
        return self._local.stack.resources[logical]

    def _infiltrate(self, function: str) -> None:
        functions, name = self._local.client("lambda"), self._physical(function)
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        variables |= {
            "AWS_ENDPOINT_URL": self.network.url,
            "AWS_SDK_UA_APP_ID": function,
            "PYTHONPATH": str(INSIDE),
            "SABOTAGE_FUNCTION": function,
            "SABOTAGE_ORDERS": str(self._orders),
        }
        functions.update_function_configuration(
            FunctionName=name, Timeout=self._timeout, Environment={"Variables": variables}
        )
        functions.get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )


def kill_workers(engine_pid: int, function_name: str) -> int:
    """Kill -9 every worker that an engine runs for a function; the engine names them by the folder they run in."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    workers = [
        int(row[0]) for row in rows if row[1] == str(engine_pid) and f"ministack-lambda-{function_name}-" in row[-1]
    ]
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    return len(workers)
