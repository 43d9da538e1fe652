"""Markdown becomes passages: pieces of plain text, each small enough to be found, quoted and read out.

A heading begins a passage and titles it. What is longer than a passage may be is cut where a reader would pause.
"""

from __future__ import annotations

import re
from hashlib import sha256
from html import unescape
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from lkmongo.model import Passage, clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_PASSAGE = 1_200
"""Characters in a passage: about a minute and a quarter of speech."""
MAX_TITLE = 200
"""Characters in a passage's title."""

# A key must follow the first line: a document may also begin with a rule and have another one later.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=[A-Za-z_][\w -]*:).*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_NOT_SPOKEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1>|\Z)|<[^>]*>", re.DOTALL | re.IGNORECASE)
_LINE = re.compile(r"(\n)")
_SENTENCE = re.compile(r"""((?<=[.!?…])\s+|(?<=[.!?…]["'”’)\]])\s+|(?<=[。！？]))""")  # noqa: RUF001 - Chinese, Japanese
_WORD = re.compile(r"(\s+)")


def split_markdown(text: str, source: str) -> list[Passage]:
    """Split a Markdown document by its headings, and what is still too long by size.

    Args:
        text: the document. Front matter (YAML between two `---` lines at the top) is skipped.
        source: where it is from, such as `returns.md`; text above the first heading is titled by it.

    Returns:
        Passages in reading order, `chunk` counting from 0: plain text of at most `MAX_PASSAGE` characters, titled with
        the path of headings that leads to it. A heading without text makes none, so there may be no passage at all.
    """
    text = clean_text(text).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(_FRONT_MATTER.sub("", text)))
    chunks = count()
    return [
        Passage(source, next(chunks), title, content)
        for title, blocks in _sections(tree, source)
        for content in _fit(blocks)
    ]


def content_hash(passage: Passage) -> str:
    """The SHA-256 of what the embedding covers, in hex: it changes when the passage has to be embedded again."""
    return sha256(passage.embedded_text.encode()).hexdigest()


def _sections(tree: SyntaxTreeNode, source: str) -> Iterator[tuple[str, list[str]]]:
    """Pairs of a title and the blocks of text under that heading."""
    path: list[tuple[int, str]] = []
    blocks: list[str] = []
    for node in tree.children:
        if node.type != "heading":
            blocks.extend(_blocks(node))
            continue
        yield _title(path, source), blocks
        blocks = []
        level = int(node.tag[1:])
        heading = " ".join(_inline(node).split()).rstrip(":")
        path = [(above, name) for above, name in path if above < level]
        if heading:
            path.append((level, heading))
    yield _title(path, source), blocks


def _title(path: list[tuple[int, str]], source: str) -> str:
    title = ": ".join(name for _, name in path)
    if not title:
        stem = re.sub(r"[\W_]+", " ", PurePosixPath(source).stem).strip() or source
        title = stem[:1].upper() + stem[1:]
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1].rsplit(maxsplit=1)[0] + "…"


def _blocks(node: SyntaxTreeNode) -> Iterator[str]:
    """The plain text of what stands between two headings; a list, a table or a code block is one block of lines."""
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
    """A line a row that names its columns, since a listener has no header to look back to."""
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
    """The words of a paragraph: without emphasis, without a link's address, with a picture's description."""
    if node.type in {"text", "code_inline"}:
        return node.content
    if node.type in {"softbreak", "hardbreak"}:
        return " "
    if node.type == "html_inline":
        return " " if node.content.lower().startswith("<br") else ""
    return "".join(_inline(child) for child in node.children)


def _fit(blocks: Iterable[str]) -> Iterator[str]:
    """Join blocks to passages of at most MAX_PASSAGE characters and of about one length, so that no crumb is left."""
    atoms = [atom for block in blocks for atom in _atoms(block, "\n\n", (_LINE, _SENTENCE, _WORD))]
    total = sum(len(gap) + len(text) for gap, text in atoms) - len("\n\n")
    goal = total / max(1, -(-total // MAX_PASSAGE))
    passage = ""
    for gap, text in atoms:
        if passage and (len(passage) >= goal or len(passage) + len(gap) + len(text) > MAX_PASSAGE):
            yield passage
            passage = ""
        passage += gap + text if passage else text
    if passage:
        yield passage


def _atoms(text: str, gap: str, boundaries: tuple[re.Pattern[str], ...]) -> Iterator[tuple[str, str]]:
    """Pieces that fit, each with the gap before it: a long text is cut at the first kind of boundary that helps."""
    if len(text) <= MAX_PASSAGE:
        if text.strip():
            yield gap, text
        return
    if not boundaries:  # no word: a key, an address, an encoded file
        for start in range(0, len(text), MAX_PASSAGE):
            yield (gap if start == 0 else ""), text[start : start + MAX_PASSAGE]
        return
    parts = boundaries[0].split(text)
    for between, part in zip([gap, *parts[1::2]], parts[::2], strict=True):
        yield from _atoms(part, between, boundaries[1:])
