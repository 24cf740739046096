"""Bridges to IAM where a call that comes in over HTTP is checked in another way than in AWS."""

# ruff: noqa: SLF001 - a bridge reaches into the engine
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, s3

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTIQL_CALLS = {"ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}


def ask_for_single_message_permissions() -> None:
    """Gap: a batch call of SQS needs a permission such as ``sqs:SendMessageBatch``, which AWS does not know.

    AWS asks for the permission of the single call, ``sqs:SendMessage``.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    """

    @around(iam_actions, "extract_iam_action")
    def extract(plain: Callable[..., Any], service: str, *request: Any) -> Any:
        action = plain(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action


def ask_for_partiql_permissions() -> None:
    """Gap: a PartiQL call needs the permission ``dynamodb:BatchExecuteStatement``, which AWS does not know.

    AWS asks for ``dynamodb:PartiQLInsert``, ``…Select``, ``…Update`` or ``…Delete`` on the table of each statement.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
    """

    @around(iam_actions, "dynamodb_transaction_checks")
    def checks(plain: Callable[..., Any], action: str, body: bytes, region: str, account: str) -> Any:
        if action.removeprefix("dynamodb:") not in _PARTIQL_CALLS:
            return plain(action, body, region, account)
        request = json.loads(body)
        statements = request.get("Statements") or request.get("TransactStatements") or [request]
        return [
            (f"dynamodb:PartiQL{kind.capitalize()}", iam_actions._dynamodb_table_arn(table, region, account))
            for kind, table in map(_statement_target, statements)
        ]


def tell_of_missing_objects_only_who_may_list() -> None:
    """Gap: reading an object that does not exist answers 404 to everybody.

    AWS answers 403 to who may not list the bucket.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """

    @around(iam_actions, "s3_additional_checks")
    def checks(plain: Callable[..., Any], method: str, path: str, *request: Any) -> Any:
        bucket, _, key = path.strip("/").partition("/")
        missing = key and key not in (s3._buckets.get(bucket) or {"objects": {key}})["objects"]
        listing = [("s3:ListBucket", f"arn:aws:s3:::{bucket}")] if missing and method in {"GET", "HEAD"} else []
        return [*plain(method, path, *request), *listing]


def count_the_loopback_as_tls() -> None:
    """Gap: the engine listens without TLS, so a policy that denies plain transport would deny every call.

    On AWS every SDK call is over TLS. Nothing leaves this machine here.
    """

    @around(iam_evaluator, "_resolve_condition_key")
    def resolve(plain: Callable[..., Any], key: str, *rest: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else plain(key, *rest)


def _statement_target(statement: dict[str, Any]) -> tuple[str, str]:
    """The kind of a PartiQL statement and its table; one that cannot be read is refused later, with its own error."""
    try:
        parsed = dynamodb._parse_partiql(statement["Statement"], statement.get("Parameters", []))
    except (KeyError, ValueError):
        return "Select", "*"
    return parsed["op"], parsed["table"]
