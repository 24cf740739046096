"""How many HTTP requests a batch costs, counted by the servers."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.comparison import processor_environment
from local.genesys import GenesysStandIn
from tests.e2e.pipeline import genesys_event, with_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CountingAws(ThreadingHTTPServer):
    """A server for the processor's calls to AWS. It counts them by operation."""

    def __init__(self, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.secret = secret
        self.calls: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        server: Any = self.server
        server.calls[operation] += 1
        answers = {
            "BatchExecuteStatement": lambda: {"Responses": [{} for _ in body["Statements"]]},
            "GetSecretValue": lambda: {"SecretString": server.secret},
        }
        self._answer(json.dumps(answers[operation]()).encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write no log."""


class Processor:
    """The real handler with its real clients, and the two servers that it calls."""

    def __init__(self, handle: Callable[..., Any], aws: CountingAws, genesys: GenesysStandIn) -> None:
        self._handle = handle
        self._aws = aws
        self._genesys = genesys

    def calls_of(self, events: list[dict[str, Any]]) -> dict[str, int]:
        """Process one batch and return the requests that it caused."""
        before = self._counted()
        context = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 30_000)
        records = [
            {
                "messageId": str(uuid.uuid4()),
                "receiptHandle": "r",
                "body": json.dumps(event),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
            }
            for event in events
        ]
        assert self._handle({"Records": records}, context) == {"batchItemFailures": []}
        return dict(self._counted() - before)

    def _counted(self) -> Counter[str]:
        return self._aws.calls + Counter(self._genesys.stats()["requests"])


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processor]:
    from holdfast.adapters.aws import client  # noqa: PLC0415 - settings are read at the first use, after the environment
    from processor import app  # noqa: PLC0415 - as above

    with GenesysStandIn() as genesys:
        aws = CountingAws(genesys.credentials)
        thread = threading.Thread(target=aws.serve_forever)
        thread.start()
        for name, value in processor_environment(aws.url, genesys.url).items():
            monkeypatch.setenv(name, value)
        yield Processor(app.lambda_handler, aws, genesys)
        app.production.cache_clear()
        client.cache_clear()
        aws.shutdown()
        aws.server_close()
        thread.join()


def test_a_batch_costs_one_request_if_its_users_are_cached_and_two_if_not(processor: Processor) -> None:
    users = [{"userId": str(uuid.uuid4())} for _ in range(10)]
    first = processor.calls_of([genesys_event(**user) for user in users])
    unknown = processor.calls_of([with_user() for _ in range(10)])
    known = processor.calls_of([genesys_event(**user) for user in users])
    assert first == {
        "GetSecretValue": 1,
        "POST /oauth/token 200": 1,
        "GET /api/v2/users 200": 1,
        "BatchExecuteStatement": 1,
    }
    assert unknown == {"GET /api/v2/users 200": 1, "BatchExecuteStatement": 1}
    assert known == {"BatchExecuteStatement": 1}


def test_a_batch_of_a_hundred_costs_one_lookup_and_one_write_per_twenty_five_events(processor: Processor) -> None:
    processor.calls_of([with_user()])
    calls = processor.calls_of([with_user() for _ in range(100)])
    assert calls == {"GET /api/v2/users 200": 1, "BatchExecuteStatement": 4}
