"""Converts Markdown, plain text, HTML and PDF files to passages."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from statistics import median
from typing import TYPE_CHECKING, Any

from lkmongo.errors import UsageError
from lkmongo.imports import extra
from lkmongo.store.knowledge.passages import split_markdown, split_plain

if TYPE_CHECKING:
    from lkmongo.model import Passage

logger = logging.getLogger(__name__)

_Headings = dict[int, list[tuple[int, str]]]
"""The bookmarks of a PDF by page: pairs of depth, from 0, and title."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BULLET = re.compile(r"\s*(?:[-*+\u2022\u25aa\u25e6\u2013]|\d{1,3}[.)]|\(?[a-z]\))\s")
_NARROW = 40
"""A line with fewer characters is never full, even if the others are as short: columns are wider."""
_NOT_CONTENT = (
    "head, script, style, template, noscript, svg, iframe, nav, footer, aside, button, select, input, textarea, "
    '[hidden], [aria-hidden="true"], a.headerlink'
)
_ENDS = (".", "!", "?", ":", ";", "\u2026", "\u3002")


class DocumentError(UsageError):
    """A document cannot be added."""

    code = "bad_document"


class NoTextError(DocumentError):
    """There is no text in it."""


def decode(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark. Raises DocumentError."""
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data[:8_192]:
            raise DocumentError("is not text") from error
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise DocumentError(f"is not UTF-8 (line {line}, byte {byte})", hint="save it as UTF-8") from error
    if "\0" in text:
        raise DocumentError("is not text")
    return text


def lines_of(text: str) -> list[str]:
    """Split text into lines, without trailing spaces, and without empty lines at the ends."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    filled = [place for place, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def unwrap(lines: list[str]) -> str:
    """Join the lines of paragraphs, so that passages are split between sentences, not where lines were full.

    A line continues in the next unless it is short, ends a sentence before it is full, or a list item follows.
    """
    widths = [len(line) for line in lines if line]
    most = 2 * median(widths) if widths else 0
    width = max((each for each in widths if each <= most), default=0)
    short = max(_NARROW, 0.7 * width)
    joined: list[str] = []
    continues = False
    for line in lines:
        if continues and line and not _BULLET.match(line):
            before, after = joined[-1], line.lstrip()
            hyphenated = re.search(r"[^\W\d_]-$", before) and after[0].islower()
            joined[-1] = before[:-1] + after if hyphenated else f"{before} {after}"
        else:
            joined.append(line)
        continues = len(line) >= (max(short, 0.85 * width) if line.endswith(_ENDS) else short)
    return "\n".join(joined)


def pdf_passages(data: bytes, source: str) -> list[Passage]:
    """Split a PDF by its bookmarks, if it has any, and by size.

    Raises:
        DocumentError: it is damaged, encrypted, or only contains images.
        MissingExtraError: pypdf is not installed.
    """
    with extra("pdf", "PDF"):
        from pypdf import PdfReader

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentError("is encrypted", hint="save it without a password")
        pages = [lines_of(page.extract_text()) for page in reader.pages]
    except (DocumentError, MemoryError):
        raise
    except Exception as error:  # the library raises anything for a damaged file
        raise DocumentError("cannot be read as PDF", why=f"{type(error).__name__}: {error}"[:200]) from error
    passages = split_plain(_sections(_without_running_lines(pages), _headings(reader)), source)
    if not passages:
        raise DocumentError("holds no text", why="its pages may be images", hint="run text recognition on it first")
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
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - dangling bookmarks are common, and not needed for the text
        logger.debug("the bookmarks of a PDF cannot be read: %s", error)
    return found


def _sections(pages: Sequence[Sequence[str]], headings: _Headings) -> Iterator[tuple[list[str], str]]:
    """The text under each bookmark: from the line with its title, else from the top of its page."""
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
    """A heading without its number, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", re.sub(r"^[\d.\s]+", "", text).casefold())


def _without_running_lines(pages: Sequence[list[str]]) -> list[list[str]]:
    """Drop lines that repeat at the top or bottom of most pages, ignoring digits: titles and page numbers."""
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


def passages_of(data: bytes, source: str) -> list[Passage]:
    """Read a document, by the suffix of `source`.

    Raises:
        NoTextError: it is empty, or only has headings.
        DocumentError: it does not match its suffix. The message is to be prefixed with the document's name.
        MissingExtraError: the reader of HTML or PDF is not installed.
    """
    passages = _READERS[suffix_of(source)](data, source)
    if not passages:
        raise NoTextError("holds no text" if data.strip() else "is empty")
    return passages


def suffix_of(name: str) -> str:
    """The suffix of a file name in lower case, such as `.md`."""
    return PurePosixPath(name).suffix.lower()


def is_supported(name: str) -> bool:
    return suffix_of(name) in _READERS


def _markdown(data: bytes, source: str) -> list[Passage]:
    return split_markdown(decode(data), source)


def _plain(data: bytes, source: str) -> list[Passage]:
    return split_plain([((), unwrap(lines_of(decode(data))))], source)


def _html(data: bytes, source: str) -> list[Passage]:
    with extra("html", "HTML"):
        from bs4 import BeautifulSoup
        from markdownify import MarkdownConverter

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it suspects short documents to be file names
            page = BeautifulSoup(data, "html.parser")
        title = " ".join(page.title.extract().get_text().split()) if page.title else ""
        body: Any = page.find("main") or page.find(role="main") or page.body or page
        for element in body.select(_NOT_CONTENT):
            element.decompose()
        for element in body.find_all(["dt", "dd"]):
            element.name = "p"
        for element in body.find_all("summary"):
            element.name = "h6"  # the title of a collapsible section
        if title:
            heading = page.new_tag("h1")
            heading.string = title
            body.insert(0, heading)
        markdown = MarkdownConverter(heading_style="ATX", escape_misc=True).convert_soup(body)
    except RecursionError as error:
        raise DocumentError("is nested too deeply") from error
    return split_markdown(markdown, source)


_READERS: dict[str, Callable[[bytes, str], list[Passage]]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _plain,
    ".html": _html,
    ".htm": _html,
    ".pdf": pdf_passages,
}
SUFFIXES = tuple(_READERS)
