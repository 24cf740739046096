"""The AWS clients, created at their first use, and the table that maps AWS error codes to the domain's errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

from holdfast.adapters.startup import without_collection
from holdfast.domain.errors import HoldfastError, Misconfigured, Rejected, Throttled, Unavailable

with without_collection():
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as ConnectionFailed

T = TypeVar("T")

#: The connections that a client keeps, and so the most requests that it sends at once.
MAX_CONNECTIONS = 10
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    max_pool_connections=MAX_CONNECTIONS,
    retries={"mode": "standard", "total_max_attempts": 3},
    # The tests check every request against the service's model. To check it again would take a tenth of a batch's CPU.
    parameter_validation=False,
)

#: AWS error code → the domain's error. An exception with another code is not mapped, unless its HTTP status is 5xx.
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
#: boto3 must not create two clients at once: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/clients.html
_CREATION = Lock()


class _Client:
    """A client that is created at its first call. A batch without failures needs one of the processor's five."""

    def __init__(self, service: str, config: Config) -> None:
        self._service = service
        self._config = config
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            self._create()
        return getattr(self._client, name)

    def _create(self) -> None:
        with _CREATION, without_collection():
            if self._client is None:  # another thread may have created it meanwhile
                self._client = boto3.client(self._service, config=self._config)  # type: ignore[call-overload]  # a variable


@cache
def client(service: str) -> Any:
    """Return the client of a service. It lives as long as the execution environment."""
    return _Client(service, _CONFIG)


@cache
def invoking_client(read_timeout: int) -> Any:
    """Return a client of Lambda that waits for the answer of a function, and never invokes it a second time."""
    return _Client("lambda", _CONFIG.merge(Config(read_timeout=read_timeout, retries={"total_max_attempts": 1})))


def code_of(error: ClientError) -> str:
    """The service's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def mapped(code: str, what: str) -> HoldfastError | None:
    """Return the domain's error for an AWS error code; ``None`` for a code that is not in the table."""
    kind = _BY_CODE.get(code)
    return kind(f"{what}: {code}") if kind else None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise the domain's errors instead of botocore's. An exception without a mapping passes unchanged.

    Messages contain the error code only, because the service's own text may quote the data.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        ours = mapped(code, what)
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
    """Split into lists of at most ``size`` values, in order."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
