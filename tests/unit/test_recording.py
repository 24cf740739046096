"""The picture of a run shows every line at its own time."""

from __future__ import annotations

import re

from rich.text import Text

from local.recording import SPEED, WIDTH, picture


def test_every_row_appears_when_its_line_did_also_where_a_line_takes_two_rows() -> None:
    svg = picture([(0.0, Text("one")), (6.0, Text("x" * (WIDTH + 1))), (12.0, Text("three"))])
    delays = re.findall(r"animation-delay: ([\d.]+)s", svg)
    assert [float(delay) * SPEED for delay in dict.fromkeys(delays)] == [0.0, 6.0, 12.0]
    assert len(delays) == 4 * delays.count("0.0")  # one row, two rows, one row


def test_a_reader_who_wants_no_motion_sees_all_of_it() -> None:
    assert "prefers-reduced-motion" in picture([(0.0, Text("one"))])
