"""``make invoke``: runs one function of the built artifact with one event, against the stack in the background.

What a fixture of events/ needs is put there first, so that it answers what events/README.md says. The function's log
goes to standard error and its answer to standard output, as ``sam local invoke`` does it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from local.background import FOLDER, State, demand
from local.engine import ROOT
from local.errors import exit_code
from local.fixture_setup import Givens, expected, read_event
from local.genesys import faults
from local.runtime_emulator import Emulator, Function
from local.stack import build, describe

DIRECTORY = FOLDER / "invoke"


def main() -> int:
    """Invoke, and print log and answer."""
    parser = argparse.ArgumentParser(prog="python -m local.invoke", description=__doc__)
    parser.add_argument("function", help="its name in the template, for example ProcessorFunction")
    parser.add_argument("event", type=Path, help="a JSON file, for example events/processor/mixed-batch.json")
    options = parser.parse_args()
    print(json.dumps(_invoke(demand(), options.function, options.event), indent=2, ensure_ascii=False))
    return 0


def _invoke(state: State, logical_id: str, event: Path) -> object:
    stack = describe(state.endpoint, state.stack)
    content = read_event(event)
    given = expected(event).get("given", {})
    function = Function.of(stack, logical_id, _built())
    function = replace(function, variables={**function.variables, **given.get("environment", {})})
    Givens(stack).put(given)
    with faults(state.genesys, given.get("genesys", {})), Emulator(function) as emulator:
        answer = emulator.invoke(content)
        print(emulator.log, file=sys.stderr)
    return answer


def _built() -> Path:
    """The artifact, built again where the code has changed since."""
    built = DIRECTORY / "build" / "template.yaml"
    sources = [ROOT / "template.yaml", *(path for path in (ROOT / "functions").rglob("*") if path.is_file())]
    changed = max(path.stat().st_mtime for path in sources if "__pycache__" not in path.parts)
    if built.exists() and built.stat().st_mtime > changed:
        return built
    print("Building with sam build ...", file=sys.stderr)
    return build(ROOT, DIRECTORY)


if __name__ == "__main__":
    sys.exit(exit_code(main))
