"""What a role may do, for services of AWS that act with it. The engine checks only calls over HTTP."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import lambda_svc

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable


def check_role_of_function_logs() -> None:
    """Gap: a function's output is logged whatever its role may do. AWS drops it if the role may not write logs.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
    """

    @around(lambda_svc, "_emit_lambda_logs", "(func, request_id, log_text, error, duration_ms, *, log_source=None)")
    def emit(plain: Callable[..., Any], function: dict[str, Any], *rest: Any, **named: Any) -> None:
        config = function.get("config") or function
        group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
        stream = f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}:log-stream:any"
        if all(role_allows(config["Role"], action, stream) for action in ("logs:CreateLogStream", "logs:PutLogEvents")):
            plain(function, *rest, **named)


def role_allows(role: str, action: str, resource: str) -> bool:
    """Whether the policies of this role allow the action on the resource."""
    account = get_account_id()
    policies = iam_evaluator._gather_role_policies(role.rsplit("/", 1)[-1], account)
    request = iam_evaluator.EvalContext(
        principal_arn=role,
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource,
        region=get_region(),
    )
    return bool(iam_evaluator.evaluate(request, policies).decision == "Allow")
