"""``make redeploy``: builds the application again and deploys it to the stack of ``make up``, which keeps its data."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from local.background import FOLDER, State, demand, write_state
from local.engine import ROOT, client
from local.errors import exit_code
from local.stack import build, deploy
from local.up import assignment


def main() -> int:
    """Build, deploy, and say where the stack is."""
    parser = argparse.ArgumentParser(prog="python -m local.redeploy", description=__doc__)
    parser.add_argument("set", nargs="*", type=assignment, metavar="NAME=VALUE", help="a parameter of the template")
    changed = dict(parser.parse_args().set)
    state = demand()
    print("Building and deploying ...")
    stack = deploy(state.endpoint, build(ROOT, FOLDER / "run"), state.stack, _parameters(state) | changed)
    write_state(replace(state, outputs=stack.outputs, resources=stack.resources))
    print(f"Deployed to {state.endpoint}. To replay what failed before: holdfast replay --help")
    return 0


def _parameters(state: State) -> dict[str, str]:
    """The parameters of the running stack."""
    (stack,) = client("cloudformation", state.endpoint).describe_stacks(StackName=state.stack)["Stacks"]
    return {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", []) if one["ParameterValue"]}


if __name__ == "__main__":
    sys.exit(exit_code(main))
