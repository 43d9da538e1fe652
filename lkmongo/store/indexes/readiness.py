"""Waits until all search indexes serve the right definition and find existing documents; or reports their state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.backoff import Backoff
from lkmongo.errors import (
    DatabaseUnavailableError,
    DriftError,
    LkmongoError,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
)
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes.backfill import Coverage, coverage
from lkmongo.store.indexes.canary import Canary, Outcome, check_canary, wait_for_canary
from lkmongo.store.indexes.definitions import (
    SearchIndex,
    Tuning,
    differences,
    indexes_for,
    needs_rebuild,
    tuned,
)
from lkmongo.store.indexes.search_indexes import BROKEN, ListedIndex, listed
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.capabilities import Capabilities, probe
from lkmongo.store.mongo.schema import Index

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

Document = dict[str, Any]
TIMEOUT = 300.0
"""Seconds. A first build on Atlas takes a minute or two, longer for a large collection."""
SETTLING = 10.0
"""Seconds before a missing index or a different definition is reported, as the list may lag."""
MISSING = "MISSING"
"""Our own status for an index that the server does not list."""
_POLL_SECONDS = 5.0  # allowed for a last poll after the deadline


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of one search index.

    Attributes:
        status: of the server, or MISSING.
        queryable: it answers, perhaps with an older definition.
        ready: it answers with the needed definition.
        different: its definition is not the needed one.
        rebuilt: only a new index can have that one.
        detail: what is wrong, or empty.
        canary: whether it finds an existing document; None if not tested.
        tuned: how it keeps its vectors, where that is not the default.
    """

    index: SearchIndex
    status: str
    queryable: bool
    ready: bool
    different: bool = False
    rebuilt: bool = False
    detail: str = ""
    canary: Canary | None = None
    tuned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The status for display; an index that is being updated still serves."""
        updating = self.queryable and not self.ready and self.status == "BUILDING"
        return f"{self.status} (the previous definition serves)" if updating else self.status

    @property
    def remedy(self) -> str:
        if self.status in BROKEN:
            return BROKEN[self.status]
        if self.rebuilt:
            return "lkmongo db indexes --replace"
        return "lkmongo db indexes" if self.different or self.status == MISSING else "lkmongo db wait-ready"


class IndexFailedError(LkmongoError):
    """A search index failed."""

    code = "search_index_failed"


OnChange = Callable[[IndexState, "IndexState | None", float], None]
"""Called with the new state of an index, the previous one or None, and the seconds since the start."""


def state_of(index: SearchIndex, found: ListedIndex | None) -> IndexState:
    if found is None:
        return IndexState(index, MISSING, queryable=False, ready=False, detail="there is no such index")
    if found.type != index.type:
        detail = f"it is an index of type {found.type}, should be {index.type}"
        return IndexState(
            index, found.status, found.queryable, ready=False, different=True, rebuilt=True, detail=detail
        )
    different = differences(index.definition, found.definition)
    ready = found.ready and found.status not in BROKEN and not different
    detail = "; ".join([*different, *filter(None, [found.message])])
    return IndexState(
        index,
        found.status,
        found.queryable,
        ready=ready,
        different=bool(different),
        rebuilt=bool(different) and needs_rebuild(index.definition, found.definition),
        detail=detail,
        tuned=tuned(found.definition),
    )


async def states(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff | None = None
) -> list[IndexState]:
    """The current state of each index. Raises as `listed` does."""
    there = await listed(db, indexes, backoff=backoff)
    return [state_of(index, there.get((index.collection, index.name))) for index in indexes]


async def wait_ready(
    db: AsyncDatabase[Document],
    indexes: Sequence[SearchIndex],
    embedder: Embedder,
    backoff: Backoff,
    on_change: OnChange = lambda _state, _before, _seconds: None,
) -> list[IndexState]:
    """Wait until every index serves its definition, then until each finds an existing document.

    Args:
        db: with the indexes.
        indexes: to wait for.
        embedder: with the vectors' model; it embeds nothing.
        backoff: how long to wait, and how often to poll.
        on_change: called for each change of state, and each canary search.

    Raises:
        IndexFailedError: an index is FAILED, STALE or DOES_NOT_EXIST; at once.
        NotReadyError: the time is over.
        NotFoundError: an index is missing; after a few seconds.
        DriftError: an index has another definition; after a few seconds.
        NotSupportedError: this server has no search.
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    found: list[IndexState] = []
    for state in await _until_ready(db, indexes, backoff, on_change):
        backoff.reset()
        canary = await wait_for_canary(db, state.index, embedder, backoff)
        found.append(replace(state, canary=canary))
        on_change(found[-1], state, backoff.elapsed)
    for state in found:
        if state.canary and state.canary.outcome is Outcome.MISSED:
            raise NotReadyError(
                f"{state.index.name} is {state.status}, but misses existing documents",
                why=state.canary.detail,
                hint="new documents take a moment to be indexed: run lkmongo db wait-ready again",
            )
    return found


