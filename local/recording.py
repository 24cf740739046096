"""Records ``make demo`` as a picture that plays: ``python -m local.recording`` writes ``docs/img/demo.svg``.

It is a real run: its lines, in its colours, each at its own time, only faster. Without motion all are shown.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time

from rich.console import Console
from rich.text import Text

from local.engine import ROOT
from local.errors import LocalError, exit_code

PICTURE = ROOT / "docs" / "img" / "demo.svg"
WIDTH = 100
#: So many seconds of the run pass in one of the picture.
SPEED = 6.0
STYLE = """
    text[clip-path] { opacity: 0; animation: appear 0.2s forwards; }
    @keyframes appear { to { opacity: 1; } }
    @media (prefers-reduced-motion) { text[clip-path] { opacity: 1; animation: none; } }
"""

Line = tuple[float, Text]


def record() -> list[Line]:
    """The demo's lines, each with the seconds since the start.

    Raises:
        LocalError: The demo failed; its output tells why.
    """
    start = time.monotonic()
    colours = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH), "PYTHONUNBUFFERED": "1"}
    lines: list[Line] = []
    with subprocess.Popen(
        [sys.executable, "-m", "local.demo"],
        cwd=ROOT,
        env=os.environ | colours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        for line in demo.stdout or ():
            print(line, end="", flush=True)
            lines.append((time.monotonic() - start, Text.from_ansi(line.rstrip("\n"))))
    if demo.returncode:
        raise LocalError("The demo failed, so there is nothing to show; the lines above say why.")
    return lines


def picture(lines: list[Line]) -> str:
    """An SVG in which every line appears at its time."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    times: list[float] = []
    for seconds, text in lines:
        times += [seconds] * max(1, len(text.wrap(console, WIDTH)))
        console.print(text)
    svg = console.export_svg(title="make demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is fetched from elsewhere

    def timed(found: re.Match[str]) -> str:
        return f'{found[0]} style="animation-delay: {times[int(found[1])] / SPEED:.1f}s"'

    svg = re.sub(r'clip-path="url\(#[\w-]+-line-(\d+)\)"', timed, svg)
    return svg.replace("</style>", f"{STYLE}</style>", 1)


def main() -> int:
    """Record, and write the picture."""
    PICTURE.write_text(picture(record()))
    print(f"Written: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
