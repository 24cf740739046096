"""The short way to DynamoDB says what botocore would say; whatever it cannot get answered, the client is asked."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from holdfast.adapters import direct
from holdfast.adapters.direct import PAUSE_SECONDS, DirectStatements, signed_headers

NOW = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
REQUEST = {
    "Statements": [{"Statement": "INSERT", "Parameters": [{"S": 'Zoë "B": null'}, {"B": b"\0\xff"}, {"N": "1"}]}]
}
ANSWER = {"Responses": [{}]}


class FakeClient:
    """A DynamoDB client that answers everything, and remembers what it was asked."""

    def __init__(self, url: str) -> None:
        config = SimpleNamespace(user_agent="Botocore/1 ua/2.1", user_agent_appid="ProcessorFunction")
        self.meta = SimpleNamespace(endpoint_url=url, region_name="eu-central-1", config=config)
        self.asked: list[dict[str, Any]] = []

    def batch_execute_statement(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        return {"Responses": ["the client's"]}

    def get_item(self, **request: Any) -> dict[str, Any]:
        return {"Item": request}


class Table(ThreadingHTTPServer):
    """Answers one request after the other with what is set, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.content = 200, json.dumps(ANSWER).encode()
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        table: Any = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        table.received.append((headers, self.rfile.read(int(headers["content-length"]))))
        if table.status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(table.status)
        self.send_header("Content-Length", str(len(table.content)))
        self.end_headers()
        self.wfile.write(table.content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def table() -> Iterator[Table]:
    with Table() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Credentials, whatever the machine has."""
    own = SimpleNamespace(credentials=ReadOnlyCredentials("AKID", "secret", "token"))
    found = SimpleNamespace(get_frozen_credentials=lambda: own.credentials)
    session = SimpleNamespace(
        get_credentials=lambda: found if own.credentials else None, get_config_variable=lambda _name: None
    )
    monkeypatch.setattr(direct, "session", lambda: session)
    return own


def test_a_plain_answer_is_the_table_s_and_the_client_is_not_asked(table: Table) -> None:
    client = FakeClient(table.url)
    statements = DirectStatements(client)
    assert statements.batch_execute_statement(**REQUEST) == ANSWER
    assert statements.batch_execute_statement(**REQUEST) == ANSWER
    assert client.asked == []
    headers, body = table.received[1]
    assert headers["x-amz-target"] == "DynamoDB_20120810.BatchExecuteStatement"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert headers["user-agent"] == "Botocore/1 ua/2.1 app/ProcessorFunction"
    assert json.loads(body)["Statements"][0]["Parameters"] == [{"S": 'Zoë "B": null'}, {"B": "AP8="}, {"N": "1"}]


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, b'{"__type": "ThrottlingException"}'),
        (500, b""),
        (503, b"<html>"),
        (301, b""),
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"__type": "odd"}'),
        (0, b"the connection is closed without an answer"),
    ],
)
def test_anything_but_a_plain_answer_is_left_to_the_client(table: Table, status: int, content: bytes) -> None:
    table.status, table.content = status, content
    client = FakeClient(table.url)
    assert DirectStatements(client).batch_execute_statement(**REQUEST) == {"Responses": ["the client's"]}
    assert client.asked == [REQUEST]
    assert len(table.received) == 1, "the short way is tried once"


def test_after_a_failure_the_client_alone_asks_for_a_while(table: Table) -> None:
    client = FakeClient(table.url)
    now = [1_000.0]
    statements = DirectStatements(client, lambda: now[0])
    table.status = 0
    statements.batch_execute_statement(**REQUEST)
    table.status = 200
    now[0] += PAUSE_SECONDS - 0.1
    statements.batch_execute_statement(**REQUEST)
    assert (len(client.asked), len(table.received)) == (2, 1)
    now[0] += 0.1
    assert statements.batch_execute_statement(**REQUEST) == ANSWER, "the connection is made again"
    assert len(client.asked) == 2


def test_a_table_that_nobody_serves_is_left_to_the_client() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = FakeClient(f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert DirectStatements(client).batch_execute_statement(**REQUEST) == {"Responses": ["the client's"]}


def test_without_credentials_the_client_says_what_is_wrong(table: Table, known: SimpleNamespace) -> None:
    known.credentials = None
    client = FakeClient(table.url)
    DirectStatements(client).batch_execute_statement(**REQUEST)
    assert (client.asked, table.received) == ([REQUEST], [])


def test_a_proxy_is_never_gone_around(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client = FakeClient(table.url)
    DirectStatements(client).batch_execute_statement(**REQUEST)
    assert (client.asked, table.received) == ([REQUEST], [])


def test_an_endpoint_with_a_path_is_the_client_s(table: Table) -> None:
    client = FakeClient(f"{table.url}/prefix")
    DirectStatements(client).batch_execute_statement(**REQUEST)
    assert (client.asked, table.received) == ([REQUEST], [])


def test_everything_else_is_the_client_s_own() -> None:
    assert DirectStatements(FakeClient("http://127.0.0.1:9")).get_item(Key=1) == {"Item": {"Key": 1}}


@given(
    body=st.binary(max_size=60),
    host=st.sampled_from(
        ["dynamodb.eu-central-1.amazonaws.com", "127.0.0.1:4566", "dynamodb.cn-north-1.amazonaws.com.cn"]
    ),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1"]),
    token=st.sampled_from([None, "", "IQoJb3JpZ2luX2VjEXAMPLE=="]),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis' way
)
def test_it_signs_as_botocore_signs(body: bytes, host: str, region: str, token: str | None, now: datetime) -> None:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/EXAMPLEKEY", token)
    ours = signed_headers(body, host=host, region=region, credentials=credentials, now=now)
    request = AWSRequest(
        "POST", f"http://{host}/", {n: v for n, v in ours.items() if n in ("content-type", "x-amz-target")}, body
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: now)
        SigV4Auth(credentials, "dynamodb", region).add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]


LURES = st.sampled_from(['{"B": null}', '"B": null}', "null", "\\", '"', "Zoë", "\0"])
VALUES = (
    st.lists(LURES, max_size=4).map(lambda words: {"S": "".join(words)})
    | st.binary(max_size=20).map(lambda value: {"B": value})
    | st.dictionaries(LURES, st.binary(max_size=3).map(lambda value: {"B": value}), max_size=2).map(
        lambda inner: {"M": inner}
    )
)


@given(st.lists(VALUES, max_size=6))
def test_a_request_is_the_json_that_botocore_would_write(values: list[dict[str, Any]]) -> None:
    request = {"Statements": [{"Statement": 'INSERT "B": null', "Parameters": values}]}
    plain = json.dumps(request, default=lambda value: base64.b64encode(value).decode())
    assert json.loads(direct._serialised(request)) == json.loads(plain)
