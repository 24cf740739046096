"""Event source mappings of a local stack: whether the processor receives, and changes that wait until they are done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from local.eventually import eventually
from ops.pause import ProcessingState, mapping_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.deployed import DeployedStack

_POLL_SECONDS = 0.05


def processing_of(stack: DeployedStack) -> ProcessingState | None:
    """Whether the processor receives from the buffer; ``None`` without its mapping. One call."""
    found = mapping_of(stack)
    return found.processing if found else None


def change_mapping(functions: Any, uuid: str, *, enabled: bool) -> None:
    """Enable or disable a mapping, and wait until it is.

    Args:
        functions: A client of Lambda.
        uuid: The mapping.
        enabled: The state to reach.

    Raises:
        NotReachedError: The mapping did not reach the state in time.
    """
    wanted = "Enabled" if enabled else "Disabled"

    def changed() -> bool:
        with contextlib.suppress(functions.exceptions.ResourceInUseException):  # an earlier change goes on
            functions.update_event_source_mapping(UUID=uuid, Enabled=enabled)
        return bool(functions.get_event_source_mapping(UUID=uuid)["State"] == wanted)

    eventually(changed, f"the mapping is {wanted.lower()}", every=_POLL_SECONDS)


@contextlib.contextmanager
def changed_mapping(functions: Any, uuid: str, *, enabled: bool) -> Iterator[None]:
    """Enable or disable a mapping for the time of a ``with`` block, and change it back."""
    change_mapping(functions, uuid, enabled=enabled)
    try:
        yield
    finally:
        change_mapping(functions, uuid, enabled=not enabled)
