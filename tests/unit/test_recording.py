"""The recording of the demo shows every line at its time."""

from __future__ import annotations

import re

from rich.text import Text

from local.recording import SPEED, WIDTH, picture


def test_every_row_appears_at_the_time_of_its_line_also_if_a_line_takes_two_rows() -> None:
    svg = picture([(0.0, Text("one")), (6.0, Text("x" * (WIDTH + 1))), (12.0, Text("three"))])
    delays = re.findall(r"animation-delay: ([\d.]+)s", svg)
    assert [float(delay) * SPEED for delay in dict.fromkeys(delays)] == [0.0, 6.0, 12.0]
    assert len(delays) == 4 * delays.count("0.0")  # one row, two rows, one row


def test_with_reduced_motion_every_line_is_visible() -> None:
    assert "prefers-reduced-motion" in picture([(0.0, Text("one"))])
