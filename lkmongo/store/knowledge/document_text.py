"""Text as it comes out of files: decoded strictly, and its lines joined to paragraphs."""

from __future__ import annotations

import re
from statistics import median

from lkmongo.errors import UsageError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BULLET = re.compile(r"\s*(?:[-*+\u2022\u25aa\u25e6\u2013]|\d{1,3}[.)]|\(?[a-z]\))\s")
_NARROW = 40
"""Characters below which no line is full, be the others as short: the columns of a page are wider."""
_ENDS = (".", "!", "?", ":", ";", "\u2026", "\u3002")


class DocumentError(UsageError):
    """A document cannot be added."""

    code = "bad_document"


class NoTextError(DocumentError):
    """There is no text in it."""


def decode(data: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if it says so.

    Raises:
        DocumentError: it is in another encoding, or no text at all.
    """
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
    """Cut text into lines, without spaces at their ends and without empty ones at its ends."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    filled = [place for place, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def unwrap(lines: list[str]) -> str:
    """Join the lines of paragraphs, so that a long one is cut between sentences and not where a line was full.

    A line goes on in the next unless it is short, ends with a sentence before it is full, or a list's item follows.
    """
    widths = [len(line) for line in lines if line]
    width = max((each for each in widths if each <= 2 * median(widths)), default=0)
    short = max(_NARROW, 0.7 * width)
    joined: list[str] = []
    goes_on = False
    for line in lines:
        if goes_on and line and not _BULLET.match(line):
            before, after = joined[-1], line.lstrip()
            hyphenated = re.search(r"[^\W\d_]-$", before) and after[0].islower()
            joined[-1] = before[:-1] + after if hyphenated else f"{before} {after}"
        else:
            joined.append(line)
        goes_on = len(line) >= (max(short, 0.85 * width) if line.endswith(_ENDS) else short)
    return "\n".join(joined)
