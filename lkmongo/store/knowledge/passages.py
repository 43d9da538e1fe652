"""Splits documents into passages: pieces of plain text, small enough to be searched, quoted and read out.

A heading starts a passage and is its title. Longer text is split where a reader would pause.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from html import unescape
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from lkmongo.model import Passage, clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_PASSAGE = 1_200
"""Maximum characters of a passage: about 75 seconds of speech."""
MAX_TITLE = 200
"""Maximum characters of a passage's title."""
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_PAUSES = (
    re.compile(r"\n[^\S\n]*\n"),
    re.compile(r"\n"),
    re.compile(
        r"(?:(?<=[.!?\u2026])|(?<=[.!?\u2026][\"'\u201d\u2019\u00bb)\]]))\s++(?![a-z])"
        r"|(?<=[\u3002\uff01\uff1f])(?![\u201d\u2019\u300d\u300f\uff09])|(?<=[\u3002\uff01\uff1f][\u201d\u2019\u300d\u300f\uff09])"
    ),
    re.compile(r"\s"),
)
"""Where a reader would pause, in order of preference: after a block, a line, a sentence, a word."""

# A key must follow the first line, as a document may also begin with a horizontal rule.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=[A-Za-z_][\w -]*:).*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_FRONT_TITLE = re.compile(r"^title:[ \t]+([\"']?)(?P<title>[^\s\"'|>].*?)\1[ \t]*$", re.MULTILINE)
_NOT_SPOKEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1>|\Z)|<[^>]*>", re.DOTALL | re.IGNORECASE)


def split_markdown(text: str, source: str) -> list[Passage]:
    """Split a Markdown document by headings, then by size.

    Args:
        text: the document. Front matter (YAML between two `---` lines at the top) is skipped, except for its title,
            which counts as a top-level heading.
        source: such as `returns.md`; the title of text above the first heading.

    Returns:
        Passages in reading order, `chunk` counting from 0: plain text of at most `MAX_PASSAGE` characters, titled with
        the path of headings. Headings without text make no passage.
    """
    text = clean_text(text).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT_MATTER.match(text)
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(text[front.end() :] if front else text))
    title = _FRONT_TITLE.search(front[0]) if front else None
    return _passages(_sections(tree, source, title["title"] if title else ""), source)


def split_plain(sections: Iterable[tuple[Sequence[str], str]], source: str) -> list[Passage]:
    """Split text without markup by size.

    Args:
        sections: pairs of a path of headings, may be empty, and a text with paragraphs separated by empty lines.
        source: the title of text without a heading.

    Returns:
        Passages like those of `split_markdown`.
    """
    blocks = (
        (_title(path, source), [part.strip("\n") for part in _EMPTY_LINES.split(clean_text(text)) if part.strip()])
        for path, text in sections
    )
    return _passages(blocks, source)


def content_hash(passage: Passage) -> str:
    """The SHA-256 of the embedded text, in hex."""
    return sha256(passage.embedded_text.encode()).hexdigest()


def _passages(sections: Iterable[tuple[str, Iterable[str]]], source: str) -> list[Passage]:
    chunks = count()
    return [Passage(source, next(chunks), title, content) for title, blocks in sections for content in _fit(blocks)]


def _sections(tree: SyntaxTreeNode, source: str, title: str) -> Iterator[tuple[str, list[str]]]:
    """Pairs of a title and the blocks of text under its heading."""
    path: list[tuple[int, str]] = [(1, title)] if title else []
    blocks: list[str] = []
    for node in tree.children:
        if node.type != "heading":
            blocks.extend(_blocks(node))
            continue
        yield _title([name for _, name in path], source), blocks
        blocks = []
        level = int(node.tag[1:])
        heading = " ".join(_inline(node).split()).rstrip(":")
        path = [(above, name) for above, name in path if above < level]
        if heading:
            path.append((level, heading))
    yield _title([name for _, name in path], source), blocks


def _title(path: Sequence[str], source: str) -> str:
    title = ": ".join(path)
    if not title:
        stem = re.sub(r"[\W_]+", " ", PurePosixPath(source).stem).strip() or source
        title = stem[:1].upper() + stem[1:]
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1].rsplit(maxsplit=1)[0] + "…"


def _blocks(node: SyntaxTreeNode) -> Iterator[str]:
    """Blocks of plain text; a list, a table or a code block is one block."""
    if node.type in {"fence", "code_block"}:
        text = node.content.strip("\n")
    elif node.type in {"bullet_list", "ordered_list"}:
        text = "\n".join(_list_lines(node))
    elif node.type == "table":
        text = "\n".join(_table_lines(node))
    elif node.type == "html_block":
        lines = unescape(_NOT_SPOKEN.sub(" ", node.content)).split("\n")
        text = "\n".join(" ".join(line.split()) for line in lines if line.strip())
    elif node.type == "blockquote":
        for child in node.children:
            yield from _blocks(child)
        return
    else:
        text = _inline(node).strip()
    if text.strip():
        yield text.rstrip()


def _list_lines(node: SyntaxTreeNode) -> Iterator[str]:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
    for number, item in enumerate(node.children, first or 0):
        marker = "- " if first is None else f"{number}. "
        lines = [line for child in item.children for block in _blocks(child) for line in block.split("\n")]
        for place, line in enumerate(lines):
            yield (marker if place == 0 else " " * len(marker)) + line


def _table_lines(node: SyntaxTreeNode) -> Iterator[str]:
    """A line per row with the names of the columns, as a listener cannot see the header."""
    header, *body = [
        [_inline(cell).strip() for cell in row.children] for part in node.children for row in part.children
    ]
    if not body:
        yield "; ".join(name for name in header if name)
    for row in body:
        cells = [f"{name}: {cell}" if name else cell for name, cell in zip(header, row, strict=False) if cell]
        if cells:
            yield "; ".join(cells).rstrip(".") + "."


def _inline(node: SyntaxTreeNode) -> str:
    """The text of a paragraph, without emphasis and addresses of links, with descriptions of images."""
    if node.type in {"text", "code_inline"}:
        return node.content
    if node.type in {"softbreak", "hardbreak"}:
        return " "
    if node.type == "html_inline":
        return " " if node.content.lower().startswith("<br") else ""
    return "".join(_inline(child) for child in node.children)


def _fit(blocks: Iterable[str]) -> Iterator[str]:
    """Join blocks to passages of at most MAX_PASSAGE characters and of similar length."""
    text = "\n\n".join(blocks)
    start = 0
    while start < len(text):
        end = _end(text, start)
        # Strip line breaks, but not the indentation of code.
        if passage := _BLANK_LINES.sub("", text[start:end]).rstrip():
            yield passage
        start = end


def _end(text: str, start: int) -> int:
    """The end of the passage that begins at `start`: a pause near an even share of the remaining text."""
    left = len(text) - start
    if left <= MAX_PASSAGE:
        return len(text)
    goal = start + -(-left // -(-left // MAX_PASSAGE))
    for pause in _PAUSES:
        # One more character, which may be the space after the pause.
        ends = [match.end() for match in pause.finditer(text, start + MAX_PASSAGE // 4, start + MAX_PASSAGE + 1)]
        ends = [end for end in ends if end - start <= MAX_PASSAGE or text[end - 1].isspace()]
        if ends:
            return next((end for end in ends if end >= goal), ends[-1])
    end = goal
    while end > start and unicodedata.category(text[end]).startswith("M"):  # an accent stays with its letter
        end -= 1
    return end if end > start else goal
