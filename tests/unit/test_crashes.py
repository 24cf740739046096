"""Why a worker died, as far as Lambda's own log lines say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ops.crashes import crash_reasons
from tests.commands import AnsweringStack

BEGAN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ONE, OTHER = "8286a188-ba32-4475-8077-530cd35c09a9", "5f4e8a00-ba32-4475-8077-530cd35c09a9"
REPORT = (
    f"REPORT RequestId: {ONE}\tDuration: 30000.00 ms\tBilled Duration: 30000 ms\tMemory Size: 512 MB\tMax Memory Used: "
)


def stack_with(*lines: str, queries: list[dict[str, Any]] | None = None) -> AnsweringStack:
    def start(**request: Any) -> dict[str, str]:
        if queries is not None:
            queries.append(request)
        return {"queryId": "q"}

    rows = [[{"field": "@message", "value": line}] for line in lines]
    answer = {"status": "Complete", "results": rows}
    return AnsweringStack({"logs.start_query": start, "logs.get_query_results": answer})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.log_query.time.sleep", lambda _seconds: None)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([f"2026-11-26T12:00:30.000Z {ONE} Task timed out after 30.00 seconds", f"{REPORT}120 MB"], "timeout after 30.00 s"),
        (
            [f"RequestId: {ONE} Error: Runtime exited with error: signal: killed\nRuntime.ExitError", f"{REPORT}512 MB"],
            "out of memory (512 of 512 MB), signal: killed, Runtime.ExitError",
        ),
        (
            [f"RequestId: {ONE} Error: Runtime exited with error: exit status 3\nRuntime.ExitError", f"{REPORT}99 MB"],
            "exit status 3, Runtime.ExitError",
        ),
        ([f'{{"requestId": "{ONE}", "message": "Task timed out after 1 seconds"}}'], None),
        ([f"{REPORT}120 MB"], None),
    ],
    ids=["timeout", "memory", "exit", "the function's own line", "nothing"],
)  # fmt: skip
def test_the_reason_is_what_lambda_wrote(lines: list[str], reason: str | None) -> None:
    assert crash_reasons(stack_with(*lines), {ONE: BEGAN}).get(ONE) == reason


def test_each_invocation_has_its_own_reason() -> None:
    lines = [f"{ONE} Task timed out after 30.00 seconds", f"RequestId: {OTHER} Error: Runtime.ExitError"]
    found = crash_reasons(stack_with(*lines), {ONE: BEGAN, OTHER: BEGAN})
    assert found == {ONE: "timeout after 30.00 s", OTHER: "Runtime.ExitError"}


def test_only_the_time_of_the_invocations_is_searched() -> None:
    queries: list[dict[str, Any]] = []
    crash_reasons(stack_with(queries=queries), {ONE: BEGAN})
    (query,) = queries
    assert query["startTime"] == BEGAN.timestamp()
    assert 0 < query["endTime"] - query["startTime"] < 300


def test_without_a_dead_worker_no_log_is_read() -> None:
    assert crash_reasons(AnsweringStack({}), {}) == {}
