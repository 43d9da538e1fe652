"""Make stored text safe to show: it comes from callers, and a terminal obeys what it is sent."""

from __future__ import annotations

import unicodedata

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_KEPT = {"\n"}


def visible(text: str, *, one_line: bool = False) -> str:
    r"""Return `text` with control and direction-changing characters written out, such as \x1b.

    Args:
        text: anything.
        one_line: put line breaks and tabs as spaces, for a cell of a table or of tab-separated output.
    """
    if one_line:
        text = " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
    return "".join(char if char in _KEPT or not _hidden(char) else _written(char) for char in text)


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 call" and "1,000 calls"; the noun takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or ord(char) in _BIDI


def _written(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
