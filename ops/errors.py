"""Errors that end a command, and the sentence that AWS's errors become.

A message says what happened, why if that is known, and what to do next.
"""

from __future__ import annotations

import re

from botocore import exceptions as aws

#: What an AccessDenied message names, for example ``is not authorized to perform: sqs:SendMessage on resource: …``.
_DENIED = re.compile(r"not authorized to perform: (?P<action>[A-Za-z0-9-]+:[A-Za-z0-9]+)(?: on resource: (?P<on>\S+))?")
_DENIED_CODES = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_THROTTLED_CODES = {
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
    "SlowDown",
    "LimitExceededException",
}
_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_REFUSED_CODES = {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"}

_SENTENCES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((aws.ProfileNotFound,), "{error}. List the profiles with: aws configure list-profiles"),
    (
        (aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError, aws.SSOTokenLoadError),
        "The AWS session has expired. Sign in again, for example with: aws sso login",
    ),
    (
        (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError),
        "No AWS credentials were found. Sign in, or choose a profile with --profile.",
    ),
    ((aws.NoRegionError,), "No AWS region is set. Choose one with --region or AWS_REGION."),
    (
        (aws.HTTPClientError, aws.ConnectionError),
        "{error}. Check the network and the region. For the local stack: make up, . .local/env",
    ),
)


class CommandError(Exception):
    """A command cannot continue. It ends with exit status 2 and this message."""


def explain(error: Exception) -> str:
    """One sentence about an error of boto3, with the next step. It never contains a payload."""
    if isinstance(error, aws.ClientError):
        return _of_client(error)
    known = (text for kinds, text in _SENTENCES if isinstance(error, kinds))
    return next(known, "AWS could not be called: {error}").format(error=error)


def code_of(error: aws.ClientError) -> str:
    """The service's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_denied(error: aws.ClientError) -> bool:
    """Whether a permission is missing."""
    return code_of(error) in _DENIED_CODES


def _of_client(error: aws.ClientError) -> str:
    code, operation = code_of(error), error.operation_name
    if code in _EXPIRED_CODES:
        return "The AWS session has expired. Sign in again, for example with: aws sso login"
    if code in _REFUSED_CODES:
        return "AWS does not know these credentials. Sign in again, or choose another profile with --profile."
    if code in _DENIED_CODES:
        denied = _DENIED.search(str(error))
        what = f"{denied['action']} on {denied['on'] or 'this account'}" if denied else operation
        return f"Your credentials may not call {what}. Ask for that permission: docs/security.md lists all."
    if code in _THROTTLED_CODES:
        return f"AWS limits the calls of this account: {operation} was refused after several tries. Wait a minute."
    return f"AWS answered {operation} with {code}. Try again. If it fails again, run holdfast verify --config-only."
