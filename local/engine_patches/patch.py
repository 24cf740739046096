"""How a bridge takes hold of the engine."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def around(module: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Decorate a function that takes the place of ``module.name`` and is given the plain one as its first argument.

    Raises:
        AttributeError: The engine has no such function any more, so that an upgrade cannot pass unnoticed.
    """
    plain = getattr(module, name)

    def install(bridged: Callable[..., Any]) -> None:
        @functools.wraps(plain)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return bridged(plain, *args, **kwargs)

        setattr(module, name, replacement)

    return install
