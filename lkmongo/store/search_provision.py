"""Make the search indexes what they should be: plan, then apply.

Indexes that are not ours are left alone, and none is dropped unless `replace` asks for it. What came about meanwhile,
by another process or by a command whose answer was lost, is looked up again and taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.operations import SearchIndexModel

from lkmongo.errors import DatabaseError, NotReadyError
from lkmongo.store import operations
from lkmongo.store.pace import Pace
from lkmongo.store.provision import Action, Change, create_collection
from lkmongo.store.search_compare import differences
from lkmongo.store.search_listing import PATIENCE, Listed, listed, managed
from lkmongo.store.search_schema import SearchIndex

Document = dict[str, Any]

_ILLEGAL, _NO_COLLECTION, _NO_INDEX, _INDEX_EXISTS = 20, 26, 27, 68
_REPLACE = "lkmongo db indexes --replace drops it and makes it again"
BROKEN = {
    "FAILED": f"mend the cause; {_REPLACE}",
    "STALE": f"see that the search nodes have disk space left; {_REPLACE}",
    "DOES_NOT_EXIST": f"its collection is gone; {_REPLACE}",
}
"""States that an index does not leave by waiting, and what to do."""


@dataclass(frozen=True, slots=True)
class SearchChange(Change[SearchIndex]):
    """One search index and what is to be done, or was done, about it.

    Attributes:
        found: what the server said of it before; None for an index that is not listed.
    """

    found: Listed | None = None

    @property
    def broken(self) -> bool:
        """Whether it is in a state that waiting does not mend."""
        return self.found is not None and self.found.status in BROKEN

    @property
    def late(self) -> bool:
        """Whether nothing is to be done but to wait until it serves by its definition."""
        done = self.action is Action.UNCHANGED and not self.broken
        return done and self.found is not None and not self.found.ready


class QuotaError(DatabaseError):
    """The cluster holds as many search indexes as it may.

    Attributes:
        changes: what became of every index; those without a place are blocked.
    """

    code = "search_index_quota"

    def __init__(self, changes: Sequence[SearchChange], why: str) -> None:
        """Name the indexes that had no place."""
        names = ", ".join(change.index.name for change in changes if change.action is Action.BLOCKED)
        super().__init__(
            f"the cluster has no place for {names}",
            why=why,
            hint="an M0 cluster holds 3 search indexes in all its databases together, a Flex cluster 10: "
            "drop one that nobody needs, or use a larger cluster",
        )
        self.changes = changes


async def plan(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], *, replace: bool = False, pace: Pace | None = None
) -> list[SearchChange]:
    """Compare the search indexes that are there with those that should be; writes nothing.

    Args:
        db: where they belong.
        indexes: those that should be there.
        replace: plan to drop and make again what cannot be updated, and what is broken.
        pace: how to wait for the service that manages search indexes.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the service that manages search indexes does not answer.
        DatabaseError, AuthenticationError: MongoDB answered with another error.
    """
    there = await listed(db, indexes, pace=pace)
    return [_compare(index, there.get((index.collection, index.name)), replace=replace) for index in indexes]


def _compare(  # noqa: PLR0911 - one answer for each way in which an index can stand
    index: SearchIndex, found: Listed | None, *, replace: bool
) -> SearchChange:
    def change(action: Action, detail: str = "", hint: str = "") -> SearchChange:
        return SearchChange(index, action, detail, hint, found)

    if found is None:
        return change(Action.CREATE)
    if found.status == "DELETING":
        return change(Action.CREATE, "the one before is still being deleted")
    if found.type != index.type:
        detail = f"it is an index of type {found.type}, should be {index.type}, which an update cannot change"
        return change(Action.REPLACE, detail) if replace else change(Action.BLOCKED, detail, _REPLACE)
    broken = _standing(found) if found.status in BROKEN else ""
    if broken and replace:
        return change(Action.REPLACE, broken)
    if different := differences(index.definition, found.definition):
        return change(Action.UPDATE, "; ".join(filter(None, [*different, broken])))
    if broken:
        return change(Action.UNCHANGED, broken, BROKEN[found.status])
    if not found.ready:
        return change(Action.UNCHANGED, _standing(found), "lkmongo db wait-ready waits for it")
    return change(Action.UNCHANGED)


def _standing(found: Listed) -> str:
    """In what state an index is that does not serve as it should, and why if the server says so."""
    if not found.queryable:
        serves = "not queryable"
    else:
        serves = "finds nothing new" if found.status == "STALE" else "the definition before serves"
    return f"it is {found.status}, and {serves}" + (f": {found.message}" if found.message else "")


async def apply(
    db: AsyncDatabase[Document], indexes: Sequence[SearchIndex], *, replace: bool = False, pace: Pace | None = None
) -> list[SearchChange]:
    """Create and update what differs, collections first; run it as often as you like.

    It does not wait until they are built. Returns what was done about each.

    Raises:
        QuotaError: the cluster is full; indexes that needed no place were made nevertheless.
        NotReadyError: an index that is being dropped does not go away.
        NotSupportedError, DatabaseError, AuthenticationError: as `plan` does.
    """
    pace = pace or Pace(PATIENCE)
    changes: list[SearchChange] = []
    refused = ""
    for change in await plan(db, indexes, replace=replace, pace=pace):
        pace.hurry()
        try:
            changes.append(await _carry_out(db, change, pace, replace=replace))
        except OperationFailure as error:
            if error.code != _ILLEGAL:
                raise operations.explain(error) from error
            refused = f"{(error.details or {}).get('errmsg', error)} (code {error.code})"
            changes.append(SearchChange(change.index, Action.BLOCKED, refused, found=change.found))
        except PyMongoError as error:
            raise operations.explain(error) from error
    if refused:
        raise QuotaError(changes, refused)
    return changes


async def _carry_out(db: AsyncDatabase[Document], planned: SearchChange, pace: Pace, *, replace: bool) -> SearchChange:
    """Do what the plan says; when something came in between, look again at what is left to do."""
    change = planned
    while True:
        try:
            await _do(db, change, pace)
        except (OperationFailure, AutoReconnect) as error:
            if not (await _came_between(db, change, error) and await pace.pause()):
                raise
        else:
            return planned
        (change,) = await plan(db, [planned.index], replace=replace, pace=pace)
        if change.action is Action.BLOCKED:
            return change
        if change.action is Action.UNCHANGED:  # another process did it, or ours was done and its answer lost
            return planned


async def _do(db: AsyncDatabase[Document], change: SearchChange, pace: Pace) -> None:
    index = change.index
    if change.action is Action.REPLACE:
        await _drop(db, index, pace)
    if change.action in {Action.CREATE, Action.REPLACE}:
        await _until_gone(db, index, pace)
        await managed(lambda: _create(db, index), pace)
    elif change.action is Action.UPDATE:
        await managed(lambda: _update(db, index), pace)


async def _came_between(db: AsyncDatabase[Document], change: SearchChange, error: PyMongoError) -> bool:
    """Whether an error comes of what others do, or of the way there, so that another look may help."""
    if isinstance(error, AutoReconnect):  # the driver does not repeat these commands: they may have been carried out
        return not isinstance(error, ServerSelectionTimeoutError)
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _NO_COLLECTION:
        await create_collection(db, change.index.collection)
        return True
    return code in {_NO_INDEX, _INDEX_EXISTS} or (code == _ILLEGAL and change.action is Action.UPDATE)


async def _create(db: AsyncDatabase[Document], index: SearchIndex) -> None:
    model = SearchIndexModel(dict(index.definition), name=index.name, type=index.type)
    await db[index.collection].create_search_index(model)


async def _update(db: AsyncDatabase[Document], index: SearchIndex) -> None:
    # Not by the driver's method, which takes "the collection does not exist" for success.
    await db.command("updateSearchIndex", index.collection, name=index.name, definition=dict(index.definition))


async def _drop(db: AsyncDatabase[Document], index: SearchIndex, pace: Pace) -> None:
    try:
        await managed(lambda: db[index.collection].drop_search_index(index.name), pace)
    except OperationFailure as error:
        if error.code not in {_NO_INDEX, _ILLEGAL}:  # it is gone, or going
            raise


async def _until_gone(db: AsyncDatabase[Document], index: SearchIndex, pace: Pace) -> None:
    """Wait while an index of that name is on its way out: Atlas drops in its own time."""
    while (found := (await listed(db, [index], pace=pace)).get((index.collection, index.name))) is not None:
        if found.status != "DELETING":
            return
        if not await pace.pause():
            raise NotReadyError(
                f"{index.name} is still being deleted", why=f"for {pace.elapsed:.0f} s", hint="run it again in a moment"
            )
