"""The engine's process: installs the patches, then runs the engine until standard input closes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ministack import app

from local.engine_patches import install


def _end_with_parent() -> None:
    """Wait until the pipe to the parent closes, then end with every Lambda worker.

    State is in memory, so nothing is shut down in order. The workers are in this process's own group. They write files
    until they end, so a process outside of the group removes the files afterwards, under a name that no engine uses.
    """
    sys.stdin.buffer.read()
    with contextlib.suppress(OSError):  # the parent has removed them
        ended = f"{os.environ['LOCAL_SCRATCH']}-ended-{os.getpid()}"
        Path(os.environ["LOCAL_SCRATCH"]).rename(ended)
        subprocess.Popen(["sh", "-c", 'sleep 1; rm -rf "$0"', ended], start_new_session=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Run the engine."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if os.environ["LOCAL_PATCHES"] == "on":
        install()
    app.main()


if __name__ == "__main__":
    main()
