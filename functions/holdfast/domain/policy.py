"""From evidence to a verdict, by an ordered list of rules (``triage_policy.json``): the first rule that matches wins.

Rules test structured evidence only, never the text of a message. The whole policy is checked when it is loaded. A wrong
policy is refused with every reason, by rule.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from holdfast.domain.attempts import Status
from holdfast.domain.categories import VERDICT_CATEGORIES, Category
from holdfast.domain.identity import UUID
from holdfast.domain.naming import camel

ACTIONS = frozenset({"settle", "archive", "retry", "wait"})
#: ``standard``: the wait grows with every redrive. ``slow``: it is the cap from the first one on. ``now``: no wait.
SCHEDULES = frozenset({"standard", "slow", "now"})
_RULE_KEYS = {"id", "category", "when", "action", "schedule", "limit", "explanation"}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "below": lambda value, bound: value < bound,
    "atLeast": lambda value, bound: value >= bound,
}
#: The evidence that is a number and can be compared.
_NUMBERS = frozenset({"retryAfter", "redrives", "ageHours"})
#: The evidence that is text, and its values; none if it can have any.
_TEXTS: dict[str, frozenset[str]] = {
    "body": frozenset({"EVENT", "MALFORMED", "INVALID"}),
    "errorCode": frozenset(),
    "attemptLog": frozenset({"read", "unreadable"}),
    "lastStatus": frozenset(Status) - {Status.UNREADABLE},
    "lastCategory": frozenset(Category),
    "lastError": frozenset(),
    "lastMessage": frozenset(),
    "correlationId": frozenset(),
    "redriveOutcome": frozenset({"DEAD_LETTERED_AGAIN", "STORED", "SILENT", "NOT_SENT"}),
    "pending": frozenset({"PAUSED", "IN_BUFFER"}),
}
_OPTIONAL = _TEXTS.keys() - {"body", "attemptLog"} | {"retryAfter"}
_LIMIT_NAMES = {"maxRetries": "max_retries", "maxAgeHours": "max_age_hours"}


class PolicyError(ValueError):
    """The policy cannot be used. The message lists every reason."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a verdict may rest on. In the policy the same names are written in camel case.

    Attributes:
        stored: The events table holds the event (strongly consistent read).
        body: ``EVENT``, ``MALFORMED`` or ``INVALID``, as the processor reads it.
        body_altered: The body differs from the one that SQS received.
        undelivered: EventBridge could not deliver it to the buffer.
        error_code: EventBridge's code for that.
        attempt_log: ``read``, or ``unreadable`` if the attempts table or a record of this message could not be read.
        last_status: Status of the message's last attempt; ``None`` if there is none.
        last_category: Category of its failure.
        last_error: Its error type.
        last_message: The error's message. It contains nothing of a payload.
        correlation_id: The id of Genesys' failed answer, by which its support finds the request.
        retry_after: Seconds for which the service refuses further calls.
        dead_lettered: SQS moved the message here after its last receive from the buffer.
        redrive_outcome: ``DEAD_LETTERED_AGAIN``, ``STORED``, ``SILENT`` or ``NOT_SENT``; ``None`` before a redrive.
        pending: Why the outcome of the last redrive may still come: ``PAUSED`` if processing is paused, ``IN_BUFFER``
            if the message may still be in the buffer; ``None`` if neither, or if the outcome is known.
        redrives: Redrives so far, earlier executions included.
        replay: An operator started this by a replay.
        age_hours: Hours since triage began, earlier executions included.
    """

    stored: bool = False
    body: str = "EVENT"
    body_altered: bool = False
    undelivered: bool = False
    error_code: str | None = None
    attempt_log: str = "read"
    last_status: str | None = None
    last_category: str | None = None
    last_error: str | None = None
    last_message: str | None = None
    correlation_id: str | None = None
    retry_after: float | None = None
    dead_lettered: bool = False
    redrive_outcome: str | None = None
    pending: str | None = None
    redrives: int = 0
    replay: bool = False
    age_hours: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The evidence as the verdict shows it: in camel case, without empty values."""
        return {camel(name): value for name, value in asdict(self).items() if value not in (None, False)}


