"""Errors that end a local command with a message for the user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LocalError(Exception):
    """A local command cannot continue. The message states what happened and what to do."""


def exit_code(main: Callable[[], int]) -> int:
    """Run a command. A LocalError is printed to standard error, and the exit code is 1."""
    try:
        return main()
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
