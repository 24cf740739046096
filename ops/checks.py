"""What a check of ``holdfast verify`` is, and its result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class CheckResult(StrEnum):
    """The result of a check."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    #: It cannot be checked here, for example because this is the local engine.
    NOT_CHECKED = "not checked"
    #: AWS refused the call, for example because a permission is missing.
    UNREADABLE = "not readable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table.

    Attributes:
        group: The part of the application that the promise is about.
        name: The check's name, for scripts.
        promise: What must be true.
        seen: What was seen; for a check that was not made, why.
        result: The result.
    """

    group: str
    name: str
    promise: str
    seen: str
    result: CheckResult


class NotCheckedError(Exception):
    """A check cannot be made here. The message says why."""


#: Lists whose elements have one of these members are compared element by element, whatever their order.
_NAMES = ("Id", "Name", "AttributeName", "IndexName")
_SHOWN = 40


def differences(declared: Any, seen: Any, path: str = "") -> Iterator[str]:
    """Yield the differences between the template and what AWS reports.

    A property that the template does not set is ignored. An element that only AWS's list has is a difference. Numbers
    and booleans are compared by value: a parameter of a template is text.
    """
    if isinstance(declared, Mapping):
        found = seen if isinstance(seen, Mapping) else {}
        for name, value in declared.items():
            yield from differences(value, found.get(name), f"{path}.{name}" if path else name)
    elif isinstance(declared, list) and (key := _key(declared)):
        found = {one.get(key): one for one in seen or []}
        for one in declared:
            yield from differences(one, found.get(one[key]), f"{path}.{one[key]}")
        yield from (f"{path}.{name} is not in the template" for name in found.keys() - {one[key] for one in declared})
    elif _comparable(declared) != _comparable(seen):
        yield f"{path} is {_shown(seen)}, in the template {_shown(declared)}"


def _key(values: list[Any]) -> str | None:
    return next(
        (name for name in _NAMES if values and all(isinstance(one, dict) and name in one for one in values)), None
    )


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(json.dumps(_comparable(one), sort_keys=True) for one in value)
    if isinstance(value, Mapping):
        return {name: _comparable(one) for name, one in value.items()}
    if value is None or value == "":
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "not set"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.rpartition(":")[2] if text.startswith("arn:") else text
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


# -- policies ------------------------------------------------------------------------------------------------------


def policy_differences(declared: Mapping[str, Any], seen: Mapping[str, Any] | str | None) -> Iterator[str]:
    """The statements that one of two policies has and the other has not, by their actions."""
    found = json.loads(seen or "{}") if isinstance(seen, str) else seen or {}
    wanted, present = ({_canonical(one): one for one in policy.get("Statement", [])} for policy in (declared, found))
    yield from (f"lacks {_actions(wanted[one])}" for one in wanted.keys() - present.keys())
    yield from (f"has more: {_actions(present[one])}" for one in present.keys() - wanted.keys())


def _canonical(statement: Mapping[str, Any]) -> str:
    """A statement without its name; one value is a list of one, and the order does not count."""
    principal = statement.get("Principal")
    parts = {**statement, "Principal": {"AWS": "*"} if principal == "*" else principal}
    return json.dumps({name: _sets(one) for name, one in parts.items() if name != "Sid"}, sort_keys=True).lower()


def _sets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sets(one) for name, one in value.items()}
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]


def _actions(statement: Mapping[str, Any]) -> str:
    action = statement.get("Action", statement.get("NotAction", "a statement"))
    actions = [action] if isinstance(action, str) else action
    denied = "Deny " if statement.get("Effect") == "Deny" else ""
    return denied + ", ".join(actions)
