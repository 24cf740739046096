"""``make docs-check``: runs the commands of the documents, as they stand, against the application on this machine.

A page is one shell: its blocks of ``sh`` run in their order, after ``. .local/env``. Above a block may stand

- ``<!-- aws only -->``: it needs AWS itself,
- ``<!-- not run: <why> -->``: it asks questions, or changes what the check stands on.

Both are counted and not run. ``tests/contract/test_docs.py`` checks that they are shell, and links and pictures too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.background import running
from local.engine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "events/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
#: Hours of backoff pass in seconds, so that what a command waits for comes.
WAIT_SCALE = "0.01"
PAGE_SECONDS = 900
#: CI runs them, or they would end, replace or wait for what the commands run on.
ELSEWHERE = re.compile(r"^make (test|check|docs-check|setup|up|down|console|lock|clean)\b")
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>aws only|not run: [^>]+?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its first line in the page, its text without indentation, and why it is not run, if so."""

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
    """The blocks of commands."""
    return fenced(page, "sh")


def script(page: Path) -> str:
    """One shell script of a page's blocks, each announced by its line."""
    return "\n".join(["set -e", ". .local/env", *_commands(page)]) + "\n"


def _commands(page: Path) -> Iterator[str]:
    for block in blocks(page):
        if block.mark is None:
            yield f"echo '::{block.line}'"
            yield "\n".join(line for line in block.text.splitlines() if not ELSEWHERE.match(line))


def main() -> int:
    """Run every page, or those that are named; the number of pages with a command that failed is the exit code."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or PAGES
    if started := running() is None:
        _make("local.up", "--wait-scale", WAIT_SCALE)
    try:
        return sum(not _runs(page) for page in pages if blocks(page))
    finally:
        if started:
            _make("local.down")


def _make(module: str, *arguments: str) -> None:
    """Start or end the stack as make does: a process of its own is nobody's child when it ends."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=ROOT)


def _runs(page: Path) -> bool:
    done = subprocess.run(
        ["bash", "-c", script(page)],
        check=False,
        cwd=ROOT,
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
        print(f"{name}: {ran} blocks ran, {marked} are marked as not for here")
        return True
    line, _, output = done.stdout.rpartition("::")[2].partition("\n")
    print(f"{name}:{line}: this block failed with code {done.returncode}:\n{output}", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
