"""The stacks in examples/, deployed beside the application."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from local.engine import ROOT
from local.eventually import eventually
from local.stack import Stack, deploy
from tests.e2e.pipeline import SECONDS, genesys_event, plain
from tests.e2e.subscribers import Consumer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pipeline import Pipeline

EXAMPLES = ROOT / "examples"


def deployed_example(name: str, pipeline: Pipeline, folder: Path) -> Stack:
    """Deploy an example. It needs no build: its functions have no dependency beside boto3."""
    copied = folder / name / "source"
    shutil.copytree(EXAMPLES / name, copied)
    bus = {"EnrichedBusName": pipeline.outputs["EnrichedBusName"]}
    return deploy(pipeline.local.engine.endpoint, copied / "template.yaml", f"example-{name}", bus)


def event_at(milliseconds: int, conversation: str, **body: Any) -> dict[str, Any]:
    """An event of a conversation at a time."""
    made = genesys_event(**body)
    made["detail"]["eventBody"] |= {"conversationId": conversation, "eventTime": 1795435200000 + milliseconds}
    return made


def test_the_consumer_counts_every_event_once_and_keeps_the_latest_of_a_conversation(
    pipeline: Pipeline, consumer: Consumer, tmp_path: Path
) -> None:
    stack = deployed_example("consumer", pipeline, tmp_path)
    begin = datetime.now(UTC)
    first, latest, late, again = (event_at(milliseconds, "conversation-1") for milliseconds in (0, 2000, 1000, 2000))
    again["detail"] = latest["detail"]  # Genesys sends an event again with another id

    def conversation() -> dict[str, Any]:
        key = {"id": {"S": "conversation#conversation-1"}}
        return plain(stack.client("dynamodb").get_item(TableName=stack.outputs["TableName"], Key=key).get("Item", {}))

    _, latest_id = pipeline.enqueue(first, latest)
    eventually(lambda: conversation().get("events") == 2, "two events are counted", SECONDS)
    others = pipeline.enqueue(late, again)
    for event_id in others:
        eventually(partial(consumer.of, event_id), f"{event_id} is published", SECONDS)
    end = datetime.now(UTC) + timedelta(seconds=1)
    republished = {"republish": {"from": begin.isoformat(), "to": end.isoformat()}}
    assert pipeline.invoke("FanOutFunction", republished)["published"] == 4
    eventually(partial(drained, stack), "the queues of the example are empty", SECONDS)
    assert conversation() == {
        "id": "conversation#conversation-1",
        "eventTime": "2026-11-23T12:00:02.000Z",
        "detailType": latest["detail-type"],
        "eventId": latest_id,
        "events": 3,
    }
    stack.delete()


def drained(stack: Stack) -> bool:
    """Whether no message is in the example's queues."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = stack.client("sqs")
    urls = [stack.outputs[name] for name in ("QueueUrl", "DeadLetterQueueUrl") if name in stack.outputs]
    return not any(
        int(count)
        for url in urls
        for count in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()
    )


def test_the_redaction_publishes_events_without_personal_data(pipeline: Pipeline, tmp_path: Path) -> None:
    stack = deployed_example("redaction", pipeline, tmp_path)
    personal = {"ani": "tel:+12025550143", "dnis": "tel:+12025550100", "transcripts": [{"transcript": "Zoë"}]}
    sent = genesys_event(mediaType="VOICE", legs=[{"ani": "tel:+12025550143", "queueId": "q"}], **personal)
    with closing(Consumer(pipeline, "holdfast.events", stack.outputs["RedactedBusName"])) as consumer:
        (event_id,) = pipeline.enqueue(sent)
        (seen, *_) = eventually(lambda: consumer.of(event_id), "the event is published without them", SECONDS)
    body = {name: value for name, value in sent["detail"]["eventBody"].items() if name not in personal}
    assert seen["detail-type"] == sent["detail-type"]
    assert seen["detail"]["conversationId"] == body["conversationId"]
    assert seen["detail"]["event"]["detail"]["eventBody"] == {**body, "legs": [{"queueId": "q"}]}
    stack.delete()


def test_the_query_of_the_lake_finds_events_that_genesys_sent_twice(
    pipeline: Pipeline, consumer: Consumer, tmp_path: Path
) -> None:
    """The engine's rules cannot deliver to Firehose, so the test does. SQLite takes the place of Athena."""
    stack = deployed_example("lake", pipeline, tmp_path)
    once, twice, again = (genesys_event() for _ in range(3))
    again["detail"] = twice["detail"]
    event_ids = pipeline.enqueue(once, twice, again)
    for event_id in event_ids:
        (event, *_) = eventually(partial(consumer.of, event_id), f"{event_id} is published", SECONDS)
        data = json.dumps(event).encode()
        stack.client("firehose").put_record(DeliveryStreamName=stack.outputs["StreamName"], Record={"Data": data})
    rows = eventually(lambda: found if len(found := table_rows(stack)) == 3 else [], "three events are in S3")
    assert {row["detail"]["eventid"] for row in rows} == {*event_ids}
    assert all(row["detailtype"] == once["detail-type"] and json.loads(row["detail"]["event"]) for row in rows)

    (query,) = re.findall(r"```sql\n(.*?)```", (EXAMPLES / "lake" / "README.md").read_text(), re.DOTALL)
    ((content_id, pair, _),) = run_query(query, rows)
    assert sorted(pair.split(",")) == sorted(event_ids[1:])
    assert {row["detail"]["contentid"] for row in rows if row["detail"]["eventid"] in event_ids[1:]} == {content_id}
    stack.delete()


def table_rows(stack: Stack) -> list[dict[str, Any]]:
    """What the Glue table selects of the objects in S3, with its names and types of columns."""
    glue, s3, bucket = stack.client("glue"), stack.client("s3"), stack.outputs["BucketName"]
    storage = glue.get_table(DatabaseName=stack.outputs["DatabaseName"], Name="events")["Table"]["StorageDescriptor"]
    columns = {column["Name"]: column["Type"] for column in storage["Columns"]}
    renamed = storage["SerdeInfo"]["Parameters"]
    prefix = storage["Location"].removeprefix(f"s3://{bucket}/")
    found = []
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        (day,) = re.findall(r"^events/dt=(\d{4}-\d\d-\d\d)/", entry["Key"])
        document = json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
        row = {name: cell(document[renamed.get(f"mapping.{name}", name)], kind) for name, kind in columns.items()}
        found.append({**row, "dt": day})
    return found


def cell(value: Any, kind: str) -> Any:
    """A value as the SerDe reads it: names in lower case, and an object as JSON where the column is text."""
    if kind.startswith("struct<"):
        names = [field.partition(":")[0] for field in kind.removeprefix("struct<").removesuffix(">").split(",")]
        lower = {name.lower(): child for name, child in value.items()}
        return {name: cell(lower.get(name), "string") for name in names}
    return json.dumps(value) if isinstance(value, dict) else value


def run_query(query: str, rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Run an Athena query in SQLite, which has no structs and another name for array_agg."""
    fields = [f"detail_{field}" for field in rows[0]["detail"]]
    values = [(row["dt"], *row["detail"].values()) for row in rows]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE events (dt, {', '.join(fields)})")
        database.executemany(f"INSERT INTO events VALUES (?{', ?' * len(fields)})", values)  # noqa: S608 - our names
        adapted = query.replace("detail.", "detail_").replace("array_agg(", "group_concat(")
        return database.execute(adapted).fetchall()
