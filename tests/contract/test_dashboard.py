"""The dashboard and the saved queries use metrics and log fields that the functions write."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

from tests.contract.project import FUNCTIONS, decided, functions, properties, resources, template, values

SECTIONS = ["Events received and stored", "Backlog and throughput", "Failures", "Cost"]


def dashboard() -> dict[str, Any]:
    """The body of the dashboard. A substitution is replaced by its name, or by 1 for a number."""
    text, _ = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    parsed: dict[str, Any] = json.loads(re.sub(r"\$\{(!?)([^}]+)\}", _substituted, text))
    return parsed


def _substituted(found: re.Match[str]) -> str:
    if found[1]:
        return f"${{{found[2]}}}"
    return "1" if template()["Parameters"].get(found[2], {}).get("Type") == "Number" else found[2]


def widgets(kind: str) -> list[dict[str, Any]]:
    return [widget for widget in dashboard()["widgets"] if widget["type"] == kind]


def test_the_dashboard_has_the_four_sections_in_order() -> None:
    headings = [(widget["y"], widget["properties"]["markdown"].lstrip("# ")) for widget in widgets("text")]
    assert [text for _, text in sorted(headings)] == SECTIONS


def test_every_section_has_a_widget_and_no_widgets_overlap() -> None:
    rows = sorted(widget["y"] for widget in widgets("text"))
    for top, end in zip(rows, [*rows[1:], 1000], strict=True):
        assert [widget for widget in dashboard()["widgets"] if top < widget["y"] < end]
    for one, other in combinations(dashboard()["widgets"], 2):
        apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        apart_y = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        assert apart_x or apart_y, (one["properties"], other["properties"])


def test_every_expression_uses_metrics_of_its_widget() -> None:
    for widget in widgets("metric"):
        last = [line[-1] for line in widget["properties"]["metrics"] if isinstance(line[-1], dict)]
        known = {options["id"] for options in last if "id" in options}
        expressions = [options["expression"] for options in last if "expression" in options]
        used = {name for text in expressions for name in re.findall(r"FILL\((\w+), 0\)", text)}
        assert used <= known, widget["properties"]["title"]
        hidden = {options["id"] for options in last if options.get("visible") is False}
        assert hidden <= used, widget["properties"]["title"]


def test_every_metric_of_our_own_is_written_by_a_function() -> None:
    lines = [line for widget in widgets("metric") for line in widget["properties"]["metrics"] if line[0] == "Metrics"]
    assert lines
    for _, metric, dimension, service, *_ in lines:
        assert dimension == "service"
        assert f'"{metric}":' in (FUNCTIONS / service.replace("-", "_") / "app.py").read_text()


def test_the_cost_of_a_function_uses_its_memory_size() -> None:
    (cost,) = [widget for widget in widgets("metric") if "US dollars" in widget["properties"]["title"]]
    costs = {line[0]["label"]: line[0]["expression"] for line in cost["properties"]["metrics"] if len(line) == 1}
    for label, name in (("processor", "ProcessorFunction"), ("fan-out", "FanOutFunction")):
        assert f"/ 1000 * {functions()[name]['MemorySize'] / 1024:g} *" in costs[label]


def queries() -> list[tuple[set[str], str]]:
    """The queries of the dashboard and the saved queries: log groups and text."""
    shown = [widget["properties"]["query"] for widget in widgets("log")]
    saved = [found["Properties"] for found in resources("AWS::Logs::QueryDefinition").values()]
    return [(set(re.findall(r"SOURCE '(\w+)'", text)), text) for text in shown] + [
        (set(values(decided(one["LogGroupNames"], HasCircuitBreaker=True), "Ref")), one["QueryString"]) for one in saved
    ]


def test_a_query_groups_dead_letters_by_category_and_fingerprint() -> None:
    assert [text for _, text in queries() if "by category, rule, action, fingerprint" in text]


def test_every_query_uses_messages_and_fields_that_its_functions_log() -> None:
    for groups, text in queries():
        assert groups <= resources("AWS::Logs::LogGroup").keys()
        handlers = "".join((FUNCTIONS / _folder(group) / "app.py").read_text() for group in groups)
        for message in re.findall(r"message = '([^']+)'", text):
            assert f'"{message}"' in handlers
        fields = re.findall(r"\b(?:by|fields) ([\w@, ]+?)\s*(?:\||$)", text)
        for field in {name for names in fields for name in names.split(", ")} - {"message", "service"}:
            assert field.startswith("@") or f'"{field}"' in handlers, field


def _folder(group: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", group.removesuffix("Log")).lower()


def test_the_errors_query_covers_every_log_group() -> None:
    (errors,) = [groups for groups, text in queries() if "level = 'ERROR'" in text]
    assert errors == resources("AWS::Logs::LogGroup").keys()
