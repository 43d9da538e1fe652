"""Write seed data, repeatably and never over what others wrote; the sample shop of a first start."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import DeleteMany, InsertOne, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.declarations import ORDERS as OF_ORDERS
from lkmongo.declarations import Collection, Declarations
from lkmongo.embed.base import Embedder
from lkmongo.model import DEFAULT_TENANT, Order, OrderItem, Passage, Profile, TenantScope, UserScope, now
from lkmongo.store.indexes import database_indexes
from lkmongo.store.knowledge.knowledge import runs
from lkmongo.store.knowledge.passages import content_hash
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.encryption import Encryption, sealed
from lkmongo.store.mongo.schema import HAS_EMBEDDING, KNOWLEDGE, MEMORIES, ORDERS, SESSIONS, STAMP, USERS
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import profile_path

if TYPE_CHECKING:
    from lkmongo.store.seed.seeds import SeedData

T = TypeVar("T")
Document = dict[str, Any]
_Collection = AsyncCollection[Document]
_Request = InsertOne[Document] | UpdateOne
_Change = Callable[[Document, Document], _Request]
Progress = Callable[[str, int, int], None]
"""Called with a collection's name, how many of its documents are done, and how many there are."""

ORIGIN = "seed"
_BATCH = 500
"""Documents, or knowledge files, per round trip."""
_COMPARED = ("content_hash", "embedding_model", "has_vector")
_STATE = {
    "_id": 0,
    "source": 1,
    "chunk": 1,
    "origin": 1,
    "content_hash": 1,
    "embedding_model": 1,
    "has_vector": HAS_EMBEDDING,
}
"""What is read of a passage to decide whether it must be written: neither its text nor its vector."""


@dataclass(slots=True)
class Counts:
    """What happened to the documents of a collection.

    `kept` were not written by a seed; `left_out` belong to people who were erased from this database.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    removed: int = 0
    left_out: int = 0


@dataclass(slots=True)
class SeedCounts:
    """What happened to the documents, by collection, `own` of declared ones; `erased` are the people left out."""

    users: Counts = field(default_factory=Counts)
    orders: Counts = field(default_factory=Counts)
    knowledge: Counts = field(default_factory=Counts)
    own: dict[str, Counts] = field(default_factory=dict)
    erased: frozenset[UserScope] = frozenset()

    def rows(self) -> list[dict[str, Any]]:
        """One row per collection: its name and its counts."""
        by_name = {USERS: self.users, ORDERS: self.orders, KNOWLEDGE: self.knowledge} | self.own
        return [{"collection": name, **asdict(counts)} for name, counts in by_name.items()]


async def seed(
    db: AsyncDatabase[Document],
    data: SeedData,
    embedder: Embedder,
    on_progress: Progress | None = None,
    on_wait: Callable[[float], None] | None = None,
    *,
    erased_too: bool = False,
) -> SeedCounts:
    """Bring a database in line with the seed data; a second run changes nothing.

    Profiles are only created. Orders, records of declared collections and passages are created, and those of an earlier
    seed updated; passages that are gone from their file are removed. A passage is embedded if its text or the embedding
    model changed. An interrupted run leaves whole documents, and the next one completes it.

    Args:
        db: the database; with its unique indexes, concurrent runs write no document twice.
        data: from `load_seeds`.
        embedder: for the passages.
        on_progress: called after each batch.
        on_wait: called with the seconds for which the embedder is about to wait.
        erased_too: include people who were erased from this database, and their orders.

    Raises:
        DatabaseError: MongoDB cannot be reached, or rejects a document.
        EmbeddingError: the passages could not be embedded; users and orders are written by then.
    """
    counts = SeedCounts()
    tell = on_progress or (lambda _collection, _done, _total: None)
    records = {ORDERS: (OF_ORDERS, [_order(owner, order) for owner, order in data.orders])}
    records |= {each.name: (each, list(documents)) for each, documents in data.own}
    people = {profile.scope for profile in data.users}
    people |= {_owner(document) for of, documents in records.values() if of.owner == "person" for document in documents}
    erased, forgotten = await Tombstones(db).among(people)
    counts.erased = frozenset() if erased_too else erased
    users = [profile for profile in data.users if profile.scope not in counts.erased]
    counts.users.left_out = len(data.users) - len(users)
    await _seed_users(db[USERS], users, forgotten, counts.users, tell)
    for name, (of, documents) in records.items():
        counted = counts.orders if name == ORDERS else counts.own.setdefault(name, Counts())
        wanted = [each for each in documents if of.owner != "person" or _owner(each) not in counts.erased]
        counted.left_out = len(documents) - len(wanted)
        await _seed_records(db[name], of, wanted, counted, tell)
    changed, gone = await _compare(db[KNOWLEDGE], data.passages, embedder, counts.knowledge)
    done, total = len(data.passages) - len(changed), len(data.passages)
    tell(KNOWLEDGE, done, total)
    async for written in _write_passages(db[KNOWLEDGE], changed, embedder, counts.knowledge, on_wait):
        done += written
        tell(KNOWLEDGE, done, total)
    for batch in operations.batches(gone, _BATCH):
        counts.knowledge.removed += (await operations.bulk(db[KNOWLEDGE], batch))[0].deleted_count
    return counts


async def _seed_users(
    users: _Collection,
    profiles: Sequence[Profile],
    forgotten: Mapping[UserScope, datetime],
    counts: Counts,
    tell: Progress,
) -> None:
    done, encryption = 0, Encryption.of(users.database)
    for batch in operations.batches(profiles, _BATCH):
        written = Counts()
        # Upserts, since in a repeated run most of them exist.
        requests = []
        for each in batch:
            document = sealed(await encryption.cipher(each.scope), USERS, _user(each, forgotten.get(each.scope)))
            requests.append(UpdateOne(each.scope.filter, {"$setOnInsert": document}, upsert=True))
        await _write(users, requests, written)
        counts.inserted += written.inserted
        counts.unchanged += written.kept
        done += len(batch)
        tell(USERS, done, len(profiles))


async def _seed_records(
    collection: _Collection, of: Collection, documents: Sequence[Document], counts: Counts, tell: Progress
) -> None:
    """Write documents that have their owner's ids."""
    done = 0
    for tenant_id, owned in _grouped(documents, lambda document: str(document.get("tenant_id"))):
        for batch in operations.batches(owned, _BATCH):
            keys = [{name: document[name] for name in of.identity} for document in batch]
            selector: Document = {"tenant_id": tenant_id} if "tenant_id" in of.identity else {}
            selector |= {name: {"$in": [key[name] for key in keys]} for name in keys[0] if name != "tenant_id"}
            there = await _find(collection, selector, {"_id": 0})
            found = {_key(each, keys[0]): each for each in there}
            requests = []
            for key, document in zip(keys, batch, strict=True):
                before, marked = found.get(_key(key, key)), document | {of.seed_mark: ORIGIN}
                same = before is not None and all(before.get(name) == value for name, value in marked.items())
                if change := _change(before, counts, same=same, mark=of.seed_mark):
                    requests.append(change(key, {name: marked[name] for name in marked if name not in key}))
            await _write(collection, requests, counts)
            done += len(batch)
            tell(of.name, done, len(documents))


