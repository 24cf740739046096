"""Every surface that receives external data, with a generator of inputs and a check of the promises.

A check returns a short outcome for the summary, and raises an error if a promise is broken. ``tests/unit/test_fuzz.py`` runs a
small sample, ``make fuzz`` as many cases as requested.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from hypothesis import strategies as st

import evidence_sweep.app
import fan_out.app
import replay.app
from holdfast.adapters.aws import mapped
from holdfast.adapters.dynamodb import STATEMENTS_PER_CALL, EventsTable, EventsTableWriter
from holdfast.adapters.eventbridge import EnrichedBus
from holdfast.adapters.genesys import GenesysUserDirectory, Urls
from holdfast.adapters.secrets import CredentialsSecret
from holdfast.domain.envelope import Event, examine
from holdfast.domain.errors import Failure, HoldfastError, InvalidInput, PermanentError
from holdfast.domain.fan_out import MAX_REQUEST_BYTES, Publication, Publisher, failed_records, publication
from holdfast.domain.intake import TriageServices
from holdfast.domain.letters import DeadLetter, Message, TriageStamp, parse_document
from holdfast.domain.policy import Evidence, Limits, Policy, PolicyError
from holdfast.domain.ports import StorableEvent, Stored
from holdfast.domain.replay import Replayer
from holdfast.domain.strict_json import serialise
from holdfast.domain.sweep import Sweeper
from holdfast.domain.triage import Archiver, Classifier, Redriver, Settler, TriageInput
from holdfast.domain.users import ALL_KINDS, Entity, Kind
from tests.contract.project import fixtures
from tests.fakes import (
    NOW,
    FakeAttemptLog,
    FakeBuffer,
    FakeContext,
    FakeDeadline,
    FakeDynamoDb,
    FakeEventStore,
    FakeExecutions,
    FakeObjects,
    FakeQueue,
    FakeTriageEvents,
)
from tests.unit.samples import USER_ID, body, envelope, plain_envelope, record
from tests.wire import TOKEN, Script, Wire, http
from tests.world import POLICY, World, dead


@dataclass(frozen=True)
class Surface:
    """``share`` is the weight of the surface among all cases."""

    name: str
    cases: st.SearchStrategy[Any]
    check: Callable[[Any], str]
    share: float = 1.0


# -- generators ------------------------------------------------------------------------------------------------------

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
numbers = st.one_of(
    st.integers(-10, 10), st.sampled_from([2**53, 10**308, 10**400, -(10**400), -1]), st.floats(), st.just(1e308)
)
scalars = st.one_of(st.none(), st.booleans(), numbers, any_text)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
ODDITIES = (
    "", " ", "null", "[]", '"x"', "1e400", "-Infinity", "NaN", "[" * 5_000, '{"a":' * 2_000, '{"id":"a","id":"b"}',
    '{"id": "\\ud800"}', "9" * 5_000, "\ufeff{}", "{}" * 2,
)  # fmt: skip


@st.composite
def altered(draw: st.DrawFn, originals: st.SearchStrategy[Any]) -> Any:
    """A valid document with one value replaced or removed."""
    document = copy.deepcopy(draw(originals))
    node: Any = document
    while isinstance(node, dict | list) and node:
        key: Any = draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        if not isinstance(node[key], dict | list) or draw(st.booleans()):
            if draw(st.booleans()) and isinstance(node, dict):
                del node[key]
            else:
                node[key] = draw(junk)
            break
        node = node[key]
    return document


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text that is truncated or has a piece replaced."""
    text = draw(texts)
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, len(text)))
    return text[:begin] + draw(any_text | st.just("")) + draw(st.sampled_from(["", text[end:]]))


