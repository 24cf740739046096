"""``holdfast letters``: dead letters grouped by cause, those in triage and those in the archive.

Nothing is read letter by letter. Letters in triage are the running executions, joined with the verdicts in the log of
Classify. Archived letters are counted by listing keys, which contain category, fingerprint and topic; of each group
one object is read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from threading import Lock
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from holdfast.domain.categories import VERDICT_CATEGORIES
from holdfast.domain.identity import topic_end
from holdfast.domain.replay import ARCHIVE_PREFIX
from ops import options, screen
from ops.deployed import AwsStack, DeployedStack, executions
from ops.errors import CommandError
from ops.log_query import MOST_ROWS, LogQuery, Rows
from ops.names import ArchiveKey, ExecutionName
from ops.rules import explanation_of
from ops.waiting import waiting_letters

TOPICS_SHOWN = 3
#: Listings and reads at the same time.
_READERS = 16
#: A range of time with too many verdicts is halved, but not further than this.
_SHORTEST = timedelta(minutes=1)
#: Log lines reach Logs Insights within some seconds, and clocks differ.
_LEEWAY = timedelta(minutes=5)
_VERDICTS = (
    "filter message = 'verdict' "
    "| stats latest(category) as category, latest(rule) as rule, latest(fingerprint) as fingerprint, "
    "latest(errorMessage) as error, latest(redrives) as redrives, min(@timestamp) as first, max(@timestamp) as last "
    f"by execution, eventId | limit {MOST_ROWS}"
)
#: The category of a letter in triage without a verdict yet.
NO_VERDICT = "no verdict yet"


class LetterState(StrEnum):
    """Where a letter is."""

    OPEN = "in triage"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        state: Where it is.
        execution: The name of its triage execution.
        category: Of the last verdict.
        fingerprint: Of the last verdict.
        topic: The end of its topic.
        at: When its triage started, or when it was archived.
        rule: Of the last verdict, if its letter is in triage.
        error: The error of the last attempt, if its letter is in triage.
        event_id: The event, if its letter is in triage: an archive key does not contain it.
        redrives: How often it was redriven, if its letter is in triage.
        next_try_at: When it is redriven, if it waits for that.
        key: Its archive object.
    """

    state: LetterState
    execution: str
    category: str
    fingerprint: str
    topic: str
    at: datetime
    rule: str = ""
    error: str = ""
    event_id: str = ""
    redrives: int = 0
    next_try_at: datetime | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Letters with the same cause.

    Attributes:
        category: Kind of failure.
        rule: The rule of the verdict.
        fingerprint: Hash of the normalised error.
        open: How many letters are in triage.
        archived: How many are archived.
        first: The first of them.
        last: The last of them.
        topics: How many letters of each topic.
        explanation: The sentence of the verdict.
        error: The error of the last attempt.
        next_try_at: When the first of its waiting letters is redriven, if one waits.
    """

    category: str
    rule: str
    fingerprint: str
    open: int
    archived: int
    first: datetime
    last: datetime
    topics: Mapping[str, int]
    explanation: str
    error: str
    next_try_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are wanted; an empty field selects all."""

    category: str = ""
    fingerprint: str = ""
    topic: str = ""
    since: datetime | None = None

    @classmethod
    def read(cls, category: str, fingerprint: str, topic: str, since: str | None, now: datetime) -> Filter:
        """Read the options of a command.

        Raises:
            CommandError: There is no such category, or ``since`` is no time.
        """
        begin = screen.parse_since(since, now) if since else None
        return cls(parse_category(category), fingerprint, topic_end(topic) if topic else "", begin)

    def selects(self, letter: Letter) -> bool:
        """Whether the letter is wanted."""
        wanted = (
            (self.category, letter.category),
            (self.fingerprint, letter.fingerprint),
            (self.topic, letter.topic),
        )
        return all(one in ("", found) for one, found in wanted) and (self.since is None or letter.at >= self.since)


# -- letters in triage ---------------------------------------------------------------------------------------------


def open_letters(stack: DeployedStack, now: datetime) -> Iterator[Letter]:
    """The letters in triage: one call for each 1,000 executions, the log query, and one query for those that wait."""
    running = {one["name"]: one["startDate"] for one in executions(stack, statusFilter="RUNNING")}
    if not running:
        return
    rows = {row["execution"]: row for row in _verdicts(stack, min(running.values()) - _LEEWAY, now + _LEEWAY)}
    waits = {letter.execution: letter.next_try_at for letter, _ in waiting_letters(stack, now)}
    for name, started in running.items():
        row = rows.get(name, {})
        parts = ExecutionName.read(name)
        yield Letter(
            state=LetterState.OPEN,
            execution=name,
            category=row.get("category", NO_VERDICT),
            fingerprint=row.get("fingerprint", ""),
            topic=(parts.topic if parts else None) or "replayed",
            at=started.astimezone(UTC),
            rule=row.get("rule", ""),
            error=row.get("error", ""),
            event_id=row.get("eventId", ""),
            redrives=int(float(row.get("redrives", 0))),
            next_try_at=waits.get(name),
        )


