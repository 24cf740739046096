"""JSON that parsers read differently is refused; everything else is read as Python's own parser reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.errors import MalformedBody
from holdfast.domain.strict_json import NESTING_LIMIT, encodable, parse, parse_any_number, serialise

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_a_valid_text_is_read_as_it_is(value: Any, ascii_only: bool, indent: int | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent)) == value
    assert parse(serialise(value)) == value


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_is_limited(opening: str) -> None:
    closing = "".join({"[": "]", "{": "}"}[bracket] for bracket in reversed(opening) if bracket in "[{")
    per_unit = len(closing)

    def nested(levels: int) -> str:
        return opening * (levels // per_unit) + "1" + closing * (levels // per_unit)

    parse(nested(NESTING_LIMIT))
    with pytest.raises(MalformedBody, match="nested too deeply"):
        parse(nested(NESTING_LIMIT + per_unit))


def test_brackets_inside_text_are_not_nesting() -> None:
    text = json.dumps(["[{" * 1_000])
    assert parse(text) == ["[{" * 1_000]


@pytest.mark.parametrize("text", ["9" * 308, "-" + "9" * 308, "1.7e308", "1e-400", '"1e999"'])
def test_a_number_that_is_a_finite_double_is_read(text: str) -> None:
    assert parse(text) == json.loads(text)


@pytest.mark.parametrize("text", ["9" * 309, "-" + "9" * 309, "1e309", "-2e308", "NaN", "-Infinity"])
def test_a_number_that_is_not_a_finite_double_is_refused(text: str) -> None:
    with pytest.raises(MalformedBody, match="finite"):
        parse(f'{{"n": [{text}]}}')


def test_fractions_can_be_read_without_that_limit() -> None:
    assert parse_any_number('{"id": "x", "n": 1e999}') == {"id": "x", "n": float("inf")}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(MalformedBody, match="repeats a key"):
        parse(text)


@pytest.mark.parametrize("value", [{"t": "\ud800"}, {"\udfff": 1}, [float("inf")], [float("nan")]])
def test_a_value_that_json_in_utf_8_cannot_carry_is_not_written(value: Any) -> None:
    with pytest.raises(MalformedBody):
        serialise(value)
    with pytest.raises(MalformedBody):
        encodable("\ud800")