async def _until_ready(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff, on_change: OnChange
) -> list[IndexState]:
    known: dict[str, IndexState] = {}
    while True:
        polled = await _poll(db, indexes, backoff, first=not known)
        for state in polled:
            before = known.get(state.index.name)
            known[state.index.name] = state
            if before is None or before.label != state.label:
                on_change(state, before, backoff.elapsed)
        _raise_if_failed(polled, backoff)
        if polled and all(state.ready for state in polled):
            return polled
        if not await backoff.pause():
            raise _timeout_error(list(known.values()), backoff)


async def _poll(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff, *, first: bool
) -> list[IndexState]:
    """The states, or nothing if a poll after the first one fails, for instance during an election."""
    try:
        async with asyncio.timeout(max(backoff.left, _POLL_SECONDS)):
            return await states(db, indexes, backoff)
    except DatabaseUnavailableError:
        if first:
            raise
    except TimeoutError as error:
        if first:
            raise NotReadyError("MongoDB did not list its search indexes in time", hint="try again") from error
    return []


def _raise_if_failed(polled: Sequence[IndexState], backoff: Backoff) -> None:
    for state in polled:
        if state.status in BROKEN:
            raise IndexFailedError(f"{state.index.name} is {state.status}", why=state.detail or None, hint=state.remedy)
    if backoff.elapsed < SETTLING:
        return
    for state in polled:
        if state.status == MISSING:
            raise NotFoundError(f"there is no search index {state.index.name}", hint="lkmongo db indexes")
        if state.different:
            raise DriftError(
                f"{state.index.name} has another definition than needed",
                why=state.detail,
                hint=state.remedy,
            )


def _timeout_error(known: Sequence[IndexState], backoff: Backoff) -> NotReadyError:
    late = [state for state in known if not state.ready]
    return NotReadyError(
        f"{len(late)} of {len(known)} search indexes are not ready after {backoff.elapsed:.0f} s",
        why="; ".join(f"{state.index.name} is {state.label}" for state in late),
        hint="run lkmongo db wait-ready again, with a longer --timeout: a first build on Atlas takes a minute or two",
    )


async def tested_states(db: AsyncDatabase[Document], embedder: Embedder, tuning: Tuning | None) -> list[IndexState]:
    """The state of all search indexes, with a canary search for those that are ready. Raises as `listed` does."""
    found = await states(db, indexes_for(embedder, tuning), Backoff(0))
    return [
        replace(each, canary=await check_canary(db, each.index, embedder)) if each.ready else each for each in found
    ]


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """The state of a database.

    Attributes:
        capabilities: of the server.
        indexes: the ordinary indexes, with the action that each needs.
        search: the search indexes; empty without search, or if they could not be listed.
        trouble: why the search indexes could not be listed, or empty.
        documents: how many have a vector; of declared collections, which have none, how many there are.
    """

    capabilities: Capabilities
    indexes: Sequence[database_indexes.Change[Index]]
    search: Sequence[IndexState]
    trouble: str
    documents: Sequence[Coverage]


async def database_status(
    db: AsyncDatabase[Document], embedder: Embedder, tuning: Tuning | None = None
) -> DatabaseStatus:
    """Report the state of a database, with a canary search for each ready search index; writes nothing.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    capabilities = await probe(db)
    found: list[IndexState] = []
    trouble = ""
    if capabilities.search:
        try:
            found = await tested_states(db, embedder, tuning)
        except (NotReadyError, NotSupportedError) as error:
            trouble = error.why or error.message
    own = (await declared.read(db)).own
    sizes = [await operations.read(lambda name=name: db[name].estimated_document_count()) for name in own]  # type: ignore[misc]
    documents = [*await coverage(db, embedder.model), *map(Coverage, own, sizes, [None] * len(own), [None] * len(own))]
    return DatabaseStatus(capabilities, await database_indexes.plan(db), found, trouble, documents)
