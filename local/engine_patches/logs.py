"""Engine patches of CloudWatch Logs."""

# ruff: noqa: SLF001 - a patch uses the engine's private functions
from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NoReturn

from ministack.services import cloudwatch_logs

from local.engine_patches.patch import around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Record = dict[str, Any]
    Condition = Callable[[Record], bool]

_CONDITION = re.compile(r"(?P<field>@?\w+)\s*(?P<operator>!=|=|like|in)\s*(?P<value>'[^']*'|/[^/]*/|\[[^\]]*\])")
_AGGREGATE = re.compile(r"(?P<function>\w+)\((?P<field>\*|@?\w+)\)\s+as\s+(?P<name>\w+)")
_SORT = re.compile(r"sort\s+(?P<field>@?\w+)(?:\s+(?P<order>asc|desc))?")
_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "count_distinct": lambda values: len(set(values)),
    "min": min,
    "max": max,
    "earliest": lambda values: values[0],
    "latest": lambda values: values[-1],
}


def query_structured_logs() -> None:
    """Gap: Logs Insights does not find the fields of JSON log lines, and ignores ``stats`` and most filters.

    The patch evaluates ``fields``, ``filter`` (``=``, ``!=``, ``like``, ``in``; with ``and`` or with ``or``),
    ``stats``, ``sort`` and ``limit``. Anything else is an error here: no test may pass because of an ignored part.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
    """

    @around(cloudwatch_logs, "_start_query", "(data)")
    def start(plain: Callable[..., Any], data: dict[str, Any]) -> Any:
        answer = plain(data)
        query = cloudwatch_logs._queries.get(json.loads(answer[2]).get("queryId"))
        if query is None:
            return answer
        groups = cloudwatch_logs._resolve_query_log_groups(data)
        found = cloudwatch_logs._collect_query_records(groups, data["startTime"], data["endTime"])
        try:
            query["results"] = _results([_with_fields(record) for record in found], data["queryString"])
        except ValueError as error:
            return cloudwatch_logs.error_response_json("MalformedQueryException", str(error), 400)
        return answer


def _with_fields(record: Record) -> Record:
    """A log line with the fields of its JSON text."""
    public: Record = cloudwatch_logs._public_log_record(record)
    try:
        line = json.loads(public["@message"])
    except ValueError:
        return public
    return {**line, **public} if isinstance(line, dict) else public


def _results(records: list[Record], text: str) -> list[list[dict[str, str]]]:
    shown = ["@timestamp", "@message"]
    for stage in cloudwatch_logs._split_insights_pipes(text):
        command, _, rest = stage.partition(" ")
        if command == "fields":
            shown = [name.strip() for name in rest.split(",")]
        elif command == "stats":
            records, shown = _stats(records, rest)
        else:
            records = _STAGES[command](records, rest) if command in _STAGES else _unsupported(stage)
    return [
        [{"field": name, "value": _text(record[name])} for name in shown if record.get(name) is not None]
        for record in records
    ]


def _stats(records: Iterable[Record], text: str) -> tuple[list[Record], list[str]]:
    aggregates, _, keys = text.partition(" by ")
    by = [name.strip() for name in keys.split(",") if name.strip()]
    wanted = list(_AGGREGATE.finditer(aggregates))
    if len(wanted) != aggregates.count("("):
        _unsupported(text)
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[tuple(record.get(name) for name in by)].append(record)
    rows = [
        dict(zip(by, key, strict=True))
        | {one["name"]: _aggregate(one["function"], _values(members, one["field"])) for one in wanted}
        for key, members in groups.items()
    ]
    return rows, [*by, *(one["name"] for one in wanted)]


def _aggregate(function: str, values: list[Any]) -> Any:
    """A field that no line has is counted as 0 and is otherwise missing."""
    return _AGGREGATES[function](values) if values or function.startswith("count") else None


def _values(records: Iterable[Record], field: str) -> list[Any]:
    return [1 if field == "*" else record[field] for record in records if field == "*" or field in record]


def _filter(records: Iterable[Record], text: str) -> list[Record]:
    combine = any if re.search(r"\sor\s", text) else all
    conditions = list(_CONDITION.finditer(text))
    if _CONDITION.sub("", text).replace("and" if combine is all else "or", "").strip():
        _unsupported(text)
    checks = [_condition(**one.groupdict()) for one in conditions]
    return [record for record in records if combine(check(record) for check in checks)]


def _condition(field: str, operator: str, value: str) -> Condition:
    inner = value[1:-1]
    if operator == "in":
        return lambda record: str(record.get(field)) in re.findall(r"'([^']*)'", inner)
    if operator == "like" and value.startswith("/"):
        return lambda record: bool(re.search(inner, str(record.get(field, ""))))
    if operator == "like":
        return lambda record: inner in str(record.get(field, ""))
    return lambda record: (str(record.get(field)) == inner) is (operator == "=")


def _sort(records: list[Record], text: str) -> list[Record]:
    if not (found := _SORT.fullmatch(f"sort {text.strip()}")):
        _unsupported(text)
    return sorted(records, key=lambda record: record.get(found["field"]) or 0, reverse=found["order"] == "desc")


_STAGES: dict[str, Callable[[list[Record], str], list[Record]]] = {
    "filter": _filter,
    "sort": _sort,
    "limit": lambda records, text: records[: int(text)],
}


def _unsupported(text: str) -> NoReturn:
    raise ValueError(f"the engine patch of Logs Insights does not support: {text}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