def _verdicts(stack: DeployedStack, begin: datetime, end: datetime) -> Rows:
    """The last verdict of each execution in a range of time, the earlier ranges first."""
    rows = LogQuery(["classify"], _VERDICTS, begin, end).rows(stack)
    if rows is None:
        raise CommandError("The log query for the verdicts has not ended within a minute. Run the command again.")
    if len(rows) < MOST_ROWS or end - begin < _SHORTEST:
        return rows
    half = begin + (end - begin) / 2
    return [*_verdicts(stack, begin, half), *_verdicts(stack, half, end)]


# -- archived letters ----------------------------------------------------------------------------------------------


def archived_letters(stack: DeployedStack, wanted: Filter, take: Callable[[Sequence[Letter], int], None]) -> None:
    """List the archived letters that a filter selects, only the categories and days that it allows.

    Args:
        stack: The stack.
        wanted: The filter.
        take: Called for each page, by several threads: the selected letters, and the number of keys of the page.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        categories = [one for one in _folders(stack, ARCHIVE_PREFIX) if wanted.category in ("", _value(one))]
        days = [day for found in pool.map(lambda one: _folders(stack, one), categories) for day in found]
        first = f"{wanted.since:%Y-%m-%d}" if wanted.since else ""
        recent = [f"{day}{wanted.fingerprint}" for day in days if _value(day) >= first]
        list(pool.map(lambda prefix: _list_below(stack, prefix, wanted, take), recent))


def _folders(stack: DeployedStack, prefix: str) -> list[str]:
    """The folders directly below a prefix."""
    pages = stack.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=stack.outputs["ArchiveBucketName"], Prefix=prefix, Delimiter="/")
    return [one["Prefix"] for page in found for one in page.get("CommonPrefixes", [])]


def _value(folder: str) -> str:
    """``UNKNOWN`` of ``archive/category=UNKNOWN/``."""
    return folder.rstrip("/").rpartition("=")[2]


def _list_below(
    stack: DeployedStack, prefix: str, wanted: Filter, take: Callable[[Sequence[Letter], int], None]
) -> None:
    pages = stack.client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=stack.outputs["ArchiveBucketName"], Prefix=prefix):
        found = page.get("Contents", [])
        letters = filter(None, (_archived(one["Key"], one["LastModified"]) for one in found))
        take([letter for letter in letters if wanted.selects(letter)], len(found))


def _archived(key: str, at: datetime) -> Letter | None:
    read = ArchiveKey.read(key)
    if read is None:
        return None
    return Letter(LetterState.ARCHIVED, read.execution, read.category, read.fingerprint, read.topic, at, key=key)


# -- causes --------------------------------------------------------------------------------------------------------


@dataclass
class _Group:
    """The letters of one cause, counted: the memory does not grow with their number."""

    counts: Counter[LetterState] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    first: Letter | None = None
    last: Letter | None = None
    next_try_at: datetime | None = None

    def add(self, letter: Letter) -> None:
        self.counts[letter.state] += 1
        self.topics[letter.topic] += 1
        if self.first is None or letter.at < self.first.at:
            self.first = letter
        if self.last is None or letter.at > self.last.at:
            self.last = letter
        if letter.next_try_at and (self.next_try_at is None or letter.next_try_at < self.next_try_at):
            self.next_try_at = letter.next_try_at


@dataclass
class Causes:
    """Groups letters by category, fingerprint and, for those in triage, rule. Several threads may add."""

    _groups: dict[tuple[str, str, str], _Group] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, letters: Iterable[Letter]) -> None:
        """Count letters."""
        with self._lock:
            for letter in letters:
                self._groups.setdefault((letter.category, letter.fingerprint, letter.rule), _Group()).add(letter)

    def read(self, stack: DeployedStack) -> list[Cause]:
        """The causes, the largest first. One archive object of each is read for the rule and the error."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda group: _cause(stack, group), self._groups.values()))
        return sorted(found, key=lambda one: (-one.open - one.archived, one.category, one.fingerprint))


def _cause(stack: DeployedStack, group: _Group) -> Cause:
    first, last = group.first, group.last
    if first is None or last is None:
        raise ValueError("a group has at least one letter")
    rule, error = _verdict_of(stack, last.key) if last.key else (last.rule, last.error)
    return Cause(
        category=last.category,
        rule=rule,
        fingerprint=last.fingerprint,
        open=group.counts[LetterState.OPEN],
        archived=group.counts[LetterState.ARCHIVED],
        first=first.at,
        last=last.at,
        topics=dict(group.topics.most_common()),
        explanation=explanation_of(rule),
        error=error,
        next_try_at=group.next_try_at,
    )


