"""The AWS clients, created at their first use, and the table that maps AWS error codes to the domain's errors."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

from holdfast.adapters.startup import without_collection
from holdfast.domain.errors import (
    HoldfastError,
    Misconfigured,
    Rejected,
    Throttled,
    Unavailable,
    UnknownError,
    readable,
)

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

#: The decision for each AWS error code. A code stands here without "Exception" or "Error" at its end and without the
#: prefixes of SQS and KMS, because the services spell the same error differently. A test finds every error of the
#: operations that the functions call, and fails if one has no decision.
_BY_STEM: dict[str, type[HoldfastError]] = {
    **dict.fromkeys(
        (
            "Throttling",
            "Throttled",
            "EC2Throttled",
            "TooManyRequests",
            "RequestLimitExceeded",
            "RequestThrottled",
            "ProvisionedThroughputExceeded",
            "SlowDown",
            "OverLimit",
            "ExecutionLimitExceeded",
            "LimitExceeded",
            "ServiceQuotaExceeded",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "InternalServer",
            "InternalService",
            "InternalServiceFault",
            "InternalFailure",
            "Internal",
            "Service",
            "ServiceUnavailable",
            "RequestTimeout",
            "DependencyTimeout",
            "KeyUnavailable",
            "IncompleteBody",
            "TransactionConflict",
            "ReplicatedWriteConflict",
            "ConditionalRequestConflict",
            "OperationAborted",
            "BadDigest",
            # The clock of the execution environment is wrong, which the next environment's is not.
            "InvalidSignature",
            "SignatureDoesNotMatch",
            "RequestTimeTooSkewed",
            "RequestExpired",
            # The invoked function is being changed, or what it depends on is not ready.
            "ResourceConflict",
            "ResourceNotReady",
            "CodeArtifactUserPending",
            "EC2Unexpected",
            "EFSIO",
            "EFSMountConnectivity",
            "EFSMountTimeout",
            "ENINotReady",
            "S3FilesMountConnectivity",
            "S3FilesMountTimeout",
            "SnapStart",
            "SnapStartNotReady",
            "SnapStartRegenerationFailure",
            "SnapStartTimeout",
        ),
        Unavailable,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "UnrecognizedClient",
            "ExpiredToken",
            "InvalidToken",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "MissingAuthenticationToken",
            "IncompleteSignature",
            "AuthorizationHeaderMalformed",
            "AuthFailure",
            "OptInRequired",
            "AccountProblem",
            "AllAccessDisabled",
            "PermanentRedirect",
            "ResourceNotFound",
            "NoSuchBucket",
            "QueueDoesNotExist",
            "NonExistentQueue",
            "StateMachineDoesNotExist",
            "StateMachineDeleting",
            "StateMachineTypeNotSupported",
            "InvalidArn",
            "InvalidAddress",
            "InvalidAttributeName",
            "InvalidParameter",
            "InvalidParameterCombination",
            "InvalidParameterValue",
            "MissingParameter",
            "MissingRequiredParameter",
            "InvalidRequest",  # Secrets Manager: the secret is marked for deletion. S3: a setting of the bucket.
            "InvalidObjectState",  # the object is in an archive class
            "InvalidSecurity",
            "UnsupportedOperation",
            "EncryptionTypeMismatch",
            "EncryptionFailure",
            "DecryptionFailure",
            # The configuration of the invoked function.
            "CodeArtifactUserDeleted",
            "CodeArtifactUserFailed",
            "EC2AccessDenied",
            "EFSMountFailure",
            "ENILimitReached",
            "InvalidRuntime",
            "InvalidSecurityGroupID",
            "InvalidSubnetID",
            "InvalidZipFile",
            "ModeNotSupported",
            "NoPublishedVersion",
            "RecursiveInvocation",
            "S3FilesMountFailure",
            "SubnetIPAddressLimitReached",
        ),
        Misconfigured,
    ),
    **dict.fromkeys(
        (
            "Validation",
            "ItemCollectionSizeLimitExceeded",
            "InvalidMessageContents",
            "InvalidExecutionInput",
            "InvalidName",
            "InvalidOutput",
            "InvalidRequestContent",
            "InvalidWriteOffset",
            "TooManyParts",
            "EntityTooLarge",
            "RequestTooLarge",
            "SerializedRequestEntityTooLarge",
            "UnsupportedMediaType",
            "DurableExecutionAlreadyStarted",
            "BatchEntryIdsNotDistinct",
            "BatchRequestTooLong",
            "EmptyBatchRequest",
            "InvalidBatchEntryId",
            "TooManyEntriesInBatchRequest",
        ),
        Rejected,
    ),
}
_SQS_PREFIX = "AWS.SimpleQueueService."
#: ``KMS.DisabledException`` (SQS, S3), ``KMS.KMSInvalidStateException`` (S3), ``KMSDisabledException`` (Lambda,
#: DynamoDB), ``KmsDisabled`` (SQS), ``KmsInvalidStateException`` (Step Functions).
_KMS_PREFIX = re.compile(r"(?:KMS\.?|Kms)+(?=[A-Z])")
_SERVER_ERROR = 500
_TOO_MANY = 429
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
    return readable(error.response.get("Error", {}).get("Code"))


def mapped(code: Any, what: str, status: int = 0) -> HoldfastError:
    """Return the domain's error for an AWS error code, which the message contains.

    A code without a decision counts by its HTTP status: 5xx is unavailable, 429 throttled, and any other unknown.
    """
    code = readable(code)
    kind = _decision(code)
    if kind is None and status >= _SERVER_ERROR:
        kind = Unavailable
    if kind is None and status == _TOO_MANY:
        kind = Throttled
    return (kind or UnknownError)(f"{what}: {code}")


def _decision(code: str) -> type[HoldfastError] | None:
    stem = code.removeprefix(_SQS_PREFIX).removesuffix("Exception").removesuffix("Error")
    kms = _KMS_PREFIX.match(stem)
    if kms is None:
        return _BY_STEM.get(stem)
    # The key is disabled, deleted or denied, unless KMS is throttled or down.
    kind = _BY_STEM.get(stem[kms.end() :], Misconfigured)
    return kind if issubclass(kind, Throttled | Unavailable) else Misconfigured


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise the domain's errors instead of botocore's. Any other exception passes unchanged.

    Messages contain the error code only, because the service's own text may quote the data.
    """
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise mapped(code_of(error), what, status) from error
    except (HTTPClientError, ConnectionFailed) as error:
        raise Unavailable(f"{what}: {type(error).__name__}") from error
    except BotoCoreError as error:
        raise Misconfigured(f"{what}: {type(error).__name__}") from error


def chunks(values: Collection[T], size: int) -> Iterator[list[T]]:
    """Split into lists of at most ``size`` values, in order."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
