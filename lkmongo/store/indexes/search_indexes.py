"""Lists search indexes, plans their creation and updates, and applies the plan.

Unknown indexes are left alone, and none is dropped without `replace`. Changes made meanwhile, by another process or
by a command whose answer was lost, are taken into account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.operations import SearchIndexModel

from lkmongo.backoff import Backoff
from lkmongo.errors import DatabaseError, NotReadyError, NotSupportedError
from lkmongo.store.indexes.database_indexes import Action, Change, create_collection
from lkmongo.store.indexes.definitions import (
    EMBEDDING,
    IndexType,
    SearchIndex,
    differences,
    embeds,
    keep_tuned,
    needs_rebuild,
    search_indexes,
    tuned,
    type_of,
)
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.capabilities import lacks_search

T = TypeVar("T")
Document = dict[str, Any]
Key = tuple[str, str]
"""The names of a collection and of an index on it."""

_MANAGEMENT_DOWN = "Error connecting to Search Index Management service"
"""What the server says when that service is unreachable, as in the first seconds of a container. The code (125,
CommandFailed) is that of a refused definition as well."""
_REFUSED = frozenset({2, 8, 9, 14, 72, 125, 197, 396, 40414, 40415})
"""Error codes of a definition that is refused; of an answer without a code, the server makes 8 (UnknownError)."""
PATIENCE = 30.0
"""Seconds to wait for that service, and for the end of a drop."""


@dataclass(frozen=True, slots=True)
class ListedIndex:
    """One search index as listed by the server.

    Attributes:
        status: PENDING, BUILDING, READY, STALE, FAILED, DELETING or DOES_NOT_EXIST.
        queryable: it answers, perhaps with an older definition.
        definition: the latest one.
        version: of the latest definition, 0 for the first; None if the server does not say.
        current: all hosts serve the latest definition.
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
        """Whether all hosts serve the latest definition.

        A new index only needs to be queryable. An updated one is queryable all along, but serves the previous
        definition until it is READY.
        """
        return self.queryable and self.current and (self.status == "READY" or self.version == 0)


def read_listing(document: Mapping[str, Any]) -> ListedIndex:
    definition = document.get("latestDefinition") or {}
    version = (document.get("latestDefinitionVersion") or {}).get("version")
    hosts = _hosts(document.get("statusDetail"))
    parts = [host.get(part) or {} for host in hosts for part in ("stagedIndex", "mainIndex")] + [*hosts, document]
    serving = [((host.get("mainIndex") or {}).get("definitionVersion") or {}).get("version") for host in hosts]
    return ListedIndex(
        type=document.get("type") or type_of(definition),
        status=str(document.get("status")),
        queryable=bool(document.get("queryable")),
        definition=definition,
        version=version,
        current=all(number in {None, version} for number in serving),
        message=next((str(part["message"]) for part in parts if part.get("message")), ""),
    )


def _hosts(details: Any) -> list[Mapping[str, Any]]:
    """What each host says: a list, or an object of one host or by the names of several."""
    if not isinstance(details, Mapping):
        return [host for host in details or [] if isinstance(host, Mapping)]
    return [details] if "mainIndex" in details else [host for host in details.values() if isinstance(host, Mapping)]


async def listed(
    db: AsyncDatabase[Document], indexes: Iterable[SearchIndex], *, backoff: Backoff | None = None
) -> dict[Key, ListedIndex]:
    """List all search indexes of the collections of `indexes`.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the search management service does not answer.
        DatabaseError, AuthenticationError: as `operations.read` does.
    """
    backoff = backoff or Backoff(PATIENCE)
    found: dict[Key, ListedIndex] = {}
    for collection in dict.fromkeys(index.collection for index in indexes):

        async def documents(name: str = collection) -> list[Mapping[str, Any]]:
            return await (await db[name].list_search_indexes()).to_list()

        for document in await operations.read(lambda read=documents: retry_management(read, backoff)):  # type: ignore[misc]
            found[collection, document["name"]] = read_listing(document)
    return found


