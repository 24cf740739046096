"""``make console``: a web console for the stack of ``make up``: executions, queues, tables, bucket, logs and metrics.

The console is stackport. Its own command listens on every network interface, writes to the home directory and can
connect to real AWS. So this module serves its application: read-only, on the loopback interface, with only the local
endpoint, without AWS profiles, and with its files below ``.local``. It ends with ``make down`` or Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from local.background import FOLDER, hold_while_leased, running
from local.engine import HOST, client_environment, free_port
from local.errors import LocalError
from local.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        print("No local stack is running. Start it with make up, then run this again.", file=sys.stderr)
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
    """Serve the console for the length of a ``with`` block, once per process: stackport reads its settings at import.

    Args:
        endpoint: The engine's endpoint.
        directory: Where stackport keeps its files. It is deleted before and after.
        port: The port to listen on; by default a free one.

    Yields:
        The console's URL.

    Raises:
        LocalError: The port is in use, or the console did not start.
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
    from backend import main as stackport  # type: ignore[import-untyped]  # noqa: PLC0415 - it reads its settings at import

    stackport.ui_dist = str(_with_whole_graph(Path(stackport.ui_dist), directory / "ui"))
    # An open page keeps its connection open.
    config = uvicorn.Config(stackport.app, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), "the console has started", START_SECONDS)
        if not server.started:
            raise LocalError("The console did not start. Its error is above.")
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        shutil.rmtree(directory, ignore_errors=True)


def _with_whole_graph(pages: Path, copy: Path) -> Path:
    """A copy of stackport's pages that does not cut off the arrows at the edge of a graph."""
    shutil.copytree(pages, copy, ignore=shutil.ignore_patterns("assets"))
    index = copy / "index.html"
    index.write_text(index.read_text().replace("</head>", "<style>svg.cursor-grab{overflow:visible}</style></head>"))
    return copy


if __name__ == "__main__":
    sys.exit(main())
