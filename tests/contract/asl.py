"""The graph of a state machine definition, and a model that executes it.

The model evaluates JSONata with the library of the local engine. It supports Task, Choice, Wait and Succeed, and never
retries. A task that waits for a person ends by its timeout. The integration tests run the same definitions on the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonata import Jsonata

#: The time of the model: 2026-11-23T12:00:00Z.
NOW_MS = 1_795_435_200_000
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:triage:acd-start-0123456789abcdef-0"


@dataclass(frozen=True)
class Level:
    """The states of a machine, or those inside one of its Maps."""

    where: str
    start: str
    states: Mapping[str, Mapping[str, Any]]

    def edges(self, name: str) -> Iterator[str]:
        """The states that can come next."""
        state = self.states[name]
        candidates = [state, *state.get("Choices", []), *state.get("Catch", [])]
        yield from (one["Next"] for one in candidates if "Next" in one)
        if "Default" in state:
            yield state["Default"]

    def reachable(self, start: str) -> set[str]:
        """The state and all states that can follow it."""
        seen: set[str] = set()
        pending = [start]
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending += [target for target in self.edges(name) if target in self.states]
        return seen

    def ends(self, name: str) -> bool:
        """Whether an execution can end in this state."""
        return self.states[name]["Type"] in {"Succeed", "Fail"} or self.states[name].get("End") is True


def levels(definition: Mapping[str, Any], where: str = "machine") -> Iterator[Level]:
    """The states of a machine, then those inside its Maps and Parallels."""
    yield Level(where, definition["StartAt"], definition["States"])
    for name, state in definition["States"].items():
        for inner in [*state.get("Branches", []), state.get("ItemProcessor")]:
            if inner:
                yield from levels(inner, f"{where}/{name}")


def evaluate(template: Any, states: Mapping[str, Any], rng: float = 0.5) -> Any:
    """Evaluate a field as Step Functions does: text in ``{% %}`` is JSONata, everything else is a constant."""
    if isinstance(template, dict):
        return {name: evaluate(value, states, rng) for name, value in template.items()}
    if isinstance(template, list):
        return [evaluate(value, states, rng) for value in template]
    if isinstance(template, str) and template.startswith("{%"):
        expression = Jsonata.jsonata(template.removeprefix("{%").removesuffix("%}").strip())
        expression.register_lambda("random", lambda: rng)
        expression.register_lambda("parse", json.loads)
        expression.register_lambda("millis", lambda: NOW_MS)
        return expression.evaluate(None, {"states": dict(states)})
    return template


class TaskFailed(Exception):
    """A task failed with this error name and cause."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.cause = cause


@dataclass
class Walk:
    """One execution: the states that it entered, their inputs, and what it wrote where it waits for a person.

    ``end_of_wait`` ends each of these waits: the name of an error, or the answer of a person.
    """

    definition: Mapping[str, Any]
    answer: Callable[[str, Any], Any]
    day: str = "2026-11-23"
    entered: list[str] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    written: list[Any] = field(default_factory=list)
    end_of_wait: Any = "States.Timeout"

    def run(self, data: Any) -> Any:
        """Execute the machine and return its output; ``answer(state, payload)`` stands in for the functions."""
        name: str | None = self.definition["StartAt"]
        while name:
            name, data = self.advance(name, data)
        return data

    def advance(self, name: str, data: Any) -> tuple[str | None, Any]:
        """Execute one state; return the next state (``None`` at the end) and its input."""
        self.entered.append(name)
        self.inputs.append(data)
        state = self.definition["States"][name]
        context = {
            "Execution": {
                "Id": EXECUTION,
                "Name": EXECUTION.rpartition(":")[2],
                "StartTime": f"{self.day}T09:29:00.000Z",
            },
            "State": {"EnteredTime": f"{self.day}T09:30:{len(self.entered) % 60:02}.000Z"},
            "Task": {"Token": "a-token"},
        }
        states: dict[str, Any] = {"input": data, "context": context}
        if state["Type"] == "Choice":
            return self._choose(state, states)
        if state["Type"] == "Task":
            arguments = evaluate(state["Arguments"], states)
            try:
                states["result"] = self._task_result(name, state, arguments)
            except TaskFailed as failure:
                return self._caught(state, states, failure)
        return state.get("Next"), _output(state, states)

    def _task_result(self, name: str, state: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        if ":aws-sdk:dynamodb:" not in state["Resource"]:
            return {"Payload": self.answer(name, arguments.get("Payload", arguments))}
        self.written.append(arguments)
        if isinstance(self.end_of_wait, str):
            raise TaskFailed(self.end_of_wait)
        return self.end_of_wait

    def _choose(self, state: Mapping[str, Any], states: Mapping[str, Any]) -> tuple[str, Any]:
        for choice in state["Choices"]:
            if evaluate(choice["Condition"], states):
                return choice["Next"], _output(choice, states)
        return state["Default"], _output(state, states)

    def _caught(self, state: Mapping[str, Any], states: dict[str, Any], failure: TaskFailed) -> tuple[str | None, Any]:
        for catcher in state.get("Catch", []):
            if {failure.error, "States.ALL"} & set(catcher["ErrorEquals"]):
                states["errorOutput"] = {"Error": failure.error, "Cause": failure.cause}
                return catcher["Next"], _output(catcher, states)
        raise failure


def _output(holder: Mapping[str, Any], states: Mapping[str, Any]) -> Any:
    return evaluate(holder["Output"], states) if "Output" in holder else states["input"]
