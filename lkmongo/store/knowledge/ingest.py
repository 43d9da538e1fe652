"""Ingest: finds the named documents, reads them, stores their passages, and embeds those."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError, MissingExtraError
from lkmongo.model import TenantScope, clean_text
from lkmongo.regular_files import LINK, open_regular, refuse_link, walk
from lkmongo.store.knowledge.formats import SUFFIXES, DocumentError, NoTextError, is_supported
from lkmongo.store.knowledge.knowledge import Counts, Document, Knowledge
from lkmongo.store.knowledge.reader import Reader

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

MAX_BYTES = 20 * 1024 * 1024
"""Maximum size of a file."""
MAX_SOURCE = 512
"""Maximum characters of a source's name."""
STDIN = "-"
_PORTION = 1_000
"""Passages that are written before they are embedded: as many as a request of the embedder can have."""
Progress = Callable[[str, int, int], None]
"""Called with the kind of work, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to read.

    Attributes:
        path: where it is.
        source: its path below `root`.
        root: the real path of the folder that was searched, or that holds a file which the user named.
        folder: the folder that was searched; None if the user named the file.
        follow_links: whether it may be behind a symbolic link.
    """

    path: Path
    source: str
    root: str
    folder: Path | None
    follow_links: bool = False


@dataclass(slots=True)
class FoundFiles:
    """The files in the named paths.

    Attributes:
        files: readable ones, by source.
        folders: roots that were searched completely, so that absent files are known to be deleted.
        skipped: notes on files that are not documents.
        links: the sources of symbolic links that were not followed.
        problems: notes on files and folders that could not be read.
    """

    files: list[File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_documents(paths: Sequence[Path], *, follow_links: bool = False) -> FoundFiles:
    """Find documents. In folders, hidden files are skipped, and symbolic links unless they are to be followed.

    Raises:
        UsageError: a named path is a symbolic link that is not to be followed.
        DocumentError: a named path does not exist or is not a document, a named folder has no documents, or two
            different files have the same source.
    """
    found = FoundFiles()
    for path in paths:
        refuse_link(path, follow_links=follow_links)
        if path.is_dir():
            _search(path, found, follow_links=follow_links)
        else:
            found.files.append(_named(path, follow_links=follow_links))
    by_source: dict[str, File] = {}
    for file in found.files:
        other = by_source.setdefault(file.source, file)
        if other.path.resolve() != file.path.resolve():
            raise DocumentError(
                f"{_shown(other.path)} and {_shown(file.path)} would both be {file.source}",
                hint="add the folder above both, or rename one",
            )
    found.files = [by_source[source] for source in sorted(by_source)]
    return found


def read_file(file: File, reader: Reader) -> Document:
    """Read one file. The message of an error begins with the path.

    Raises:
        DocumentError: it cannot be read, is too large, takes too much to read, or does not match its suffix.
        MissingExtraError: the reader of its format is not installed.
        LkmongoError: the process that reads documents cannot be started.
    """
    name = _shown(file.path)
    try:
        with open_regular(file.path, follow_links=file.follow_links, below=file.folder) as stream:
            data = _bounded(stream)
        return Document(file.source, tuple(reader.read(data, file.source)), file.root)
    except OSError as error:
        raise DocumentError(f"{name}: cannot be read: {error.strerror}") from error
    except (DocumentError, MissingExtraError) as error:
        raise type(error)(f"{name}: {error.message}", why=error.why, hint=error.hint) from error


def read_stream(stream: BinaryIO, source: str, reader: Reader) -> Document:
    """Read a document from a stream, such as standard input, by the suffix of `source`.

    Raises:
        DocumentError: `source` is invalid, or the document cannot be read.
        MissingExtraError: the reader of its format is not installed.
        LkmongoError: the process that reads documents cannot be started.
    """
    _check_source(source)
    if not is_supported(source):
        raise DocumentError(f"{source}: its suffix names no supported format", hint=f"end it in {_listed(SUFFIXES)}")
    try:
        return Document(source, tuple(reader.read(_bounded(stream), source)))
    except (DocumentError, MissingExtraError) as error:
        raise type(error)(f"{source}: {error.message}", why=error.why, hint=error.hint) from error


def _named(path: Path, *, follow_links: bool) -> File:
    name = _shown(path)
    if not path.exists():
        raise DocumentError(f"there is no file or folder {name}", hint="check the path")
    if not path.is_file():
        raise DocumentError(f"{name} is not a regular file", hint="pipe it in, and name - and --source NAME")
    if not is_supported(path.name):
        raise DocumentError(f"{name}: this kind of file cannot be read", hint=f"it must end in {_listed(SUFFIXES)}")
    _check_source(path.name)
    return File(path, path.name, str(path.parent.resolve()), None, follow_links)


def _search(folder: Path, found: FoundFiles, *, follow_links: bool) -> None:
    root, before, troubles = str(folder.resolve()), len(found.files), len(found.problems)
    if root != clean_text(root):
        raise DocumentError(f"{_shown(folder)}: its name is not UTF-8")

    def unreadable(path: Path, error: OSError) -> None:
        found.problems.append(f"{_shown(path)}: cannot be read: {error.strerror}")

    for entry in walk(folder, unreadable, follow_links=follow_links):
        path, source = entry.path, PurePosixPath(entry.path.relative_to(folder)).as_posix()
        if entry.obstacle:
            found.skipped.append(f"{_shown(path)}: skipped, it is {entry.obstacle}")
            found.links += [source] if entry.obstacle == LINK else []
            continue
        if not is_supported(path.name):
            found.skipped.append(f"{_shown(path)}: skipped, it does not end in {_listed(SUFFIXES)}")
            continue
        try:
            _check_source(source)
        except DocumentError as error:
            found.problems.append(f"{_shown(path)}: {error.message}")
        else:
            found.files.append(File(path, source, root, folder, follow_links))
    if len(found.files) == before:
        # An unmounted disk looks like this, and must not remove what was added from it before.
        raise DocumentError(f"{_shown(folder)} has no documents", hint=f"add {_listed(SUFFIXES)} files")
    if len(found.problems) == troubles:
        found.folders.append(root)


def _check_source(source: str) -> None:
    if source != clean_text(source):
        raise DocumentError("its name is not UTF-8")
    if not source.strip() or not source.isprintable():
        raise DocumentError(f"{source!r} cannot be the name of a source")
    if len(source) > MAX_SOURCE:
        raise DocumentError(f"its name has {len(source)} characters; {MAX_SOURCE} are allowed")


def _bounded(stream: BinaryIO) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DocumentError(f"is larger than {MAX_BYTES // 1024**2} MB", hint="split it into several")
    return data


def _shown(path: Path) -> str:
    return clean_text(str(path))


def _listed(suffixes: Sequence[str]) -> str:
    return ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}"


