"""What ends a local run with one line that says what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LocalError(Exception):
    """Something on this machine is missing or in the way; the text says what to do about it."""


def exit_code(main: Callable[[], int]) -> int:
    """Run a command; what stops it goes to standard error, and the code is 1."""
    try:
        return main()
    except LocalError as err:
        print(err, file=sys.stderr)
        return 1
