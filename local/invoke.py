"""``make invoke``: runs one function in Docker with ``sam local invoke``, against the stack of ``make up``.

``sam local`` knows only logical ids, so the function's real environment is taken from the deployed one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samcli.yamlhelper import yaml_dump, yaml_parse  # type: ignore[import-untyped]

from local.background import State, running
from local.engine import ROOT, client, client_environment
from local.errors import LocalError
from local.stack import BIN, build

if TYPE_CHECKING:
    from collections.abc import Mapping


def main() -> int:
    """Invoke the function; the exit status is that of ``sam local invoke``."""
    parser = argparse.ArgumentParser(prog="make invoke", description=__doc__)
    parser.add_argument("function", help="its logical id, for example ProcessorFunction")
    parser.add_argument("event", type=Path, help="a file with an event, for example one of events/")
    options = parser.parse_args()
    try:
        return _invoke(_prepared(options.function, options.event), options.function, options.event)
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1


def _prepared(function: str, event: Path) -> State:
    """Check everything that the invocation needs.

    Raises:
        LocalError: One line that says what is missing and what to do.
    """
    state = running()
    if state is None:
        raise LocalError("Nothing is running that the function could talk to: start it with make up")
    if not function.endswith("Function") or function not in state.resources:
        known = sorted(name for name in state.resources if name.endswith("Function"))
        raise LocalError(f"There is no function {function}; there are {', '.join(known)}")
    if not event.is_file():
        raise LocalError(f"There is no file {event}: see events/README.md for what is there")
    try:
        subprocess.run(["docker", "info"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise LocalError(
            "No Docker engine answers, and sam local invoke needs one: start Docker, or use sam remote invoke"
        ) from None
    return state


def _invoke(state: State, function: str, event: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        directory = Path(folder)
        template = build(ROOT, directory)
        _set_environment(template, function, _environment(state, function))
        sam = [str(BIN / "sam"), "local", "invoke", function, "--event", str(event), "--template", str(template)]
        network = ["--docker-network", "host", *_pull_only_once()]
        environment = {**os.environ, **client_environment(state.endpoint)}
        return subprocess.run([*sam, *network], check=False, cwd=ROOT, env=environment).returncode


def _set_environment(template: Path, function: str, variables: Mapping[str, str]) -> None:
    """Write the variables into the built copy: ``--env-vars`` sets only those that the template names."""
    document = yaml_parse(template.read_text())
    document["Resources"][function]["Properties"]["Environment"] = {"Variables": dict(variables)}
    template.write_text(yaml_dump(document))


def _pull_only_once() -> list[str]:
    """Ask nobody for the base image that is here already: the machine may be offline."""
    listing = ["docker", "image", "ls", "--quiet", "--filter", "reference=*/lambda/python:3.13*"]
    found = subprocess.run(listing, capture_output=True, check=False).stdout.strip()
    return ["--skip-pull-image"] if found else []


def _environment(state: State, function: str) -> dict[str, str]:
    deployed = client("lambda", state.endpoint).get_function_configuration(FunctionName=state.resources[function])
    return {**deployed["Environment"]["Variables"], **client_environment(state.endpoint)}


if __name__ == "__main__":
    sys.exit(main())
