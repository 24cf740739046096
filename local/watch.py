"""Shows a run while it goes on: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from holdfast.domain.replay import ARCHIVE_PREFIX
from local.engine import concurrency
from local.stack import Stack
from ops.deployed import executions, keys

LOOK_SECONDS = 0.7
LINE_SECONDS = 4.0
_BAR = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one look. They are read one after the other, so they need not add up during the run."""

    sent: int = 0
    copies: int = 0
    buffer: int = 0
    stored: int = 0
    triage: int = 0
    recovered: int = 0
    archived: int = 0
    running: int = 0
    peak: int = 0

    def line(self) -> str:
        """The most important counts in one line."""
        return (
            f"sent {self.sent}  buffer {self.buffer}  stored {self.stored}  "
            f"triage {self.triage}  recovered {self.recovered}  archived {self.archived}"
        )


def count(stack: Stack, sent: int, copies: int) -> Counts:
    """Read the counts."""
    statuses = [execution["status"] for execution in executions(stack)]
    archived = len(keys(stack, ARCHIVE_PREFIX))
    function = stack.outputs["ProcessorFunctionName"]
    invocations = concurrency(stack.endpoint)
    return Counts(
        sent=sent,
        copies=copies,
        buffer=queue_length(stack, stack.outputs["BufferQueueUrl"]),
        stored=_stored(stack),
        triage=statuses.count("RUNNING") + queue_length(stack, stack.outputs["DeadLetterQueueUrl"]),
        recovered=max(0, statuses.count("SUCCEEDED") - archived),
        archived=archived,
        running=invocations["running"].get(function, 0),
        peak=invocations["peak"].get(function, 0),
    )


@dataclass
class Watch:
    """Counts in the background for the time of a ``with`` block and shows the counts.

    ``planned`` is the number of deliveries of the run, ``limit`` the number of invocations that may run at once.
    """

    console: Console
    look: Callable[[], Counts]
    planned: int
    limit: int
    phase: str = ""
    _counts: Counts = field(default_factory=Counts)
    _since: float = field(default_factory=time.monotonic)
    _ended: threading.Event = field(default_factory=threading.Event)
    _live: Live | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join(timeout=10)
        if self._live:
            self._live.stop()
        if kind is None:
            self._counts = self.look()
            self.console.print(self._panel())

    def say(self, phase: str, style: str = "") -> None:
        """Print the step that begins now."""
        self.phase = phase
        self.console.print(Text.assemble((f"{self._elapsed():>5.1f} s  ", "dim"), (phase, style)))

    def __rich__(self) -> RenderableType:
        return Group(Text(), self._panel())

    def _elapsed(self) -> float:
        return time.monotonic() - self._since

    def _watch(self) -> None:
        printed = 0.0
        while not self._ended.is_set():
            # The engine may be stopping.
            with contextlib.suppress(BotoCoreError, ClientError, OSError):
                self._counts = self.look()
            if self._live is None and time.monotonic() - printed >= LINE_SECONDS:
                printed = time.monotonic()
                self.console.print(f"{self._elapsed():>5.1f} s  {self._counts.line()}", soft_wrap=True)
            self._ended.wait(LOOK_SECONDS)

    def _panel(self) -> RenderableType:
        counts = self._counts
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=4)
        table.add_column(no_wrap=True)
        table.add_column(style="dim", no_wrap=True)
        for name, value, style, remark in (
            ("sent", counts.sent, "white", f"of {self.planned} deliveries"),
            ("stored", counts.stored, "green", "each event once"),
            ("duplicates", counts.copies, "white", "second copies of sent events"),
            ("in the buffer", counts.buffer, "cyan", "waiting or being processed"),
            ("in triage", counts.triage, "yellow", "one execution per dead letter"),
            ("recovered", counts.recovered, "green", "redriven and then stored"),
            ("archived", counts.archived, "magenta", "a redrive cannot help"),
        ):
            table.add_row(name, str(value), _bar(value, self.planned, style), remark)
        remark = f"of {self.limit} allowed; {counts.running} now"
        table.add_row("peak invocations", str(counts.peak), _bar(counts.peak, self.limit, "blue"), remark)
        return Group(table, Text(f"{self._elapsed():>5.1f} s  {self.phase}", style="dim"))


def _bar(value: int, total: int, style: str) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=value, width=_BAR, complete_style=style, finished_style=style)


def queue_length(stack: Stack, queue_url: str) -> int:
    """How many messages a queue holds, in flight ones included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return sum(int(value) for value in answer["Attributes"].values())


def _stored(stack: Stack) -> int:
    pages = stack.client("dynamodb").get_paginator("scan")
    return sum(page["Count"] for page in pages.paginate(TableName=stack.outputs["EventsTableName"], Select="COUNT"))
