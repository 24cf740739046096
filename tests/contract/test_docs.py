"""The documents: links and paths exist, commands are shell, make targets exist, and the README's chart is the template."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.docs_check import PAGES, blocks, fenced
from tests.contract.project import FUNCTIONS, ROOT, machine, resources, template, values

#: Paths in the documents are relative to one of these.
ROOTS = (ROOT, FUNCTIONS, FUNCTIONS / "holdfast")
MAPPINGS = {"SQS": "Queue", "DynamoDB": "Stream"}
BUS = "EventBridge bus"


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub creates for the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    texts = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_inside_the_repository_leads_to_an_existing_file_and_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose(page)):
        path, _, anchor = "".join(target).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{path} does not exist"
        assert found.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(found), f"{path} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_file_of_code_that_a_page_names_exists(page: Path) -> None:
    for path in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|yaml|toml|asl\.json))`", prose(page)):
        assert any((root / path).exists() for root in ROOTS), path


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_of_commands_is_valid_shell(page: Path) -> None:
    for block in blocks(page):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)  # noqa: S607 - readers run them in bash too
        assert done.returncode == 0, f"line {block.line}: {done.stderr}"


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"^ *make ([a-z-]+)|`make ([a-z-]+)", page.read_text(), re.MULTILINE):
            assert "".join(target) in targets, f"{relative(page)}: make {''.join(target)}"


# -- the flow chart of the README ------------------------------------------------------------------------------------

Edge = tuple[str, str]


def chart() -> dict[Edge, str]:
    """Edges between the titles of the nodes, with their labels."""
    (block,) = fenced(ROOT / "README.md", "mermaid")
    node = r"(\w+)(?:[\[({]+([^\])}]+)[\])}]+)?"
    arrow = r" (?:-->|-\.->|-- (.+?) -->|-\. (.+?) \.->) "
    titles: dict[str, str] = {}
    edges: dict[Edge, str] = {}
    for line in block.text.splitlines()[1:]:
        parts = re.split(arrow, line.strip())
        keys = []
        for part in parts[::3]:
            found = re.fullmatch(node, part)
            assert found, f"not a node: {part}"
            if found[2]:
                titles[found[1]] = found[2].partition("<br/>")[0]
            keys.append(found[1])
        for number, (source, target) in enumerate(pairwise(keys)):
            edges[source, target] = parts[3 * number + 1] or parts[3 * number + 2] or ""
    return {(titles[source], titles[target]): label for (source, target), label in edges.items()}


def references(node: Any) -> set[str]:
    """Logical ids that a part of the template refers to, with any intrinsic function."""
    texts = {text for key in ("Ref", "Fn::GetAtt", "Fn::Sub") for value in values(node, key) for text in _flat(value)}
    return {word for text in texts for word in re.findall(r"\w+", text)} & template()["Resources"].keys()


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _flat(entry)


def required() -> set[Edge]:
    """The edges that AWS follows by itself: the targets of the rule, event source mappings, redrive policies."""
    found: set[Edge] = set()
    for name, rule in resources("AWS::Events::Rule").items():
        if name == "CircuitBreakerRule":  # it concerns alarms, not events
            continue
        for target in rule["Properties"]["Targets"]:
            found |= {(BUS, name) for name in references([target["Arn"], target.get("DeadLetterConfig")])}
    for name, queue in resources("AWS::SQS::Queue").items():
        found |= {(name, dead) for dead in references(queue["Properties"].get("RedrivePolicy", {}))}
    for name, function in resources("AWS::Serverless::Function").items():
        for event in function["Properties"].get("Events", {}).values():
            if event["Type"] in MAPPINGS:
                source = references(event["Properties"][MAPPINGS[event["Type"]]])
                found |= {(one, name) for one in source}
    return found


def used_by(name: str) -> set[str]:
    """The resources that the properties and the role of a resource refer to."""
    properties = template()["Resources"][name]["Properties"]
    role = references(properties.get("Role", {}))
    return (references(properties) | {other for one in role for other in used_by(one)}) - {name}


def reaches(source: str, target: str) -> bool:
    """Whether the source refers to the target, itself or by a function that it invokes; or the target reads from it."""
    functions = {name for name in used_by(source) if name in resources("AWS::Serverless::Function")}
    by_functions = {name for function in functions for name in used_by(function)}
    return target in used_by(source) | by_functions or source in references(template()["Resources"][target])


def test_every_resource_in_the_chart_is_in_the_template() -> None:
    shown = {name for edge in chart() for name in edge}
    assert {name for name in shown if " " not in name} <= template()["Resources"].keys()


def test_the_chart_shows_the_rule_every_mapping_and_every_redrive_policy() -> None:
    assert required() <= chart().keys()
    assert len(required()) >= 5


def test_every_arrow_between_two_resources_is_in_the_template() -> None:
    known = template()["Resources"].keys()
    for source, target in chart():
        if {source, target} <= known:
            assert reaches(source, target), f"{source} --> {target}"
    assert not reaches("FanOutFunction", "DeadLetterQueue")


def test_the_labels_of_arrows_from_triage_are_states_of_its_definition() -> None:
    states = {name.lower() for name in machine("triage")["States"]}
    labels = {label for (source, _), label in chart().items() if source == "TriageStateMachine" and label}
    assert labels
    assert labels <= states
