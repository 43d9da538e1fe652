"""Definitions, stages and short forms that the tests share."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

from tests.standin import Standin

VECTOR_FIELD = {"type": "vector", "path": "e", "numDimensions": 2, "similarity": "cosine"}
VECTOR = {"fields": [VECTOR_FIELD, {"type": "filter", "path": "u"}]}
SEARCH = {"mappings": {"dynamic": False, "fields": {"u": {"type": "token"}, "text": {"type": "string"}}}}


def vector_index(name: str = "v", definition: dict[str, Any] | None = None) -> SearchIndexModel:
    return SearchIndexModel(definition or VECTOR, name=name, type="vectorSearch")


def search_index(name: str = "s", definition: dict[str, Any] | None = None) -> SearchIndexModel:
    return SearchIndexModel(definition or SEARCH, name=name)


async def built(standin: Standin, coll: AsyncCollection, *models: SearchIndexModel) -> None:
    """Create indexes and let their builds end."""
    await coll.create_search_indexes(list(models))
    standin.finish_builds()


def vector_stage(vector: list[float], limit: int = 5, **options: Any) -> dict[str, Any]:
    base = {"index": "v", "path": "e", "queryVector": vector, "limit": limit}
    if not options.get("exact"):
        base["numCandidates"] = max(20 * limit, 20)
    return {"$vectorSearch": base | options}


def text_stage(query: str, **options: Any) -> dict[str, Any]:
    return {"$search": {"index": "s", "text": {"query": query, "path": "text"} | options}}


async def rows(coll: AsyncCollection, *stages: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    cursor = await coll.aggregate(list(stages), **options)
    return await cursor.to_list()


async def ids(coll: AsyncCollection, *stages: dict[str, Any]) -> list[Any]:
    return [row["_id"] for row in await rows(coll, *stages)]


async def listed(coll: AsyncCollection, name: str | None = None) -> list[dict[str, Any]]:
    cursor = await coll.list_search_indexes(name)
    return await cursor.to_list()


async def state(coll: AsyncCollection, name: str) -> tuple[str, bool]:
    """Status and queryable of the one index of a name."""
    (found,) = await listed(coll, name)
    return found["status"], found["queryable"]


async def refused(work: Awaitable[Any], code: int, text: str = "") -> OperationFailure:
    """Assert that a command fails with this code and this text."""
    with pytest.raises(OperationFailure) as caught:
        await work
    assert caught.value.code == code, caught.value
    assert text in str(caught.value)
    return caught.value
