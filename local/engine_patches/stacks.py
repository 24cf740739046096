"""Bridges in CloudFormation."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

if TYPE_CHECKING:
    from collections.abc import Callable


def read_numbers_of_mappings() -> None:
    """Gap: a number that a parameter gives to a mapping stays text, and the poller fails on it; AWS reads a number."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    create, update = handler["create"], handler["update"]
    handler["create"] = lambda logical_id, properties, *rest: create(logical_id, _numbered(properties), *rest)
    handler["update"] = lambda mapping, old, new, *rest: update(mapping, old, _numbered(new), *rest)


def _numbered(properties: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: int(value) for name, value in properties.items() if isinstance(value, str) and value.isdecimal()}
    scaling = {name: int(value) for name, value in properties.get("ScalingConfig", {}).items()}
    return {**properties, **numbers, **({"ScalingConfig": scaling} if scaling else {})}


def apply_reserved_concurrency() -> None:
    """Gap: ``ReservedConcurrentExecutions`` of a function in a template is ignored; AWS reserves it."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]

    def reserving(plain: Callable[..., Any], position: int) -> Callable[..., Any]:
        def provision(*args: Any, **kwargs: Any) -> Any:
            name, attributes = plain(*args, **kwargs)
            reserved = args[position].get("ReservedConcurrentExecutions")
            lambda_svc._functions[name]["concurrency"] = None if reserved is None else int(reserved)
            return name, attributes

        return provision

    # create(logical id, properties, stack), update(physical id, old properties, new properties, stack)
    handler["create"] = reserving(handler["create"], 1)
    handler["update"] = reserving(handler["update"], 2)
