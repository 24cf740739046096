"""``make up``: deploys the application to a local AWS that stays in the background until ``make down``."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from local.background import (
    FOLDER,
    LOG_FILE,
    POLL_SECONDS,
    STATE_FILE,
    State,
    hold_while_leased,
    read_state,
    running,
    write_state,
)
from local.engine import ROOT, client, client_environment, free_port
from local.environment import LocalStack, check_prerequisites
from local.errors import LocalError
from local.kept_archive import restore
from local.stack import BIN

ENVIRONMENT_FILE = FOLDER / "env"
#: The port that local AWS tools use by convention.
USUAL_PORT = 4566

NEXT_STEPS = """The application is up at {endpoint}. In a shell, from this folder:

  . .local/env                                        first: sets endpoint, credentials and paths

  Send an event            make send, or make send EVENT=malformed (make send EVENT=-h lists all)
  See the state            holdfast status
  See dead letters         holdfast letters, holdfast show ID, or in a browser: make console
  Deploy a change          make redeploy, with a parameter: make redeploy SET=MaxConcurrency=4
  Invoke a function        make invoke FUNCTION=ProcessorFunction EVENT=events/processor/mixed-batch.json
  Break Genesys            curl -X PUT {genesys}/_faults -d '{{"status": 503}}'      ('{{}}' ends it)
  Read the functions' log  less {log}

Stop it with: make down, or keep its archive for the next make up: make down KEEP=1"""


def main(arguments: list[str] | None = None) -> int:
    """Start the stack in the background and wait until it is deployed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help=f"the port of the local AWS; by default {USUAL_PORT}, or a free one")
    parser.add_argument("--wait-scale", type=float, default=1.0, help="factor on the waits of the state machines")
    parser.add_argument(
        "--set", action="append", type=assignment, default=[], metavar="NAME=VALUE", help="a parameter of the template"
    )
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.hold:
            _hold(options)
            return 0
        return _start(sys.argv[1:] if arguments is None else arguments)
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1


def assignment(text: str) -> tuple[str, str]:
    """The name and the value of a parameter, from an argument ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE, for example MaxConcurrency=4")
    return name, value


def _start(arguments: list[str]) -> int:
    if state := running():
        print(f"The application is already up at {state.endpoint}. Stop it with: make down")
        return 0
    if (starting := read_state()) and starting.alive:
        print(f"The application is starting (process {starting.pid}). Log: {LOG_FILE}. Stop it with: make down")
        return 0
    check_prerequisites()
    FOLDER.mkdir(exist_ok=True)
    with LOG_FILE.open("wb") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "local.up", "--hold", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    print("Starting the local AWS, building and deploying (about half a minute) ...")
    try:
        state = _wait_for(holder)
    except KeyboardInterrupt:
        STATE_FILE.unlink(missing_ok=True)
        holder.terminate()
        holder.wait()
        return 130
    if restored := restore(client("s3", state.endpoint), state.outputs["ArchiveBucketName"]):
        print(f"The archive contains {restored} objects that make down kept.")
    _print_next_steps(state)
    return 0


def _wait_for(holder: subprocess.Popen[bytes]) -> State:
    while holder.poll() is None:
        if state := running():
            return state
        time.sleep(POLL_SECONDS)
    STATE_FILE.unlink(missing_ok=True)
    raise LocalError(LOG_FILE.read_text(errors="replace").strip() or "The application was stopped while it started.")


def _print_next_steps(state: State) -> None:
    lines = [f"export {name}={value}" for name, value in client_environment(state.endpoint).items()]
    lines.append(f'export PATH="{BIN}:$PATH"')
    lines.append(f'export PYTHONPATH="{ROOT / "functions"}:{ROOT}"')
    # Version 1 of the AWS CLI ignores AWS_ENDPOINT_URL for SQS.
    lines.append('aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }')
    ENVIRONMENT_FILE.write_text("\n".join(lines) + "\n")
    print(
        NEXT_STEPS.format(
            endpoint=state.endpoint,
            genesys=state.genesys,
            log=os.path.relpath(state.log, Path.cwd()),
        )
    )


def _hold(options: argparse.Namespace) -> None:
    """Run in the background until the state file is removed."""
    write_state(State(pid=os.getpid()))
    threading.Thread(target=_end_with_lease, daemon=True).start()
    parameters = dict(options.set)
    with LocalStack(
        parameters=parameters, wait_scale=options.wait_scale, port=options.port or _port(), directory=FOLDER / "run"
    ) as local:
        write_state(
            State(
                pid=os.getpid(),
                endpoint=local.engine.endpoint,
                genesys=local.genesys.url,
                stack=local.stack.name,
                engine_pid=local.engine.pid,
                log=str(local.engine.log),
                outputs=local.stack.outputs,
                resources=local.stack.resources,
            )
        )
        threading.Event().wait()


def _port() -> int:
    try:
        return free_port(USUAL_PORT)
    except LocalError:
        return free_port()


def _end_with_lease() -> None:
    """Stop this process and its children, also while it builds or deploys."""
    hold_while_leased(os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
