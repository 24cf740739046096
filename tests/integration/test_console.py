"""The console reads the local stack only, listens on the loopback interface only, and ends with the stack."""

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

#: The argument names the folder with the stack's state file.
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


def state_file(folder: Path, cloud: Cloud) -> Path:
    """The state file of a running stack."""
    file = folder / "stack.json"
    file.write_text(json.dumps({"pid": 1, "endpoint": cloud.engine.endpoint}))
    return file


@pytest.fixture(scope="module")
def url(patched: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console."""
    file = state_file(tmp_path_factory.mktemp("stack"), patched)
    with start(file.parent) as process:
        assert process.stdout
        yield process.stdout.readline().split()[4].removesuffix("/resources/stepfunctions")
        file.unlink()


def call(url: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - a server on this machine
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a server on this machine
        return json.load(answer)


def test_console_shows_only_the_stack(url: str, patched: Cloud) -> None:
    patched.client("sqs").create_queue(QueueName="seen-in-the-console")

    assert "seen-in-the-console" in json.dumps(call(f"{url}/api/sqs/queues"))
    assert [one["url"] for one in call(f"{url}/api/endpoints")["endpoints"]] == [patched.engine.endpoint]


def test_console_changes_nothing(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(f"{url}/api/sqs/queues", b'{"QueueName": "made-in-the-console"}')
    with refused.value:
        assert refused.value.code == 403


def test_console_listens_on_the_loopback_interface_only(url: str) -> None:
    """A server that listens on every interface would also accept 127.0.0.2."""
    port = int(url.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_console_ends_with_the_stack_and_removes_its_files(patched: Cloud, tmp_path: Path) -> None:
    file = state_file(tmp_path, patched)
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


def test_the_page_shows_graphs_without_cutting_arrows_off(url: str) -> None:
    with urllib.request.urlopen(f"{url}/resources/stepfunctions", timeout=30) as answer:  # noqa: S310 - as above
        assert "overflow:visible" in answer.read().decode()
