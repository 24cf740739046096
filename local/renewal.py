"""Gives the events of a fixture new ids, so that it can be used on a stack more than once."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from holdfast.domain.identity import event_digest
from ops.names import compact

Renew = Callable[[str], str]
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: The id of an event whose body cannot be read is a digest of the body.
_DIGEST_OF_BODY = "sha256-"


def unchanged(text: str) -> str:
    """The text itself."""
    return text


def renewal(texts: Iterable[str]) -> Renew:
    """A function that replaces the UUIDs of these texts by new ones, in every form in which names contain them.

    If one of the events has the digest of its body as id, nothing is replaced: its id would not fit its body.
    """
    whole = "\n".join(texts)
    if _DIGEST_OF_BODY in whole:
        return unchanged
    new = {form: str(uuid.uuid4()) for form in _UUID.findall(whole)}
    forms: dict[str, str] = {}
    for old, renewed in new.items():
        forms |= {old: renewed, compact(old): compact(renewed), event_digest(old): event_digest(renewed)}
    pattern = re.compile("|".join(sorted(forms, key=len, reverse=True)) or r"(?!)")
    return lambda text: pattern.sub(lambda found: forms[found[0]], text)


def renewed_event(text: str, renew: Renew) -> bytes:
    """The event of a fixture with new ids, and with the digests that SQS computes of the new bodies."""
    if renew is unchanged:
        return text.encode()
    event: Any = json.loads(renew(text))
    for record in event.get("Records", ()) if isinstance(event, dict) else ():
        if "md5OfBody" in record:
            record["md5OfBody"] = hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
    return json.dumps(event).encode()
