"""Injects faults into the deployed application: into its network, its workers, its permissions and its limits.

``FaultInjector`` counts what it injected, so a run can check that its faults really happened.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evidence_sweep.app import RESERVED_FOR_REPORT_SECONDS
from local.environment import LocalStack
from local.workers import kill_workers
from proof.network import Network

FUNCTIONS = (
    "CircuitBreakerFunction",
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
_DONE = ".done"
_POLICY = "fault-injection"

#: Function, operation (``Any``: any), ``before`` or ``after``, one of ``WAYS``.
Crash = tuple[str, str, str, str]


class FaultInjector:
    """Injects faults into a deployed stack for the time of a ``with`` block.

    Args:
        local: The running stack.
        seed: Repeats the same random decisions.
        timeout_seconds: The functions' time-out, short enough for endless loops.
    """

    def __init__(self, local: LocalStack, *, seed: int | None = None, timeout_seconds: int = 15) -> None:
        self._local = local
        self._timeout = timeout_seconds
        self._planned = 0
        self._crashes = Path(tempfile.mkdtemp(prefix="crashes-", dir=local.engine.directory))
        self.network = Network(local.engine.endpoint, seed)
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self.network.__enter__()
        for function in FUNCTIONS:
            self._instrument(function)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, trace)

    # -- workers -------------------------------------------------------------------------------------------------

    def plan_crash(self, crash: Crash) -> None:
        """Crash the next worker of the function that makes the call."""
        self._planned += 1
        (self._crashes / ".".join([*crash, str(self._planned)])).touch()

    def cancel_crashes(self) -> None:
        """Cancel the planned crashes that have not happened yet."""
        for planned in self._crashes.iterdir():
            if planned.suffix != _DONE:
                planned.unlink(missing_ok=True)

    def crashes(self) -> Counter[Crash]:
        """The planned crashes that happened."""
        names = (done.name.split(".") for done in self._crashes.iterdir() if done.suffix == _DONE)
        return Counter((name[0], name[1], name[2], name[3]) for name in names)

    def kill(self, function: str) -> int:
        """Kill -9 every worker of a function. Returns how many there were."""
        killed = kill_workers(self._local.engine.pid, self._physical(function))
        self.killed[function] += killed
        return killed

    @property
    def dead_workers(self) -> int:
        """How many workers crashed or were killed."""
        return self.crashes().total() + self.killed.total()

    # -- the engine ----------------------------------------------------------------------------------------------

    def throttle(self, function: str, *, at: int | None = 0) -> None:
        """Set a function's reserved concurrency; ``None`` removes the limit."""
        functions, name = self._local.client("lambda"), self._physical(function)
        if at is None:
            functions.delete_function_concurrency(FunctionName=name)
        else:
            functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=at)

    def deny(self, role: str, action: str | None) -> None:
        """Deny a role of the stack an action; ``None`` allows everything again."""
        iam, name = self._local.client("iam"), self._physical(role)
        if action is None:
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                iam.delete_role_policy(RoleName=name, PolicyName=_POLICY)
            return
        statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=name, PolicyName=_POLICY, PolicyDocument=policy)

    def set_visibility_timeouts(self, seconds: int) -> None:
        """Set the visibility time-out of the buffer and the dead-letter queue."""
        for output in ("BufferQueueUrl", "DeadLetterQueueUrl"):
            self._local.client("sqs").set_queue_attributes(
                QueueUrl=self._local.outputs[output], Attributes={"VisibilityTimeout": str(seconds)}
            )

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        """Invoke a function and return its answer."""
        answer = self._local.client("lambda").invoke(
            FunctionName=self._physical(function), Payload=json.dumps(event).encode()
        )
        return json.load(answer["Payload"])

    def _physical(self, logical: str) -> str:
        return self._local.stack.resources[logical]

    def _instrument(self, function: str) -> None:
        """Send a function's AWS calls through the proxy, and load ``inside/sitecustomize.py`` into its workers."""
        functions, name = self._local.client("lambda"), self._physical(function)
        variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        variables |= {
            "AWS_ENDPOINT_URL": self.network.url,
            "AWS_SDK_UA_APP_ID": function,
            "PYTHONPATH": str(INSIDE),
            "FAULT_FUNCTION": function,
            "FAULT_CRASHES": str(self._crashes),
        }
        # The sweep begins with no event in its last seconds, which would be all of the short time-out.
        timeout = self._timeout + (RESERVED_FOR_REPORT_SECONDS if function == "EvidenceSweepFunction" else 0)
        functions.update_function_configuration(
            FunctionName=name, Timeout=int(timeout), Environment={"Variables": variables}
        )
        functions.get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