def _key(document: Mapping[str, Any], names: Iterable[str]) -> tuple[Hashable, ...]:
    values = [document.get(name) for name in names]
    return tuple(value if isinstance(value, Hashable) else repr(value) for value in values)


def _owner(document: Document) -> UserScope:
    return UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"])


async def _compare(
    collection: _Collection, passages: Sequence[tuple[TenantScope, Passage]], embedder: Embedder, counts: Counts
) -> tuple[list[tuple[_Change, TenantScope, Passage]], list[DeleteMany]]:
    """The passages that must be written, and requests that remove those that are gone from their files."""
    changed: list[tuple[_Change, TenantScope, Passage]] = []
    gone: list[DeleteMany] = []
    for tenant_id, owned in _grouped(passages, lambda pair: pair[0].tenant_id):
        for files in operations.batches(_grouped(owned, lambda pair: pair[1].source), _BATCH):
            selector = {"tenant_id": tenant_id, "source": {"$in": [source for source, _ in files]}}
            found = {(each["source"], each["chunk"]): each for each in await _find(collection, selector, _STATE)}
            for source, pairs in files:
                there = [found.pop((source, passage.chunk), None) for _, passage in pairs]
                same = [
                    before is not None
                    and (content_hash(passage), embedder.model, True) == tuple(map(before.get, _COMPARED))
                    for before, (_, passage) in zip(there, pairs, strict=True)
                ]
                if embedder.together and (False in same or any(of == source for of, _ in found)):
                    same = [False] * len(same)  # each vector depends on the whole document
                for before, is_same, (tenant, passage) in zip(there, same, pairs, strict=True):
                    if change := _change(before, counts, same=is_same):
                        changed.append((change, tenant, passage))
            gone += [
                DeleteMany({"tenant_id": tenant_id, "source": source, "chunk": chunk, "origin": ORIGIN})
                for (source, chunk), before in found.items()
                if before.get("origin") == ORIGIN
            ]
    return changed, gone


