"""The processes in which the engine runs functions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess


def kill_workers(engine_pid: int, function_name: str) -> int:
    """Kill -9 every worker of a function. The engine names a worker's folder after its function."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    workers = [
        int(row[0]) for row in rows if row[1] == str(engine_pid) and f"ministack-lambda-{function_name}-" in row[-1]
    ]
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    return len(workers)
