"""``make down``: ends the stack in the background. One line, whatever it finds."""

from __future__ import annotations

import sys
import time

from local.background import POLL_SECONDS, STATE_FILE, exists, read_state

STOP_SECONDS = 30


def main() -> int:
    """End the stack and wait until it is gone."""
    state = read_state()
    STATE_FILE.unlink(missing_ok=True)
    if state is None or not state.alive:
        print("Nothing was running.")
        return 0
    deadline = time.monotonic() + STOP_SECONDS
    while exists(state.pid):
        if time.monotonic() > deadline:
            print(f"It did not end within {STOP_SECONDS} s: look at process {state.pid}.", file=sys.stderr)
            return 1
        time.sleep(POLL_SECONDS)
    print("Stopped; nothing is left running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
