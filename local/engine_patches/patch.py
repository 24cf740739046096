"""How an engine patch wraps a function of the engine."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class EngineChangedError(Exception):
    """The engine no longer has the function that an engine patch was written for."""


def around(owner: Any, name: str, parameters: str) -> Callable[[Callable[..., Any]], None]:
    """Decorate a function that replaces one of the engine's and gets the original as its first argument.

    Args:
        owner: The module, class or dict of the engine that holds the original.
        name: The original's name there.
        parameters: The original's parameters without annotations, for example ``"(data, limit=None)"``.

    Raises:
        EngineChangedError: The original is missing, has other parameters, or is patched already. Two patches of one
            function would depend on their order, so they are one function.
    """

    def install(patch: Callable[..., Any]) -> None:
        place = f"{getattr(owner, '__name__', 'the engine')}.{name}"
        original = owner.get(name) if isinstance(owner, dict) else getattr(owner, name, None)
        if original is None:
            raise EngineChangedError(f"{place} does not exist. Adapt or delete its patch in {patch.__module__}.")
        if hasattr(original, "patched_by"):
            raise EngineChangedError(
                f"{place} is patched by {original.patched_by} already. Merge its patch in {patch.__module__} into that."
            )
        found = _parameters(original)
        if found != parameters:
            raise EngineChangedError(
                f"{place} takes {found}, and its patch in {patch.__module__} was written for {parameters}. "
                "Compare the patch with the engine's code and change both the patch and the parameters it states."
            )

        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return patch(original, *args, **kwargs)

        vars(replacement)["patched_by"] = patch.__module__
        if isinstance(owner, dict):
            owner[name] = replacement
        else:
            setattr(owner, name, replacement)

    return install


def apply_settings(handler: dict[str, Any], parameters: str, apply: Callable[[str, dict[str, Any]], None]) -> None:
    """Apply settings that the engine ignores in a template, after it has created or updated a resource.

    Args:
        handler: The engine's handler of the resource type.
        parameters: The parameters of the handler's ``update``, as for :func:`around`.
        apply: Takes the name of the resource and its properties.
    """

    def create(plain: Callable[..., Any], logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        created = plain(logical_id, properties, stack)
        apply(created[0], properties)
        return created

    def update(plain: Callable[..., Any], name: str, old: Any, new: dict[str, Any], *rest: Any, **named: Any) -> Any:
        updated = plain(name, old, new, *rest, **named)
        apply(updated[0], new)
        return updated

    for function, taken in ((create, "(logical_id, props, stack_name)"), (update, parameters)):
        function.__module__ = apply.__module__  # errors name the module of the patch
        around(handler, function.__name__, taken)(function)


def _parameters(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
