"""Whether CloudFormation accepts a value of a parameter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def accepts(parameter: Mapping[str, Any], value: Any) -> bool:
    """Evaluate the constraints as CloudFormation does: a pattern must match the whole value."""
    text = str(value)
    if parameter["Type"] == "Number":
        if not re.fullmatch(r"-?\d+(\.\d+)?", text):
            return False
        low, high = parameter.get("MinValue", float("-inf")), parameter.get("MaxValue", float("inf"))
        if not low <= float(text) <= high:
            return False
    if "AllowedValues" in parameter and text not in {str(allowed) for allowed in parameter["AllowedValues"]}:
        return False
    pattern = parameter.get("AllowedPattern")
    return pattern is None or re.fullmatch(pattern, text) is not None
