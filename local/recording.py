"""Records ``make demo`` as an animation: ``python -m local.recording`` writes ``docs/img/demo.svg``.

The animation shows a real run, only faster. A reader who prefers reduced motion sees all lines at once.
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
WIDTH = 80
#: Seconds of the run per second of the animation.
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
        LocalError: The demo failed.
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
        raise LocalError("The demo failed; see the lines above. Nothing was recorded.")
    return lines


def picture(lines: list[Line]) -> str:
    """An SVG in which each line appears at its time."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    times: list[float] = []
    for seconds, text in lines:
        times += [seconds] * max(1, len(text.wrap(console, WIDTH)))
        console.print(text)
    svg = console.export_svg(title="make demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no fonts from the network

    def timed(found: re.Match[str]) -> str:
        return f'{found[0]} style="animation-delay: {times[int(found[1])] / SPEED:.1f}s"'

    svg = re.sub(r'clip-path="url\(#[\w-]+-line-(\d+)\)"', timed, svg)
    return svg.replace("</style>", f"{STYLE}</style>", 1)


def main() -> int:
    """Record the demo and write the animation."""
    PICTURE.write_text(picture(record()))
    print(f"Written: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
