"""``make docs-check``: runs the commands in the documents against the application on this machine.

The ``sh`` blocks of a page run in one shell, in their order, after ``. .local/env``. A comment above a block skips it:

- ``<!-- aws only -->``: the block needs AWS,
- ``<!-- not run: <why> -->``: the block is interactive, or it would stop or change the local stack.

``tests/contract/test_docs.py`` checks the syntax of all blocks, the links and the pictures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.background import running
from local.engine import ROOT
from local.stack import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "events/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
)
#: Factor on the waits in triage: hours of backoff pass in seconds.
WAIT_SCALE = "0.01"
PAGE_SECONDS = 900
#: Commands that CI runs elsewhere, or that would stop or replace the stack of the check.
ELSEWHERE = re.compile(r"^make (test|check|docs-check|setup|up|redeploy|down|console|lock|clean)\b")
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>aws only|not run: [^>]+?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its first line in the page, its text without indentation, and the reason why it is skipped."""

    line: int
    text: str
    mark: str | None


def fenced(page: Path, kind: str) -> list[Block]:
    """The fenced blocks of a kind."""
    text = page.read_text()
    return [
        Block(
            line=text.count("\n", 0, found.start("text")) + 1,
            text=re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            mark=found["mark"],
        )
        for found in BLOCK.finditer(text)
        if found["kind"] == kind
    ]


def blocks(page: Path) -> list[Block]:
    """The blocks with shell commands."""
    return fenced(page, "sh")


#: Exit status 1 of the command is a result, for example that an alarm is active. 2 is an error.
RESULT_IS_NO_ERROR = 'holdfast() { command holdfast "$@" || [ $? -eq 1 ]; }'


def script(page: Path) -> str:
    """A page's blocks as one shell script that prints the line of each block."""
    return "\n".join(["set -e", ". .local/env", RESULT_IS_NO_ERROR, *_commands(page)]) + "\n"


def _commands(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.mark is None:
            yield f"echo '::{block.line}'"
            yield "\n".join(line for line in block.text.splitlines() if not ELSEWHERE.match(line))


def main() -> int:
    """Run all pages, or the pages in the arguments. The exit code is the number of pages that failed."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    if started := running() is None:
        _make("local.up", "--wait-scale", WAIT_SCALE)
    try:
        return sum(not _runs(page) for page in pages if blocks(page))
    finally:
        if started:
            _make("local.down")


def _make(module: str, *arguments: str) -> None:
    """Start or stop the stack in a process of its own, as make does."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=ROOT)


def _runs(page: Path) -> bool:
    done = subprocess.run(
        ["bash", "-c", script(page)],
        check=False,
        cwd=ROOT,
        env=_clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_SECONDS,
    )
    marked = sum(block.mark is not None for block in blocks(page))
    ran = done.stdout.count("\n::") + done.stdout.startswith("::")
    name = page.relative_to(ROOT)
    if done.returncode == 0:
        print(f"{name}: {ran} blocks ran, {marked} skipped")
        return True
    line, _, output = done.stdout.rpartition("::")[2].partition("\n")
    print(f"{name}:{line}: this block failed with exit code {done.returncode}:\n{output}", file=sys.stderr)
    return False


def _clean_environment() -> dict[str, str]:
    """That of a shell which knows nothing of this project: make sets a path that would hide a missing step."""
    path = [one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(one) != BIN]
    own = {"PYTHONPATH", "VIRTUAL_ENV"}
    return {**{name: value for name, value in os.environ.items() if name not in own}, "PATH": os.pathsep.join(path)}


if __name__ == "__main__":
    sys.exit(main())