async def knowledge_quantization(db: AsyncDatabase[Document]) -> str:
    """How the vectors of knowledge are compressed in their index: "none", "scalar" or "binary".

    Raises as `listed` does, without waiting.
    """
    index, *_ = search_indexes(1)
    found = (await listed(db, [index], backoff=Backoff(0))).get((index.collection, index.name))
    return str(tuned(found.definition).get(f"{EMBEDDING}.quantization", "none")) if found else "none"


async def retry_management(operation: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
    """Run a command of the search management service; retry while the service is unreachable or overloaded.

    Raises:
        NotSupportedError: this server has no search.
        NotReadyError: the service did not answer in time.
        OperationFailure: any other code.
    """
    while True:
        try:
            return await operation()
        except OperationFailure as error:
            if lacks_search(error):
                raise no_search_error(error.code) from error
            is_overload = operations.is_overload(error)
            if not is_overload and _MANAGEMENT_DOWN.lower() not in str(error).lower():
                raise
            if not await backoff.pause():
                raise NotReadyError(
                    "the search management service of MongoDB is overloaded"
                    if is_overload
                    else "MongoDB cannot reach its search management service",
                    why=operations.server_words(error),
                    hint="try again in a moment",
                ) from error


def no_search_error(code: int | None = None) -> NotSupportedError:
    return NotSupportedError(
        "this MongoDB has no search",
        why=f"it does not support $listSearchIndexes (code {code})" if code else None,
        hint="use Atlas, or MongoDB with mongot; without, searches run exact and need no search index",
    )


_ILLEGAL, _NO_COLLECTION, _NO_INDEX, _INDEX_EXISTS = 20, 26, 27, 68
_REPLACE = "lkmongo db indexes --replace drops and recreates it"
BROKEN = {
    "FAILED": f"fix the cause; {_REPLACE}",
    "STALE": f"make sure that the search nodes have disk space; {_REPLACE}",
    "DOES_NOT_EXIST": f"its collection is gone; {_REPLACE}",
}
"""States that do not change by waiting, with the hint for each."""


@dataclass(frozen=True, slots=True)
class SearchChange(Change[SearchIndex]):
    """One search index and the action planned or taken; `found` is its listing before that, or None."""

    found: ListedIndex | None = None

    @property
    def broken(self) -> bool:
        """Whether it is in a state that does not change by waiting."""
        return self.found is not None and self.found.status in BROKEN

    @property
    def pending(self) -> bool:
        """Whether it only needs time until it serves its definition."""
        done = self.action is Action.UNCHANGED and not self.broken
        return done and self.found is not None and not self.found.ready


class NotAppliedError(DatabaseError):
    """MongoDB refused search indexes.

    Attributes:
        changes: of all indexes; `refused` are those with the server's words as their detail.
    """

    message: str
    hint: str

    def __init__(self, changes: Sequence[SearchChange], refused: Sequence[SearchChange]) -> None:
        names = ", ".join(change.index.name for change in refused)
        why = "; ".join(dict.fromkeys(change.detail for change in refused))
        super().__init__(self.message.format(names=names), why=why, hint=type(self).hint)
        self.changes = changes


class QuotaError(NotAppliedError):
    """The cluster has reached its limit of search indexes."""

    code = "search_index_quota"
    message = "the cluster has no room for {names}"
    hint = (
        "an M0 cluster can have 3 search indexes in all its databases together, a Flex cluster 10: "
        "drop one, or use a larger cluster"
    )


class RefusedDefinitionError(NotAppliedError):
    """The server does not take a definition."""

    code = "search_index_refused"
    message = "MongoDB refuses the definition of {names}"
    hint = (
        "lkmongo db indexes --dry-run prints it: unset the setting that asks for what this server does not know, "
        "or upgrade the cluster"
    )


class RefusedToEmbedError(RefusedDefinitionError):
    """The server does not make vectors itself, or not by this model."""

    hint = (
        "this MongoDB may not embed by itself, or not with this model: set VOYAGE_API_KEY, "
        "or LKMONGO_EMBEDDINGS=local to embed on this machine"
    )


async def plan(
    db: AsyncDatabase[Document],
    indexes: Sequence[SearchIndex],
    *,
    replace: Collection[str] = (),
    backoff: Backoff | None = None,
) -> list[SearchChange]:
    """Compare the existing search indexes with the needed ones, without writing.

    Args:
        db: the database.
        indexes: the needed ones.
        replace: names of the indexes that may be dropped and recreated if they are broken or cannot be updated.
        backoff: for waiting for the search management service.

    Raises:
        NotSupportedError, NotReadyError, DatabaseError, AuthenticationError: as `listed` does.
    """
    there = await listed(db, indexes, backoff=backoff)
    return [
        _compare(index, there.get((index.collection, index.name)), replace=index.name in replace) for index in indexes
    ]


def _compare(  # noqa: C901, PLR0911 - one answer for each way in which an index can stand
    index: SearchIndex, found: ListedIndex | None, *, replace: bool
) -> SearchChange:
    def change(action: Action, detail: str = "", hint: str = "") -> SearchChange:
        return SearchChange(index, action, detail, hint, found)

    if found is None:
        return change(Action.CREATE)
    if found.type == index.type:
        index = keep_tuned(index, found.definition)
    if found.status == "DELETING":
        return change(Action.CREATE, "the previous one is still being deleted")
    if found.type != index.type:
        detail = f"it is an index of type {found.type}, should be {index.type}, which an update cannot change"
        return change(Action.REPLACE, detail) if replace else change(Action.BLOCKED, detail, _REPLACE)
    broken = _describe_state(found) if found.status in BROKEN else ""
    if broken and replace:
        return change(Action.REPLACE, broken)
    if different := differences(index.definition, found.definition):
        if not needs_rebuild(index.definition, found.definition):
            return change(Action.UPDATE, "; ".join(filter(None, [*different, broken])))
        detail = "; ".join([*different, "which an update cannot change"])
        return change(Action.REPLACE, detail) if replace else change(Action.BLOCKED, detail, _REPLACE)
    if broken:
        return change(Action.UNCHANGED, broken, BROKEN[found.status])
    if not found.ready:
        return change(Action.UNCHANGED, _describe_state(found), "lkmongo db wait-ready waits for it")
    return change(Action.UNCHANGED)


async def rebuild_costs(db: AsyncDatabase[Document], changes: Iterable[SearchChange]) -> list[str]:
    """What dropping and building each index costs, in a sentence. Raises as `operations.read` does."""
    lines = []
    for change in changes:
        collection = db[change.index.collection]
        count = await operations.read(collection.estimated_document_count)
        now = "answers, and is dropped first" if change.found and change.found.queryable else "does not answer now"
        meanwhile = "run exact" if change.index.type == "vectorSearch" else "only compare words among what is near"
        billed = " and embedded, which MongoDB bills" if embeds(change.index.definition) else ""
        lines.append(
            f"{change.index.name} {now}: about {count:,} documents of {collection.name} (by its metadata) are indexed "
            f"again{billed}, and searches of {collection.name} {meanwhile} until it is ready"
        )
    return lines


def _describe_state(found: ListedIndex) -> str:
    if not found.queryable:
        serves = "not queryable"
    else:
        serves = "does not find new documents" if found.status == "STALE" else "the previous definition serves"
    return f"it is {found.status}, and {serves}" + (f": {found.message}" if found.message else "")


async def apply(
    db: AsyncDatabase[Document],
    indexes: Sequence[SearchIndex],
    *,
    replace: Collection[str] = (),
    backoff: Backoff | None = None,
) -> list[SearchChange]:
    """Create and update search indexes, without waiting for the build; idempotent.

    Raises:
        QuotaError: the cluster is full; all other changes were made.
        RefusedDefinitionError: the server does not take a definition; all other changes were made.
        NotReadyError: dropping an index takes too long.
        NotSupportedError, DatabaseError, AuthenticationError: as `plan` does.
    """
    backoff = backoff or Backoff(PATIENCE)
    changes: list[SearchChange] = []
    refused: dict[type[NotAppliedError], list[SearchChange]] = {}
    for change in await plan(db, indexes, replace=replace, backoff=backoff):
        backoff.reset()
        try:
            changes.append(await _apply_change(db, change, backoff, replace=replace))
        except OperationFailure as error:
            if error.code != _ILLEGAL and error.code is not None and error.code not in _REFUSED:
                raise operations.explain(error) from error
            changes.append(
                SearchChange(change.index, Action.BLOCKED, operations.server_words(error), found=change.found)
            )
            refused.setdefault(_refusal(error, change.index), []).append(changes[-1])
        except PyMongoError as error:
            raise operations.explain(error) from error
    for kind, those in refused.items():
        raise kind(changes, those)
    return changes


def _refusal(error: OperationFailure, index: SearchIndex) -> type[NotAppliedError]:
    if error.code == _ILLEGAL:
        return QuotaError
    return RefusedToEmbedError if embeds(index.definition) else RefusedDefinitionError


async def _apply_change(
    db: AsyncDatabase[Document], planned: SearchChange, backoff: Backoff, *, replace: Collection[str]
) -> SearchChange:
    """Apply a planned change; after a conflict, plan again."""
    change = planned
    while True:
        try:
            await _do(db, change, backoff)
        except (OperationFailure, AutoReconnect) as error:
            if not (await _is_conflict(db, change, error) and await backoff.pause()):
                raise
        else:
            return planned
        (change,) = await plan(db, [planned.index], replace=replace, backoff=backoff)
        if change.action is Action.BLOCKED:
            return change
        if change.action is Action.UNCHANGED:  # done by another process, or by ours with its answer lost
            return planned


async def _do(db: AsyncDatabase[Document], change: SearchChange, backoff: Backoff) -> None:
    index = change.index
    if change.action is Action.REPLACE:
        await _drop(db, index, backoff)
    if change.action in {Action.CREATE, Action.REPLACE}:
        await _until_gone(db, index, backoff)
        await retry_management(lambda: _create(db, index), backoff)
    elif change.action is Action.UPDATE:
        await retry_management(lambda: _update(db, index), backoff)


async def _is_conflict(db: AsyncDatabase[Document], change: SearchChange, error: PyMongoError) -> bool:
    """Whether an error may be due to another process or the network, so that planning again may help."""
    if isinstance(error, AutoReconnect):  # the driver does not retry these commands, which may have succeeded
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
    # Not with the driver's method, which ignores a missing collection.
    await db.command("updateSearchIndex", index.collection, name=index.name, definition=dict(index.definition))


async def _drop(db: AsyncDatabase[Document], index: SearchIndex, backoff: Backoff) -> None:
    try:
        await retry_management(lambda: db[index.collection].drop_search_index(index.name), backoff)
    except OperationFailure as error:
        if error.code not in {_NO_INDEX, _ILLEGAL}:  # it is deleted, or being deleted
            raise


async def _until_gone(db: AsyncDatabase[Document], index: SearchIndex, backoff: Backoff) -> None:
    """Wait while an index of that name is being deleted, which Atlas does asynchronously."""
    while (found := (await listed(db, [index], backoff=backoff)).get((index.collection, index.name))) is not None:
        if found.status != "DELETING":
            return
        if not await backoff.pause():
            raise NotReadyError(
                f"{index.name} is still being deleted",
                why=f"for {backoff.elapsed:.0f} s",
                hint="run it again in a moment",
            )
