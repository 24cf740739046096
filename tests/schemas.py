"""The JSON Schemas of what is published, as the tests apply them to every event of the enriched bus."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def check(event: dict[str, Any]) -> None:
    """Check an event of the enriched bus.

    Raises:
        jsonschema.ValidationError: It does not match its schema, or it has a field that the schema does not list.
    """
    validators()[event["source"]].validate(event)


@cache
def validators() -> dict[str, Draft202012Validator]:
    """The schemas by source. They allow consumers to meet new fields; here they allow none."""
    found = {}
    for path in FOLDER.glob("*.json"):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        found[schema["properties"]["source"]["const"]] = Draft202012Validator(closed(schema))
    return found


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy that lists every field of Holdfast's own objects."""
    detail = _without_others(schema["properties"]["detail"])
    detail["properties"] = {name: _closed_pointer(one) for name, one in detail["properties"].items()}
    return _without_others({**schema, "properties": {**schema["properties"], "detail": detail}})


def _closed_pointer(field: dict[str, Any]) -> dict[str, Any]:
    return {
        word: [_without_others(one) if "properties" in one else one for one in part]
        if word in ("oneOf", "anyOf")
        else part
        for word, part in field.items()
    }


def _without_others(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "additionalProperties": False}
