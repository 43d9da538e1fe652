"""Wait until every search index serves the definition it should have and finds what is there; or report without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from lkmongo.store.indexes.canary import Canary, Coverage, Outcome, check_canary, coverage, wait_for_canary
from lkmongo.store.indexes.definitions import SearchIndex, differences, search_indexes
from lkmongo.store.indexes.search_indexes import BROKEN, ListedIndex, listed
from lkmongo.store.mongo.capabilities import Capabilities, probe
from lkmongo.store.mongo.schema import Index

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

Document = dict[str, Any]
TIMEOUT = 300.0
"""Seconds. A first build on Atlas takes a minute or two; of a large collection, longer."""
SETTLING = 10.0
"""Seconds after which an index that is not listed, or by another definition, counts as such: the list may trail."""
MISSING = "MISSING"
"""Our own word for an index that the server does not list."""
_POLL_SECONDS = 5.0  # a last look may take this long when the time is over


@dataclass(frozen=True, slots=True)
class IndexState:
    """Where one search index stands.

    Attributes:
        status: the server's word for it, or MISSING.
        queryable: it answers, perhaps still by an older definition.
        ready: it answers by the definition that it should have.
        different: its definition is not the one that it should have.
        detail: what is not as it should be, or empty.
        canary: whether it finds a document that is there; None when that was not tried.
    """

    index: SearchIndex
    status: str
    queryable: bool
    ready: bool
    different: bool = False
    detail: str = ""
    canary: Canary | None = None

    @property
    def label(self) -> str:
        """The status as a person reads it; an index that is updated goes on serving."""
        updating = self.queryable and not self.ready and self.status == "BUILDING"
        return f"{self.status} (the definition before serves)" if updating else self.status

    @property
    def remedy(self) -> str:
        """What to do about an index that is not ready."""
        if self.status in BROKEN:
            return BROKEN[self.status]
        return "lkmongo db indexes" if self.different or self.status == MISSING else "lkmongo db wait-ready"


class IndexFailedError(LkmongoError):
    """A search index failed."""

    code = "search_index_failed"


OnChange = Callable[[IndexState, "IndexState | None", float], None]
"""Told the new state of an index, the one before (None at first), and the seconds since the wait began."""


def state_of(index: SearchIndex, found: ListedIndex | None) -> IndexState:
    """Judge one index by what the server says of it."""
    if found is None:
        return IndexState(index, MISSING, queryable=False, ready=False, detail="there is no such index")
    if found.type != index.type:
        detail = f"it is an index of type {found.type}, should be {index.type}"
        return IndexState(index, found.status, found.queryable, ready=False, different=True, detail=detail)
    different = differences(index.definition, found.definition)
    ready = found.ready and found.status not in BROKEN and not different
    detail = "; ".join([*different, *filter(None, [found.message])])
    return IndexState(index, found.status, found.queryable, ready=ready, different=bool(different), detail=detail)


async def states(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff | None = None
) -> list[IndexState]:
    """Where each index stands now.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the service that manages search indexes does not answer.
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    there = await listed(db, indexes, backoff=backoff)
    return [state_of(index, there.get((index.collection, index.name))) for index in indexes]


async def wait_ready(
    db: AsyncDatabase[Document],
    indexes: Sequence[SearchIndex],
    embedder: Embedder,
    backoff: Backoff,
    on_change: OnChange = lambda _state, _before, _seconds: None,
) -> list[IndexState]:
    """Wait until every index serves by its definition, then let each find a document that is there.

    Args:
        db: where the indexes are.
        indexes: those that are waited for.
        embedder: whose vectors are looked for; it embeds nothing.
        pace: for how long, and how often to look.
        on_change: told of every change of state, and of every canary.

    Raises:
        IndexFailedError: an index is FAILED, STALE or DOES_NOT_EXIST; at once.
        NotReadyError: the time is over.
        NotFoundError: an index is not there; after a few seconds.
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
                f"{state.index.name} is {state.status}, but a search by it misses what is there",
                why=state.canary.detail,
                hint="new documents take a moment to be indexed: run lkmongo db wait-ready again",
            )
    return found


async def _until_ready(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff, on_change: OnChange
) -> list[IndexState]:
    known: dict[str, IndexState] = {}
    while True:
        looked = await _look(db, indexes, backoff, first=not known)
        for state in looked:
            before = known.get(state.index.name)
            known[state.index.name] = state
            if before is None or before.label != state.label:
                on_change(state, before, backoff.elapsed)
        _raise_if_failed(looked, backoff)
        if looked and all(state.ready for state in looked):
            return looked
        if not await backoff.pause():
            raise _timeout_error(list(known.values()), backoff)


async def _look(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], backoff: Backoff, *, first: bool
) -> list[IndexState]:
    """The states, or nothing when a look after the first one fails: there may be an election, which passes."""
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


def _raise_if_failed(looked: Sequence[IndexState], backoff: Backoff) -> None:
    """Raise for what waiting cannot mend."""
    for state in looked:
        if state.status in BROKEN:
            raise IndexFailedError(f"{state.index.name} is {state.status}", why=state.detail or None, hint=state.remedy)
    if backoff.elapsed < SETTLING:
        return
    for state in looked:
        if state.status == MISSING:
            raise NotFoundError(f"there is no search index {state.index.name}", hint="lkmongo db indexes")
        if state.different:
            raise DriftError(
                f"{state.index.name} has another definition than it should have",
                why=state.detail,
                hint="lkmongo db indexes",
            )


def _timeout_error(known: Sequence[IndexState], backoff: Backoff) -> NotReadyError:
    late = [state for state in known if not state.ready]
    return NotReadyError(
        f"{len(late)} of {len(known)} search indexes are not ready after {backoff.elapsed:.0f} s",
        why="; ".join(f"{state.index.name} is {state.label}" for state in late),
        hint="run lkmongo db wait-ready again, with a longer --timeout: a first build on Atlas takes a minute or two",
    )


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """The state of a database.

    Attributes:
        capabilities: what the server can do.
        indexes: the ordinary indexes, with what each would need.
        search: the search indexes; empty on a server without search, and when they could not be listed.
        trouble: why the search indexes could not be listed, or empty.
        documents: what a search by vectors can find.
    """

    capabilities: Capabilities
    indexes: Sequence[database_indexes.Change[Index]]
    search: Sequence[IndexState]
    trouble: str
    documents: Sequence[Coverage]


async def database_status(db: AsyncDatabase[Document], embedder: Embedder) -> DatabaseStatus:
    """Find out how things stand. An index that is ready is also asked for a document that is there.

    Args:
        db: looked at only.
        embedder: whose vectors the indexes should be made for; it embeds nothing.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    capabilities = await probe(db)
    found: list[IndexState] = []
    trouble = ""
    if capabilities.search:
        try:
            found = await states(db, search_indexes(embedder.dimensions, embedder.similarity), Backoff(0))
        except (NotReadyError, NotSupportedError) as error:
            trouble = error.why or error.message
    found = [
        replace(each, canary=await check_canary(db, each.index, embedder)) if each.ready else each for each in found
    ]
    return DatabaseStatus(
        capabilities, await database_indexes.plan(db), found, trouble, await coverage(db, embedder.model)
    )
