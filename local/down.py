"""``make down``: stops the stack of ``make up``."""

from __future__ import annotations

import argparse
import sys

from local.background import STATE_FILE, exists, read_state
from local.engine import client
from local.eventually import NotReachedError, eventually
from local.kept_archive import KEPT_FILE, keep

STOP_SECONDS = 30


def main() -> int:
    """Stop the stack and wait until its process has ended."""
    parser = argparse.ArgumentParser(prog="python -m local.down", description=__doc__)
    parser.add_argument("--keep-archive", action="store_true", help="keep the archive for the next make up")
    options = parser.parse_args()
    state = read_state()
    if options.keep_archive and state and state.endpoint and state.alive:
        kept = keep(client("s3", state.endpoint), state.outputs["ArchiveBucketName"])
        print(f"{KEPT_FILE} contains the archive ({kept} objects). The next make up puts it back.")
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
