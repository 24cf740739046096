"""What ends a local run with one line that says what to do."""

from __future__ import annotations


class LocalError(Exception):
    """Something on this machine is missing or in the way; the text says what to do about it."""
