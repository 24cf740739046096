"""What each part of a warm batch costs, by leaving it out: ``python -m benchmarks.profile``, on two quiet cores.

A profiler slows small functions down more than large ones, and sees nothing of caches that have gone cold. So our
handler runs as in ``make bench``, beside itself with one part replaced by nothing, or by what that part has replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from benchmarks.__main__ import HANDLERS_CORE, SERVERS_CORE
from benchmarks.contest import CONTROL, OURS, Contest, Handler
from benchmarks.servers import Upstream

#: Kilobytes of a body → rounds.
ROUNDS = {1: 60, 10: 60, 250: 10}


#: A module or class, the name of a function in it, and what stands there instead.
Part = tuple[Any, str, Callable[..., Any]]


def parts() -> dict[str, Part]:
    """What is left out or taken back."""
    from holdfast.adapters.direct import DirectStatements  # noqa: PLC0415 - after the environment
    from holdfast.adapters.dynamodb import EventsTable  # noqa: PLC0415 - as above
    from holdfast.domain import envelope  # noqa: PLC0415 - as above
    from holdfast.domain.ports import Stored  # noqa: PLC0415 - as above
    from processor import app  # noqa: PLC0415 - as above

    packed = {"eventPacked": {"B": b"x" * 2_400}}
    return {
        "without the checks of the text": (envelope, "parse", json.loads),
        "without finding users": (envelope, "references", lambda *_: []),
        "without packing": (EventsTable, "_content", lambda *_: packed),
        "without the request": (EventsTable, "_execute", lambda _, statements: dict.fromkeys(statements, Stored.NEW)),
        "without logs and metrics": (app, "tell", lambda *_, **__: None),
        "every text looked through": (envelope, "parse", looked_through),
        "the request by botocore's client": (DirectStatements, "batch_execute_statement", by_the_client),
    }


def by_the_client(statements: Any, **request: Any) -> Any:
    """The request as everybody else makes it."""
    return statements._client.batch_execute_statement(**request)  # noqa: SLF001 - around it on purpose


def looked_through(body: str) -> Any:
    """A text read with a look at everything in it."""
    from holdfast.domain import strict_json as strict  # noqa: PLC0415 - after the environment

    long = strict._has_digits(body, strict._INTEGER_DIGITS + 1)  # noqa: SLF001 - its own checks are what is measured
    value = json.loads(
        body,
        object_pairs_hook=strict._unique_keys,  # noqa: SLF001 - its own checks are what is measured
        parse_int=strict._finite_integer if long else None,  # noqa: SLF001 - its own checks are what is measured
        parse_float=strict._finite_float,  # noqa: SLF001 - its own checks are what is measured
    )
    if body.count("[") + body.count("{") > strict.NESTING_LIMIT:
        strict._depth(value)  # noqa: SLF001 - its own checks are what is measured
    return value


def replaced(handler: Handler, part: Part) -> Handler:
    """The handler with one part replaced."""
    holder, name, replacement = part
    own = getattr(holder, name)

    def handle(event: dict[str, Any], context: Any) -> Any:
        setattr(holder, name, replacement)
        try:
            return handler(event, context)
        finally:
            setattr(holder, name, own)

    return handle


def main(say: Callable[[str], None] = print) -> None:
    """Measure and print: CPU as a multiple of the whole handler's."""
    os.sched_setaffinity(0, {HANDLERS_CORE})
    with Upstream(SERVERS_CORE) as upstream:
        contest = Contest(upstream)
        whole = contest.handlers[OURS]
        variants = {name: replaced(whole, part) for name, part in parts().items()}
        contest.handlers |= variants
        for kilobytes, rounds in ROUNDS.items():
            samples = contest.cpu(kilobytes, rounds=rounds, names=[OURS, CONTROL, *variants])
            say(f"\n{kilobytes} KB, {samples.median(OURS) / 10:.3f} ms of CPU per event")
            for name in (CONTROL, *variants):
                say(f"  {name:<40} {samples.ratio(name, OURS):.3f}")


if __name__ == "__main__":
    main()
