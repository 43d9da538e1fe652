"""Add documents to a tenant's knowledge: read them all, write their passages, then give those their vectors.

Everything that is named is read before anything is written, so that a wrong name changes nothing. While the passages of
the next documents are written, those of the ones before get their vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError
from lkmongo.model import TenantScope
from lkmongo.store.knowledge.document_text import DocumentError, NoTextError
from lkmongo.store.knowledge.documents import Document, Found, read_file
from lkmongo.store.knowledge.knowledge import Counts, Knowledge

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

_PORTION = 1_000
"""Passages that are written before the embedder gets them: as many as a request may have."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(slots=True)
class Library:
    """Documents that were read, and what there is to say of those that were not.

    Attributes:
        documents: in order of their sources; one without passages had text when it was added before.
        folders: the roots from which what is no longer there is to be removed.
        present: every source that is there, readable or not.
        notes: of what was passed over.
        problems: of what could not be read and should have been.
    """

    documents: list[Document] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Added:
    """What became of each source, and how many passages are without a vector, for the reason in `failure`."""

    rows: list[Counts]
    without_vector: int = 0
    failure: LkmongoError | None = None


async def read_documents(found: Found, on_progress: Progress) -> Library:
    """Read what `find_documents` found.

    Raises:
        DocumentError: a file that was named itself cannot be read; in a folder it becomes one of the problems.
        MissingExtraError: what reads the format of one of them is not installed.
    """
    library = Library(folders=found.folders, notes=list(found.skipped), problems=list(found.problems))
    for number, file in enumerate(found.files, 1):
        library.present.add(file.source)
        try:
            library.documents.append(await asyncio.to_thread(read_file, file))
        except DocumentError as error:
            if file.named:
                raise
            if isinstance(error, NoTextError):
                library.notes.append(error.message)
                library.documents.append(Document(file.source, (), file.root))
            else:
                library.problems.append(error.message + (f" ({error.why})" if error.why else ""))
        on_progress("files", number, len(found.files))
    return library


async def add_documents(
    db: AsyncDatabase[dict[str, Any]],
    tenant: TenantScope,
    library: Library,
    embedder: Embedder,
    *,
    dry_run: bool,
    on_progress: Progress,
    on_wait: Callable[[float], None],
) -> Added:
    """Make the tenant's knowledge hold these documents as they are now; doing it again changes nothing.

    A failure to embed is part of the result: the passages are stored by then and are found by their words.

    Args:
        db: the database, with its unique indexes.
        tenant: whose knowledge it is.
        library: what was read. Sources that are no longer in its folders are removed.
        embedder: makes the vectors.
        dry_run: count, and change nothing.
        on_progress: called after each document and each batch of vectors.
        on_wait: called with the seconds for which the embedder is about to wait.

    Raises:
        SourceTakenError: a source of the same name was written by something else; nothing is changed.
        DatabaseError: MongoDB cannot be reached, or does not take a passage.
    """
    knowledge = Knowledge(db)
    sources = [document.source for document in library.documents]
    await knowledge.check_free(tenant, sources)
    work = _Adding(knowledge, tenant, library, embedder, dry_run, on_progress, on_wait)
    tasks = [asyncio.create_task(work.put())] + ([] if dry_run else [asyncio.create_task(work.embed())])
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    added = work.added
    if added.failure:
        added.without_vector = await knowledge.count_without_vector(tenant, sources, embedder.model)
    return added


@dataclass(slots=True)
class _Adding:
    """Two jobs at the same time: `put` writes passages and tells whose are written, `embed` gives them vectors."""

    knowledge: Knowledge
    tenant: TenantScope
    library: Library
    embedder: Embedder
    dry_run: bool
    on_progress: Progress
    on_wait: Callable[[float], None]
    added: Added = field(default_factory=lambda: Added([]))
    written: asyncio.Queue[list[str] | None] = field(default_factory=asyncio.Queue)
    embedded: int = 0

    async def put(self) -> None:
        rows, documents = self.added.rows, self.library.documents
        portion: list[str] = []
        passages = 0
        for number, document in enumerate(documents, 1):
            counts = await self.knowledge.put(self.tenant, document, self.embedder.model, dry_run=self.dry_run)
            if counts.passages or counts.removed:
                rows.append(counts)
            self.on_progress("documents", number, len(documents))
            portion.append(document.source)
            passages += counts.passages
            if passages >= _PORTION:
                self.written.put_nowait(portion)
                portion, passages = [], 0
        self.written.put_nowait(portion)
        for root in self.library.folders:
            gone = await self.knowledge.vanished(self.tenant, root, self.library.present)
            if not self.dry_run:
                await self.knowledge.remove(self.tenant, [counts.source for counts in gone])
            rows += gone
        self.written.put_nowait(None)

    async def embed(self) -> None:
        try:
            while (portion := await self.written.get()) is not None:
                self.embedded += await self.knowledge.embed(
                    self.tenant, portion, self.embedder, self._tell, self.on_wait
                )
        except (EmbeddingError, AuthenticationError) as error:
            self.added.failure = error

    def _tell(self, done: int, total: int) -> None:
        """Tell of all portions so far: how many passages need a vector is known when they are written."""
        self.on_progress("vectors", self.embedded + done, self.embedded + total)


def totals(rows: Sequence[Counts]) -> Counts:
    """The sum of the counts."""
    total = Counts("")
    for name in ("passages", "added", "replaced", "unchanged", "removed"):
        setattr(total, name, sum(getattr(row, name) for row in rows))
    return total