def _verdict_of(stack: DeployedStack, key: str) -> tuple[str, str]:
    """The rule and the error of an archived letter. Empty if the object has expired since it was listed."""
    s3 = stack.client("s3")
    try:
        body = s3.get_object(Bucket=stack.outputs["ArchiveBucketName"], Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return "", ""
    document: dict[str, Any] = json.loads(body)
    verdict = [document, *(document.get("later") or [])][-1]["verdict"]
    return verdict["rule"], (verdict.get("evidence") or {}).get("lastMessage") or ""


# -- show ----------------------------------------------------------------------------------------------------------


def render_causes(causes: Sequence[Cause], now: datetime) -> RenderableType:
    """A block for each cause: its numbers, then what happened."""
    if not causes:
        return Text("No letters.", style="green")
    blocks: list[RenderableType] = []
    for cause in causes:
        times = f"{screen.ago(cause.first, now)} to {screen.ago(cause.last, now)}"
        counts = [f"{cause.open:,} in triage"] * (cause.open > 0) + [f"{cause.archived:,} archived"] * (
            cause.archived > 0
        )
        due = f"  next redrive {screen.ago(cause.next_try_at, now)}" if cause.next_try_at else ""
        blocks += [
            Text.assemble((cause.category, "bold"), f"  {', '.join(counts)}  ", (times, "dim"), due),
            *(Text(f"  {line}") for line in (cause.error, cause.explanation) if line),
            Text(f"  topics {_topics(cause.topics)}", style="dim"),
            Text(f"  fingerprint {cause.fingerprint or 'none'}  rule {cause.rule or 'unknown'}", style="dim"),
            "",
        ]
    return Group(*blocks[:-1])


def _topics(topics: Mapping[str, int]) -> str:
    shown = [f"{name} ({count:,})" for name, count in list(topics.items())[:TOPICS_SHOWN]]
    more = len(topics) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def render_letters(letters: Sequence[Letter], now: datetime) -> RenderableType:
    """A line for each letter. ``holdfast show`` takes what the last column has."""
    table = screen.table("since", "state", "category", "redrives", "next", "topic", "letter", right=["redrives"])
    for one in letters:
        table.add_row(
            screen.local_time(one.at, now),
            one.state,
            one.category,
            str(one.redrives) if one.state is LetterState.OPEN else "",
            screen.ago(one.next_try_at, now) if one.next_try_at else "",
            one.topic,
            one.event_id or one.execution,
        )
    return table


def letters(
    open_: Annotated[bool, typer.Option("--open", help="Only letters in triage.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Only archived letters.")] = False,
    category: Annotated[str, typer.Option("--category", help="For example EXHAUSTED.")] = "",
    topic: Annotated[str, typer.Option("--topic", help="A topic, or its end: acd-start.")] = "",
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Letters with the same error.")] = "",
    since: options.Since = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each letter instead of its cause.")] = False,
    stack: options.Stack = options.DEFAULT_STACK,
    profile: options.Profile = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Show dead letters grouped by cause: those in triage and those in the archive.

    Example: holdfast letters --archived --since 2d --category EXHAUSTED
    """
    now = datetime.now(UTC)
    with screen.exit_on_error():
        wanted = Filter.read(category, fingerprint, topic, since, now)
        deployed = AwsStack.named(stack, profile=profile, region=region)
        where = {"in_triage": open_ or not archived, "in_archive": archived or not open_}
        if each:
            found = _list_letters(deployed, wanted, now, **where)
            screen.print_result(found, lambda shown: render_letters(shown, now), as_json=as_json)
        else:
            causes = causes_of(deployed, wanted, now, **where)
            screen.print_result(causes, lambda shown: render_causes(shown, now), as_json=as_json)


def causes_of(
    stack: DeployedStack, wanted: Filter, now: datetime, *, in_triage: bool = True, in_archive: bool = True
) -> list[Cause]:
    """The causes of the letters that a filter selects, the largest first."""
    causes = Causes()
    _collect(stack, wanted, now, causes.add, in_triage=in_triage, in_archive=in_archive)
    return causes.read(stack)


def _list_letters(
    stack: DeployedStack, wanted: Filter, now: datetime, *, in_triage: bool, in_archive: bool
) -> list[Letter]:
    found: list[Letter] = []
    _collect(stack, wanted, now, found.extend, in_triage=in_triage, in_archive=in_archive)
    return sorted(found, key=lambda one: one.at)


def _collect(
    stack: DeployedStack,
    wanted: Filter,
    now: datetime,
    add: Callable[[Iterable[Letter]], None],
    *,
    in_triage: bool,
    in_archive: bool,
) -> None:
    if in_triage:
        with screen.errors().status("Reading the verdicts on letters in triage ..."):
            add(letter for letter in open_letters(stack, now) if wanted.selects(letter))
    if in_archive:
        with screen.progress() as shown:
            task = shown.add_task("archived letters", total=None)

            def take(page: Sequence[Letter], keys: int) -> None:
                add(page)
                shown.advance(task, keys)

            archived_letters(stack, wanted, take)


def parse_category(text: str) -> str:
    """The category, in capitals; empty if none is given.

    Raises:
        CommandError: There is no such category.
    """
    category = text.upper().replace("-", "_")
    if category and category not in VERDICT_CATEGORIES:
        raise CommandError(f"There is no category '{text}'. The categories: {', '.join(sorted(VERDICT_CATEGORIES))}")
    return category
