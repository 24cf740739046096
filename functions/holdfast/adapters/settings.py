"""Environment variables as typed, frozen settings. One error names everything that is missing or wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Self


class SettingsError(ValueError):
    """The function's environment cannot be used. The message lists every reason."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Base of a function's settings. Each field is read from the variable with its name in capitals."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read all fields.

        Raises:
            SettingsError: It names every variable that is missing or wrong, and what it must be.
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
                "this function's environment variables are not those of the template (holdfast verify --config-only): "
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
        raise ValueError(f"must be one of {', '.join(choices)}")
    if field.type not in {"int", int}:
        return text
    if not text.isdecimal():
        raise ValueError("must be a whole number")
    return int(text)
