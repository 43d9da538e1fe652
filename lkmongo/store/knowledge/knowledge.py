"""The repository of a tenant's knowledge: adds, replaces, lists and removes documents, passage by passage.

Passages written here have `origin: "knowledge"`; those of `db seed` or another program are never overwritten. A passage
is first written without a vector and found by words; its vector follows. Interrupted work is completed by repeating it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import DEFAULT_TENANT, Passage, TenantScope, now
from lkmongo.store.knowledge.passages import content_hash
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import EMBEDDED, HAS_EMBEDDING, KNOWLEDGE, STAMP

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

T = TypeVar("T")
Stored = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

ORIGIN = "knowledge"
_BATCH = 500
"""Documents per round trip."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read; `root` is None for standard input."""

    source: str
    passages: tuple[Passage, ...]
    root: str | None = None


class SourceTakenError(UsageError):
    """A source of this name was written by something else."""

    code = "source_taken"


@dataclass(slots=True)
class Counts:
    """Counts of the passages of one source; `moved_from` is its previous folder, if another."""

    source: str
    passages: int = 0
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    moved_from: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A stored source; `embedded` counts passages with a vector of the given model."""

    source: str
    passages: int
    embedded: int
    origin: str
    root: str | None
    updated_at: datetime | None


class Knowledge:
    def __init__(self, db: AsyncDatabase[Stored]) -> None:
        self._knowledge = db[KNOWLEDGE]

    async def sources(self, tenant: TenantScope, model: str) -> list[Source]:
        """All sources by name; `model` is the embedder's."""
        ours = {"$and": [{"$eq": ["$embedding_model", model]}, HAS_EMBEDDING]}
        group = {
            "_id": "$source",
            "passages": {"$sum": 1},
            "embedded": {"$sum": {"$cond": [ours, 1, 0]}},
            "origin": {"$first": "$origin"},
            "root": {"$first": "$root"},
            "updated_at": {"$max": "$updated_at"},
        }
        return [
            Source(
                found["_id"],
                found["passages"],
                found["embedded"],
                found["origin"] or "unknown",
                found["root"],
                found["updated_at"],
            )
            for found in await self._group(tenant.filter, group)
        ]

    async def require(self, tenant: TenantScope, sources: Sequence[str]) -> int:
        """How many passages these sources have.

        Raises:
            NotFoundError: there is no such source; it suggests a similar one.
        """
        there = {source.source: source.passages for source in await self.sources(tenant, "")}
        if missing := [source for source in sources if source not in there]:
            near = get_close_matches(missing[0], there, n=1)
            other = "" if tenant.tenant_id == DEFAULT_TENANT else f" --tenant {tenant.tenant_id}"
            raise NotFoundError(
                f"tenant {tenant.tenant_id} has no source {', '.join(missing)}",
                hint=f"did you mean {near[0]}?" if near else f"lkmongo knowledge list{other}",
            )
        return sum(there[source] for source in sources)

    async def check_free(self, tenant: TenantScope, sources: Collection[str]) -> None:
        """Raise SourceTakenError if another program wrote one of these sources."""
        taken: set[str] = set()
        for batch in operations.batches(sorted(sources), _BATCH):
            selector = tenant.filter | {"source": {"$in": list(batch)}, "origin": {"$ne": ORIGIN}}
            taken |= {found["source"] for found in await self._find(selector, {"source": 1})}
        if taken:
            named = sorted(taken)
            listed = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
            raise SourceTakenError(
                f"tenant {tenant.tenant_id} has {listed} already, from db seed or another program",
                why="knowledge add does not overwrite what others wrote",
                hint=f"lkmongo knowledge remove {shlex.quote(named[0])} first, rename the file, or use --tenant",
            )

    async def put(
        self, tenant: TenantScope, document: Document, model: str, *, together: bool = False, dry_run: bool = False
    ) -> Counts:
        """Store a document: changed passages are replaced, vanished ones removed.

        A passage that only moved keeps its vector of `model`; others lose theirs until `embed` is run.

        Args:
            tenant: owner of the knowledge.
            document: to store.
            model: the embedder's.
            together: if one passage changed, all of the document lose their vectors: see `Embedder.together`.
            dry_run: only count.

        Raises:
            DatabaseError: MongoDB refuses, for instance because `check_free` was not called.
        """
        scope = tenant.filter | {"source": document.source}
        shown = {"chunk": 1, "content_hash": 1, "embedding_model": 1, "root": 1, "has_vector": HAS_EMBEDDING}
        there = {found["chunk"]: found for found in await self._find(scope, shown)}
        counts = Counts(document.source, len(document.passages))
        changed: list[Passage] = []
        for passage in document.passages:
            before = there.get(passage.chunk)
            if before is not None and before.get("content_hash") == content_hash(passage):
                counts.unchanged += 1
                continue
            changed.append(passage)
            counts.added += before is None
            counts.replaced += before is not None
        gone = [chunk for chunk in there if chunk >= len(document.passages)]
        counts.removed = len(gone)
        roots = {found.get("root") for found in there.values()} - {document.root}
        counts.moved_from = next((root for root in roots if root), None)
        if dry_run:
            return counts
        if together and there and (changed or gone):
            vectors = {}
            stale = {"$unset": {"embedding": "", "embedding_model": ""}}
            await operations.write(lambda: self._knowledge.update_many(scope, stale))  # first: it may be interrupted
        else:
            vectors = await self._known_vectors(scope, there.values(), changed, model)
        moment = now()
        for batch in operations.batches(changed, _BATCH):
            values = [_values(passage, vectors, model, document.root, moment) for passage in batch]
            await self._put([scope | {"chunk": passage.chunk} for passage in batch], values, there)
        if gone:
            await operations.write(lambda: self._knowledge.delete_many(scope | {"chunk": {"$in": gone}}))
        if roots:
            root = {"$set": {"root": document.root}}
            await operations.write(lambda: self._knowledge.update_many(scope, root))
        return counts

    async def vanished(self, tenant: TenantScope, root: str, present: Collection[str]) -> list[Counts]:
        """The sources that were added from the folder `root` and are not `present` any more."""
        added = tenant.filter | {"root": root, "origin": ORIGIN}
        found = await self._group(added, {"_id": "$source", "passages": {"$sum": 1}})
        return [Counts(each["_id"], removed=each["passages"]) for each in found if each["_id"] not in present]

    async def remove(self, tenant: TenantScope, sources: Sequence[str]) -> int:
        """Delete sources, whoever wrote them; return the number of passages."""
        removed = 0
        for batch in operations.batches(sources, _BATCH):
            selector = tenant.filter | {"source": {"$in": list(batch)}}
            result = await operations.write(lambda selector=selector: self._knowledge.delete_many(selector))  # type: ignore[misc]
            removed += result.deleted_count
        return removed

    async def count_without_vector(self, tenant: TenantScope, sources: Collection[str], model: str) -> int:
        """Count the passages of these sources without a vector of this model."""
        selector = tenant.filter | {"source": {"$in": list(sources)}} | _without(model)
        return await operations.read(lambda: self._knowledge.count_documents(selector))

    async def embed(
        self,
        tenant: TenantScope,
        sources: Collection[str],
        embedder: Embedder,
        on_progress: Progress | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> int:
        """Embed the passages of these sources that have no vector; return their number.

        With an embedder that embeds a document's passages `together`, all of a source that lacks one.

        Args:
            tenant: owner of the knowledge.
            sources: to embed.
            embedder: makes the next batch while one is stored.
            on_progress: called after each batch.
            on_wait: called with the seconds before the embedder waits.

        Raises:
            EmbeddingError, AuthenticationError: embedding failed; earlier batches are stored.
        """
        from lkmongo.embed.base import prefetch
        from lkmongo.embed.vectors import stored

        selector = tenant.filter | {"source": {"$in": list(sources)}} | _without(embedder.model)
        if embedder.together:
            lacking = [each["_id"] for each in await self._group(selector, {"_id": "$source"})]
            selector = tenant.filter | {"source": {"$in": lacking}}
        shown = {"source": 1, "chunk": 1, "title": 1, "content": 1, "content_hash": 1}
        found = sorted(await self._find(selector, shown), key=lambda each: (each["source"], each["chunk"]))
        texts = [Passage(each["source"], each["chunk"], each["title"], each["content"]).embedded_text for each in found]
        lengths = runs(each["source"] for each in found)
        todo, done = list(zip(found, texts, strict=True)), 0
        async with aclosing(prefetch(embedder.embed_many(texts, documents=lengths, on_wait=on_wait))) as batches:
            async for vectors in batches:
                batch = todo[done : done + len(vectors)]
                requests = [
                    # With the hash: the passage may have changed meanwhile.
                    UpdateOne(
                        tenant.filter | {name: each[name] for name in ("source", "chunk", "content_hash")},
                        {"$set": {"embedding": stored(text, vector), "embedding_model": embedder.model}},
                    )
                    for (each, text), vector in zip(batch, vectors, strict=True)
                ]
                await operations.bulk(self._knowledge, requests)
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(found))
        return done

    async def _known_vectors(
        self, scope: Stored, there: Collection[Stored], changed: Sequence[Passage], model: str
    ) -> dict[str, Any]:
        """The vectors of `model` that passages with the same text have in the source already, by hash."""
        wanted = {content_hash(passage) for passage in changed}
        chunks = [
            each["chunk"]
            for each in there
            if each.get("content_hash") in wanted and each["has_vector"] and each.get("embedding_model") == model
        ]
        if not chunks:
            return {}
        found = await self._find(scope | {"chunk": {"$in": chunks}}, {"content_hash": 1, "embedding": 1})
        return {each["content_hash"]: each["embedding"] for each in found}

    async def _group(self, selector: Stored, group: Stored) -> list[Stored]:
        async def aggregate() -> list[Stored]:
            pipeline: list[Stored] = [{"$match": selector}, {"$group": group}, {"$sort": {"_id": 1}}]
            return await (await self._knowledge.aggregate(pipeline)).to_list()

        return await operations.read(aggregate)

    async def _find(self, selector: Stored, shown: Stored) -> list[Stored]:
        async def find() -> list[Stored]:
            return await self._knowledge.find(selector, {"_id": 0} | shown).to_list()

        return await operations.read(find)

    async def _put(self, keys: Sequence[Stored], values: Sequence[Stored], there: Collection[int]) -> None:
        """Write passages, replacing those `there`; the unique index protects those of other programs."""
        replacing = [
            UpdateOne(
                key | {"origin": ORIGIN},
                {"$set": value}
                | ({} if "embedding" in value else {"$unset": {"embedding": "", "embedding_model": ""}}),
                upsert=True,
            )
            for key, value in zip(keys, values, strict=True)
        ]
        requests = [
            replace if key["chunk"] in there else InsertOne(key | {"origin": ORIGIN} | value)
            for key, value, replace in zip(keys, values, replacing, strict=True)
        ]
        _, met = await operations.bulk(self._knowledge, requests)
        if met:  # written meanwhile by another run, or by another program
            await operations.write(lambda: self._knowledge.bulk_write([replacing[place] for place in met]))


def _values(passage: Passage, vectors: dict[str, Any], model: str, root: str | None, moment: datetime) -> Stored:
    """The fields of a passage besides its key; with its vector if that is known."""
    hashed = content_hash(passage)
    values = {"title": passage.title, "content": passage.content, "content_hash": hashed, "root": root}
    vector = {"embedding": vectors[hashed], "embedding_model": model} if hashed in vectors else {}
    return values | {"updated_at": moment} | vector | STAMP


def runs(documents: Iterable[Any]) -> list[int]:
    """How many passages follow each other of the same document, for `Embedder.embed_many`."""
    return [sum(1 for _ in same) for _, same in groupby(documents)]


def _without(model: str) -> Stored:
    return {"$or": [{"embedding_model": {"$ne": model}}, {"embedding": {"$not": {"$type": EMBEDDED}}}]}


def _batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
