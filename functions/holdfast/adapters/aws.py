"""Clients of AWS, lazily and in one place, and the one table that turns their errors into ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import islice
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as ConnectionFailed
from botocore.session import Session

from holdfast.domain.errors import HoldfastError, Misconfigured, Rejected, Throttled, Unavailable

T = TypeVar("T")

CONNECT_SECONDS = 2
_CONFIG = Config(
    connect_timeout=CONNECT_SECONDS,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
)

#: Error code → ours. A code that is not here passes untouched, unless its HTTP status says 5xx.
_BY_CODE: dict[str, type[HoldfastError]] = {
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingError",
            "ThrottlingException",
            "ThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
            "SlowDown",
            "OverLimit",
            "ExecutionLimitExceeded",
            "LimitExceededException",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "InternalServerError",
            "InternalFailure",
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeout",
            "TransactionConflict",
            "TransactionConflictException",
            "ConditionalRequestConflict",
            "OperationAborted",
            "BadDigest",
        ),
        Unavailable,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "UnrecognizedClientException",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidClientTokenId",
            "ResourceNotFound",
            "ResourceNotFoundException",
            "NoSuchBucket",
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "StateMachineDoesNotExist",
            "KMSAccessDeniedException",
            "KMSDisabledException",
        ),
        Misconfigured,
    ),
    **dict.fromkeys(("ValidationError", "ValidationException", "ItemCollectionSizeLimitExceeded"), Rejected),
}
_SERVER_ERROR = 500


@cache
def session() -> Session:
    """The one session. boto3 would make the same clients and load what nobody here uses: a tenth of a cold start."""
    return Session()


class _Client:
    """A client that is made at its first call: a happy batch needs one of the processor's five at a cold start."""

    def __init__(self, service: str) -> None:
        self._service = service

    @cached_property
    def _made(self) -> Any:
        return session().create_client(self._service, config=_CONFIG)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


@cache
def client(service: str) -> Any:
    """The client of a service, kept for the life of the execution environment."""
    return _Client(service)


def code_of(error: ClientError) -> str:
    """The error code that the service answered."""
    return str(error.response.get("Error", {}).get("Code", ""))


def named(code: str, what: str) -> HoldfastError | None:
    """Our error for a service's code; ``None`` for a code that nobody has thought about."""
    kind = _BY_CODE.get(code)
    return kind(f"{what}: {code}") if kind else None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what botocore raises inside into the domain's errors; what nobody has thought about passes as it is.

    Only codes go into the message: a service's own text may quote the data.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        ours = named(code, what)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if ours is None and status >= _SERVER_ERROR:
            ours = Unavailable(f"{what}: {code}")
        if ours is None:
            raise
        raise ours from error
    except (HTTPClientError, ConnectionFailed) as error:
        raise Unavailable(f"{what}: {type(error).__name__}") from error
    except BotoCoreError as error:
        raise Misconfigured(f"{what}: {type(error).__name__}") from error


def chunks(values: Collection[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most ``size``, in order."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
