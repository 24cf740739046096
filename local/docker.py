"""``sam local invoke`` of a function in Docker, against the stack of ``make up``.

A container reaches neither this machine's loopback interface nor the stack. So :class:`Docker` does what you would have
to do by hand: a copy of the template with the deployed environment, the credentials of the function's role, and a port
of Docker's network for each server on this machine. It says so in :attr:`Docker.steps`.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from samcli.local.docker.lambda_image import LambdaImage, Runtime  # type: ignore[import-untyped]
from samcli.yamlhelper import yaml_dump, yaml_parse  # type: ignore[import-untyped]

from local.engine import HOST
from local.errors import LocalError
from local.forwarder import Forwarder
from local.runtime_emulator import Function
from local.stack import BIN

#: The image that sam uses.
IMAGE = f"{LambdaImage._INVOKE_REPO_PREFIX}/{Runtime.get_image_name_tag('python3.13', 'x86_64')}"  # noqa: SLF001 - sam has no public name
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SECONDS = 180


@dataclass
class Docker:
    """Invokes one function in its container, for the length of a ``with`` block.

    Attributes:
        function: The function as it is deployed.
        logical_id: Its logical id.
        built: The built template.
        steps: What was done, for the user.
        log: What the last invocation wrote.
    """

    function: Function
    logical_id: str
    built: Path
    steps: list[str] = field(default_factory=list)
    log: str = ""
    _forwarders: ExitStack = field(default_factory=ExitStack)
    _ports: dict[int, int] = field(default_factory=dict)
    _address: str = ""

    def __enter__(self) -> Self:
        self._address = address()
        return self

    def __exit__(self, *_: object) -> None:
        self._forwarders.close()

    def invoke(self, event: bytes) -> Any:
        """Run ``sam local invoke`` with an event. Returns the function's answer.

        Raises:
            LocalError: sam failed; the message is its output.
        """
        command = [str(BIN / "sam"), "local", "invoke", self.logical_id, "--template", str(self._template())]
        command += ["--event", "-", *(["--skip-pull-image"] if _succeeds("image", "inspect", IMAGE) else [])]
        self.steps.append(" ".join(["ran:", Path(command[0]).name, *command[1:]]))
        # The endpoint of the local AWS is for the container: sam itself must not use it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_ENDPOINT_URL")}
        environment |= {name: self.function.variables[name] for name in _CREDENTIALS} | {"SAM_CLI_TELEMETRY": "0"}
        done = subprocess.run(command, input=event, capture_output=True, check=False, timeout=_SECONDS, env=environment)
        self.log = done.stderr.decode(errors="replace")
        if done.returncode:
            raise LocalError(f"sam local invoke failed:\n{self.log}")
        return json.loads(done.stdout)

    def _template(self) -> Path:
        """A copy of the template with the deployed values, which sam cannot read from the stack."""
        template = yaml_parse(self.built.read_text())
        own = {
            name: self._reachable(value) for name, value in self.function.variables.items() if name not in _CREDENTIALS
        }
        template["Resources"][self.logical_id]["Properties"]["Environment"]["Variables"] = own
        copy = self.built.with_name(f"{self.logical_id}.yaml")
        copy.write_text(yaml_dump(template))
        self.steps.append(f"wrote a copy of the template with the deployed environment: {copy}")
        return copy

    def _reachable(self, value: str) -> str:
        """The URL under which a container reaches a server on the loopback interface."""
        url = urlsplit(value) if value.startswith(f"http://{HOST}:") else None
        if url is None or url.port is None:
            return value
        if url.port not in self._ports:
            self._ports[url.port] = self._forwarders.enter_context(Forwarder(self._address, url.port)).port
            self.steps.append(f"forwards {self._address}:{self._ports[url.port]} to {HOST}:{url.port}")
        return value.replace(f"{HOST}:{url.port}", f"{self._address}:{self._ports[url.port]}")


def address() -> str:
    """This machine's address on Docker's network.

    Raises:
        LocalError: No Docker engine answers.
    """
    if not _succeeds("info"):
        raise LocalError("No Docker engine answers. Start Docker, or leave out DOCKER=1: the emulator needs none.")
    form = "{{(index .IPAM.Config 0).Subnet}}"
    subnet = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", form], capture_output=True, text=True, check=True
    ).stdout
    return str(ip_network(subnet.strip())[1])  # some versions leave out the gateway


def has_image() -> bool:
    """Whether AWS's base image is present or can be pulled."""
    return _succeeds("image", "inspect", IMAGE) or _succeeds("pull", IMAGE)


def _succeeds(*arguments: str) -> bool:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, check=False, timeout=_SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
