"""Queries of CloudWatch Logs Insights over the logs of the functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ops.deployed import DeployedStack

#: The fields of each row as Logs Insights answers them: text.
Rows = Sequence[dict[str, str]]
#: The most rows that one query returns:
#: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax-Limit.html
MOST_ROWS = 10_000
_ENDED = {"Failed", "Cancelled", "Timeout", "Unknown"}


def parse_row_time(text: str) -> datetime:
    """A time of a row. A field is text, ``2026-11-23 08:00:00.000`` in UTC; ``max(@timestamp)`` is milliseconds."""
    if text.replace(".", "", 1).isdecimal():
        return datetime.fromtimestamp(float(text) / 1000, UTC)
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A query over the logs of functions.

    Attributes:
        functions: The functions' names in their log groups, for example ``classify``.
        text: The query.
        begin: The first moment.
        end: The last moment.
    """

    functions: Sequence[str]
    text: str
    begin: datetime
    end: datetime

    def rows(
        self,
        stack: DeployedStack,
        *,
        polls: int = 120,
        poll_seconds: float = 0.5,
        sleep: Callable[[float], None] | None = None,
    ) -> Rows | None:
        """Run the query. Ask for its answer every ``poll_seconds`` seconds, at most ``polls`` times.

        Returns:
            The rows, at most :data:`MOST_ROWS`; ``None`` if the query failed or has not ended in time.
        """
        logs = stack.client("logs")
        started = logs.start_query(
            logGroupNames=[f"/aws/lambda/{stack.name}/{name}" for name in self.functions],
            startTime=int(self.begin.timestamp()),
            endTime=int(self.end.timestamp()) + 1,
            queryString=self.text,
        )
        for _ in range(polls):
            (sleep or time.sleep)(poll_seconds)
            answer = logs.get_query_results(queryId=started["queryId"])
            if answer["status"] == "Complete":
                return [{field["field"]: field["value"] for field in row} for row in answer["results"]]
            if answer["status"] in _ENDED:
                break
        return None
