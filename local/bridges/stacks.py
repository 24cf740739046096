"""Bridges in CloudFormation."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

if TYPE_CHECKING:
    from collections.abc import Callable


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
