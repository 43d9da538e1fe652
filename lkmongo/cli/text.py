"""Make stored text safe to show: it comes from callers, and a terminal obeys what it is sent."""

from __future__ import annotations

import re

# Control characters but the line break, what changes the direction of text, its own line breaks, and half characters.
_HIDDEN = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, one_line: bool = False) -> str:
    r"""Return `text` with control and direction-changing characters written out, such as \x1b.

    Args:
        text: anything.
        one_line: put line breaks and tabs as spaces, for a cell of a table or of tab-separated output.
    """
    if one_line:
        text = " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
    return _HIDDEN.sub(_written, text)


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 call" and "1,000 calls"; the noun takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _written(hidden: re.Match[str]) -> str:
    code = ord(hidden[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
