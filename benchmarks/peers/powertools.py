"""Powertools for AWS Lambda as its documentation combines it: BatchProcessor, parser models and idempotency.

https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/#pydantic-integration and
https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/#idempotent_function-decorator
"""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parser.models import SqsRecordModel
from pydantic import BaseModel, ConfigDict, Field, Json

from benchmarks.peers.genesys import user


class EventBody(BaseModel):
    """The business data: the fields that the handler uses. Other fields are kept."""

    model_config = ConfigDict(extra="allow")
    eventTime: str | int  # noqa: N815 - Genesys's name
    conversationId: str  # noqa: N815 - Genesys's name
    userId: str | None = None  # noqa: N815 - Genesys's name
    userName: str | None = None  # noqa: N815 - Genesys's name
    userEmail: str | None = None  # noqa: N815 - Genesys's name


class Detail(BaseModel):
    """The detail that Genesys Cloud sends."""

    model_config = ConfigDict(extra="allow")
    topicName: str  # noqa: N815 - Genesys's name
    eventBody: EventBody  # noqa: N815 - Genesys's name


class Envelope(BaseModel):
    """EventBridge's envelope."""

    model_config = ConfigDict(extra="allow")
    id: str
    source: str
    detail_type: str = Field(alias="detail-type")
    detail: Detail


class Record(SqsRecordModel):
    """An SQS record whose body is an envelope."""

    body: Json[Envelope]


table = boto3.resource("dynamodb").Table(os.environ["EVENTS_TABLE_NAME"])
processor = BatchProcessor(event_type=EventType.SQS, model=Record)
config = IdempotencyConfig(event_key_jmespath="id")
store = DynamoDBPersistenceLayer(table_name=os.environ["IDEMPOTENCY_TABLE_NAME"])


def lambda_handler(event: dict[str, Any], context: Any) -> Any:
    """Process one batch, record by record."""
    config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=handle, processor=processor, context=context)


def handle(record: Record) -> None:
    """Process one record."""
    process(envelope=record.body)


@idempotent_function(data_keyword_argument="envelope", config=config, persistence_store=store)  # type: ignore[untyped-decorator]  # has no types
def process(envelope: Envelope) -> None:
    """Enrich one event and store it. The decorator makes this idempotent."""
    body = envelope.detail.eventBody
    if body.userId:
        found = user(body.userId)
        body.userName, body.userEmail = found["name"], found["email"]
    table.put_item(
        Item={
            "eventId": envelope.id,
            "source": envelope.source,
            "detailType": envelope.detail_type,
            "eventTime": str(body.eventTime),
            "conversationId": body.conversationId,
            "event": envelope.model_dump_json(by_alias=True),
        }
    )
