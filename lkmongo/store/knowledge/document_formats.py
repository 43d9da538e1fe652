"""What a file holds becomes passages: Markdown, plain text, HTML and PDF, each read by a library made for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from lkmongo.imports import extra
from lkmongo.store.knowledge.document_pdf import pdf_passages
from lkmongo.store.knowledge.document_text import DocumentError, NoTextError, decode, lines_of, unwrap
from lkmongo.store.knowledge.passages import split_markdown, split_plain

if TYPE_CHECKING:
    from lkmongo.model import Passage

_NOT_READ = (
    "head, script, style, template, noscript, svg, iframe, nav, footer, aside, button, select, input, textarea, "
    '[hidden], [aria-hidden="true"], a.headerlink'
)


def passages_of(data: bytes, source: str) -> list[Passage]:
    """Read a document; the suffix of `source` says what it is.

    Raises:
        NoTextError: it is empty, or holds headings alone.
        DocumentError: it is not what its suffix says. The message is meant to follow the document's name.
        MissingExtraError: reading HTML or PDF is not installed.
    """
    passages = _READERS[suffix_of(source)](data, source)
    if not passages:
        raise NoTextError("holds no text" if data.strip() else "is empty")
    return passages


def suffix_of(name: str) -> str:
    """The suffix of a file's name, in small letters: `.md`."""
    return PurePosixPath(name).suffix.lower()


def is_supported(name: str) -> bool:
    """Whether a file of this name can be read."""
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
            warnings.simplefilter("ignore")  # it takes short documents for file names, and says so
            page = BeautifulSoup(data, "html.parser")
        title = " ".join(page.title.extract().get_text().split()) if page.title else ""
        body: Any = page.find("main") or page.find(role="main") or page.body or page
        for element in body.select(_NOT_READ):
            element.decompose()
        for element in body.find_all(["dt", "dd"]):
            element.name = "p"
        for element in body.find_all("summary"):
            element.name = "h6"  # the question of an answer that unfolds
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
"""What can be read."""
