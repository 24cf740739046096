"""``make down``: stops the stack of ``make up``."""

from __future__ import annotations

import sys

from local.background import STATE_FILE, exists, read_state
from local.eventually import NotReachedError, eventually

STOP_SECONDS = 30


def main() -> int:
    """Stop the stack and wait until its process has ended."""
    state = read_state()
    STATE_FILE.unlink(missing_ok=True)
    if state is None or not state.alive:
        print("No stack is running.")
        return 0
    try:
        eventually(lambda: not exists(state.pid), "the stack has stopped", STOP_SECONDS)
    except NotReachedError:
        print(f"The stack did not stop within {STOP_SECONDS} s. Check process {state.pid}.", file=sys.stderr)
        return 1
    print("Stopped. Nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