def texts_of(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """Documents as JSON: valid, altered, cut, and texts that are not JSON."""
    written = st.one_of(documents, altered(documents)).map(json.dumps)
    return st.one_of(written, written, cut(written), junk.map(json.dumps), any_text, st.sampled_from(ODDITIES))


bodies = texts_of(st.sampled_from([envelope(), plain_envelope(), {**envelope(), "id": "../../etc"}]))
attributes = st.dictionaries(
    st.one_of(st.sampled_from(["Triage", "ERROR_CODE", "RULE_ARN"]), st.text("abc.-_", min_size=1, max_size=5)),
    st.one_of(
        st.fixed_dictionaries(
            {"dataType": st.sampled_from(["String", "Number", "String.custom"]), "stringValue": any_text | bodies}
        ),
        st.fixed_dictionaries(
            {
                "dataType": st.just("Binary"),
                "binaryValue": st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode()),
                "stringListValues": st.just([]),
            }
        ),
    ),
    max_size=10,
)
system = st.dictionaries(
    st.sampled_from(["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "DeadLetterQueueSourceArn"]),
    st.one_of(
        st.sampled_from(["0", "1", "7", "-1", "1.5", "²", ""]), any_text.filter(lambda text: not text.isdecimal())
    ),
)


# -- messages --------------------------------------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn, attributes: st.SearchStrategy[Any], system: st.SearchStrategy[Any]) -> list[Any]:
    texts = draw(st.lists(bodies, min_size=1, max_size=3))
    return [
        record(text, f"message-{number}", attributes=draw(attributes), system=draw(system))
        for number, text in enumerate(texts)
    ]


def messages(batch: list[Any]) -> str:
    """Every record gets a result. A record that is not stored is reported, taken in, and archived exactly."""
    world = World()
    failed = world.process(*batch)
    stored = [raw for raw in batch if raw["messageId"] not in failed]
    assert all(DeadLetter.of(Message.of_record(raw)).event_id in world.store.items for raw in stored)
    for event in world.store.items.values():
        event.text.encode()
        json.loads(event.text, parse_constant=_no_constant)
    rest = [dead(raw) for raw in batch if raw["messageId"] in failed]
    assert world.take_in(*rest) == []
    for raw in batch:
        assert re.fullmatch("[A-Za-z0-9._-]{1,64}", Message.of_record(raw).rule_error or "none")
    for raw in rest:
        _archived(world, DeadLetter.of(Message.of_record(raw)))
    return f"{len(stored)} stored, {len(rest)} archived"


def _archived(world: World, letter: DeadLetter) -> None:
    triage_input = TriageInput(letter.event_id, (letter.key,))
    verdict = Classifier(world.store, world.attempt_log, world.objects, FakeBuffer(), POLICY, Limits(5, 96)).classify(
        triage_input, NOW
    )
    assert verdict.action == "archive", "a permanent failure is archived by the first verdict"
    arn = f"arn:aws:states:eu-central-1:123456789012:execution:triage:{letter.message.message_id}"
    archiver = Archiver(world.objects, world.attempt_log, world.store, "archive-bucket")
    key = archiver.archive(triage_input, verdict.as_json(), arn, "2026-11-24T00:00:00.000Z")["key"]
    assert DeadLetter.of_document(parse_document(world.objects.texts[key])) == letter
    if not _can_be_sent(letter.message):
        return
    Redriver(world.objects, world.queue).redrive(triage_input, arn, "token")
    sent = world.queue.sent[-1]
    assert (sent.body, len(sent.message_attributes) <= 10) == (letter.message.body, True)


def _can_be_sent(message: Message) -> bool:
    """False for lone surrogates: SQS neither accepts nor delivers them. The archive keeps them."""
    return not re.search("[\ud800-\udfff]", json.dumps(message.as_json(), ensure_ascii=False))


def stamps(text: str) -> str:
    """A text is read as a stamp only if it can be written again in the same form."""
    stamp = TriageStamp.read(text)
    if stamp is None:
        return "none"
    assert TriageStamp.read(stamp.write()) == stamp
    return "a stamp"


def identities(text: str) -> str:
    """An event id is safe in a key for any body, and a readable event can be serialised."""
    examined = examine(text)
    event_id = examined.event_id
    assert event_id.replace("-", "").replace("_", "").isalnum()
    assert event_id.isascii()
    assert len(event_id) <= 71
    if isinstance(examined.content, Event):
        assert examined.content.event_id == event_id
        assert serialise(examined.content.envelope)
    return examined.kind


# -- triage ----------------------------------------------------------------------------------------------------------

POLICY_FILE = json.loads(files("holdfast.domain").joinpath("triage_policy.json").read_text())


def policies(text: str) -> str:
    """A policy is refused with reasons, or returns a verdict for any evidence."""
    try:
        policy = Policy(text)
    except PolicyError:
        return "refused"
    for evidence in (Evidence(), Evidence(stored=True), Evidence(redrives=9, age_hours=999, last_status="failed")):
        assert policy.judge(evidence, ["UNKNOWN"], Limits(5, 96)).as_json()
    return "accepted"


KEY = "dead-letters/event-1/message-1.json"
STATE = {
    "eventId": "event-1", "snapshots": [KEY], "redrives": 1, "history": ["UNKNOWN"], "redriveOutcome": "SILENT",
    "firstSentAt": 1, "replayOf": None,
}  # fmt: skip
VERDICT = {"category": "UNKNOWN", "rule": "unknown-retry-once"}


def states(data: Any) -> str:
    """A state's function succeeds or raises a named error."""
    objects = FakeObjects()
    objects.create(KEY, DeadLetter.of(Message.of_record(record(body()))).as_json())
    store, attempt_log = FakeEventStore(), FakeAttemptLog()
    try:
        triage_input = TriageInput.read(data)
        Classifier(store, attempt_log, objects, FakeBuffer(), POLICY, Limits(5, 96)).classify(triage_input, NOW)
        Redriver(objects, FakeQueue()).redrive(triage_input, "arn:execution", "token")
        Archiver(objects, attempt_log, store, "archive-bucket").archive(
            triage_input, VERDICT, "arn:x:execution", "2026-11-24T00:00:00.000Z"
        )
        Settler(objects, objects, FakeTriageEvents()).settle(triage_input, "ARCHIVED", VERDICT, None)
    except HoldfastError as error:
        return type(error).__name__
    return "done"


SNAPSHOT = json.loads(DeadLetter.of(Message.of_record(record(body()))).as_json())


def snapshots(text: str) -> str:
    """An object that is not a snapshot does not stop the sweep from adopting the others below ``dead-letters/``."""
    objects = FakeObjects()
    valid = DeadLetter.of(Message.of_record(record(body("event-2"), "message-2")))
    for key, content in ((KEY, text), (valid.key, valid.as_json())):
        objects.create(key, content)
    executions = FakeExecutions()
    report = Sweeper(TriageServices(objects, executions), FakeEventStore()).sweep(NOW, NOW - NOW, FakeDeadline())
    assert valid.event_id in {started["eventId"] for started in executions.inputs.values()}
    return f"{report.failed} failed, {report.adopted} adopted"


# -- manual calls ----------------------------------------------------------------------------------------------------


def _called_manually(call: Callable[[], Any]) -> str:
    try:
        answer = call()
    except HoldfastError as error:
        return type(error).__name__
    json.dumps(answer)
    return "done"


REPLAYS = [json.loads(one.read_text()) for one in fixtures("executions") if one.stem.startswith("replay")]
WHERE = {
    "detailType": "v2.detail.events.conversation.{id}.acd.start",
    "rule": "unknown-retry-once",
    "from": "2026-11-23",
}
REPLAY = st.sampled_from([*REPLAYS, {**REPLAYS[-1], "where": WHERE}])


def replays(data: Any) -> str:
    """A replay is planned or refused with a reason."""
    services = Replayer(FakeObjects(), FakeExecutions(), map)
    event = {"step": "plan", "input": data, "run": "run", "startedAt": "2026-11-24T00:00:00.000Z"}
    return _called_manually(lambda: replay.app.lambda_handler(event, None, services=services))


def sweeps(data: dict[str, Any]) -> str:
    """A manual sweep runs or is refused."""
    services = Sweeper(TriageServices(FakeObjects(), FakeExecutions()), FakeEventStore())
    return _called_manually(lambda: evidence_sweep.app.lambda_handler(data, FakeContext(), services=services))


class NoClient:
    """A client with empty answers."""

    @staticmethod
    def scan(**_: Any) -> dict[str, Any]:
        return {"Items": []}

    @staticmethod
    def put_events(Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        return {"Entries": [{} for _ in Entries]}


def republications(data: dict[str, Any]) -> str:
    """A manual republication publishes or is refused."""
    services = Publisher(EnrichedBus(NoClient(), "bus", map), EventsTable(NoClient(), "events"), FakeObjects())
    return _called_manually(lambda: fan_out.app.lambda_handler(data, FakeContext(), services=services))


# -- the stream ------------------------------------------------------------------------------------------------------


@st.composite
def stored_events(draw: st.DrawFn) -> dict[str, Any]:
    text = json.dumps(draw(altered(st.just(envelope()))), ensure_ascii=False)
    size = draw(st.sampled_from([1, 1, 1, 3_000, 1_100_000]))
    event = StorableEvent(
        draw(st.sampled_from(["event-1", "sha256-00"])),
        draw(any_text.filter(bool)),
        draw(any_text.filter(bool)),
        draw(st.none() | st.just("2026-11-24T00:00:00.000Z")),
        draw(st.none() | any_text.filter(bool)),
        NOW,
        json.dumps([text] * (size // len(text) + 1)) if size > 1 else text,
    )
    if not _is_utf8(event):
        return {}
    dynamodb = FakeDynamoDb()
    EventsTableWriter(dynamodb, "events", 1, FakeObjects()).store([event], FakeDeadline())
    return dynamodb.last_item


def stream_records(item: dict[str, Any]) -> str:
    """Every stored item is published within the bus's size limit, whole or as a pointer."""
    if not item:
        return "never stored"
    made = publication({"eventName": "INSERT", "dynamodb": {"NewImage": item, "SequenceNumber": "1"}})
    assert isinstance(made, Publication)
    assert made.size <= MAX_REQUEST_BYTES
    detail = json.loads(made.detail)
    packed = item.get("eventPacked")
    text = zlib.decompress(packed["B"]).decode() if packed else item.get("event", {}).get("S")
    assert "eventPointer" in detail or json.dumps(detail["event"]) == json.dumps(json.loads(text))
    return "a pointer" if "eventPointer" in detail else "whole"


FAILURE = {"payload": {"Records": [{"eventName": "INSERT", "dynamodb": {}}]}}


def failure_objects(text: str) -> str:
    """An on-failure object is read as records or refused."""
    try:
        return f"{sum(1 for one in map(publication, failed_records(text)) if one is None)} skipped"
    except InvalidInput:
        return "refused"


# -- Genesys ---------------------------------------------------------------------------------------------------------

USERS = {
    "entities": [{"id": USER_ID, "name": "Anna", "email": "anna@example.com"}],
    "total": 1,
    "pageCount": 1,
}
GRANT = {"access_token": "a-token", "expires_in": "300"}
RATE = {"error": "invalid_request", "description": "rate limit exceeded"}
STATUSES = ("200 OK", "200 OK", "200 OK", "201 Created", "204 No Content", "301 Moved", "302 Found", "400 Bad",
            "401 Unauthorized", "403 Forbidden", "404 Not", "408 Timeout", "429 Slow", "500 Oops", "503 Down",
            "100 Continue", "999 What", "0 Nothing")  # fmt: skip
HEADERS = {
    "Content-Type": ["text/html", "application/json; charset=utf-16", ""],
    "Content-Length": ["0", "5", "99999999999", "-1", "x"],
    "Content-Encoding": ["gzip", "deflate", "br", "zstd", "gzip, gzip, gzip, gzip, gzip, gzip, gzip"],
    "Transfer-Encoding": ["chunked", "gzip, chunked"],
    "Retry-After": ["1", "9" * 400, "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "45.5", "30 ", "Mon, 99 X 0 0:0:0"],
    "inin-ratelimit-reset": ["1", "x", "9" * 400],
    "inin-correlation-id": ["5f1c0a3e-0000-4000-8000-00000000c0de", "x" * 999, "\u00e9"],
    "Location": ["http://203.0.113.1/", "/oauth/token", "\u00e9"],
    "Set-Cookie": ["a=b", "\u00ff" * 5_000],
}
#: Larger than the response limit once unpacked.
BOMB = zlib.compress(b"{" + b" " * 5_000_000 + b"}")
PAGE = b"<!doctype html><title>Sign in</title>"


@st.composite
def answers(draw: st.DrawFn, document: dict[str, Any]) -> Script:
    content = draw(st.one_of(texts_of(st.just(document)).map(_encoded), st.just(PAGE), st.binary(max_size=50)))
    if draw(st.integers(0, 9)) == 0:
        content = BOMB
    names = draw(st.lists(st.sampled_from(sorted(HEADERS)), max_size=2, unique=True))
    headers = {name: draw(st.sampled_from(HEADERS[name])) for name in names}
    whole = http(content, draw(st.sampled_from(STATUSES)), **headers).pieces[0]
    if draw(st.integers(0, 3)) == 0:
        whole = whole[: draw(st.integers(0, len(whole)))]
    if draw(st.integers(0, 49)) == 0:
        return Script((whole[:40], b"x"), pause=0.01, endless=True)
    return Script((whole,))


class SecretsManager:
    """Secrets Manager with valid credentials."""

    @staticmethod
    def get_secret_value(SecretId: str) -> dict[str, str]:  # noqa: ARG004, N803 - boto3's name
        return {"SecretString": '{"clientId": "a", "clientSecret": "b"}'}


def genesys(answers: tuple[Script, Script], kind: Kind = Kind.USERS) -> str:
    """A lookup returns users or raises a named error within its deadline, for any answer."""
    wire = _wire()
    login, users = answers
    wire.answer(users, login)
    user_directory = GenesysUserDirectory(
        Urls("http://unused", "http://unused").of("unused", wire.url, wire.url),
        CredentialsSecret(SecretsManager(), "arn"),
        sleep=lambda _: None,
    )
    try:
        found = user_directory.lookup([USER_ID], FakeDeadline(0.15), kind)
    except HoldfastError as error:
        assert re.fullmatch("[A-Za-z0-9-]{0,64}", error.correlation_id or "")  # noqa: PT017 - an error is possible, not expected
        return type(error).__name__
    finally:
        wire.answer(users, login)
    for user in filter(None, found.values()):
        f"{user.name}{user.email}".encode()
    return "users"


def queues(answers: tuple[Script, Script]) -> str:
    """The same for another kind."""
    return genesys(answers, Kind.QUEUES)


def enrichments(case: tuple[dict[str, Any], bool]) -> str:
    """Whatever an event names, its text and its data are the same after names were added, and ids are UUIDs."""
    sent, compact = case
    content = examine(json.dumps(sent, ensure_ascii=False, separators=(",", ":") if compact else None)).content
    if not isinstance(content, Event):
        return type(content).__name__
    named = content.references(ALL_KINDS)
    assert all(re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one.id) for one in named)
    content.enrich(
        named, {one: {each.id: Entity('Zo\u00eb "userId"', "z@example.com") for each in named} for one in Kind}
    )
    assert json.loads(content.text) == content.envelope
    assert content.time is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", content.time)
    assert content.conversation_id is None or 0 < len(content.conversation_id) <= 256
    return f"{len(named)} named"


FIELDS = (
    "userId", "answeredUserId", "targetUserId", "user", "agent", "createdBy", "evaluator", "assignee", "queueId", "queue",
    "wrapupCode", "attributes", "participantData", "id", "conversationId", "eventTime", "userName", "name", "note",
)  # fmt: skip
IDS = st.sampled_from([USER_ID, USER_ID.upper(), USER_ID[:-1] + "9", "customer-0001", "userId"])
TIMES = st.sampled_from(
    [1795428000123, "1795428000123", 1795428000, "1795428000", "2026-11-23T10:00:00Z", 253402300799999]
)
PAYLOADS = st.recursive(
    IDS | TIMES | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
TOPICS = st.sampled_from(
    [
        f"v2.users.{USER_ID}.presence", f"v2.users.{USER_ID}.conversations.calls", f"v2.routing.queues.{USER_ID}.users",
        f"v2.conversations.{USER_ID}.transcription", f"v2.detail.events.conversation.{USER_ID}.acd.start", "v2.x", 5, None,
    ]
)  # fmt: skip


@st.composite
def named_events(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    payload = draw(st.dictionaries(st.sampled_from(FIELDS), PAYLOADS, max_size=6))
    return envelope(detail={"topicName": draw(TOPICS), "eventBody": payload}), draw(st.booleans())


def error_codes(code: Any) -> str:
    """Any error code of a service becomes a named error with a short message of plain characters."""
    error = mapped(code, "store the event")
    assert re.fullmatch(r"store the event: [A-Za-z0-9._-]{1,64}", str(error))
    return type(error).__name__


def statement_results(answer: Any) -> str:
    """Every event of a request has a result, whatever DynamoDB answers."""

    class Client:
        @staticmethod
        def batch_execute_statement(Statements: list[Any]) -> Any:  # noqa: N803 - boto3's name
            return {"Responses": [{}] * len(Statements)} if len(Statements) == STATEMENTS_PER_CALL else answer

    events = [StorableEvent(f"event-{n}", "s", "t", None, None, NOW, "{}") for n in range(27)]
    results = EventsTableWriter(Client(), "events", 1, FakeObjects()).store(events, FakeDeadline())  # type: ignore[arg-type]
    assert list(results.values())[:25] == [Stored.NEW] * 25
    assert len(results) == 27
    return ", ".join(sorted({one.error_type if isinstance(one, Failure) else one.value for one in results.values()}))


CODES = st.one_of(
    any_text,
    junk,
    st.text(max_size=100),
    st.sampled_from(["KMS.DisabledException", "KmsThrottled", "x" * 2_600, "a\u2028"]),
)
RESPONSES = st.fixed_dictionaries({}, optional={"Error": st.fixed_dictionaries({}, optional={"Code": CODES})})


_WIRES: list[Wire] = []


def _wire() -> Wire:
    """One server for all cases."""
    if not _WIRES:
        _WIRES.append(Wire().__enter__())
    return _WIRES[0]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_utf8(event: StorableEvent) -> bool:
    try:
        f"{event.text}{event.source}{event.detail_type}{event.conversation_id}".encode()
        serialise(json.loads(event.text))
    except (UnicodeEncodeError, PermanentError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} was stored")


def _some(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: values})


SURFACES = (
    Surface("SQS bodies", bodies, identities, 3),
    Surface("batches of messages", batches(st.just({}), st.just({})), messages, 1),
    Surface("message attributes", batches(attributes, system), messages, 1),
    Surface("the Triage attribute", texts_of(st.just(json.loads(TriageStamp("e", "x", 1, "t").write()))), stamps),
    Surface("the policy file", texts_of(st.just(POLICY_FILE)), policies),
    Surface("inputs of states", altered(st.just(STATE)), states),
    Surface("snapshot objects", texts_of(st.just(SNAPSHOT)), snapshots),
    Surface("replay inputs", st.one_of(junk, REPLAY, altered(REPLAY)), replays),
    Surface("manual sweeps", _some("olderThanHours", junk), sweeps, 0.5),
    Surface(
        "manual republications",
        _some("republish", junk | altered(st.just({"from": "2026-11-24", "to": "2026-11-25", "startAt": "event-1"}))),
        republications,
        0.5,
    ),
    Surface("stream records", stored_events(), stream_records, 0.3),
    Surface("on-failure objects", texts_of(st.just(FAILURE)), failure_objects),
    Surface("names and times", named_events(), enrichments, 2),
    Surface("AWS error codes", CODES, error_codes, 0.5),
    Surface(
        "results of statements",
        junk | st.fixed_dictionaries({}, optional={"Responses": st.lists(RESPONSES, max_size=3) | junk}),
        statement_results,
        0.5,
    ),
    Surface("Genesys' users", st.tuples(st.just(TOKEN), answers(USERS)), genesys, 0.4),
    Surface("Genesys' queues", st.tuples(st.just(TOKEN), answers(USERS)), queues, 0.1),
    Surface("Genesys' token rate", st.tuples(answers(RATE), st.just(http(json.dumps(USERS).encode()))), genesys, 0.1),
    Surface("Genesys' login", st.tuples(answers(GRANT), st.just(http(json.dumps(USERS).encode()))), genesys, 0.3),
)
