"""Every AWS error that an operation of the functions can answer has a decision: a category, or an adapter's own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import OperationModel

from holdfast.adapters.aws import mapped, translated
from holdfast.adapters.dynamodb import DUPLICATE
from holdfast.domain.errors import (
    HoldfastError,
    Misconfigured,
    Rejected,
    Throttled,
    Unavailable,
    UnknownError,
)

FUNCTIONS = Path(__file__).parents[2] / "functions"
#: The adapters handle these before the table is used.
HANDLED = {
    "ExecutionAlreadyExists",
    "ExecutionDoesNotExist",
    "NoSuchKey",
    "TaskDoesNotExist",
    "TaskTimedOut",
    DUPLICATE,
}
#: No statement here has a condition.
IMPOSSIBLE = {"ConditionalCheckFailed"}


@cache
def operations() -> dict[str, OperationModel]:
    """The operations that functions/ names, by service and method name: found in the code, so that none is forgotten."""
    services: set[str] = set()
    names: set[str] = set()
    for path in FUNCTIONS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                first = node.args[0] if node.args else None
                if node.func.id in ("client", "_Client") and isinstance(first, ast.Constant):
                    services.add(str(first.value))
    session = botocore.session.get_session()
    models = {service: session.get_service_model(service) for service in services}
    return {
        f"{service}.{xform_name(name)}": model.operation_model(name)
        for service, model in models.items()
        for name in model.operation_names
        if xform_name(name) in names
    }


def codes_of(operation: OperationModel) -> Iterator[str]:
    """Both names of each error: that of the protocol with query codes, and that of the shape."""
    for shape in operation.error_shapes:
        yield shape.name
        yield shape.metadata.get("error", {}).get("code", shape.name)


def test_the_operations_are_found() -> None:
    assert {
        "dynamodb.batch_execute_statement",
        "dynamodb.query",
        "sqs.change_message_visibility_batch",
        "s3.put_object",
        "s3.list_objects_v2",
        "stepfunctions.send_task_success",
        "stepfunctions.get_execution_history",
        "events.put_events",
        "secretsmanager.get_secret_value",
        "lambda.invoke",
    } <= operations().keys()


def test_no_error_of_an_operation_is_without_a_decision() -> None:
    found = {code for operation in operations().values() for code in codes_of(operation)}
    statement_codes = botocore.session.get_session().get_service_model("dynamodb")
    found |= set(statement_codes.shape_for("BatchStatementErrorCodeEnum").enum)  # type: ignore[attr-defined]  # a string shape
    undecided = {code for code in found if isinstance(mapped(code, "x"), UnknownError)}
    assert undecided - HANDLED == IMPOSSIBLE


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        # Secrets Manager, and what every service answers to a wrong clock, key or account.
        (Misconfigured, "InvalidRequestException DecryptionFailure InvalidAccessKeyId OptInRequired AccessDenied"),
        (Unavailable, "InvalidSignatureException SignatureDoesNotMatch RequestTimeTooSkewed RequestExpired"),
        # KMS, as SQS, S3, Step Functions, Secrets Manager, DynamoDB and Lambda spell it.
        (
            Misconfigured,
            "KMS.AccessDeniedException KMS.DisabledException KMS.NotFoundException KMS.InvalidStateException",
        ),
        (Misconfigured, "KMS.OptInRequired KMS.InvalidKeyUsageException KMS.KMSInvalidStateException KmsOptInRequired"),
        (Misconfigured, "KmsDisabled KmsInvalidState KmsNotFound KmsAccessDenied KmsInvalidKeyUsage"),
        (Misconfigured, "KmsAccessDeniedException KmsInvalidStateException KMSInvalidStateException"),
        (Misconfigured, "KMSAccessDeniedException KMSDisabledException KMSNotFoundException KMSOptInRequired"),
        (Throttled, "KMS.ThrottlingException KmsThrottled KmsThrottlingException KMSThrottlingException"),
        (Unavailable, "KMS.KMSInternalException KMSInternalException KMS.KeyUnavailableException"),
        (Unavailable, "KMS.DependencyTimeoutException"),
        (Misconfigured, "AWS.SimpleQueueService.NonExistentQueue"),
        (Rejected, "AWS.SimpleQueueService.BatchRequestTooLong ValidationError ValidationException"),
        (UnknownError, "SomethingNew Exception KMS"),
    ],
)
def test_a_code_has_one_category_however_a_service_spells_it(kind: type[HoldfastError], codes: str) -> None:
    for code in codes.split():
        error = mapped(code, "read the secret")
        assert (type(error), str(error)) == (kind, f"read the secret: {code}")


@pytest.mark.parametrize(
    "code", ["x" * 65, "", "line\u2028break", "a b", "Zoë", "<html>", "secret=hunter2", None, 7, ["x"], "x\n"]
)
def test_a_code_that_is_no_plain_word_does_not_reach_a_message(code: object) -> None:
    assert str(mapped(code, "store the event")) == "store the event: unreadable-code"
    with pytest.raises(UnknownError, match=r"^x: unreadable-code$"), translated("x"):
        raise ClientError({"Error": {"Code": code}}, "PutItem")  # type: ignore[typeddict-item]  # what a proxy may send


@pytest.mark.parametrize(
    ("status", "kind"), [(500, Unavailable), (503, Unavailable), (429, Throttled), (413, UnknownError)]
)
def test_a_code_without_a_decision_counts_by_its_status(status: int, kind: type[HoldfastError]) -> None:
    answer = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind, match=f"^store events: {status}$"), translated("store events"):
        raise ClientError(answer, "BatchExecuteStatement")  # type: ignore[arg-type]  # a part of an answer
