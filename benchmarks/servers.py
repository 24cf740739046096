"""HTTP servers that stand in for Genesys Cloud and AWS, in a process and on a core of their own.

They remember the keys of stored items, refuse a conditional write of an existing key as DynamoDB does, and count every
request. Each service has a configurable latency. Bulk calls can take a multiple of it, because ten items also cost the
real service more than one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
import zlib
from collections import Counter
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from local.genesys import TOKEN_PATH, USERS_PATH, user

SECRET = json.dumps({"clientId": "bench-client", "clientSecret": "bench-secret"})
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Upstream:
    """Both servers, running on one core for the time of a ``with`` block."""

    def __init__(self, core: int) -> None:
        """Choose the core. The servers start when the block is entered."""
        self._core = core
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.servers", str(self._core)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout  # noqa: S101 - it is a pipe
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def charge(self, *, genesys_ms: float = 0, dynamodb_ms: float = 0, bulk_factor: float = 1) -> None:
        """Set the latencies. A bulk call takes ``bulk_factor`` times as long."""
        self._control("charge", {"genesys": genesys_ms, "dynamodb": dynamodb_ms, "bulk": bulk_factor})

    def take_counts(self) -> Counter[str]:
        """Requests by operation and DynamoDB write units since the last call."""
        return Counter(self._control("counts", {}))

    def _control(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/_{name}", json.dumps(content).encode(), method="PUT")  # noqa: S310 - a server on this machine
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
            found: dict[str, Any] = json.load(answer)
        return found


class _State:
    """The state of the servers."""

    def __init__(self) -> None:
        self.milliseconds = {"genesys": 0.0, "dynamodb": 0.0, "bulk": 1.0}
        self.counts: Counter[str] = Counter()
        self.keys: set[tuple[str, str]] = set()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[float, int, Any]:
        """Latency in seconds, status and content of the answer to one request."""
        url = urlsplit(target)
        if url.path.startswith("/_"):
            return 0, 200, self._control(url.path, body)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if operation:
            return self._aws(operation, json.loads(body))
        if method == "PUT":
            self.counts["PutObject"] += 1
            return self._latency("dynamodb"), 200, ""
        return self._genesys(url.path, parse_qs(url.query))

    def _latency(self, service: str, *, bulk: bool = False) -> float:
        return self.milliseconds[service] * (self.milliseconds["bulk"] if bulk else 1) / 1000

    def _control(self, path: str, body: bytes) -> Any:
        if path == "/_charge":
            self.milliseconds = json.loads(body)
        if path == "/_counts":
            counts, self.counts = self.counts, Counter()
            return counts
        return {}

    def _genesys(self, path: str, query: dict[str, list[str]]) -> tuple[float, int, Any]:
        self.counts[path if path in (TOKEN_PATH, USERS_PATH) else f"{USERS_PATH}/id"] += 1
        if path == TOKEN_PATH:
            return self._latency("genesys"), 200, {"access_token": "t", "token_type": "bearer", "expires_in": 86_400}
        if path == USERS_PATH:
            ids = query["id"][0].split(",")
            return self._latency("genesys", bulk=True), 200, {"entities": [user(one) for one in ids]}
        return self._latency("genesys"), 200, user(path.rpartition("/")[2])

    def _aws(self, operation: str, request: dict[str, Any]) -> tuple[float, int, Any]:
        self.counts[operation] += 1
        latency = self._latency("dynamodb", bulk=operation.startswith("Batch"))
        if operation == "GetSecretValue":
            return latency, 200, {"SecretString": SECRET}
        if operation == "BatchExecuteStatement":
            return latency, 200, {"Responses": [self._insert(one) for one in request["Statements"]]}
        if operation == "PutItem":
            return latency, *self._put(request)
        return latency, *self._failure_path(operation, request)

    def _failure_path(self, operation: str, request: dict[str, Any]) -> tuple[int, Any]:
        if operation == "StartExecution":
            return 200, {"executionArn": "arn:aws:states:us-east-1:000000000000:execution:x:y", "startDate": 0}
        if operation == "PutEvents":
            return 200, {"FailedEntryCount": 0, "Entries": [{"EventId": "x"} for _ in request["Entries"]]}
        if operation in ("UpdateItem", "DeleteItem"):
            self.counts["write units"] += 1
            return 200, {}
        return 400, {"__type": "UnknownOperationException"}

    def _insert(self, statement: dict[str, Any]) -> dict[str, Any]:
        """One PartiQL INSERT. The first field of the value is the key."""
        table, fields = statement["Statement"].split('"')[1], statement["Statement"].split("'")[1::2]
        item = dict(zip(fields, statement["Parameters"], strict=True))
        return {} if self._write(table, item) else {"Error": {"Code": "DuplicateItem", "Message": "exists"}}

    def _put(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._write(request["TableName"], request["Item"]) or "ConditionExpression" not in request:
            return 200, {}
        return 400, {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "exists"}

    def _write(self, table: str, item: dict[str, dict[str, Any]]) -> bool:
        """Remember the key and return whether it is new. DynamoDB charges by item size in both cases."""
        self.counts["write units"] += -(-_item_bytes(item) // 1024)
        key = (table, next(iter(item.values()))["S"])
        new = key not in self.keys
        self.keys.add(key)
        return new


def _item_bytes(item: dict[str, dict[str, Any]]) -> int:
    """The item size as DynamoDB counts it: names and values, binary values unencoded."""
    total = 0
    for name, typed in item.items():
        kind, value = next(iter(typed.items()))
        size = len(value) * 3 // 4 if kind == "B" else len(str(value).encode())
        total += len(name) + size
    return total


class _Connection(asyncio.Protocol):
    """The part of HTTP/1.1 that the clients need. A complete server would be slow enough to distort the results."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._received = bytearray()
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._received[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if "expect" in headers and not self._continued:
            self._continued = True
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        total = end + 4 + int(headers.get("content-length", 0))
        if len(self._received) < total:
            return
        body = bytes(self._received[end + 4 : total])
        del self._received[:total]
        self._continued = False
        method, target, _ = lines[0].split(" ")
        latency, status, content = self._state.answer(method, target, headers, body)
        answer = _response(status, content)
        if latency:
            asyncio.get_running_loop().call_later(latency, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _response(status: int, content: Any) -> bytes:
    body = b"" if content == "" else json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"x-amzn-RequestId: bench\r\nx-amz-crc32: {zlib.crc32(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _serve() -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(_serve())
