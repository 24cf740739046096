"""``make invoke``: runs one function of the built artifact with one event, against the stack of ``make up``.

A fixture of events/ gets its setup first, and new ids, so that it can be used more than once. Its answer is compared
with the one in ``expected/``. Like ``sam local invoke``, the command prints the log to standard error and the answer to
standard output.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from dataclasses import replace
from pathlib import Path

from local.background import FOLDER, State, demand
from local.engine import ROOT
from local.errors import exit_code
from local.expectation import wildcards
from local.fixture_setup import FixtureSetup, expected, read_event, renewal_of
from local.genesys import faults
from local.renewal import Renew, renewed_event
from local.runtime_emulator import Emulator, Function
from local.stack import build, describe

DIRECTORY = FOLDER / "invoke"


def main() -> int:
    """Invoke the function and print its log and its answer. The exit code is 1 if it is not the expected answer."""
    parser = argparse.ArgumentParser(prog="python -m local.invoke", description=__doc__)
    parser.add_argument("function", help="the logical id, for example ProcessorFunction")
    parser.add_argument("event", type=Path, help="a JSON file, for example events/processor/mixed-batch.json")
    parser.add_argument("--docker", action="store_true", help="in AWS's container, with sam local invoke")
    options = parser.parse_args()
    renew = renewal_of(options.event)
    answer = _invoke(demand(), options, renew)
    print(_text(answer))
    wanted = expected(options.event, renew)
    return _compared(answer, wanted["answer"]) if "answer" in wanted else 0


def _text(answer: object) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=False, default=lambda _: "<any value>")


def _compared(answer: object, wanted: object) -> int:
    """Say whether the answer is the expected one, and if not, how it differs."""
    if wildcards(wanted) == answer:
        print("As expected.", file=sys.stderr)
        return 0
    lines = difflib.unified_diff(
        _text(wanted).splitlines(), _text(answer).splitlines(), "expected", "answer", lineterm=""
    )
    print("Not as expected:", *lines, sep="\n", file=sys.stderr)
    return 1


def _invoke(state: State, options: argparse.Namespace, renew: Renew) -> object:
    stack, built = describe(state.endpoint, state.stack), _built()
    content = renewed_event(read_event(options.event).decode(), renew)
    setup = expected(options.event, renew).get("setup", {})
    function = Function.of(stack, options.function, built)
    function = replace(function, variables={**function.variables, **setup.get("environment", {})})
    FixtureSetup(stack, renew).apply(setup)
    with faults(state.genesys, setup.get("genesys", {})):
        return (
            _in_docker(function, options.function, built, content) if options.docker else _emulated(function, content)
        )


def _emulated(function: Function, content: bytes) -> object:
    with Emulator(function) as emulator:
        answer = emulator.invoke(content)
        print(emulator.log, file=sys.stderr)
    return answer


def _in_docker(function: Function, logical_id: str, built: Path, content: bytes) -> object:
    from local.docker import Docker  # noqa: PLC0415 - it loads SAM CLI, which takes half a second

    with Docker(function, logical_id, built) as docker:
        answer = docker.invoke(content)
        print(*docker.steps, docker.log, sep="\n", file=sys.stderr)
    return answer


def _built() -> Path:
    """The built template. It is built again if the code has changed."""
    built = DIRECTORY / "build" / "template.yaml"
    sources = [ROOT / "template.yaml", *(path for path in (ROOT / "functions").rglob("*") if path.is_file())]
    changed = max(path.stat().st_mtime for path in sources if "__pycache__" not in path.parts)
    if built.exists() and built.stat().st_mtime > changed:
        return built
    print("Building with sam build ...", file=sys.stderr)
    return build(ROOT, DIRECTORY)


if __name__ == "__main__":
    sys.exit(exit_code(main))
