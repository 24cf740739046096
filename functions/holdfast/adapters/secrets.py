"""The Genesys client's credentials in Secrets Manager."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import translated
from holdfast.domain.errors import Misconfigured


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """An OAuth client. It has no repr, because neither field may reach a log."""

    client_id: str
    client_secret: str


class CredentialsSecret:
    """The secret ``{"clientId", "clientSecret"}``: read once per environment, and again after a refused login."""

    def __init__(self, client: Any, arn: str) -> None:
        """The secret is read at its first use."""
        self._client = client
        self._arn = arn
        self._credentials: Credentials | None = None

    def get(self) -> Credentials:
        """Return the credentials.

        Raises:
            HoldfastError: The secret cannot be read, or it has another content.
        """
        if self._credentials is None:
            self._credentials = self._read()
        return self._credentials

    def renewed(self) -> bool:
        """Read the secret again. Returns whether it has changed."""
        before, self._credentials = self._credentials, self._read()
        return self._credentials != before

    def _read(self) -> Credentials:
        with translated("read the Genesys credentials"):
            text = self._client.get_secret_value(SecretId=self._arn).get("SecretString", "")  # a binary secret has none
        try:
            data = json.loads(text)
            found = data["clientId"], data["clientSecret"]
            "".join(found).encode()  # half a surrogate pair has no form in a request
        except (ValueError, KeyError, TypeError):
            found = None, None
        if not all(isinstance(value, str) and value for value in found):
            raise Misconfigured("the secret is not JSON with clientId and clientSecret") from None
        return Credentials(*found)
