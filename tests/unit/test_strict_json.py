"""Every text is read as a look at each of its numbers and keys would read it; most are never looked through."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.domain import strict_json
from holdfast.domain.errors import MalformedBody
from holdfast.domain.strict_json import NESTING_LIMIT, encodable, members, parse, serialise


def plainly(text: str) -> Any:
    """What a text says, with every check on everything and nothing clever; raises ValueError or RecursionError."""

    def number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
        def read(digits: str) -> Any:
            if not math.isfinite(float(digits)) or (kind is int and len(digits.lstrip("-")) > 308):
                raise ValueError
            return kind(digits)

        return read

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    read = json.loads(
        text, parse_int=number(int), parse_float=number(float), parse_constant=number(float), object_pairs_hook=unique
    )
    if depth(read) > NESTING_LIMIT:
        raise ValueError
    return read


NUMBERS = st.sampled_from(
    [
        "0",
        "-7",
        "1.5",
        "1e5",
        "1E-400",
        "2e308",
        "-1E+309",
        "1.7e308",
        "1e0308",
        "1e0309",
        "1" * 308,
        f"-{'9' * 308}",
        "1" * 309,
    ]
) | st.sampled_from([f"{'1' * 210}e99", f"{'1' * 210}.5E99", f"0.{'0' * 400}1", f"{'9' * 309}.5", "1e-999", "12e400"])
#: Texts that look like structure, like the end of a key, like a number.
WORDS = st.sampled_from(
    [
        "a",
        "b",
        "",
        '":',
        '\\":',
        "\\\\",
        '\\"',
        "\\u0022:",
        "[",
        "]",
        "{id}",
        "}{",
        "1e999",
        "1e400,",
        " :",
        "Zoë",
        "\\ud83c\\udfa7",
    ]
)
SPACE = st.sampled_from(["", "", "", "", " ", "\n", "\t", "\r "])
STRINGS = st.lists(WORDS, max_size=3).map(lambda words: f'"{"".join(words)}"')


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda items, space: f"[{(space + ',').join(items)}]", st.lists(inner, max_size=4), SPACE)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds(lambda key, before, after, value: f"{key}{before}:{after}{value}", STRINGS, SPACE, SPACE, inner)
    return st.builds(lambda pairs, space: f"{{{(',' + space).join(pairs)}}}", st.lists(pair, max_size=4), SPACE)


TEXTS = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["true", "null", "NaN", "-Infinity"]),
    lambda inner: lists(inner) | objects(inner),
    max_leaves=15,
)


@given(TEXTS)
@example('{"a" :1,"a":2}')
@example('{"a":":","b":1,"b":2}')
@example('{"a":1,"\\u0061":2}')
@example('{"x":"\\u0022:","a":1,"a":2}')
@example('{"a":1e400}')
@example("[1E400\n]")
def test_a_text_is_read_as_if_everything_had_been_looked_at(text: str) -> None:
    try:
        expected = plainly(text)
    except ValueError:
        with pytest.raises(MalformedBody):
            parse(text)
    else:
        assert parse(text) == expected


@given(
    levels=st.integers(NESTING_LIMIT - 3, NESTING_LIMIT + 3),
    shape=st.lists(
        st.sampled_from(
            [
                "[{}]",
                "[1,{}]",
                '{{"a":{}}}',
                '{{"]":"[","k":{}}}',
                '["]]",{}]',
                '["]","[",{}]',
                '[{},"[{{"]',
                '["\\"",{},"\\""]',
            ]
        ),
        min_size=1,
        max_size=4,
    ),
    noise=st.booleans(),
)
def test_the_depth_that_is_read_depends_on_nothing_but_the_nesting(levels: int, shape: list[str], noise: bool) -> None:
    text = "1"
    for level in range(levels):
        text = shape[level % len(shape)].format(text)
    if noise:
        text = f'{{"x":[{",".join(["{}"] * NESTING_LIMIT)}],"y":{text}}}'
        levels += 1
    if levels <= NESTING_LIMIT:
        parse(text)
    else:
        with pytest.raises(MalformedBody, match="nested"):
            parse(text)


def test_a_plain_text_is_never_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_unique_keys", "_finite_integer", "_depth"):
        monkeypatch.setattr(strict_json, name, None)
    words = [{"confidence": 0.25, "word": "12:30", "id": "0e000e12-1e99-4e12-8e99-3e1234567e99"}] * NESTING_LIMIT
    text = json.dumps({"topic": "v2.{id}.x", "words": words}, separators=(",", ":"))
    assert parse(text)["words"] == words


@pytest.mark.parametrize("text", ['{"a":"b"}', '{"said": "he said \\"no\\" twice"}', '{\n "a": 1}'])
def test_a_text_is_parsed_once_unless_its_proof_fails(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    parsed: list[str] = []
    plain = json.JSONDecoder.decode
    monkeypatch.setattr(json.JSONDecoder, "decode", lambda self, body: parsed.append(body) or plain(self, body))
    assert parse(text) == json.loads(text)
    assert parsed == [text, text], "once by us, once by the line above"


def test_infinity_may_pass_where_only_an_identity_is_wanted() -> None:
    assert parse('{"id":"x","n":1e400}', finite=False)["id"] == "x"
    with pytest.raises(MalformedBody):
        parse('{"id":"x","id":"y","n":1e400}', finite=False)


def test_what_is_nested_beyond_the_writer_is_malformed() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(MalformedBody, match="nested"):
        serialise(nested)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, [math.nan], "\ud800", {"\udfff": 1}])
def test_what_no_text_can_carry_is_malformed(value: Any) -> None:
    with pytest.raises(MalformedBody):
        serialise(value)


def test_texts_are_compact_and_beyond_ascii() -> None:
    assert serialise({"a": [1, "Zoë"]}) == '{"a":[1,"Zoë"]}'
    assert members({"a": "1", "b": "ë"}) == '"a":"1","b":"ë"'
    assert encodable("Zoë") == "Zoë"
