"""Lists the triage executions of the stack of ``make up``, or prints one: ``python -m local.executions [name]``."""

from __future__ import annotations

import json
import sys
from typing import Any

from local.background import demand
from local.errors import LocalError, exit_code
from local.stack import Stack, describe
from ops.deployed import executions, history


def main() -> int:
    """Print the list, or the executions whose names begin with the argument."""
    state = demand()
    stack = describe(state.endpoint, state.stack)
    prefix = sys.argv[1] if sys.argv[1:] else ""
    found = [execution for execution in executions(stack) if execution["name"].startswith(prefix)]
    if prefix and not found:
        raise LocalError(f"No execution's name begins with '{prefix}'. Run this without a name to list all.")
    for execution in found:
        if prefix:
            _print(stack, execution)
        else:
            print(f"{execution['startDate']:%H:%M:%S}  {execution['status']:<10} {execution['name']}")
    if not found:
        print("There is no triage execution: no event has reached the DLQ.")
    return 0


def _print(stack: Stack, execution: dict[str, Any]) -> None:
    events = history(stack, execution["executionArn"])
    path = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
    print(f"{execution['name']}: {execution['status']}\n  {' → '.join(path)}")
    described = stack.client("stepfunctions").describe_execution(executionArn=execution["executionArn"])
    if output := described.get("output"):
        print(json.dumps(json.loads(output), indent=2))


if __name__ == "__main__":
    sys.exit(exit_code(main))
