"""How the commands print: times, tables, colour, JSON, and the errors that end a command."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from ops.errors import CommandError, explain

T = TypeVar("T")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
#: Wide enough for every id: nothing is cut where no person looks.
_PIPED_WIDTH = 10_000


def console() -> Console:
    """Standard output. Without a terminal there is no colour and nothing is cut. Rich reads ``NO_COLOR``."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_PIPED_WIDTH, no_color=True)


def errors() -> Console:
    """Standard error, for progress, questions and errors: standard output holds results only."""
    return Console(stderr=True, highlight=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines. ``right`` names the columns of numbers."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return grid


def progress() -> Progress:
    """A progress bar on standard error; nothing without a terminal."""
    shown = errors()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


def ago(moment: datetime, now: datetime) -> str:
    """A relative time: ``12 s ago``, ``in 5 min``."""
    seconds = (now - moment).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: float | timedelta) -> str:
    """A length of time: ``12 s``, ``5 min``, ``3.2 h``, ``4.0 d``."""
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if value < _MINUTE:
        return f"{value:.0f} s"
    if value < _HOUR:
        return f"{value / _MINUTE:.0f} min"
    return f"{value / _HOUR:.1f} h" if value < 2 * _DAY else f"{value / _DAY:.1f} d"


def local_time(moment: datetime, now: datetime) -> str:
    """A time in the local zone, with the date only if it is another day: ``14:03:09``, ``11-25 14:03:09``."""
    here, today = moment.astimezone(), now.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == today.date() else f"{here:%m-%d %H:%M:%S}"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time; UTC unless it names a zone.

    Raises:
        CommandError: It is not one.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"'{text}' is not a time. Write it as 2026-11-23T08:00, in UTC unless it names a zone."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def parse_since(text: str, now: datetime) -> datetime:
    """Read the value of ``--since``: ``30m``, ``6h``, ``2d``, or a time.

    Raises:
        CommandError: It is neither.
    """
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        seconds = {"s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY}[match[2]]
        return now - timedelta(seconds=int(match[1]) * seconds)
    return parse_time(text)


def to_json(value: Any) -> str:
    """A result as JSON: dataclasses as objects with camel case names, times in UTC."""
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    """What the json module does not know."""
    if dataclasses.is_dataclass(value):
        return {_camel(one.name): getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something changes.

    Raises:
        CommandError: The answer was not yes, or there is no terminal to ask at.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} The command cannot ask, because there is no terminal: add --yes to confirm.")
    if not typer.confirm(question, err=True):
        raise CommandError("Nothing was changed.")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End a command with exit status 2 and one sentence when it cannot continue."""
    try:
        yield
    except CommandError as error:
        _end(str(error))
    except (ClientError, BotoCoreError) as error:
        _end(explain(error))


def _end(message: str) -> None:
    errors().print(message, markup=False, soft_wrap=True)
    raise typer.Exit(2)


def print_result(result: T, render: Callable[[T], Any], *, as_json: bool) -> None:
    """Print a result as JSON, or as a person reads it."""
    if as_json:
        typer.echo(to_json(result))
    else:
        console().print(render(result))