#: The evidence by its name in the policy.
_EVIDENCE_NAMES = {camel(field.name): field.name for field in fields(Evidence)}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the template's parameters set."""

    max_retries: int
    max_age_hours: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the policy. With a ``limit`` it matches only while its category has had fewer redrives than that."""

    id: str
    category: str
    when: Mapping[str, Any]
    action: str
    explanation: str
    schedule: str = "standard"
    limit: int | None = None

    def matches(self, evidence: Evidence, spent: Mapping[str, int], limits: Limits) -> bool:
        """Whether every condition holds and the limit is not reached."""
        if self.limit is not None and spent.get(self.category, 0) >= self.limit:
            return False
        return all(_holds(evidence, name, wanted, limits) for name, wanted in self.when.items())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What triage does with a dead letter, and why.

    Attributes:
        category: What kind of failure it is.
        rule: The id of the rule.
        action: ``settle``, ``archive``, ``retry`` or ``wait``.
        schedule: How long a retry waits.
        explanation: The rule's sentence for people.
        fingerprint: Equal for equal causes.
        policy: Identifies the policy.
        evidence: What the verdict rests on.
        late_snapshot: The snapshot of the redriven message, if that message reached the dead-letter queue again after
            the timeout of its redrive; else empty.
    """

    category: str
    rule: str
    action: str
    schedule: str
    explanation: str
    fingerprint: str
    policy: str
    evidence: Evidence
    late_snapshot: str = ""

    def as_json(self) -> dict[str, Any]:
        """The verdict as the execution and the archive object show it."""
        late = {"lateSnapshot": self.late_snapshot} if self.late_snapshot else {}
        return {
            "category": self.category,
            "rule": self.rule,
            "action": self.action,
            "schedule": self.schedule,
            "explanation": self.explanation,
            "retryAfterSeconds": self.evidence.retry_after or 0,
            "fingerprint": self.fingerprint,
            "policy": self.policy,
            "evidence": self.evidence.as_json(),
            **late,
        }


