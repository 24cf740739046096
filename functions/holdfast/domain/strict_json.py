"""JSON that every consumer reads alike.

Python's parser lets through what others refuse or read differently: numbers that are no finite double, keys that stand
twice, endless nesting; and its writer lets lone surrogates through. All of that is malformed here.

To look at each integer, each pair and each level takes as long as the parsing itself. So the text is asked first for a
proof that it has nothing of the kind, by searches that take a fifth of that, and only a text that proves nothing is
looked through (docs/performance.md).
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any

from holdfast.domain.errors import MalformedBody

#: Far below where any parser gives up; Python's own limit depends on the version and on who calls.
NESTING_LIMIT = 200
#: Any integer of so many digits is a finite double; of those with one more only some are.
_INTEGER_DIGITS = 308
#: Every so many-th character of a text is its sample.
_SAMPLED = 16
#: Every digit as a zero and everything else as a space, so that a run of digits can be searched for.
_DIGITS_AS_ZEROS = bytes(b"0"[0] if chr(byte).isdecimal() else b" "[0] for byte in range(256))
#: Everything but what nests and what hides it.
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_CONTAINERS = frozenset({dict, list})
_END_OF_KEY = '":'
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(body: str, *, finite: bool = True) -> Any:
    """Parse a text.

    Args:
        body: The text.
        finite: Whether a fraction or an exponent may make no number infinite.

    Raises:
        MalformedBody: With the reason, and nothing of the body.
    """
    settings: dict[str, Any] = {
        "parse_int": _finite_integer if _has_long_number(body) else None,
        "parse_float": _finite_float if finite else None,
        "parse_constant": _no_constant,
    }
    sizes: list[int] = []

    def counted(parsed: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(parsed))
        return parsed

    countable = _keys_can_be_counted(body)
    if countable:
        value = _decoded(body, json.JSONDecoder(object_hook=counted, **settings))
    if not countable or body.count(_END_OF_KEY) != sum(sizes):
        value = _decoded(body, json.JSONDecoder(object_pairs_hook=_unique_keys, **settings))
    # Few bodies hold so many brackets that they could be nested too deeply.
    many = body.count("{") + body.count("[") > NESTING_LIMIT
    if many and not _is_shallow(body) and _depth(value) > NESTING_LIMIT:
        raise MalformedBody("the body is nested too deeply")
    return value


def serialise(value: Any) -> str:
    """Write a text as it is stored and published: compact, and readable as UTF-8 and by every parser.

    Raises:
        MalformedBody: It holds a number or a text that JSON in UTF-8 cannot carry.
    """
    try:
        text = _COMPACT.encode(value)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError:
        raise MalformedBody("the body holds a number that is no finite double") from None
    return encodable(text)


def members(fields: dict[str, str]) -> str:
    """Fields as they stand inside an object."""
    return _COMPACT.encode(fields)[1:-1]


def encodable(text: str) -> str:
    """The text, if UTF-8 can carry it.

    Raises:
        MalformedBody: It cannot: there is half a surrogate pair in it.
    """
    if text.isascii():  # known without a look at it
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedBody("the body holds text that is no valid UTF-8") from None
    return text


def _decoded(body: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error.msg} at character {error.pos}") from None


# -- proofs by the text ----------------------------------------------------------------------------------------------


def _has_long_number(body: str) -> bool:
    """False proves that all integers are finite. A sample is asked first: a long run of digits shows there too."""
    return _has_digits(body[::_SAMPLED], _INTEGER_DIGITS // _SAMPLED) and _has_digits(body, _INTEGER_DIGITS + 1)


def _has_digits(text: str, number: int) -> bool:
    """Whether so many digits stand in a row."""
    return b"0" * number in text.encode("utf-8", "surrogatepass").translate(_DIGITS_AS_ZEROS)


def _keys_can_be_counted(body: str) -> bool:
    """Whether every key is followed by its colon at once.

    Then no key stands twice if the text has no more ends of keys than the parsed objects have keys; strings can only
    make them look more. In indented texts, and with a space behind a quote, a key may have a space before its colon.
    """
    return not ("\n" in body or "\r" in body or "\t" in body or (" " in body and '" ' in body))


def _is_shallow(body: str) -> bool:
    """True proves that the text is not nested too deeply.

    Pairs of brackets with nothing between them are taken out, at most one level of each kind at a time, until nothing
    is left. Strings go with their quotes; brackets in them can only make the proof fail, as quotes come in pairs where
    nothing is escaped.
    """
    if "\\" in body:
        return False
    left = body.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    before = None
    for _ in range(NESTING_LIMIT // 2):
        if len(left) == before:
            break
        before = len(left)
        left = left.replace(b'""', b"").replace(b"{}", b"").replace(b"[]", b"")
    return not left


# -- a look at everything --------------------------------------------------------------------------------------------


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested, level by level: no recursion here."""
    depth = 0
    level = [value] if type(value) in _CONTAINERS else []
    while level:
        depth += 1
        # The parser makes exact dicts and lists, and comparing types is three times as fast as isinstance.
        children = (node.values() if type(node) is dict else node for node in level)
        level = [child for some in children for child in some if type(child) in _CONTAINERS]
    return depth


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise MalformedBody("the body names a key twice")
    return parsed


def _finite_integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _INTEGER_DIGITS:
        raise MalformedBody("the body holds a number that is no finite double")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise MalformedBody("the body holds a number that is no finite double")
    return number


def _no_constant(_name: str) -> None:
    raise MalformedBody("the body holds a number that is no finite double")
