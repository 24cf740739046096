"""The one request of a happy batch, without the way that botocore takes around it.

What serves every operation of every service (serialisers, parsers, hooks, endpoint rules, the signer) took more than
the request itself, a quarter of a warm batch's CPU (docs/performance.md). So this request is put together here, with
botocore's credentials, for the client's endpoint. Whatever is not plainly answered is left to the client, which knows
all about retries and errors, and so is everything for a while after it: the short way is for good times.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property, reduce
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import urllib3
from botocore.credentials import ReadOnlyCredentials
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from holdfast.adapters.aws import CONNECT_SECONDS, session

#: An answer takes milliseconds. Who waits longer has the client's own tries still before him.
READ_SECONDS = 3
#: For so long the client alone asks, after an answer that was none.
PAUSE_SECONDS = 30
_TARGET = "DynamoDB_20120810.BatchExecuteStatement"
_OK = 200
_NO_VALUE, _VALUE = b'{"B": null}', b'{"B": "%b"}'


class DirectStatements:
    """A DynamoDB client whose ``batch_execute_statement`` takes the short way where it can.

    It may send a request twice, so every statement has to be one that may run twice: an INSERT, which a key that exists
    refuses.
    """

    def __init__(self, client: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is made or called before the first request. ``clock`` gives seconds."""
        self._client = client
        self._clock = clock
        self._paused_until = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_execute_statement(self, **request: Any) -> Mapping[str, Any]:
        """Answer and raise as the client does; without its ``ResponseMetadata``."""
        if self._clock() >= self._paused_until:
            answer = self._answer(request)
            if answer is not None:
                return answer
            self._paused_until = self._clock() + PAUSE_SECONDS
        told: Mapping[str, Any] = self._client.batch_execute_statement(**request)
        return told

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What DynamoDB answers; ``None`` for anything but success."""
        credentials = session().get_credentials()
        if self._pool is None or credentials is None:
            return None
        body = _serialised(request)
        meta = self._client.meta
        headers = signed_headers(
            body,
            host=urlsplit(meta.endpoint_url).netloc,
            region=meta.region_name,
            credentials=credentials.get_frozen_credentials(),
            now=datetime.now(UTC),
        )
        headers["user-agent"] = self._user_agent
        try:
            answer = self._pool.urlopen("POST", "/", body, headers, redirect=False)
            told = json.loads(answer.data) if answer.status == _OK else None
        except (urllib3.exceptions.HTTPError, ValueError):
            return None
        return told if isinstance(told, dict) and "Responses" in told else None

    @cached_property
    def _user_agent(self) -> str:
        """Who asks, as the client would say it: AWS's own logs tell callers apart by it."""
        config = self._client.meta.config
        app = getattr(config, "user_agent_appid", None)
        return f"{config.user_agent} app/{app}" if app else config.user_agent

    @cached_property
    def _pool(self) -> urllib3.HTTPConnectionPool | None:
        """The connections, kept; ``None`` where the client alone knows how: by a proxy, or to a path of its own."""
        url = self._client.meta.endpoint_url
        if get_environ_proxies(url) or urlsplit(url).path.strip("/"):
            return None
        manager = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=False,
            ca_certs=get_cert_path(session().get_config_variable("ca_bundle") or True),
        )
        return manager.connection_from_url(url)


def signed_headers(
    body: bytes, *, host: str, region: str, credentials: ReadOnlyCredentials, now: datetime
) -> dict[str, str]:
    """The headers of a request, as Signature Version 4 wants them; a test holds them against botocore's signer.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    scope = (moment[:8], region, "dynamodb", "aws4_request")
    headers = {"content-type": "application/x-amz-json-1.0", "host": host, "x-amz-date": moment}
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    headers["x-amz-target"] = _TARGET
    names = ";".join(headers)  # in the order of the alphabet, as it has to be
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["POST", "/", "", *lines, "", names, sha256(body).hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, "/".join(scope), sha256(canonical.encode()).hexdigest()])
    signature = reduce(_mac, [*scope, to_sign], f"AWS4{credentials.secret_key}".encode()).hex()
    credential = f"{credentials.access_key}/{'/'.join(scope)}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _serialised(request: Mapping[str, Any]) -> bytes:
    """The request as JSON, binary values in base64.

    They are put in at the end: json would look at each of their characters, half of its time. Their place is found by
    quotes that no text can imitate, as json escapes the quotes of texts.
    """
    values: list[bytes] = []
    text = json.dumps(request, default=lambda value: values.append(base64.b64encode(value))).encode()
    head, *rest = text.split(_NO_VALUE)
    return head + b"".join(_VALUE % value + part for value, part in zip(values, rest, strict=True))
