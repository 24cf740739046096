"""What an operator copies out of the runbook is a command, and names things that exist."""

from __future__ import annotations

import re
import subprocess
from textwrap import dedent

from local.engine import ROOT
from tests.contract.project import template

RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
BLOCKS = [dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```$", RUNBOOK, re.DOTALL | re.MULTILINE)]
#: What SAM names after a function and its event: a mapping.
MAPPINGS = {"ProcessorFunctionBuffer", "DeadLetterIntakeFunctionDeadLetters", "FanOutFunctionNewEvents"}


def test_every_block_of_the_runbook_is_a_shell_script() -> None:
    assert len(BLOCKS) > 20
    subprocess.run(["bash", "-n"], input="\n".join(BLOCKS), text=True, check=True)  # noqa: S607 - the shell that the documents are written for


def test_the_runbook_asks_for_resources_that_the_template_has() -> None:
    asked = set(re.findall(r"(?:resource|depth) ([A-Z]\w+)|remote invoke (\w+)", RUNBOOK))

    assert {first or second for first, second in asked} <= set(template()["Resources"]) | MAPPINGS


def test_the_runbook_links_to_sections_that_it_has() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}

    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors
