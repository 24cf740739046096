"""The sentences of the triage rules."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files


@cache
def _explanations() -> dict[str, str]:
    policy = json.loads(files("holdfast.domain").joinpath("triage_policy.json").read_text())
    return {rule["id"]: rule["explanation"] for rule in policy["rules"]}


def explanation_of(rule: str) -> str:
    """The sentence of a rule; empty if another version of the application made the verdict."""
    return _explanations().get(rule, "")
