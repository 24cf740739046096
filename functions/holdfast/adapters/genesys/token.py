"""The OAuth token of the Genesys client.

``POST https://login.<domain>/oauth/token`` with the client's credentials. A token can become invalid before its
``expires_in`` (https://developer.genesys.cloud/authorization/platform-auth/use-client-credentials).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, TypeGuard

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from holdfast.adapters.genesys.api import GenesysApi, json_object
from holdfast.adapters.genesys.http import Answer
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import Misconfigured, Unavailable
from holdfast.domain.ports import Deadline

#: A token is renewed this long before its end.
TOKEN_MARGIN_SECONDS = 60
#: The longest life of a token that Genesys allows.
TOKEN_SECONDS_LIMIT = 172_800
_REFUSED = (400, 401)


class BearerToken(AuthBase):
    """Authorises a request by a token."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Set the header."""
        request.headers["Authorization"] = f"Bearer {self.value}"
        return request


class TokenCache:
    """One token for all calls, renewed before it ends and after it was refused."""

    def __init__(self, api: GenesysApi, login_url: str, secret: CredentialsSecret, clock: Callable[[], float]) -> None:
        """``clock`` gives monotonic seconds."""
        self._api = api
        self._url = f"{login_url}/oauth/token"
        self._secret = secret
        self._clock = clock
        self._token: BearerToken | None = None
        self._ends = 0.0
        self._lock = threading.Lock()

    def get(self, deadline: Deadline) -> BearerToken:
        """The token; concurrent callers request one.

        Raises:
            HoldfastError: The login gives none, or the secret cannot be read.
        """
        with self._lock:
            if self._token is None or self._clock() >= self._ends:
                self._token = self._request(deadline)
            return self._token

    def refused(self, token: BearerToken) -> None:
        """The API refused this token: request a new one at the next call."""
        with self._lock:
            if self._token is token:
                self._token = None

    def _request(self, deadline: Deadline) -> BearerToken:
        answer = self._login(deadline)
        if answer.status in _REFUSED and self._secret.renewed():
            answer = self._login(deadline)
        if answer.status in _REFUSED:
            raise Misconfigured("the Genesys login refuses the client's credentials")
        grant = json_object(answer)
        token, lifetime = grant.get("access_token"), grant.get("expires_in")
        if not _is_token(token) or not isinstance(lifetime, int | float):
            raise Unavailable("the Genesys login returned no access token: check GenesysLoginUrl")
        self._ends = self._clock() + min(TOKEN_SECONDS_LIMIT, lifetime) - TOKEN_MARGIN_SECONDS
        return BearerToken(token)

    def _login(self, deadline: Deadline) -> Answer:
        credentials = self._secret.get()
        # As bytes: requests would encode text as Latin-1.
        auth = HTTPBasicAuth(credentials.client_id.encode(), credentials.client_secret.encode())
        return self._api.call("POST", self._url, deadline, auth, {"grant_type": "client_credentials"})


def _is_token(value: Any) -> TypeGuard[str]:
    """Whether a value can stand in a header."""
    return isinstance(value, str) and re.fullmatch(r"[!-~]+", value) is not None