async def _write_passages(
    collection: _Collection,
    changed: Sequence[tuple[_Change, TenantScope, Passage]],
    embedder: Embedder,
    counts: Counts,
    on_wait: Callable[[float], None] | None,
) -> AsyncIterator[int]:
    """Embed and write in batches, so that a later failure loses none; yields the size of each."""
    from lkmongo.embed.base import prefetch
    from lkmongo.embed.vectors import stored

    waiting = iter(changed)
    texts = [passage.embedded_text for _, _, passage in changed]
    lengths = runs((tenant.tenant_id, passage.source) for _, tenant, passage in changed)
    async with aclosing(prefetch(embedder.embed_many(texts, documents=lengths, on_wait=on_wait))) as batches:
        async for vectors in batches:
            moment = now()
            requests = [
                change(
                    tenant.filter | {"source": passage.source, "chunk": passage.chunk},
                    {
                        "title": passage.title,
                        "content": passage.content,
                        "content_hash": content_hash(passage),
                        "embedding": stored(passage.embedded_text, vector),
                        "embedding_model": embedder.model,
                        "updated_at": moment,
                        "origin": ORIGIN,
                    },
                )
                # Vectors first, so that zip takes no passage from `waiting` without a vector.
                for vector, (change, tenant, passage) in zip(vectors, waiting, strict=False)
            ]
            await _write(collection, requests, counts)
            yield len(requests)


def _user(profile: Profile, forgotten_at: datetime | None) -> Document:
    document: Document = {"created_at": now(), "memory_version": 0} | STAMP
    if forgotten_at:
        document["forgotten_at"] = forgotten_at
    for name, value in profile.values.items():
        outer, _, inner = profile_path(name).rpartition(".")
        (document.setdefault(outer, {}) if outer else document)[inner] = value
    return document


def _order(owner: UserScope, order: Order) -> Document:
    return {
        **owner.filter,
        "order_id": order.order_id,
        "items": [{"name": item.name, "quantity": item.quantity} for item in order.items],
        "total": order.total,
        "currency": order.currency,
        "status": order.status,
    }


def _change(before: Document | None, counts: Counts, *, same: bool, mark: str = "origin") -> _Change | None:
    """How a document must be written, given the stored one; None, and counted, if it need not be."""
    if before is None:
        return _insert
    if before.get(mark) != ORIGIN:
        counts.kept += 1
    elif same:
        counts.unchanged += 1
    else:
        return functools.partial(_update, mark=mark)
    return None


def _insert(key: Document, document: Document) -> InsertOne[Document]:
    """Insert a document, unless one exists by now."""
    return InsertOne(key | document | STAMP)


def _update(key: Document, document: Document, *, mark: str) -> UpdateOne:
    """Update a document if it is still a seed's."""
    return UpdateOne(key | {mark: ORIGIN}, {"$set": document})


async def _find(collection: _Collection, selector: Document, projection: Document) -> list[Document]:
    async def find() -> list[Document]:
        return [document async for document in collection.find(selector, projection)]

    return await operations.read(find)


async def _write(collection: _Collection, requests: Sequence[_Request], counts: Counts) -> None:
    """Write and count; a request has no effect on a document that somebody else wrote meanwhile."""
    if requests:
        result, _ = await operations.bulk(collection, requests)
        made = result.inserted_count + result.upserted_count
        counts.inserted += made
        counts.updated += result.modified_count
        counts.kept += len(requests) - made - result.modified_count


def _grouped(values: Iterable[T], key: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    groups: dict[str, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return list(groups.items())


def load_samples(known: Declarations) -> SeedData:
    """The sample shop; without its orders if a project declares a collection of that name, with another shape."""
    from lkmongo.store.seed.seeds import default_seed_folder, load_seeds

    data = load_seeds(default_seed_folder(), Declarations(), follow_links=True)  # as some installers link all files
    return replace(data, orders=()) if ORDERS in known.own else data


ORDER = Order("1011", (OrderItem("Wren smart speaker, chalk"),), 89.0, "shipped")
"""An order for the first customer, so that they have something to ask about."""


async def prepare(
    db: AsyncDatabase[dict[str, Any]],
    embedder: Embedder,
    *,
    on_status: Callable[[str], None],
    customer: UserScope | None = None,
) -> None:
    """Create missing indexes, and load the sample shop into an empty database.

    Args:
        db: the embedded database.
        embedder: for the shop's passages.
        on_status: called with a sentence about what takes a while.
        customer: gets an order, too.

    Raises:
        DatabaseError: MongoDB answered with an error.
    """
    await database_indexes.apply(db)
    if not await _is_empty(db):
        return
    data = load_samples(await declared.read(db))
    shop = "users, orders and knowledge" if data.orders else "users and knowledge"
    yours = ""
    is_new = customer and customer.tenant_id == DEFAULT_TENANT and all(owner != customer for owner, _ in data.orders)
    if customer and is_new and data.orders:
        data = replace(data, orders=(*data.orders, (customer, ORDER)))
        yours = f", with an order of yours, {ORDER.order_id}"
    on_status(f"This database is empty: loading the sample shop ({shop}){yours} ...")
    await seed(db, data, embedder)


async def _is_empty(db: AsyncDatabase[dict[str, Any]]) -> bool:
    async def one(name: str) -> bool:
        return await db[name].find_one({}, {"_id": 1}) is None

    names = (USERS, MEMORIES, KNOWLEDGE, ORDERS, SESSIONS)
    return all(await asyncio.gather(*(operations.read(lambda name=name: one(name)) for name in names)))  # type: ignore[misc]
