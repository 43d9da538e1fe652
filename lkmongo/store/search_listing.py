"""What the server says of its search indexes, read from `$listSearchIndexes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from lkmongo.errors import NotReadyError, NotSupportedError
from lkmongo.store import operations
from lkmongo.store.capabilities import NO_SEARCH
from lkmongo.store.pace import Pace
from lkmongo.store.search_compare import type_of
from lkmongo.store.search_schema import IndexType, SearchIndex

T = TypeVar("T")
Document = dict[str, Any]
Key = tuple[str, str]
"""The names of a collection and of an index on it."""

MANAGEMENT_DOWN = 125
"""CommandFailed: the service that manages search indexes cannot be reached, as in the first seconds of a container."""
PATIENCE = 30.0
"""Seconds to wait for that service, and for an index that is being dropped."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One search index as the server sees it.

    Attributes:
        status: PENDING, BUILDING, READY, STALE, FAILED, DELETING or DOES_NOT_EXIST.
        queryable: it answers, perhaps still by an older definition.
        definition: the latest one, which is the one that serves only when `current`.
        version: its number; 0 for the definition that the index was created with. None when the server does not tell.
        current: every host serves by the latest definition.
        message: why a build failed, or empty.
    """

    type: IndexType
    status: str
    queryable: bool
    definition: Mapping[str, Any]
    version: int | None
    current: bool
    message: str = ""

    @property
    def ready(self) -> bool:
        """Whether searches go by the latest definition, on every host.

        A new index needs to be queryable only. One that was updated is queryable all along: until it is READY, the
        old definition serves.
        """
        return self.queryable and self.current and (self.status == "READY" or self.version == 0)


def read_listing(document: Mapping[str, Any]) -> Listed:
    """Read one document of `$listSearchIndexes`."""
    definition = document.get("latestDefinition") or {}
    version = (document.get("latestDefinitionVersion") or {}).get("version")
    hosts = document.get("statusDetail") or []
    parts = [host.get(part) or {} for host in hosts for part in ("stagedIndex", "mainIndex")]
    serving = [((host.get("mainIndex") or {}).get("definitionVersion") or {}).get("version") for host in hosts]
    return Listed(
        type=document.get("type") or type_of(definition),
        status=str(document.get("status")),
        queryable=bool(document.get("queryable")),
        definition=definition,
        version=version,
        current=all(number in {None, version} for number in serving),
        message=next((str(part["message"]) for part in parts if part.get("message")), ""),
    )


async def listed(
    db: AsyncDatabase[Document], indexes: Iterable[SearchIndex], *, pace: Pace | None = None
) -> dict[Key, Listed]:
    """List every search index, ours or not, of the collections of `indexes`.

    A collection that does not exist has none.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the service that manages search indexes does not answer.
        DatabaseError, AuthenticationError: as the store's other reads.
    """
    pace = pace or Pace(PATIENCE)
    found: dict[Key, Listed] = {}
    for collection in dict.fromkeys(index.collection for index in indexes):

        async def documents(name: str = collection) -> list[Mapping[str, Any]]:
            return await (await db[name].list_search_indexes()).to_list()

        for document in await operations.read(lambda read=documents: managed(read, pace)):  # type: ignore[misc]
            found[collection, document["name"]] = read_listing(document)
    return found


async def managed(operation: Callable[[], Awaitable[T]], pace: Pace) -> T:
    """Run a command of the service that manages search indexes, again while it cannot be reached.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the service did not answer in time.
        OperationFailure: any other code.
    """
    while True:
        try:
            return await operation()
        except OperationFailure as error:
            if error.code in NO_SEARCH:
                raise no_search(error.code) from error
            if error.code != MANAGEMENT_DOWN:
                raise
            if not await pace.pause():
                raise NotReadyError(
                    "MongoDB does not reach the service that manages its search indexes",
                    why=f"{(error.details or {}).get('errmsg', error)} (code {error.code})",
                    hint="try again in a moment",
                ) from error


def no_search(code: int | None = None) -> NotSupportedError:
    """The error for a server that has no search."""
    return NotSupportedError(
        "this MongoDB has no search",
        why=f"it does not know $listSearchIndexes (code {code})" if code else None,
        hint="use Atlas, or a MongoDB with mongot beside it; without, searches run exact and need no search index",
    )
