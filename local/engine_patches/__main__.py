"""The engine's process: installs the patches, then runs the engine until standard input closes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading

from ministack import app

from local.engine_patches import install


def _end_with_parent() -> None:
    """Wait until the pipe to the parent closes, then end with every Lambda worker.

    State is in memory, so nothing is shut down in order. The workers are in this process's own group.
    """
    sys.stdin.buffer.read()
    shutil.rmtree(os.environ["LOCAL_SCRATCH"], ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Run the engine."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if os.environ["LOCAL_PATCHES"] == "on":
        install()
    app.main()


if __name__ == "__main__":
    main()
