"""PDF: text from its pages, headings from its bookmarks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from lkmongo.imports import extra
from lkmongo.store.knowledge.document_text import DocumentError, lines_of, unwrap
from lkmongo.store.knowledge.passages import split_plain

if TYPE_CHECKING:
    from lkmongo.model import Passage

logger = logging.getLogger(__name__)

_Headings = dict[int, list[tuple[int, str]]]
"""The bookmarks of a PDF: page to pairs of depth, from 0, and title."""


def pdf_passages(data: bytes, source: str) -> list[Passage]:
    """Split a PDF by its bookmarks, if it has any, and by size.

    Raises:
        DocumentError: it is damaged, encrypted, or holds pictures of text only.
        MissingExtraError: pypdf is not installed.
    """
    with extra("pdf", "PDF"):
        from pypdf import PdfReader

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("is encrypted", hint="save it without a password")
        pages = [lines_of(page.extract_text()) for page in reader.pages]
    except DocumentError:
        raise
    except Exception as error:  # the library raises whatever a damaged file makes it stumble over
        raise DocumentError("cannot be read as PDF", why=f"{type(error).__name__}: {error}"[:200]) from error
    passages = split_plain(_sections(_without_running_lines(pages), _headings(reader)), source)
    if not passages:
        raise DocumentError("holds no text", why="its pages may be pictures", hint="run text recognition on it first")
    return passages


def _headings(reader: Any) -> _Headings:
    found: _Headings = {}

    def walk(entries: Sequence[Any], depth: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                walk(entry, depth + 1)
                continue
            page, title = reader.get_destination_page_number(entry), " ".join(str(entry.title or "").split())
            if page is not None and page >= 0 and title:
                found.setdefault(page, []).append((depth, title))

    try:
        walk(reader.outline, 0)
    except Exception as error:  # noqa: BLE001 - bookmarks that lead nowhere are common; the text is there all the same
        logger.debug("the bookmarks of a PDF cannot be read: %s", error)
    return found


def _sections(pages: Sequence[Sequence[str]], headings: _Headings) -> Iterator[tuple[list[str], str]]:
    """The text under each bookmark: from the line that repeats its title, else from the top of its page."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []

    def section() -> tuple[list[str], str]:
        return [title for _, title in path], unwrap(lines)

    for number, page in enumerate(pages):
        begins: dict[int, list[tuple[int, str]]] = {}
        for depth, title in headings.get(number, []):
            at = next((at for at, line in enumerate(page) if _same(line, title)), -1)
            begins.setdefault(at, []).append((depth, title))
        for at, line in enumerate(["", *page], start=-1):
            if at in begins:
                yield section()
                lines = []
                for depth, title in begins[at]:
                    path = [*((above, name) for above, name in path if above < depth), (depth, title)]
            elif at >= 0:
                lines.append(line)
    yield section()


def _same(line: str, title: str) -> bool:
    return _bare(line) == _bare(title) != ""


def _bare(text: str) -> str:
    """What is left of a heading without its number, spaces and signs."""
    return re.sub(r"[\W_]+", "", re.sub(r"^[\d.\s]+", "", text).casefold())


def _without_running_lines(pages: Sequence[list[str]]) -> list[list[str]]:
    """Drop what stands at the top or the foot of most pages, numbers aside: titles of the book, numbers of pages."""
    kept = [list(page) for page in pages]
    for end in (0, -1):
        for _ in range(3):
            ends = [re.sub(r"\d+", "0", page[end].strip()) for page in kept if page]
            running = {line for line in ends if len(ends) > 2 and ends.count(line) * 2 > len(ends)}
            if not running:
                break
            for page in kept:
                if page and re.sub(r"\d+", "0", page[end].strip()) in running:
                    del page[end]
    return kept
