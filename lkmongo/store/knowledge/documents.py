"""Find the documents that a person names, by file, by folder or on standard input, and read them within bounds.

A document's source is its path below the folder that was named, or the name of the file that was: the same whether
`docs` is added or `docs/returns.md`. Its root is that folder, so that a document that has gone from it can be told
from one that was never in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from lkmongo.errors import MissingExtraError
from lkmongo.model import Passage, clean_text
from lkmongo.store.knowledge.document_formats import SUFFIXES, is_supported, passages_of
from lkmongo.store.knowledge.document_text import DocumentError

if TYPE_CHECKING:
    from os import DirEntry

MAX_BYTES = 20 * 1024 * 1024
"""What a file may hold."""
MAX_SOURCE = 512
"""Characters in a source's name."""
STDIN = "-"


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be read; `root` is the folder its source is below, `named` whether it was named itself."""

    path: Path
    source: str
    root: str
    named: bool


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read; standard input has no root."""

    source: str
    passages: tuple[Passage, ...]
    root: str | None = None


@dataclass(slots=True)
class Found:
    """What the named paths hold.

    Attributes:
        files: what can be read, by source.
        folders: the roots that were searched whole, so that what is not there has gone.
        skipped: what is no document, each as a sentence; nothing is wrong with it.
        problems: what should have been looked at and could not, likewise.
    """

    files: list[File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_documents(paths: Sequence[Path]) -> Found:
    """Look for documents. In folders, hidden files and links to folders are passed over.

    Raises:
        DocumentError: a named path is not there or cannot be read as a document, a named folder holds none, or two
            different files have one source.
    """
    found = Found()
    for path in paths:
        if path.is_dir():
            _search(path, found)
        else:
            found.files.append(_named(path))
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


def read_file(file: File) -> Document:
    """Read one file.

    Raises:
        DocumentError: it cannot be read, is too large, or is not what its suffix says. The message begins with its
            path.
        MissingExtraError: what reads its format is not installed; the message begins so, too.
    """
    name = _shown(file.path)
    try:
        with file.path.open("rb") as stream:
            data = _bounded(stream)
        return Document(file.source, tuple(passages_of(data, file.source)), file.root)
    except OSError as error:
        raise DocumentError(f"{name}: cannot be read: {error.strerror}") from error
    except (DocumentError, MissingExtraError) as error:
        raise type(error)(f"{name}: {error.message}", why=error.why, hint=error.hint) from error


def read_stream(stream: BinaryIO, source: str) -> Document:
    """Read a document that has no file, such as standard input; the suffix of `source` says what it is.

    Raises:
        DocumentError: `source` cannot be a source, or the document cannot be read.
        MissingExtraError: what reads its format is not installed.
    """
    _check_source(source)
    if not is_supported(source):
        raise DocumentError(f"{source}: its suffix does not say what it is", hint=f"end it in {_listed(SUFFIXES)}")
    try:
        return Document(source, tuple(passages_of(_bounded(stream), source)))
    except (DocumentError, MissingExtraError) as error:
        raise type(error)(f"{source}: {error.message}", why=error.why, hint=error.hint) from error


def _named(path: Path) -> File:
    name = _shown(path)
    if not path.exists():
        raise DocumentError(f"there is no file or folder {name}", hint="check the path")
    if not path.is_file():
        raise DocumentError(f"{name} is not an ordinary file", hint="pipe it in, and name - and --source NAME")
    if not is_supported(path.name):
        raise DocumentError(f"{name}: this kind of file cannot be read", hint=f"it must end in {_listed(SUFFIXES)}")
    _check_source(path.name)
    return File(path, path.name, str(path.parent.resolve()), named=True)


def _search(folder: Path, found: Found) -> None:
    root, before, troubles = str(folder.resolve()), len(found.files), len(found.problems)
    if root != clean_text(root):
        raise DocumentError(f"{_shown(folder)}: its name is not UTF-8")
    for path in _walk(folder, found):
        source = PurePosixPath(path.relative_to(folder)).as_posix()
        if not is_supported(path.name):
            found.skipped.append(f"{_shown(path)}: skipped, it does not end in {_listed(SUFFIXES)}")
            continue
        try:
            _check_source(source)
        except DocumentError as error:
            found.problems.append(f"{_shown(path)}: {error.message}")
        else:
            found.files.append(File(path, source, root, named=False))
    if len(found.files) == before:
        # A disk that is not mounted looks like this: it is no reason to remove what was added from it before.
        raise DocumentError(f"{_shown(folder)} holds nothing that can be added", hint=f"put {_listed(SUFFIXES)} there")
    if len(found.problems) == troubles:
        found.folders.append(root)


def _walk(folder: Path, found: Found) -> Iterator[Path]:
    folders = [folder]
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                listed = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            found.problems.append(f"{_shown(current)}: cannot be read: {error.strerror}")
            continue
        for entry in sorted(listed, key=lambda each: each.name):
            path = current / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif note := _unfit(entry):
                found.skipped.append(f"{_shown(path)}: skipped, it is {note}")
            else:
                yield path


def _unfit(entry: DirEntry[str]) -> str | None:
    """Why an entry is not looked into; a link to a folder might lead in circles."""
    try:
        if entry.is_file():
            return None
        return "a link to a folder" if entry.is_dir() else "a broken link" if entry.is_symlink() else "no ordinary file"
    except OSError:  # a link to itself
        return "a broken link"


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
