"""Starts and stops the local AWS engine (ministack) as a child process, with IAM enforced and everything in memory.

The child ends with its Lambda workers when the pipe to its standard input closes. The operating system closes that pipe
however this process ends, so no process is left behind, even after SIGKILL.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from local.errors import LocalError
from local.eventually import NotReachedError, eventually

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT = "000000000000"
# With AUTH=true this is the engine's key of the account's root user.
ROOT_KEY = "test"
START_SECONDS = 30
LOG_LINES_SHOWN = 20


class Engine:
    """A local AWS, for the length of a ``with`` block.

    Args:
        port: The port to listen on; by default a free one.
        wait_scale: Factor on every Wait and retry pause of a state machine (``0.001`` turns an hour into 3.6 s).
        callback_floor_seconds: A callback's timeout is scaled too, but not below this.
        directory: Where log and scratch files go; by default a temporary directory that is removed at the end.
        patched: Whether the patches of ``local.engine_patches`` are installed. Tests compare with the plain engine.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        wait_scale: float = 1.0,
        callback_floor_seconds: float = 20.0,
        directory: Path | None = None,
        patched: bool = True,
    ) -> None:
        self._wanted_port = port
        self._wanted_directory = directory
        self._settings = {
            "SFN_WAIT_SCALE": str(wait_scale),
            "LOCAL_CALLBACK_FLOOR_SECONDS": str(callback_floor_seconds),
            "LOCAL_PATCHES": "on" if patched else "off",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self.port = 0
        self.directory = Path()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The URL of every AWS service."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The engine's log, with the functions' output."""
        return self.directory / "engine.log"

    @property
    def pid(self) -> int:
        """The engine's process id, 0 if it is not running."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the engine and return when it is ready.

        Raises:
            LocalError: The port is in use, or the engine did not start.
        """
        self.port = free_port(self._wanted_port)
        self.directory = self._wanted_directory or Path(tempfile.mkdtemp(prefix="holdfast-"))
        scratch = self.directory / "engine"
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch if self._wanted_directory else self.directory
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "local.engine_patches"],
                    cwd=ROOT,
                    env=_child_environment(self.port, scratch) | self._settings | {"LOCAL_SCRATCH": str(self._scratch)},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the engine and its Lambda workers, and remove its files. Does nothing if it is not running."""
        if self._process and self._process.stdin:
            # State is in memory, so nothing is shut down in order. The group is the engine's own. It ends before the
            # pipe closes, because it would remove its files itself then.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process = None
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The environment variables with which boto3 and sam use this engine as the account's root user."""
        return client_environment(self.endpoint)

    def client(self, service: str) -> Any:
        """A boto3 client of the account's root user."""
        return client(service, self.endpoint)

    def concurrency(self) -> dict[str, dict[str, int]]:
        """``{"running": {function: now}, "peak": {function: most at once since the last reset}}``."""
        return concurrency(self.endpoint)

    def reset_concurrency(self) -> None:
        """Delete the peaks."""
        concurrency(self.endpoint, reset=True)

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                raise NotReachedError
            return is_up(self.endpoint)

        try:
            eventually(ready, "the engine is up", START_SECONDS, every=0.05)
        except NotReachedError:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
            message = f"The local engine did not start on port {self.port}. The end of its log:\n{tail}"
            raise LocalError(message) from None


def client_environment(endpoint: str) -> dict[str, str]:
    """The environment variables with which boto3 and sam use the engine at this endpoint, and nothing else."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
        "SAM_CLI_TELEMETRY": "0",
    }


@functools.cache
def client(service: str, endpoint: str) -> Any:
    """A boto3 client of the account's root user for the engine at this endpoint. It is cached and thread-safe."""
    # TestState would otherwise go to a host name "sync-…" that does not exist here.
    config = Config(inject_host_prefix=False, proxies={}, retries={"mode": "standard"}, s3={"addressing_style": "path"})
    session: Any = boto3.session.Session(ROOT_KEY, ROOT_KEY, region_name=REGION)
    return session.client(service, endpoint_url=endpoint, config=config)


def concurrency(endpoint: str, *, reset: bool = False) -> dict[str, dict[str, int]]:
    """``Engine.concurrency`` for another process, which only has the endpoint."""
    path = "/_ministack/concurrency/reset" if reset else "/_ministack/concurrency"
    with _opener().open(endpoint + path, timeout=5) as answer:
        counts: dict[str, dict[str, int]] = json.load(answer)
    return counts


def is_up(endpoint: str) -> bool:
    """Whether an engine is ready at this endpoint."""
    try:
        with _opener().open(f"{endpoint}/_ministack/ready", timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _child_environment(port: int, scratch: Path) -> dict[str, str]:
    """A clean environment. Functions inherit it and must not use this machine's Python path or AWS profile."""
    inherited = {name: value for name, value in os.environ.items() if name in {"LANG", "LC_ALL", "TZ"}}
    return inherited | {
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "BIND_HOST": HOST,
        "DOCKER_HOST": f"unix://{scratch}/no-docker",
        "GATEWAY_PORT": str(port),
        "HOME": str(scratch),
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_HOST": HOST,
        "MINISTACK_REGION": REGION,
        # The workers run the first python3 on this path. Like AWS's runtime it has boto3.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "S3_DATA_DIR": str(scratch / "s3"),
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(scratch / "state"),
        "TMPDIR": str(scratch),
    }


def free_port(wanted: int | None = None) -> int:
    """A free port of this machine: the wanted one, or any.

    Raises:
        LocalError: The wanted port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as err:
            raise LocalError(
                f"Port {wanted} of {HOST} is in use. Stop the process that uses it, or choose another port."
            ) from err
        port: int = probe.getsockname()[1]
    return port


def _opener() -> urllib.request.OpenerDirector:
    """An opener that ignores proxies: every request stays on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
