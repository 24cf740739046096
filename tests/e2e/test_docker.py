"""One fixture of every function with ``sam local invoke``, in the container that a developer gets.

The tests need a Docker engine (``.ci/docker`` starts one on a throw-away machine) and AWS's base image, and are skipped
otherwise. ``test_invocation.py`` runs every fixture without Docker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from samcli.local.docker.lambda_image import LambdaImage, Runtime  # type: ignore[import-untyped]
from samcli.yamlhelper import yaml_dump, yaml_parse  # type: ignore[import-untyped]

from local.engine import HOST
from local.environment import LocalStack
from local.expectation import wildcards
from local.fixture_setup import expected
from local.stack import build
from tests.contract.project import EVENTS, FUNCTION_IDS, ROOT
from tests.e2e.forwarder import Forwarder
from tests.e2e.idle_stack import IdleStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The image that sam uses.
IMAGE = f"{LambdaImage._INVOKE_REPO_PREFIX}/{Runtime.get_image_name_tag('python3.13', 'x86_64')}"
FIXTURES = [
    "processor/mixed-batch",
    "fan_out/stream-batch",
    "dead_letter_intake/exhausted",
    "classify/throttled",
    "redrive/first-redrive",
    "archive/exhausted",
    "settle/recovered",
    "evidence_sweep/by-hand",
    "replay/plan-dry-run",
]
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def run(*command: str, seconds: float = 30, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, **more)  # noqa: S603 - the project's own tools


def succeeds(*command: str) -> bool:
    try:
        return run(*command, seconds=180).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="module")
def host_address() -> str:
    """This machine's address on Docker's network."""
    if not succeeds("docker", "info"):
        pytest.skip("not run in Docker: no engine answers here (.ci/docker starts one on a throw-away machine)")
    subnet = run("docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").stdout
    return str(ip_network(subnet.strip())[1])  # some versions leave out the gateway


@pytest.fixture(scope="module")
def image() -> None:
    """AWS's base image."""
    if not (succeeds("docker", "image", "inspect", IMAGE) or succeeds("docker", "pull", IMAGE)):
        pytest.skip(f"not run in Docker: {IMAGE} is missing and cannot be pulled")


class Docker:
    """Invokes functions of an idle stack in containers."""

    def __init__(self, stack: IdleStack, built: Path, host_address: str, forwarders: ExitStack) -> None:
        self.stack = stack
        self._built = built
        self._host_address = host_address
        self._forwarders = forwarders
        self._ports: dict[int, int] = {}

    def invoke(self, logical_id: str, event: Path, setup: Mapping[str, Any]) -> Any:
        """The function's answer."""
        variables = {**self.stack.function(logical_id).variables, **setup.get("environment", {})}
        reachable = {name: self._reachable(value) for name, value in variables.items()}
        files = ["--template", str(self._template(logical_id, reachable)), "--event", str(event)]
        command = [str(Path(sys.executable).parent / "sam"), "local", "invoke", logical_id, "--skip-pull-image", *files]
        environment = os.environ | {name: variables[name] for name in CREDENTIALS} | {"SAM_CLI_TELEMETRY": "0"}
        done = run(*command, seconds=180, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _template(self, logical_id: str, variables: Mapping[str, str]) -> Path:
        """A copy of the template with the deployed values, which sam cannot read from the stack."""
        template = yaml_parse(self._built.read_text())
        own = {name: value for name, value in variables.items() if name not in CREDENTIALS}
        template["Resources"][logical_id]["Properties"]["Environment"]["Variables"] = own
        copy = self._built.with_name(f"{logical_id}.yaml")
        copy.write_text(yaml_dump(template))
        return copy

    def _reachable(self, value: str) -> str:
        """The URL under which a container reaches a server on the loopback interface."""
        url = urlsplit(value) if value.startswith(f"http://{HOST}:") else None
        if url is None or url.port is None:
            return value
        if url.port not in self._ports:
            self._ports[url.port] = self._forwarders.enter_context(Forwarder(self._host_address, url.port)).port
        return value.replace(f"{HOST}:{url.port}", f"{self._host_address}:{self._ports[url.port]}")


@pytest.fixture(scope="module")
def docker(host_address: str, image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:  # noqa: ARG001 - needs the image
    built = build(ROOT, tmp_path_factory.mktemp("built"))
    with LocalStack(built=built) as local, ExitStack() as forwarders:
        yield Docker(IdleStack(local, built), built, host_address, forwarders)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_a_function_in_its_container_has_the_expected_answer_and_effects(fixture: str, docker: Docker) -> None:
    path = EVENTS / f"{fixture}.json"
    setup, wanted = expected(path).get("setup", {}), wildcards(expected(path))
    docker.stack.prepare(setup)
    assert docker.invoke(FUNCTION_IDS[path.parent.name], path, setup) == wanted["answer"]
    assert docker.stack.effects() == wanted["leaves"]


def test_every_function_has_one_fixture_in_docker() -> None:
    # The only fixture of the circuit breaker looks at the mapping; test_invocation.py runs it.
    assert sorted(fixture.partition("/")[0] for fixture in FIXTURES) == sorted(
        FUNCTION_IDS.keys() - {"circuit_breaker"}
    )
