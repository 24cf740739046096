"""``holdfast letters``: grouping by cause, without a call for each letter."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from holdfast.domain.identity import execution_name
from ops.cli import app
from ops.deployed import AwsStack
from ops.letters import (
    MOST_ROWS,
    NO_VERDICT,
    Cause,
    Filter,
    Letter,
    LetterState,
    archived_letters,
    causes_of,
    open_letters,
    render_causes,
    render_letters,
)
from tests.commands import AnsweringStack, assert_screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
TOPIC = "v2.detail.events.conversation.{id}.acd.start"
EVERYTHING = Filter()


def name(event_id: str, topic: str = TOPIC) -> str:
    return execution_name(topic, event_id, "0b7c9a3e-5a55-4c0e-9f5c-5f3a6b7c8d9e")


def key(event_id: str, category: str = "EXHAUSTED", day: str = "2026-11-26", fingerprint: str = "f1") -> str:
    return f"archive/category={category}/dt={day}/{fingerprint}/{name(event_id)}.json"


def row(execution: str, **fields: str) -> list[dict[str, str]]:
    known = {"category": "UNAVAILABLE", "rule": "unavailable", "fingerprint": "f2", "eventId": "e", "redrives": "2"}
    return [{"field": name, "value": value} for name, value in {"execution": execution, **known, **fields}.items()]


class NoSuchKey(Exception):
    pass


@dataclass
class World:
    """Executions, verdicts and archive keys; it records the calls and the prefixes that were listed."""

    running: list[str] = field(default_factory=list)
    rows: list[list[dict[str, str]]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    read: list[str] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    exceptions: Any = None

    def stack(self) -> AnsweringStack:
        self.exceptions = type("Exceptions", (), {"NoSuchKey": NoSuchKey})
        answers = {
            "stepfunctions.get_paginator": lambda _operation: Pages(self._executions),
            "s3.get_paginator": lambda _operation: Pages(self._objects),
            "s3.get_object": self._object,
            "s3.exceptions": self.exceptions,
            "dynamodb.get_paginator": lambda _operation: Pages(lambda **_: [{"Items": self.waiting}]),
            "logs.start_query": self._query,
            "logs.get_query_results": lambda **_: {"status": "Complete", "results": self.rows},
        }
        return AnsweringStack(answers, calls=self.calls)

    def _executions(self, **_: Any) -> Iterator[Any]:
        for first in range(0, len(self.running), 1000):
            self.calls["page of executions"] += 1
            started = NOW - timedelta(hours=1)
            yield {"executions": [{"name": one, "startDate": started} for one in self.running[first : first + 1000]]}

    def _objects(self, **request: Any) -> Iterator[Any]:
        prefix, delimiter = request["Prefix"], request.get("Delimiter")
        self.listed.append(prefix)
        found = [one for one in self.keys if one.startswith(prefix)]
        if delimiter:
            folders = {prefix + one.removeprefix(prefix).partition("/")[0] + "/" for one in found}
            yield {"CommonPrefixes": [{"Prefix": folder} for folder in sorted(folders)]}
            return
        for first in range(0, len(found), 1000):
            yield {"Contents": [{"Key": one, "LastModified": NOW} for one in found[first : first + 1000]]}

    def _object(self, **request: Any) -> Any:
        self.read.append(request["Key"])
        if request["Key"] not in self.keys:
            raise NoSuchKey
        verdict = {"rule": "exhausted", "evidence": {"lastMessage": "the Genesys API answered 503"}}
        return {"Body": io.BytesIO(json.dumps({"verdict": verdict, "message": {"body": "secret"}}).encode())}

    def _query(self, **_: Any) -> Any:
        self.calls["query"] += 1
        return {"queryId": "q"}


@dataclass
class Pages:
    pages: Any

    def paginate(self, **request: Any) -> Iterable[Any]:
        found: Iterable[Any] = self.pages(**request)
        return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.log_query.time.sleep", lambda _seconds: None)


# -- in triage -----------------------------------------------------------------------------------------------------


def test_running_executions_have_the_verdict_of_the_log() -> None:
    world = World(running=[name("a"), name("b")], rows=[row(name("a"), error="503"), row("another that has ended")])
    found = {letter.execution: letter for letter in open_letters(world.stack(), NOW)}
    assert found.keys() == {name("a"), name("b")}
    with_verdict, without = found[name("a")], found[name("b")]
    assert (with_verdict.category, with_verdict.error, with_verdict.redrives) == ("UNAVAILABLE", "503", 2)
    assert (without.category, without.topic) == (NO_VERDICT, "acd-start")


def test_a_waiting_letter_has_the_time_of_its_next_redrive() -> None:
    at = {"eventId": "waiting letters", "attempt": name("a"), "taskToken": "t", "letter": "a", "rule": "r"}
    fields = {**at, "category": "UNAVAILABLE", "fingerprint": "f2", "nextTryAt": "2026-11-26T13:00:00.000Z"}
    item = {name: {"S": value} for name, value in fields.items()}
    world = World(running=[name("a"), name("b")], rows=[row(name("a"))], waiting=[item])
    found = {letter.execution: letter.next_try_at for letter in open_letters(world.stack(), NOW)}
    assert found == {name("a"): NOW + timedelta(hours=1), name("b"): None}


def test_ten_thousand_letters_take_ten_listings_and_one_query() -> None:
    names = [name(f"event-{number}") for number in range(10_000)]
    world = World(running=names, rows=[row(one) for one in names[: MOST_ROWS - 1]])
    assert len(list(open_letters(world.stack(), NOW))) == 10_000
    assert world.calls["page of executions"] == 10
    assert world.calls["query"] == 1


def test_a_range_with_too_many_verdicts_is_halved_until_all_are_read() -> None:
    world = World(running=[name("a")], rows=[row(name("a"))] * MOST_ROWS)
    list(open_letters(world.stack(), NOW))
    assert world.calls["query"] > 2
    assert world.calls["query"] < 512  # not further than a minute


def test_without_a_running_execution_there_is_no_query() -> None:
    assert list(open_letters(World().stack(), NOW)) == []


# -- archived ------------------------------------------------------------------------------------------------------


def archived(world: World, wanted: Filter = EVERYTHING) -> list[Letter]:
    found: list[Letter] = []
    archived_letters(world.stack(), wanted, lambda letters, _keys: found.extend(letters))
    return found


def test_only_the_categories_and_days_that_a_filter_allows_are_listed() -> None:
    world = World(keys=[key("a"), key("b", day="2026-11-20"), key("c", category="UNKNOWN")])
    wanted = Filter(category="EXHAUSTED", since=datetime(2026, 11, 25, tzinfo=UTC))
    assert [letter.execution for letter in archived(world, wanted)] == [name("a")]
    assert "archive/category=UNKNOWN/" not in world.listed
    assert not any("2026-11-20" in prefix for prefix in world.listed)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(fingerprint="f1"), ["a"]),
        (Filter(fingerprint="f"), []),
        (Filter(topic="acd-start"), ["a"]),
        (Filter(topic="acd-end"), []),
        (Filter(since=NOW + timedelta(seconds=1)), []),
    ],
)
def test_a_filter_selects_whole_values(wanted: Filter, found: list[str]) -> None:
    assert [letter.execution for letter in archived(World(keys=[key("a")]), wanted)] == [name(one) for one in found]


def test_objects_with_another_name_are_left_out() -> None:
    assert archived(World(keys=["archive/category=UNKNOWN/dt=2026-11-26/f/readme.txt"])) == []


def test_300_000_archived_letters_are_grouped_with_one_read_for_each_cause() -> None:
    world = World(keys=[key(f"event-{number}", fingerprint=f"f{number % 3}") for number in range(300_000)])
    causes = causes_of(world.stack(), EVERYTHING, NOW, in_triage=False)
    assert sorted((cause.fingerprint, cause.archived) for cause in causes) == [
        ("f0", 100_000),
        ("f1", 100_000),
        ("f2", 100_000),
    ]
    assert len(world.read) == 3
    assert causes[0].error == "the Genesys API answered 503"


def test_a_cause_in_triage_and_in_the_archive_is_shown_for_both() -> None:
    world = World(running=[name("a")], rows=[row(name("a"), fingerprint="f1", category="EXHAUSTED")], keys=[key("b")])
    causes = causes_of(world.stack(), EVERYTHING, NOW)
    assert sum(cause.open for cause in causes) == 1
    assert sum(cause.archived for cause in causes) == 1


def test_an_object_that_expired_after_the_listing_leaves_the_sentence_out() -> None:
    world = World(keys=[key("a")])
    stack = world.stack()
    listed, world.keys = world.keys, []
    pages = Pages(lambda **request: World(keys=listed)._objects(**request))
    stack.answers = {**stack.answers, "s3.get_paginator": lambda _operation: pages}
    (cause,) = causes_of(stack, EVERYTHING, NOW, in_triage=False)
    assert (cause.archived, cause.rule, cause.error) == (1, "", "")


# -- the screen ----------------------------------------------------------------------------------------------------


def test_causes_are_shown_as_blocks() -> None:
    causes = [
        Cause(
            category="EXHAUSTED",
            rule="exhausted",
            fingerprint="0123456789abcdef",
            open=0,
            archived=12_345,
            first=NOW - timedelta(hours=30),
            last=NOW - timedelta(minutes=3),
            topics={"acd-start": 12_000, "acd-end": 300, "user-start": 40, "user-end": 5},
            explanation="The letter has no retries left. Triage archives it.",
            error="the Genesys API answered 503",
            next_try_at=NOW + timedelta(minutes=7),
        ),
        Cause(
            category=NO_VERDICT,
            rule="",
            fingerprint="",
            open=2,
            archived=0,
            first=NOW - timedelta(seconds=9),
            last=NOW - timedelta(seconds=4),
            topics={"replayed": 2},
            explanation="",
            error="",
        ),
    ]
    assert_screen(render_causes(causes, NOW), "letters-causes")


@pytest.mark.usefixtures("utc")
def test_letters_are_shown_a_line_each_with_whole_ids() -> None:
    letters = [
        Letter(LetterState.ARCHIVED, name("b"), "EXHAUSTED", "f1", "acd-start", NOW - timedelta(days=1), key=key("b")),
        Letter(LetterState.OPEN, name("a"), "UNAVAILABLE", "f2", "acd-start", NOW, redrives=2, event_id="event-a"),
    ]
    assert_screen(render_letters(letters, NOW), "letters-each")


def test_no_letters_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AwsStack, "named", lambda _name, **_: World().stack())
    assert CliRunner().invoke(app, ["letters"]).stdout == "No letters.\n"
    assert CliRunner().invoke(app, ["letters", "--json"]).stdout == "[]\n"


def test_an_unknown_category_names_those_that_exist() -> None:
    result = CliRunner().invoke(app, ["letters", "--category", "EXHAUSTD"])
    assert result.exit_code == 2
    assert "EXHAUSTED" in result.stderr
