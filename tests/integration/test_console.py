"""The console looks at the local stack and can do nothing else, is there for this machine alone, and ends with it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.engine import ROOT
from tests.integration.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The stack's state file is the one in the folder that the argument names.
CONSOLE = """
import sys
from pathlib import Path
from local import background, console
background.STATE_FILE = Path(sys.argv[1], "stack.json")
console.FOLDER = Path(sys.argv[1])
sys.exit(console.main([]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CONSOLE, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - the project's own tools


def lease(folder: Path, cloud: Cloud) -> Path:
    """The state file of a stack that runs."""
    file = folder / "stack.json"
    file.write_text(json.dumps({"pid": 1, "endpoint": cloud.engine.endpoint}))
    return file


@pytest.fixture(scope="module")
def url(bridged: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console."""
    file = lease(tmp_path_factory.mktemp("stack"), bridged)
    with start(file.parent) as process:
        assert process.stdout
        yield process.stdout.readline().split()[4].removesuffix("/resources/stepfunctions")
        file.unlink()


def ask(url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - a server on this machine
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a server on this machine
        return json.load(answer)


def test_console_shows_the_stack_and_nothing_but_the_stack(url: str, bridged: Cloud) -> None:
    bridged.client("sqs").create_queue(QueueName="seen-in-the-console")

    assert "seen-in-the-console" in json.dumps(ask(f"{url}/api/sqs/queues"))
    assert [one["url"] for one in ask(f"{url}/api/endpoints")["endpoints"]] == [bridged.engine.endpoint]


def test_console_changes_nothing(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{url}/api/sqs/queues", b'{"QueueName": "made-in-the-console"}')
    with refused.value:
        assert refused.value.code == 403


def test_console_listens_on_the_loopback_interface_alone(url: str) -> None:
    """Whoever listens on every interface answers at 127.0.0.2 too."""
    port = int(url.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_console_ends_with_the_stack_and_leaves_nothing_behind(bridged: Cloud, tmp_path: Path) -> None:
    file = lease(tmp_path, bridged)
    with start(tmp_path) as process:
        assert process.stdout
        process.stdout.readline()
        file.unlink()

        assert process.wait(30) == 0
    assert not list(tmp_path.iterdir())


def test_console_without_a_stack_says_what_to_do(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        assert process.stderr
        assert "make up" in process.stderr.read()
        assert process.wait(30) == 1