@dataclass(slots=True)
class Library:
    """The documents to ingest, with notes on those that could not be read.

    Attributes:
        documents: by source; those without text have no passages.
        folders: roots whose absent documents are to be removed.
        present: all existing sources, readable or not.
        links: symbolic links that were not followed: what was added through them before stays.
        notes: on skipped files.
        problems: with files that could not be read.
    """

    documents: list[Document] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class IngestResult:
    """What was added.

    Attributes:
        rows: the counts of each source.
        without_vector: passages that could not be embedded.
        failure: why.
        problems: with files that could not be read.
    """

    rows: list[Counts]
    without_vector: int = 0
    failure: LkmongoError | None = None
    problems: list[str] = field(default_factory=list)


async def read_documents(
    found: FoundFiles, reader: Reader, on_progress: Progress = lambda _kind, _done, _total: None
) -> Library:
    """Read what `find_documents` found.

    Raises:
        DocumentError: a file that the user named cannot be read; for others, this becomes one of the problems.
        MissingExtraError: the reader of a format is not installed.
    """
    library = Library(
        folders=found.folders, links=found.links, notes=list(found.skipped), problems=list(found.problems)
    )
    for number, file in enumerate(found.files, 1):
        library.present.add(file.source)
        try:
            library.documents.append(await asyncio.to_thread(read_file, file, reader))
        except DocumentError as error:
            if file.folder is None:
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
    dry_run: bool = False,
    on_progress: Progress = lambda _kind, _done, _total: None,
    on_wait: Callable[[float], None] = lambda _seconds: None,
) -> IngestResult:
    """Store and embed the documents of a library, and remove those that vanished from its folders; idempotent.

    A failure to embed is part of the result: the passages are stored then, and found by words.

    Args:
        db: the database, with its unique indexes.
        tenant: owner of the knowledge.
        library: what was read.
        embedder: makes the vectors.
        dry_run: only count.
        on_progress: called after each document and each batch of vectors.
        on_wait: called with the seconds before the embedder waits.

    Raises:
        SourceTakenError: another program wrote a source with the same name; nothing is changed.
        DatabaseError: MongoDB cannot be reached, or refuses a passage.
    """
    knowledge = Knowledge(db)
    sources = [document.source for document in library.documents]
    await knowledge.check_free(tenant, sources)
    work = _IngestRun(knowledge, tenant, library, embedder, dry_run, on_progress, on_wait)
    tasks = [asyncio.create_task(work.put())] + ([] if dry_run else [asyncio.create_task(work.embed())])
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    added = work.added
    added.problems = list(library.problems)
    if added.failure:
        added.without_vector = await knowledge.count_without_vector(tenant, sources, embedder.model)
    return added


@dataclass(slots=True)
class _IngestRun:
    """Two concurrent tasks: `put` writes passages and queues their sources, `embed` adds the vectors."""

    knowledge: Knowledge
    tenant: TenantScope
    library: Library
    embedder: Embedder
    dry_run: bool
    on_progress: Progress
    on_wait: Callable[[float], None]
    added: IngestResult = field(default_factory=lambda: IngestResult([]))
    written: asyncio.Queue[list[str] | None] = field(default_factory=asyncio.Queue)
    embedded: int = 0

    async def put(self) -> None:
        rows, documents = self.added.rows, self.library.documents
        portion: list[str] = []
        passages = 0
        for number, document in enumerate(documents, 1):
            counts = await self.knowledge.put(
                self.tenant,
                document,
                self.embedder.model,
                together=self.embedder.together,
                dry_run=self.dry_run,
            )
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
            gone = [each for each in gone if not self._is_behind_link(each.source)]
            if not self.dry_run:
                await self.knowledge.remove(self.tenant, [counts.source for counts in gone])
            rows += gone
        self.written.put_nowait(None)

    def _is_behind_link(self, source: str) -> bool:
        return any(source == link or source.startswith(f"{link}/") for link in self.library.links)

    async def embed(self) -> None:
        try:
            while (portion := await self.written.get()) is not None:
                self.embedded += await self.knowledge.embed(
                    self.tenant, portion, self.embedder, self._report, self.on_wait
                )
        except (EmbeddingError, AuthenticationError) as error:
            self.added.failure = error

    def _report(self, done: int, total: int) -> None:
        """Report the total so far; it grows as passages are written."""
        self.on_progress("vectors", self.embedded + done, self.embedded + total)


def totals(rows: Sequence[Counts]) -> Counts:
    total = Counts("")
    for name in ("passages", "added", "replaced", "unchanged", "removed"):
        setattr(total, name, sum(getattr(row, name) for row in rows))
    return total
