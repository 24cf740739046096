"""The whole application on this machine: the engine, the Genesys stand-in, the real build and the real deployment."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from local.engine import ROOT, Engine
from local.errors import LocalError
from local.genesys import GenesysStandIn
from local.stack import BIN, Stack, build, deploy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

STACK_NAME = "holdfast"
OLDEST_PYTHON = (3, 11)
GENESYS_SECRET = "genesys-credentials"  # noqa: S105 - a name
#: Parameters with which a failing event becomes a dead letter within seconds.
SHORT_WAITS = {"BatchWindowSeconds": "1", "BackoffBaseSeconds": "1", "BackoffCapSeconds": "1"}


class LocalStack:
    """The deployed application, for the length of a ``with`` block. Nothing is left when it ends.

    Args:
        parameters: Values of the template's parameters on top of those that point it to the Genesys stand-in.
        wait_scale: Factor on the waits of the state machines.
        callback_floor_seconds: A callback's time-out is not scaled below this.
        port: The engine's port; by default a free one.
        root: The folder with ``template.yaml``.
        built: A built template from ``local.stack.build``; by default it is built here.
        genesys: A Genesys stand-in with other settings, not started yet.
        directory: Where logs and build go; by default a temporary directory that is removed.
        say: Called with a line of text for each step.

    Attributes:
        engine: The running engine.
        genesys: The running stand-in.
        built: The built template, for other stacks of it.
        stack: The deployed stack.
        seconds: How long each step took.
    """

    stack: Stack

    def __init__(  # noqa: PLR0913 - keyword-only, each with a default
        self,
        *,
        parameters: Mapping[str, str] | None = None,
        wait_scale: float = 1.0,
        callback_floor_seconds: float = 20.0,
        port: int | None = None,
        root: Path = ROOT,
        built: Path | None = None,
        genesys: GenesysStandIn | None = None,
        directory: Path | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._parameters = dict(parameters or {})
        self._root = root
        self.built = built
        self._say = say
        self._exit = contextlib.ExitStack()
        self.engine = Engine(
            port=port,
            wait_scale=wait_scale,
            callback_floor_seconds=callback_floor_seconds,
            directory=directory,
        )
        self.genesys = genesys or GenesysStandIn()
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            starting.callback(_end_on_sigterm())
            check_prerequisites(self._root)
            self._step("engine", "Starting the local AWS engine", lambda: starting.enter_context(self.engine))
            starting.enter_context(self.genesys)
            built = self.built or self._step("build", "Building with sam build", self._build)
            self.stack = self._step("deploy", "Deploying with sam deploy", lambda: self._deploy(built))
            self._exit = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return self.stack.outputs

    def client(self, service: str) -> Any:
        """A boto3 client of the account's root user."""
        return self.engine.client(service)

    def update(self, parameters: Mapping[str, str]) -> None:
        """Deploy again with these parameters changed."""
        self._parameters |= parameters
        self.stack = self._deploy(self.built or self._build())

    def _build(self) -> Path:
        self.built = build(self._root, self.engine.directory)
        return self.built

    def _deploy(self, built: Path) -> Stack:
        parameters = self._genesys_parameters() | self._parameters
        return deploy(self.engine.endpoint, built, STACK_NAME, parameters)

    def _genesys_parameters(self) -> dict[str, str]:
        secrets = self.engine.client("secretsmanager")
        with contextlib.suppress(secrets.exceptions.ResourceExistsException):
            secrets.create_secret(Name=GENESYS_SECRET, SecretString=self.genesys.credentials)
        return {
            "GenesysApiUrl": self.genesys.url,
            "GenesysLoginUrl": self.genesys.url,
            "GenesysCredentialsSecretArn": secrets.describe_secret(SecretId=GENESYS_SECRET)["ARN"],
        }

    def _step(self, name: str, text: str, action: Callable[[], Any]) -> Any:
        self._say(f"{text} ...")
        start = time.monotonic()
        result = action()
        self.seconds[name] = round(time.monotonic() - start, 1)
        return result


def check_prerequisites(root: Path = ROOT) -> None:
    """Check the requirements of a local run.

    Raises:
        LocalError: Something is missing. The message has one line for each, with what to do.
    """
    missing = []
    if sys.version_info < OLDEST_PYTHON:
        missing.append("Python 3.11 or newer is needed: make PYTHON=python3.11 setup")
    missing += [f"{tool} is not in {BIN}: run make setup" for tool in ("sam", "uv") if not (BIN / tool).exists()]
    if not (root / "template.yaml").exists():
        missing.append(f"There is no template.yaml in {root}: run this from a complete checkout")
    if missing:
        raise LocalError("\n".join(missing))


def _end_on_sigterm() -> Callable[[], Any]:
    """Let SIGTERM raise SystemExit, so that the stack ends in order. Returns a function that undoes this."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return lambda: signal.signal(signal.SIGTERM, before)
