"""Reads what a stack on the local engine holds, the messages in its queues included."""

from __future__ import annotations

import json
import urllib.request

from local.stack import Stack
from ops.reconciliation import Holdings, read_holdings


def look(stack: Stack) -> Holdings:
    """Read every queue and store of a stack."""
    buffer = messages(stack, stack.outputs["BufferQueueUrl"])
    dead_letters = messages(stack, stack.outputs["DeadLetterQueueUrl"])
    return read_holdings(stack, buffer, dead_letters)


def messages(stack: Stack, queue_url: str) -> list[str]:
    """The bodies in a queue, in flight ones too, without receiving them. Only the local engine can do this."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    name = queue_url.rsplit("/", 1)[-1]
    with opener.open(f"{stack.endpoint}/_ministack/sqs/messages?QueueUrl={queue_url}", timeout=30) as answer:
        by_account = json.load(answer)["messages"]
    return [
        message["Body"]
        for by_region in by_account.values()
        for by_queue in by_region.values()
        for url, found in by_queue.items()
        if url.rsplit("/", 1)[-1] == name
        for message in found
    ]
