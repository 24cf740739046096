"""Lists the triage executions of the stack in the background, or one with its path and its output."""

from __future__ import annotations

import json
import sys
from typing import Any

from local.background import State, demand
from local.engine import client
from local.errors import LocalError, exit_code


def main() -> int:
    """Print the list, or the execution whose name begins as the argument does."""
    state = demand()
    executions = _executions(state)
    if not sys.argv[1:]:
        for execution in executions:
            print(f"{execution['startDate']:%H:%M:%S}  {execution['status']:<10} {execution['name']}")
        if not executions:
            print("No event has needed triage.")
        return 0
    chosen = [execution for execution in executions if execution["name"].startswith(sys.argv[1])]
    for execution in chosen:
        _show(state, execution)
    if not chosen:
        raise LocalError(f"No execution's name begins with '{sys.argv[1]}'. Without a name, this lists all.")
    return 0


def _executions(state: State) -> list[dict[str, Any]]:
    pages = client("stepfunctions", state.endpoint).get_paginator("list_executions")
    arn = state.outputs["TriageStateMachineArn"]
    return [execution for page in pages.paginate(stateMachineArn=arn) for execution in page["executions"]]


def _show(state: State, execution: dict[str, Any]) -> None:
    stepfunctions = client("stepfunctions", state.endpoint)
    pages = stepfunctions.get_paginator("get_execution_history").paginate(executionArn=execution["executionArn"])
    path = [
        event["stateEnteredEventDetails"]["name"]
        for page in pages
        for event in page["events"]
        if "stateEnteredEventDetails" in event
    ]
    print(f"{execution['name']}: {execution['status']}\n  {' → '.join(path)}")
    output = stepfunctions.describe_execution(executionArn=execution["executionArn"]).get("output")
    if output:
        print(json.dumps(json.loads(output), indent=2))


if __name__ == "__main__":
    sys.exit(exit_code(main))
