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
    options = parser.parse_args()
    renew = renewal_of(options.event)
    answer = _invoke(demand(), options.function, options.event, renew)
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


def _invoke(state: State, logical_id: str, event: Path, renew: Renew) -> object:
    stack = describe(state.endpoint, state.stack)
    content = renewed_event(read_event(event).decode(), renew)
    setup = expected(event, renew).get("setup", {})
    function = Function.of(stack, logical_id, _built())
    function = replace(function, variables={**function.variables, **setup.get("environment", {})})
    FixtureSetup(stack, renew).apply(setup)
    with faults(state.genesys, setup.get("genesys", {})), Emulator(function) as emulator:
        answer = emulator.invoke(content)
        print(emulator.log, file=sys.stderr)
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
