"""The commands of the runbook are shell scripts, and the resources that they name exist."""

from __future__ import annotations

import re
import subprocess

from local.docs_check import blocks
from local.engine import ROOT
from tests.contract.project import template

RUNBOOK = ROOT / "docs" / "operations.md"
#: Logical ids that SAM creates for the event source mappings.
MAPPINGS = {"ProcessorFunctionBuffer", "DeadLetterIntakeFunctionDeadLetters", "FanOutFunctionNewEvents"}


def test_the_blocks_of_the_runbook_together_are_one_shell_script() -> None:
    commands = [block.text for block in blocks(RUNBOOK)]
    assert len(commands) > 20
    subprocess.run(["bash", "-n"], input="\n".join(commands), text=True, check=True)  # noqa: S607 - readers run them in bash too


def test_every_resource_that_the_runbook_names_is_in_the_template() -> None:
    named = re.findall(r"(?:resource|depth|mapping|remote invoke) ([A-Z]\w+)", RUNBOOK.read_text())

    assert named
    assert set(named) <= set(template()["Resources"]) | MAPPINGS
