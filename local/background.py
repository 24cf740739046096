"""The stack that runs in the background between ``make up`` and ``make down``.

Its state file is its lease: whoever removes the file ends the stack. So nothing is ever stopped by a process id that
may belong to somebody else by now.
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
    """What another process needs to know about the running stack; ``endpoint`` is empty while it starts."""

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
        """Whether the stack is there, or is still being started."""
        return is_up(self.endpoint) if self.endpoint else exists(self.pid)


def read_state() -> State | None:
    """The state of the stack in the background, None where there is none."""
    try:
        return State(**json.loads(STATE_FILE.read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):  # the last: an older version wrote it
        return None


def write_state(state: State) -> None:
    """Write the state file as a whole: a reader never sees half of it."""
    FOLDER.mkdir(exist_ok=True)
    half = STATE_FILE.with_suffix(".half")
    half.write_text(json.dumps(asdict(state), indent=2) + "\n")
    half.replace(STATE_FILE)


def hold_while_leased(pid: int) -> None:
    """Return when the state file is gone, or another stack's."""
    while (state := read_state()) and state.pid == pid:
        time.sleep(POLL_SECONDS)


def running() -> State | None:
    """The state of a stack that answers, None where there is none."""
    state = read_state()
    return state if state and state.endpoint and state.alive else None


def demand() -> State:
    """The state of a stack that answers.

    Raises:
        LocalError: There is none.
    """
    if state := running():
        return state
    raise LocalError("Nothing is up here that could stand for AWS. Start it with make up, then do this again.")


def exists(pid: int) -> bool:
    """Whether a process with this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
