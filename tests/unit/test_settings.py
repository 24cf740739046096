"""Settings are read from the environment, or one error lists every wrong variable."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from holdfast.adapters.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Sample(Settings):
    table_name: str
    batch_size: int
    policy: str = field(metadata={"choices": ("on", "off")})
    note: str = "none"
    tries: int = 3


VALID = {"TABLE_NAME": "t", "BATCH_SIZE": "10", "POLICY": "off"}


def test_variables_become_typed_fields_with_defaults() -> None:
    assert Sample.from_env(VALID) == Sample("t", 10, "off", "none", 3)
    assert Sample.from_env({**VALID, "NOTE": "", "TRIES": "0"}) == Sample("t", 10, "off", "", 0)


def test_one_error_lists_every_missing_or_wrong_variable() -> None:
    with pytest.raises(SettingsError) as caught:
        Sample.from_env({"BATCH_SIZE": "ten", "POLICY": "maybe", "TRIES": "-1"})
    assert str(caught.value).partition(": ")[2].split("; ") == [
        "TABLE_NAME is missing",
        "BATCH_SIZE must be a whole number",
        "POLICY must be one of on, off",
        "TRIES must be a whole number",
    ]


def test_an_error_does_not_contain_values() -> None:
    with pytest.raises(SettingsError) as caught:
        Sample.from_env({**VALID, "BATCH_SIZE": "hunter2", "POLICY": "hunter2"})
    assert "hunter2" not in str(caught.value)
