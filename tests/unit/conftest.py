"""Unit tests touch nothing outside this process, except a stand-in on the loopback interface."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import settings

#: Examples take what they take: a slow machine is no failure of the product.
settings.register_profile("unit", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("unit")

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if host not in _LOOPBACK:
            pytest.fail(f"a unit test tried to connect to {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def no_account_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, credentials, endpoint or proxy of whoever runs the tests may play a part."""
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", *proxies, *map(str.lower, proxies)):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
