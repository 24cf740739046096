"""Strict JSON: refuses what parsers interpret differently.

Python's parser accepts what other parsers refuse or read differently: numbers that are not finite doubles, repeated
keys, and deep nesting. Its writer accepts lone surrogates, which UTF-8 cannot carry. All of these are malformed here.
"""

from __future__ import annotations

import json
from functools import cache
from math import isinf
from typing import Any

from holdfast.domain.errors import MalformedBody

#: Far below the limit of any parser. Python's own limit depends on its version and on the caller.
NESTING_LIMIT = 200
#: Every integer with so many digits is a finite double; one with more digits may not be.
_INTEGER_DIGITS = 308
_LONG_INTEGER = b"0" * (_INTEGER_DIGITS + 1)
_DIGITS_AS_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_NOT_FINITE = "the body contains a number that is not a finite double"
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(body: str) -> Any:
    """Parse a text.

    Raises:
        MalformedBody: With the reason, and nothing of the body.
    """
    return _decoded(body, any_fraction=False)


def parse_any_number(body: str) -> Any:
    """Parse a text that may contain fractions and exponents too large for a double; they become infinite.

    Raises:
        MalformedBody: As :func:`parse`, for every other reason.
    """
    return _decoded(body, any_fraction=True)


def _decoded(body: str, *, any_fraction: bool) -> Any:
    try:
        value = _decoder(any_fraction, _has_long_integer(body)).decode(body)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    # Most bodies have too few brackets to be nested too deeply.
    if body.count("{") + body.count("[") > NESTING_LIMIT and _depth(value) > NESTING_LIMIT:
        raise MalformedBody("the body is nested too deeply")
    return value


def serialise(value: Any) -> str:
    """Write a value as compact JSON that UTF-8 can carry.

    Raises:
        MalformedBody: The value contains a number or a text that JSON in UTF-8 cannot carry.
    """
    try:
        text = _COMPACT.encode(value)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError:
        raise MalformedBody(_NOT_FINITE) from None
    return encodable(text)


def members(fields: dict[str, str]) -> str:
    """Write fields as they stand inside a JSON object."""
    return _COMPACT.encode(fields)[1:-1]


def encodable(text: str) -> str:
    """Return the text if UTF-8 can carry it.

    Raises:
        MalformedBody: The text contains a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedBody("the body contains text that is not valid UTF-8") from None
    return text


@cache
def _decoder(any_fraction: bool, long_integers: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique_keys,
        parse_int=_finite_integer if long_integers else None,
        parse_float=None if any_fraction else _finite_float,
        parse_constant=_refused_constant,
    )


def _has_long_integer(body: str) -> bool:
    """Whether any 309 digits are adjacent. One search of the text replaces a call for each of its integers."""
    return _LONG_INTEGER in body.encode("utf-8", "surrogatepass").translate(_DIGITS_AS_ZEROS)


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested. It goes level by level, so that no recursion limit applies."""
    depth = 0
    level = [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
    return depth


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise MalformedBody("the body repeats a key in an object")
    return parsed


def _finite_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _INTEGER_DIGITS:
        raise MalformedBody(_NOT_FINITE)
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise MalformedBody(_NOT_FINITE)
    return number


def _refused_constant(_name: str) -> None:
    raise MalformedBody(_NOT_FINITE)
