"""Why the processor ended without an answer, from the lines that Lambda itself writes to its log.

A receive whose worker died has the status ``started`` in the attempt log, and the id of its invocation.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from ops.deployed import DeployedStack
from ops.log_query import LogQuery

#: From the beginning of the invocation until its last line: its timeout, and a minute for the log.
_LAST_LINE = timedelta(minutes=2)
_REQUEST = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
_TIMEOUT = re.compile(r"Task timed out after ([\d.]+) seconds")
_EXIT = re.compile(r"(?:exit status \d+|signal: \w+)")
_MEMORY = re.compile(r"Memory Size: (\d+) MB\s+Max Memory Used: (\d+) MB")
_TYPE = re.compile(r"\b(?:Runtime|Sandbox|Extension)\.\w+")


def crash_reasons(stack: DeployedStack, began: Mapping[str, datetime]) -> Mapping[str, str]:
    """Find out why invocations of the processor ended.

    Args:
        stack: The stack.
        began: When each invocation began, by its request id.

    Returns:
        The reason by request id, for those that the log explains.
    """
    if not began:
        return {}
    text = f"fields @message | filter @message like /{'|'.join(began)}/"
    query = LogQuery(["processor"], text, min(began.values()), max(began.values()) + _LAST_LINE)
    lines: dict[str, list[str]] = defaultdict(list)
    for row in query.rows(stack) or ():
        for request_id in began.keys() & set(_REQUEST.findall(row["@message"])):
            lines[request_id].append(row["@message"])
    reasons = {request_id: ", ".join(_reasons(found)) for request_id, found in lines.items()}
    return {request_id: reason for request_id, reason in reasons.items() if reason}


def _reasons(lines: Iterable[str]) -> Iterator[str]:
    text = "\n".join(line for line in lines if not line.startswith("{"))  # JSON lines are the function's own
    if timeout := _TIMEOUT.search(text):
        yield f"timeout after {timeout[1]} s"
    if (memory := _MEMORY.search(text)) and int(memory[2]) >= int(memory[1]):
        yield f"out of memory ({memory[2]} of {memory[1]} MB)"
    if exited := _EXIT.search(text):
        yield exited[0]
    yield from dict.fromkeys(_TYPE.findall(text))
