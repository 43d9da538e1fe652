"""Indexes and vectors: whether they are what the store and the embedder need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lkmongo.doctor.check import Finding, fail, ok, skip, warn
from lkmongo.errors import ExitCode
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes.canary import Coverage, coverage
from lkmongo.store.indexes.database_indexes import Action

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder
    from lkmongo.store.indexes.readiness import IndexState
    from lkmongo.store.mongo.capabilities import Capabilities
    from lkmongo.store.open import Store

_MAKE = "lkmongo db indexes"
_NAMED = 5


async def ordinary(store: Store) -> Finding:
    """The ordinary indexes, and the unique ones that keep two of one kind apart.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    changes = await database_indexes.plan(store.db)
    blocked = [change for change in changes if change.action is Action.BLOCKED]
    missing = [change for change in changes if change.action is Action.CREATE]
    named = [f"{each.index.collection}.{each.index.name}: {each.detail}" for each in blocked]
    if missing:
        named.append("missing: " + ", ".join(f"{each.index.collection}.{each.index.name}" for each in missing))
    if blocked:
        return fail(
            f"{len(blocked)} of {len(changes)} indexes stand in the way of what they should be",
            f"drop what is named, then {_MAKE}",
            named,
        )
    if not missing:
        return ok(f"all {len(changes)} are there")
    said = f"{len(missing)} of {len(changes)} indexes are missing"
    if store.embedded:
        return warn(f"{said}; the next call makes them", _MAKE, named)
    return fail(said, _MAKE, named)


async def searchable(store: Store, capabilities: Capabilities, embedder: Embedder) -> Finding:
    """The search indexes: their definitions, whether they serve, and whether they find what is there.

    Raises:
        NotReadyError: the service that manages search indexes does not answer.
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    from lkmongo.backoff import Backoff
    from lkmongo.store.indexes.canary import look
    from lkmongo.store.indexes.definitions import search_indexes
    from lkmongo.store.indexes.readiness import states

    if not capabilities.search:
        return skip("this MongoDB has no search")
    found = await states(store.db, search_indexes(embedder.dimensions, embedder.similarity), Backoff(0))
    found = [replace(each, canary=await look(store.db, each.index, embedder)) if each.ready else each for each in found]
    return judge_searchable(found)


def judge_searchable(found: Sequence[IndexState]) -> Finding:
    """Say which index is wrong; what needs more than time is told before what only needs time."""
    from lkmongo.store.indexes.canary import Outcome
    from lkmongo.store.indexes.readiness import MISSING
    from lkmongo.store.indexes.search_indexes import BROKEN

    facts = [f"{each.index.collection}.{each.index.name}: {_state(each)}" for each in found]
    kinds = (
        ([each for each in found if each.status == MISSING], "missing", _MAKE, ExitCode.FAILED),
        ([each for each in found if each.status in BROKEN], "broken", f"{_MAKE} --replace", ExitCode.FAILED),
        ([each for each in found if each.different], "not as they should be", _MAKE, ExitCode.FAILED),
        ([each for each in found if not each.ready], "not built yet", "lkmongo db wait-ready", ExitCode.NOT_READY),
        (
            [each for each in found if each.canary and each.canary.outcome is Outcome.MISSED],
            "ready, and miss what is there",
            "lkmongo db wait-ready",
            ExitCode.NOT_READY,
        ),
    )
    for wrong, what, hint, exit_code in kinds:
        if wrong:
            names = ", ".join(each.index.name for each in wrong[:_NAMED])
            said = f"{len(wrong)} of {len(found)} search indexes are {what}: {names}"
            return fail(said, hint, facts, exit_code=exit_code)
    return ok(f"all {len(found)} are ready", *facts)


def _state(state: IndexState) -> str:
    canary = (
        f"{state.canary.outcome}{f' ({state.canary.detail})' if state.canary.detail else ''}" if state.canary else ""
    )
    return "; ".join(filter(None, [state.label, state.detail, f"a search for a document: {canary}" if canary else ""]))


async def vectors(store: Store, embedder: Embedder) -> Finding:
    """Whether every document has a vector of the embedder in use: others are found by their words alone.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    return judge_vectors(await coverage(store.db, embedder.model), embedder.model)


def judge_vectors(counted: Sequence[Coverage], model: str) -> Finding:
    """Say how many documents are left behind."""
    facts = [
        f"{each.collection}: too many to count in time"
        if each.documents is None
        else f"{each.collection}: {each.documents:,} documents, {each.no_vector or 0:,} without a vector, "
        f"{each.other_model or 0:,} with another model's"
        for each in counted
    ]
    left = sum((each.no_vector or 0) + (each.other_model or 0) for each in counted)
    if left:
        said = f"{left:,} {'document has' if left == 1 else 'documents have'} no vector of {model}"
        return warn(f"{said}: found by words alone", "lkmongo db embed", facts)
    if uncounted := [each.collection for each in counted if each.documents is None]:
        return warn(f"{' and '.join(uncounted)}: too many to count in time", "lkmongo db embed --dry-run", facts)
    total = sum(each.documents or 0 for each in counted)
    return ok(f"all {total:,} are of {model}" if total else "there are none yet", *facts)
