"""Add documents to a tenant's knowledge: read them all, write their passages, then give those their vectors.

Everything that is named is read before anything is written, so that a wrong name changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError
from lkmongo.model import Tenant
from lkmongo.store.document_text import DocumentError, NoTextError
from lkmongo.store.documents import Document, Found, read_file
from lkmongo.store.knowledge import Counts, Knowledge

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

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
    tenant: Tenant,
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
    rows = []
    for number, document in enumerate(library.documents, 1):
        rows.append(await knowledge.put(tenant, document, embedder.model, dry_run=dry_run))
        on_progress("documents", number, len(sources))
    gone = [counts for root in library.folders for counts in await knowledge.vanished(tenant, root, library.present)]
    if not dry_run:
        await knowledge.remove(tenant, [counts.source for counts in gone])
    added = Added([counts for counts in rows if counts.passages or counts.removed] + gone)
    if dry_run:
        return added
    try:
        await knowledge.embed(
            tenant, sources, embedder, lambda done, total: on_progress("vectors", done, total), on_wait
        )
    except (EmbeddingError, AuthenticationError) as error:
        added.failure = error
        added.without_vector = await knowledge.count_without_vector(tenant, sources, embedder.model)
    return added


def totals(rows: Sequence[Counts]) -> Counts:
    """The sum of the counts."""
    total = Counts("")
    for name in ("passages", "added", "replaced", "unchanged", "removed"):
        setattr(total, name, sum(getattr(row, name) for row in rows))
    return total
