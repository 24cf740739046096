"""Engine patches of how IAM checks calls over HTTP."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, s3

from local.engine_patches.patch import around
from local.engine_patches.workflows import issuers

if TYPE_CHECKING:
    from collections.abc import Callable

_ONE_MAPPING = re.compile(r"/event-source-mappings/[^/]+$")
_MAPPING_CALLS = {"GET": "lambda:GetEventSourceMapping", "PUT": "lambda:UpdateEventSourceMapping"}
_PARTIQL_CALLS = {"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}


def name_permissions_as_aws() -> None:
    """Gaps in the permission that a call needs.

    - A batch call of SQS needs a permission such as ``sqs:SendMessageBatch``, which AWS does not have. AWS checks the
      permission for the single call, ``sqs:SendMessage``.
      https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    - ``SendTaskSuccess`` and its siblings need their permission on every resource. AWS checks it on the state machine
      that issued the token, and refuses a token that no state machine issued before it checks permissions.
    - A query of Logs Insights needs its permission on every resource. AWS checks it on the log
      groups; here on the first.
      https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatchlogs.html
    - ``DescribeMapRun`` needs its permission on every resource. AWS checks it on the map run.
      https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html
    - Reading one event source mapping needs the permission to list them, and changing it needs none. AWS has
      ``lambda:GetEventSourceMapping`` and ``lambda:UpdateEventSourceMapping``.
      https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    """

    @around(iam_actions, "extract_iam_action", "(service, method, path, headers, body, query_params)")
    def action(plain: Callable[..., Any], service: str, *request: Any) -> Any:
        name = plain(service, *request)
        if service == "lambda" and _ONE_MAPPING.search(request[1]):
            return _MAPPING_CALLS.get(request[0], name)
        if name and service == "sqs":
            return name.removesuffix("Batch")
        if _answers_a_task(name) and _machine_of_token(request[3]) is None:
            return None
        return name

    @around(
        iam_actions,
        "extract_resource_arn",
        "(service, method, path, headers, body, query_params, region, account_id)",
    )
    def resource(plain: Callable[..., Any], service: str, *request: Any) -> Any:
        found = plain(service, *request)
        if service == "states":
            return _machine_of_token(request[3]) or _field(request[3], "mapRunArn") or found
        return _queried_group(*request[3:]) or found if service == "logs" else found


def check_partiql_permissions() -> None:
    """Gap: a PartiQL call needs the permission ``dynamodb:BatchExecuteStatement``, which AWS does not have.

    AWS checks ``dynamodb:PartiQLInsert``, ``…Select``, ``…Update`` or ``…Delete`` on the table of each statement.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
    """

    @around(iam_actions, "dynamodb_transaction_checks", "(iam_action, body, region, account_id)")
    def checks(plain: Callable[..., Any], action: str, body: bytes, region: str, account: str) -> Any:
        if action.removeprefix("dynamodb:") not in _PARTIQL_CALLS:
            return plain(action, body, region, account)
        request = json.loads(body)
        statements = request.get("Statements") or request.get("TransactStatements") or [request]
        return [
            (f"dynamodb:PartiQL{kind.capitalize()}", iam_actions._dynamodb_table_arn(table, region, account))
            for kind, table in map(_statement_target, statements)
        ]


def hide_missing_objects() -> None:
    """Gap: reading an object that does not exist returns 404. AWS returns 403 to a caller that may not list the bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """

    @around(iam_actions, "s3_additional_checks", "(method, path, headers, body, query_params)")
    def checks(plain: Callable[..., Any], method: str, path: str, *request: Any) -> Any:
        bucket, _, key = path.strip("/").partition("/")
        missing = key and key not in (s3._buckets.get(bucket) or {"objects": {key}})["objects"]
        listing = [("s3:ListBucket", f"arn:aws:s3:::{bucket}")] if missing and method in {"GET", "HEAD"} else []
        return [*plain(method, path, *request), *listing]


def treat_loopback_as_tls() -> None:
    """Gap: the engine listens without TLS, so a policy that denies calls without TLS would deny every call.

    No call to the engine leaves this machine, and every call of an SDK to AWS uses TLS.
    """

    @around(iam_evaluator, "_resolve_condition_key", "(key, ctx)")
    def resolve(plain: Callable[..., Any], key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else plain(key, context)


def _answers_a_task(action: str | None) -> bool:
    return (action or "").startswith("states:SendTask")


def _field(body: bytes, name: str) -> Any:
    """A field of a request; ``None`` if it has none."""
    try:
        return json.loads(body or b"{}").get(name)
    except (ValueError, AttributeError):
        return None


def _machine_of_token(body: bytes) -> str | None:
    """The state machine that issued the token in this request."""
    token = _field(body, "taskToken")
    return issuers.get(token) if isinstance(token, str) else None


def _queried_group(body: bytes, _query: Any, region: str, account: str) -> str | None:
    """The ARN of the first log group of a query; ``None`` for another request."""
    groups = _field(body, "logGroupNames")
    return f"arn:aws:logs:{region}:{account}:log-group:{groups[0]}" if groups else None


def _statement_target(statement: dict[str, Any]) -> tuple[str, str]:
    """The kind of a PartiQL statement and its table. The engine itself refuses a statement that cannot be parsed."""
    try:
        parsed = dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters", []))
    except (KeyError, ValueError):
        return "Select", "*"
    return parsed["op"], parsed["table"]
