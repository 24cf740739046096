"""A function's environment is right, or one error says everything that is wrong with it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from holdfast.adapters.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Sample(Settings):
    table_name: str
    batch_size: int
    policy: str = field(metadata={"choices": ("on", "off")})
    note: str = "none"
    tries: int = 3


RIGHT = {"TABLE_NAME": "t", "BATCH_SIZE": "10", "POLICY": "off"}


def test_variables_become_typed_fields_and_defaults_hold() -> None:
    assert Sample.from_env(RIGHT) == Sample("t", 10, "off", "none", 3)
    assert Sample.from_env({**RIGHT, "NOTE": "", "TRIES": "0"}) == Sample("t", 10, "off", "", 0)


def test_one_error_names_everything_that_is_missing_or_wrong() -> None:
    with pytest.raises(SettingsError) as caught:
        Sample.from_env({"BATCH_SIZE": "ten", "POLICY": "maybe", "TRIES": "-1"})
    assert str(caught.value).partition(": ")[2].split("; ") == [
        "TABLE_NAME is missing",
        "BATCH_SIZE must be a whole number",
        "POLICY must be one of on, off",
        "TRIES must be a whole number",
    ]


def test_an_error_does_not_quote_the_values() -> None:
    with pytest.raises(SettingsError) as caught:
        Sample.from_env({**RIGHT, "BATCH_SIZE": "hunter2", "POLICY": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_change() -> None:
    settings = Sample.from_env(RIGHT)
    with pytest.raises(FrozenInstanceError):
        settings.note = "x"  # type: ignore[misc]
