"""The stack that runs in the background between ``make up`` and ``make down``.

Removing its state file ends the stack. No process is stopped by its id, which another process may have by then.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field

from local.engine import ROOT, is_up
from local.errors import LocalError

FOLDER = ROOT / ".local"
STATE_FILE = FOLDER / "stack.json"
LOG_FILE = FOLDER / "up.log"
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class State:
    """What another process needs to use the running stack. ``endpoint`` is empty while it starts."""

    pid: int
    endpoint: str = ""
    genesys: str = ""
    stack: str = ""
    engine_pid: int = 0
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the stack runs or is starting."""
        return is_up(self.endpoint) if self.endpoint else exists(self.pid)


def read_state() -> State | None:
    """The state of the stack in the background, or None."""
    try:
        return State(**json.loads(STATE_FILE.read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):  # TypeError: an older version wrote the file
        return None


def write_state(state: State) -> None:
    """Write the state file atomically."""
    FOLDER.mkdir(exist_ok=True)
    temporary = STATE_FILE.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(state), indent=2) + "\n")
    temporary.replace(STATE_FILE)


def hold_while_leased(pid: int) -> None:
    """Return when the state file is removed or names another process."""
    while (state := read_state()) and state.pid == pid:
        time.sleep(POLL_SECONDS)


def running() -> State | None:
    """The state of a running stack, or None."""
    state = read_state()
    return state if state and state.endpoint and state.alive else None


def demand() -> State:
    """The state of a running stack.

    Raises:
        LocalError: No stack runs.
    """
    if state := running():
        return state
    raise LocalError("No local stack is running. Start it with make up, then run this again.")


def exists(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
