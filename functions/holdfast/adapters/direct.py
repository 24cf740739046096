"""The one request of a happy batch, without the way that botocore takes around it.

What serves every operation of every service (serialisers, parsers, hooks, the endpoint's rules) took more than the
request itself, a sixth of the CPU of a warm batch (docs/performance.md). So this request is put together here, of
botocore's own parts: credentials, endpoint, signer. Whatever is not plainly answered is left to the client, which knows
all about retries, clocks and errors.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from holdfast.adapters.aws import CONNECT_SECONDS, READ_SECONDS, session

_HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "DynamoDB_20120810.BatchExecuteStatement",
}
_OK = 200
_NO_VALUE, _VALUE = b'{"B": null}', b'{"B": "%b"}'


class DirectStatements:
    """A DynamoDB client whose ``batch_execute_statement`` takes the short way where it can.

    It may send a request twice, so every statement has to be one that may run twice: an INSERT, which a key that exists
    refuses.
    """

    def __init__(self, client: Any) -> None:
        """Nothing is made or called before the first request."""
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_execute_statement(self, **request: Any) -> Mapping[str, Any]:
        """Answer and raise as the client does."""
        answer = self._answer(request)
        return self._client.batch_execute_statement(**request) if answer is None else answer

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What DynamoDB answers; ``None`` for anything but success."""
        credentials = session().get_credentials()
        if self._pool is None or credentials is None:
            return None
        signed = AWSRequest("POST", self._url, _HEADERS, _serialised(request))
        SigV4Auth(credentials.get_frozen_credentials(), "dynamodb", self._client.meta.region_name).add_auth(signed)
        try:
            answer = self._pool.urlopen("POST", "/", signed.data, dict(signed.headers.items()), redirect=False)
            told = json.loads(answer.data) if answer.status == _OK else None
        except (urllib3.exceptions.HTTPError, ValueError):
            return None
        return told if isinstance(told, dict) and "Responses" in told else None

    @cached_property
    def _url(self) -> str:
        return f"{self._client.meta.endpoint_url}/"

    @cached_property
    def _pool(self) -> urllib3.HTTPConnectionPool | None:
        """The connections, kept; ``None`` where a proxy is to be used: the client knows how."""
        if get_environ_proxies(self._url):
            return None
        manager = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=False,
            ca_certs=get_cert_path(session().get_config_variable("ca_bundle") or True),
        )
        return manager.connection_from_url(self._url)


def _serialised(request: Mapping[str, Any]) -> bytes:
    """The request as JSON, binary values in base64.

    They are put in at the end: json would look at each of their characters, half of its time. Their place is found by
    quotes that no text can imitate, as json escapes the quotes of texts.
    """
    values: list[bytes] = []
    text = json.dumps(request, default=lambda value: values.append(base64.b64encode(value))).encode()
    head, *rest = text.split(_NO_VALUE)
    return head + b"".join(_VALUE % value + part for value, part in zip(values, rest, strict=True))
