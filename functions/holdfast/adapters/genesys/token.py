"""The OAuth token of the Genesys client.

``POST https://login.<domain>/oauth/token`` with the client's credentials. A token can become invalid before its
``expires_in`` (https://developer.genesys.cloud/authorization/platform-auth/use-client-credentials).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from holdfast.adapters.genesys.api import GenesysApi, content_of, json_object
from holdfast.adapters.genesys.http import Answer
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.errors import Misconfigured, Throttled, Unavailable
from holdfast.domain.ports import Deadline

#: A token is renewed this long before its end.
TOKEN_MARGIN_SECONDS = 60
#: The longest life of a token that Genesys allows.
TOKEN_SECONDS_LIMIT = 172_800
#: The life of a token whose ``expires_in`` cannot be read. If it ends earlier, the API refuses it and it is renewed.
TOKEN_SECONDS_DEFAULT = 3_600
_BAD_REQUEST = 400
_REFUSED = (_BAD_REQUEST, 401)


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
            raise Misconfigured(
                "the Genesys login refuses the client's credentials", correlation_id=answer.correlation_id
            )
        grant = json_object(answer)
        token = grant.get("access_token")
        if not _is_token(token):
            raise Unavailable("the Genesys login returned no access token: check GenesysLoginUrl")
        self._ends = self._clock() + _lifetime(grant.get("expires_in")) - TOKEN_MARGIN_SECONDS
        return BearerToken(token)

    def _login(self, deadline: Deadline) -> Answer:
        credentials = self._secret.get()
        # As bytes: requests would encode text as Latin-1.
        auth = HTTPBasicAuth(credentials.client_id.encode(), credentials.client_secret.encode())
        form = {"grant_type": "client_credentials"}
        return self._api.call("POST", self._url, deadline, auth, form, _check_login)


def _check_login(answer: Answer) -> None:
    """Raise the errors of a login. A refused client is none of them: its secret may have been rotated."""
    if answer.status == _BAD_REQUEST and _is_rate_limit(content_of(answer) or {}):
        raise Throttled("the Genesys login refuses more tokens (rate limit)", correlation_id=answer.correlation_id)
    if answer.status > _BAD_REQUEST and answer.status not in _REFUSED:
        raise Misconfigured(
            f"the Genesys login answered {answer.status}: check GenesysDomain and GenesysLoginUrl, and whether the "
            "network may reach it",
            correlation_id=answer.correlation_id,
        )


def _is_rate_limit(content: Mapping[str, Any]) -> bool:
    """Whether a login refused a token for its rate, which it answers with 400 instead of 429."""
    texts = (content.get(name) for name in ("description", "error_description"))
    return content.get("error") == "invalid_request" and any(
        isinstance(text, str) and "rate limit" in text.lower() for text in texts
    )


def _lifetime(value: Any) -> float:
    """The seconds in ``expires_in``: a number, or a number as text."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    return min(TOKEN_SECONDS_LIMIT, seconds) if seconds > 0 else TOKEN_SECONDS_DEFAULT


def _is_token(value: Any) -> TypeGuard[str]:
    """Whether a value can stand in a header."""
    return isinstance(value, str) and re.fullmatch(r"[!-~]+", value) is not None
