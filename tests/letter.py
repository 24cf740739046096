"""``make letter RULE=id``: writes a letter for a rule of the triage policy to the corpus.

The letter has what the rule's conditions name. The rest is a healthy event whose last receive failed for an unknown
reason. Change the file to the case that you mean.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from holdfast.domain.errors import PermanentError
from holdfast.domain.policy import Rule
from local.samples import user_event
from local.traffic import envelope
from tests.contract.labelled import CORPUS, POLICY, Labelled
from tests.fakes import NOW

LIMITS = {"maxRetries": 5, "maxAgeHours": 96}
_BUFFER = "arn:aws:sqs:eu-central-1:123456789012:buffer"
_PERMANENT = {one.category for one in PermanentError.__subclasses__()}


def main() -> int:
    """Write the letter, and print the rule that it matches."""
    rules = {rule.id: rule for rule in POLICY.rules}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in rules:
        print(f"There is no rule '{name}'. Rules: {', '.join(rules)}", file=sys.stderr)
        return 2
    rule = rules[name]
    path = next(path for number in count(1) if not (path := CORPUS / rule.category / f"{name}-{number}.json").exists())
    path.parent.mkdir(exist_ok=True)
    found = write(path, rule)
    print(
        f"Wrote {path.relative_to(CORPUS.parent.parent)}. Write into 'about' what happened, and change the rest to it."
    )
    if found != name:
        print(f"The letter matches rule {found}, which is above. Change the letter or the order of the rules.")
    return 0 if found == name else 1


def write(path: Path, rule: Rule) -> str:
    """Write the letter, with the verdict that it should get. Returns the rule that matches it."""
    data = letter(rule)
    while True:
        path.write_text(json.dumps(data, indent=2) + "\n")
        found = Labelled(path).classified().rule
        if found == rule.id or data["triage"]["redrives"] >= LIMITS["maxRetries"]:
            return found
        # A rule above matches, until its redrives are used.
        data["triage"]["history"].append(next(one.category for one in POLICY.rules if one.id == found))
        data["triage"]["redrives"] += 1
        data["triage"]["redriveOutcome"] = data["triage"]["redriveOutcome"] or "DEAD_LETTERED_AGAIN"


def letter(rule: Rule) -> dict[str, Any]:
    """The letter that a rule's conditions describe."""
    wanted = {name: _value(condition) for name, condition in rule.when.items()}
    message = _message(wanted)
    redrives = wanted.get("redrives", 1 if wanted.get("redriveOutcome") else 0)
    return {
        "about": "",
        "message": message,
        "attemptLog": wanted.get("attemptLog", "read"),
        "attempts": _attempts(wanted),
        "stored": [json.loads(message["body"])["id"]] if wanted.get("stored") else [],
        "triage": {
            "redrives": redrives,
            "history": ["UNKNOWN"] * redrives,
            "redriveOutcome": wanted.get("redriveOutcome"),
            "pending": wanted.get("pending"),
            "ageHours": wanted.get("ageHours", 2),
            "replay": wanted.get("replay", False),
        },
        "limits": LIMITS,
        "expected": {"category": rule.category, "rule": rule.id, "action": rule.action},
    }


def _value(condition: Any) -> Any:
    """A value for which a condition holds."""
    match condition:
        case [first, *_]:
            return first
        case {"atLeast": bound}:
            return LIMITS.get(bound, bound)
        case {"below": bound}:
            return LIMITS.get(bound, bound) - 1
        case _:
            return condition


def _message(wanted: Mapping[str, Any]) -> dict[str, Any]:
    event = user_event()
    body = json.dumps(envelope(str(uuid.uuid4()), event.detail_type, event.detail, NOW))
    if wanted.get("body") == "MALFORMED":
        body = body[: len(body) // 2]
    elif wanted.get("body") == "INVALID":
        body = json.dumps(envelope(str(uuid.uuid4()), event.detail_type, {}, NOW))
    attributes = {"ApproximateReceiveCount": "6", "SentTimestamp": "1795420800000"}
    undelivered = {
        "RULE_ARN": "arn:aws:events:eu-central-1:123456789012:rule/bus/rule",
        "TARGET_ARN": _BUFFER,
        "ERROR_CODE": wanted.get("errorCode", "NO_PERMISSIONS"),
    }
    message: dict[str, Any] = {"messageId": str(uuid.uuid4()), "body": body, "messageAttributes": {}}
    if wanted.get("undelivered"):
        texts = {name: {"dataType": "String", "stringValue": text} for name, text in undelivered.items()}
        return message | {"messageAttributes": texts, "attributes": attributes}
    if wanted.get("bodyAltered"):
        message["md5OfBody"] = "0" * 32
    return message | {"attributes": attributes | {"DeadLetterQueueSourceArn": _BUFFER}}


def _attempts(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    unknown = None if wanted.get("undelivered") or wanted.get("body") else "failed"
    status = wanted.get("lastStatus", unknown)
    if status is None:
        return []
    attempt = {"receiveCount": 5, "status": status}
    if status not in ("failed", "deferred"):
        return [attempt]
    category = wanted.get("lastCategory", "UNKNOWN")
    failure = {
        "category": category,
        "errorType": wanted.get("lastError", "Exception"),
        "message": wanted.get("lastMessage", ""),
        "permanent": category in _PERMANENT,
        "retryAfter": wanted.get("retryAfter"),
    }
    return [attempt | {"failure": failure}]


if __name__ == "__main__":
    sys.exit(main())