class Policy:
    """A checked policy."""

    def __init__(self, text: str) -> None:
        """Load and check a policy.

        Raises:
            PolicyError: With every reason, by rule.
        """
        self._text = text
        self.rules = _checked_rules(text)

    @cached_property
    def hash(self) -> str:
        """Identifies the policy behind a verdict."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:12]

    def judge(self, evidence: Evidence, history: Sequence[str], limits: Limits) -> Verdict:
        """Return the verdict of the first rule that matches. ``history`` has the category of every redrive so far."""
        spent = Counter(history)
        rule = next(rule for rule in self.rules if rule.matches(evidence, spent, limits))
        return Verdict(
            category=rule.category,
            rule=rule.id,
            action=rule.action,
            schedule=rule.schedule,
            explanation=rule.explanation,
            fingerprint=fingerprint(evidence),
            policy=self.hash,
            evidence=evidence,
        )


def fingerprint(evidence: Evidence) -> str:
    """Hash the error without ids, numbers, times and addresses.

    It consists of the kind of the body, EventBridge's error code, the last status, and the last error and its message.

    Equal fingerprints mean one cause.
    """
    parts = (evidence.body, evidence.error_code, evidence.last_status, evidence.last_error, evidence.last_message)
    normal = _VARIABLE.sub("*", "|".join(part or "" for part in parts))
    return hashlib.sha256(normal.encode()).hexdigest()[:16]


_VARIABLE = re.compile(
    rf"{UUID}"  # an id
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # an address
    r"|\b(?:https?|arn):\S+"  # a link or a resource
    r"|\d+(?:[.:T-]\d+)*Z?"  # a number, a time, an IP address
)


def _holds(evidence: Evidence, name: str, wanted: Any, limits: Limits) -> bool:
    """Whether one condition holds: equality, membership of a list, or a comparison.

    A comparison with an unknown number does not hold.
    """
    value = getattr(evidence, _EVIDENCE_NAMES[name])
    if isinstance(wanted, list):
        return value in wanted
    if not isinstance(wanted, dict):
        return bool(value == wanted)
    return value is not None and all(
        _COMPARISONS[comparison](value, _bound(bound, limits)) for comparison, bound in wanted.items()
    )


def _bound(bound: float | str, limits: Limits) -> float:
    return float(getattr(limits, _LIMIT_NAMES[bound])) if isinstance(bound, str) else bound


def _checked_rules(text: str) -> tuple[Rule, ...]:
    try:
        data = json.loads(text)
        raw_rules = data["rules"]
        version = data["schemaVersion"]
    except json.JSONDecodeError as error:
        raise PolicyError(f"line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise PolicyError("not JSON that Python can read: a number is too long, or the nesting too deep") from None
    except (KeyError, TypeError):
        raise PolicyError("a policy must be an object with schemaVersion and rules") from None
    if version != 1 or not isinstance(raw_rules, list):
        raise PolicyError("schemaVersion must be 1 and rules must be a list")
    reasons = [reason for number, raw in enumerate(raw_rules, 1) for reason in _faults_of_rule(number, raw, text)]
    if not reasons:
        reasons = _faults_of_order(raw_rules)
    if reasons:
        raise PolicyError("; ".join(reasons))
    return tuple(Rule(**raw) for raw in raw_rules)


def _faults_of_rule(number: int, raw: Any, text: str) -> list[str]:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
        return [f"rule {number}: it has no id"]
    line = _line_of(raw["id"], text)
    faults = [f"unknown key {key}" for key in sorted(raw.keys() - _RULE_KEYS)]
    faults += [f"no {key}" for key in ("category", "when", "action", "explanation") if key not in raw]
    if not _is_one_of(VERDICT_CATEGORIES, raw.get("category")):
        faults.append("its category does not exist")
    if not _is_one_of(ACTIONS, raw.get("action")):
        faults.append("its action does not exist")
    if not _is_one_of(SCHEDULES, raw.get("schedule", "standard")):
        faults.append("its schedule does not exist")
    if not isinstance(raw.get("explanation", ""), str):
        faults.append("its explanation is not text")
    limit = raw.get("limit")
    if limit is not None and (type(limit) is not int or limit < 1):
        faults.append("its limit is not a positive whole number")
    when = raw.get("when")
    faults += _faults_of_conditions(when) if isinstance(when, dict) else ["when is not an object"]
    if raw.get("action") == "settle" and not (isinstance(when, dict) and when.get("stored") is True):
        faults.append('it settles an event without the condition "stored": true')
    if raw.get("action") == "wait" and not (isinstance(when, dict) and when.get("pending")):
        faults.append("it waits without a condition on pending, so it could wait for ever")
    return [f"line {line}, rule {raw['id']}: {fault}" for fault in faults]


def _line_of(rule_id: str, text: str) -> int:
    spellings = "|".join(re.escape(json.dumps(rule_id, ensure_ascii=escaped)) for escaped in (True, False))
    found = re.search(rf'"id"\s*:\s*(?:{spellings})', text)
    return text[: found.start() if found else 0].count("\n") + 1


def _is_one_of(names: frozenset[str], value: Any) -> bool:
    return isinstance(value, str) and value in names


def _faults_of_conditions(when: Mapping[str, Any]) -> list[str]:
    faults = [f"evidence has no {name}" for name in when if name not in _EVIDENCE_NAMES]
    for name, wanted in when.items():
        if wanted == []:
            faults.append(f"{name} has an empty list")
        if not isinstance(wanted, dict):
            values = wanted if isinstance(wanted, list) else [wanted]
            faults += [f"{name} cannot be {value!r}" for value in values if not _is_possible(name, value)]
            continue
        if name not in _NUMBERS:
            faults.append(f"{name} is not a number")
        if not wanted:
            faults.append(f"{name} has an unknown comparison")
        for comparison, bound in wanted.items():
            known_bound = bound in _LIMIT_NAMES if isinstance(bound, str) else type(bound) in (int, float)
            if comparison not in _COMPARISONS or not known_bound:
                faults.append(f"{name} has an unknown comparison")
    return faults


def _is_possible(name: str, value: Any) -> bool:
    """Whether evidence with this name can have this value."""
    if value is None:
        return name in _OPTIONAL
    if name in _NUMBERS:
        return type(value) in (int, float)
    if name in _TEXTS:
        return isinstance(value, str) and value in (_TEXTS[name] or {value})
    return type(value) is bool or name not in _EVIDENCE_NAMES


def _faults_of_order(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """Check the rules that every policy needs."""
    reasons = []
    ids = Counter(rule["id"] for rule in rules)
    reasons += [f"rule id {name} is used twice" for name, count in ids.items() if count > 1]
    first = rules[0] if rules else {}
    found = (first.get("category"), first.get("when"), first.get("action"), first.get("limit"))
    if found != ("ALREADY_STORED", {"stored": True}, "settle", None):
        reasons.append("the first rule must be ALREADY_STORED when stored, have no limit, and settle")
    last = rules[-1] if rules else {}
    if last.get("when") != {} or last.get("action") != "archive" or last.get("limit") is not None:
        reasons.append("the last rule must match everything, have no limit, and archive")
    return reasons
