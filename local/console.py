"""``make console``: a web console over the stack of ``make up``: executions, queues, tables, bucket, logs and metrics.

It is stackport. Its own command would listen on every network interface, keep a file in the home directory and fall
back to real AWS; so its application is served from here: on the loopback interface, reading only, with this one
endpoint, no profile of this machine, and its files below ``.local``. It ends with ``make down`` or Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING

import uvicorn

from local.background import FOLDER, POLL_SECONDS, hold_while_leased, running
from local.engine import HOST, client_environment, free_port
from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 30
SERVICES = "stepfunctions,sqs,lambda,dynamodb,s3,logs,events,monitoring,sns,secretsmanager,cloudformation,iam"

READY = """The console is at {url}/resources/stepfunctions and reads only.
How to read an execution: docs/operations.md. It ends with make down, or with Ctrl-C here."""


def main(arguments: list[str] | None = None) -> int:
    """Serve the console until the stack ends."""
    parser = argparse.ArgumentParser(prog="python -m local.console", description=__doc__)
    parser.add_argument("--port", type=int, help="the port to listen on; by default a free one")
    options = parser.parse_args(arguments)
    state = running()
    if state is None:
        print("Nothing is up that could be looked at. Start it with make up, then do this again.", file=sys.stderr)
        return 1
    try:
        with console(state.endpoint, FOLDER / "console", options.port) as url:
            print(READY.format(url=url), flush=True)
            hold_while_leased(state.pid)
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    print("The console has ended.")
    return 0


@contextlib.contextmanager
def console(endpoint: str, directory: Path, port: int | None = None) -> Iterator[str]:
    """Serve the console for the time of a ``with`` block, once per process: stackport reads its settings at import.

    Args:
        endpoint: The engine to look at.
        directory: Where stackport keeps its files; what is there is removed before and after.
        port: The port to listen on; by default a free one.

    Yields:
        The console's URL.

    Raises:
        LocalError: The port is taken, or the console did not come up.
    """
    port = free_port(port)
    shutil.rmtree(directory, ignore_errors=True)
    os.environ |= client_environment(endpoint) | {
        "STACKPORT_ENDPOINTS": f"local={endpoint}",
        "STACKPORT_DATA_DIR": str(directory),
        "STACKPORT_ALLOW_WRITES": "false",
        "STACKPORT_SERVICES": SERVICES,
        "STACKPORT_LEARN": "false",
        "LOG_LEVEL": "WARNING",
    }
    from backend.main import app  # type: ignore[import-untyped]  # noqa: PLC0415 - it reads its settings at import

    # An open page holds a connection that never ends by itself.
    config = uvicorn.Config(app, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise LocalError("The console did not come up.")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
