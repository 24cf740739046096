"""Names from a DynamoDB table of your own, in the place of the Genesys API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.adapters.aws import chunks, translated
from holdfast.adapters.batches import retry_rest
from holdfast.domain.errors import Unavailable
from holdfast.domain.ports import Deadline
from holdfast.domain.users import Entity, Kind

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
KEYS_PER_CALL = 100


@dataclass(frozen=True, slots=True)
class TableDirectory:
    """A ``UserDirectory``. The key of the table is ``id``; an item has ``name`` and may have ``email``."""

    client: Any
    table: str

    def lookup(self, ids: Collection[str], deadline: Deadline, kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        """Look up ids of users, 100 in a call. Other kinds are not in the table.

        Raises:
            HoldfastError: DynamoDB could not answer for all of them. Its class decides what triage does.
        """
        found: dict[str, Entity | None] = dict.fromkeys(ids)
        if kind is not Kind.USERS:
            return found
        for chunk in chunks(ids, KEYS_PER_CALL):
            found.update(self._read(chunk, deadline))
        return found

    def cached(self, _ids: Collection[str], _kind: Kind = Kind.USERS) -> Mapping[str, Entity | None]:
        """Nothing: a table answers within milliseconds, so there is no cache."""
        return {}

    def usage(self) -> Mapping[str, int]:
        """No metrics of its own."""
        return {}

    def _read(self, ids: Collection[str], deadline: Deadline) -> Mapping[str, Entity]:
        found: dict[str, Entity] = {}

        def call(pending: Mapping[str, Any]) -> Mapping[str, Any]:
            with translated("look up users"):
                answer = self.client.batch_get_item(RequestItems=pending)
            for item in answer["Responses"].get(self.table, []):
                found[item["id"]["S"]] = Entity(item["name"]["S"], item.get("email", {}).get("S"))
            return answer.get("UnprocessedKeys") or {}

        request: Mapping[str, Any] = {self.table: {"Keys": [{"id": {"S": one}} for one in ids]}}
        if retry_rest(call, request, deadline=deadline):
            raise Unavailable("look up users: some keys stayed unprocessed")
        return found
