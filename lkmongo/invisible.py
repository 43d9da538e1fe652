"""Characters that a text may hold and nobody sees: escaped where people read, left out of what a model reads."""

from __future__ import annotations

import re

_CONTROLS = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""DEL and C1 controls, characters that change the direction of text, and Unicode's line separators."""

# Besides these the C0 controls without the line break, and surrogates.
_HIDDEN = re.compile(f"[\0-\x09\x0b-\x1f{_CONTROLS}\ud800-\udfff]")
_IN_JSON = re.compile(f"[{_CONTROLS}]")
# Unicode's Default_Ignorable_Code_Point, with what else is drawn as nothing: fillers, the braille blank, annotations.
_UNSEEN = re.compile(
    f"[\0-\x08\x0b-\x1f{_CONTROLS}\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f"
    "\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# They join letters of Persian and parts of an emoji, one at a time; a row of them spells something.
_JOINERS = re.compile("[\u200c\u200d\ufe0f]{2,}")
_JOINED = re.compile("\ufe0f?[\u200c\u200d]?")


def visible(text: str, *, one_line: bool = False) -> str:
    r"""Escape control and direction-changing characters, such as \x1b.

    `one_line` replaces line breaks and tabs with spaces, for tables and tab-separated output.
    """
    if one_line:
        text = " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
    return _HIDDEN.sub(_escaped, text)


def safe_json(text: str) -> str:
    """JSON with escapes for what it may hold as it is, but a terminal or an editor interprets; it means the same."""
    return text if text.isascii() and "\x7f" not in text else _IN_JSON.sub(_escaped_in_json, text)


def without_unseen(text: str) -> str:
    """The text without what nobody sees in it."""
    return _JOINERS.sub(lambda row: _JOINED.match(row[0])[0], _UNSEEN.sub("", text))  # type: ignore[index]


def _escaped(hidden: re.Match[str]) -> str:
    code = ord(hidden[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escaped_in_json(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"
