"""One fixture of every function by the real ``sam local invoke``, in the container that a developer would get.

It needs a Docker engine (``.ci/docker`` gets one for a throw-away machine) and AWS's base image. Where either cannot be
had it says so, and ``test_invocation.py`` has run every fixture without Docker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import pytest
from samcli.local.docker.lambda_image import LambdaImage, Runtime  # type: ignore[import-untyped]
from samcli.yamlhelper import yaml_dump, yaml_parse  # type: ignore[import-untyped]

from local.engine import HOST
from local.environment import LocalStack
from local.fixture_setup import expected
from local.stack import build
from tests.contract.project import EVENTS, FUNCTION_IDS, ROOT
from tests.e2e.expectation import known
from tests.e2e.forwarder import Forwarder
from tests.e2e.still import StillStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The image that sam takes, by its own words.
IMAGE = f"{LambdaImage._INVOKE_REPO_PREFIX}/{Runtime.get_image_name_tag('python3.13', 'x86_64')}"
#: A machine that cannot reach AWS's registry may have a tool beside the project that makes such an image.
IMAGE_TOOL = ROOT.parent / "shared" / "tools" / "lambda-base-image"
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
def bridge() -> str:
    """The address at which a container finds this machine."""
    if not succeeds("docker", "info"):
        pytest.skip("not run in Docker: no engine answers here (.ci/docker gets one for a throw-away machine)")
    subnet = run("docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").stdout
    return str(ip_network(subnet.strip())[1])  # not every version names its gateway


@pytest.fixture(scope="module")
def image() -> None:
    """AWS's base image: here already, pulled, or made."""
    ways = (["docker", "image", "inspect", IMAGE], ["docker", "pull", IMAGE], [str(IMAGE_TOOL)])
    if not any(succeeds(*way) for way in ways):
        pytest.skip(f"not run in Docker: {IMAGE} is not here, and its registry cannot be reached")


class Docker:
    """Invokes functions of a still stack in containers."""

    def __init__(self, still: StillStack, built: Path, bridge: str) -> None:
        self.still = still
        self._built = built
        self._bridge = bridge
        self._forwarders: dict[int, Forwarder] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def invoke(self, logical_id: str, event: Path, setup: Mapping[str, Any]) -> Any:
        """What the function answers; its log when it answers nothing that can be read."""
        variables = {**self.still.function(logical_id).variables, **setup.get("environment", {})}
        reachable = {name: self._reachable(value) for name, value in variables.items()}
        arguments = ["local", "invoke", logical_id, "--template", str(self._template(logical_id, reachable))]
        done = run(
            str(Path(sys.executable).parent / "sam"),
            *arguments,
            "--event",
            str(event),
            "--skip-pull-image",
            seconds=180,
            env=os.environ | {name: variables[name] for name in CREDENTIALS} | {"SAM_CLI_TELEMETRY": "0"},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def _template(self, logical_id: str, variables: Mapping[str, str]) -> Path:
        """sam knows nothing of a deployed stack, so a copy of the template holds the deployed values."""
        template = yaml_parse(self._built.read_text())
        own = {name: value for name, value in variables.items() if name not in CREDENTIALS}
        template["Resources"][logical_id]["Properties"]["Environment"]["Variables"] = own
        copy = self._built.with_name(f"{logical_id}.yaml")
        copy.write_text(yaml_dump(template))
        return copy

    def _reachable(self, value: str) -> str:
        """A URL on the loopback interface as the container has to write it; a port is forwarded once."""
        url = urlsplit(value) if value.startswith(f"http://{HOST}:") else None
        if url is None or url.port is None:
            return value
        if url.port not in self._forwarders:
            self._forwarders[url.port] = self._exit.enter_context(Forwarder(self._bridge, url.port))
        return value.replace(f"{HOST}:{url.port}", f"{self._bridge}:{self._forwarders[url.port].port}")


@pytest.fixture(scope="module")
def docker(bridge: str, image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:  # noqa: ARG001 - the image has to be there
    built = build(ROOT, tmp_path_factory.mktemp("built"))
    with LocalStack(built=built) as stack, Docker(StillStack(stack, built), built, bridge) as made:
        yield made


@pytest.mark.parametrize("fixture", FIXTURES)
def test_a_function_in_its_container_answers_and_leaves_behind_what_stands_beside_the_fixture(
    fixture: str, docker: Docker
) -> None:
    path = EVENTS / f"{fixture}.json"
    told = expected(path)
    docker.still.prepare(told.get("setup", {}))
    answer = docker.invoke(FUNCTION_IDS[path.parent.name], path, told.get("setup", {}))
    assert known(answer, told["answer"]) == told["answer"]
    leaves = docker.still.leaves()
    assert known(leaves, told["leaves"]) == told["leaves"]


def test_every_function_is_invoked_in_docker() -> None:
    assert [fixture.split("/")[0] for fixture in FIXTURES] == list(
        dict.fromkeys(fixture.split("/")[0] for fixture in FIXTURES)
    )
    assert {fixture.split("/")[0] for fixture in FIXTURES} == FUNCTION_IDS.keys()
