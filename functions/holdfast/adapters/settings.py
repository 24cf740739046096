"""Environment variables as typed, frozen settings; one error names everything that is missing or wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Self


class SettingsError(ValueError):
    """The function's environment cannot be used; the message lists every reason."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Base of a function's settings: each field is the variable of its name in capitals."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read all fields.

        Raises:
            SettingsError: Names every variable that is missing or wrong, and what it has to be.
        """
        values: dict[str, Any] = {}
        reasons: list[str] = []
        for field in fields(cls):
            try:
                values[field.name] = _value(field, environ)
            except ValueError as error:
                reasons.append(f"{field.name.upper()} {error}")
        if reasons:
            raise SettingsError(
                "this function's environment is not right (deploy the stack again; it sets all of it): "
                + "; ".join(reasons)
            )
        return cls(**values)


def _value(field: Field[Any], environ: Mapping[str, str]) -> Any:
    text = environ.get(field.name.upper())
    if text is None:
        if field.default is MISSING:
            raise ValueError("is missing")
        return field.default
    choices = field.metadata.get("choices")
    if choices and text not in choices:
        raise ValueError(f"has to be one of {', '.join(choices)}")
    if field.type not in {"int", int}:
        return text
    if not text.isdecimal():
        raise ValueError("has to be a whole number")
    return int(text)
