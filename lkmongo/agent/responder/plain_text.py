"""Markdown as plain text that can be spoken."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|-])")
_PRIVATE = 0xE000
ROW = re.compile(r"[\w ]{1,40}: [^;]+(?:; [\w ]{1,40}: [^;]+)+$")
"""A row of a table that names its columns: "Speed: Express; Price: 14.95 dollars"."""


def plain(markdown: str) -> str:
    """Markdown without its marks; headings go, list items and table rows become sentences."""
    lines: list[str] = []
    for raw in re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL).splitlines():
        line = raw.strip()
        if re.match(r"#{1,6} |[-=*_]{3,}$|\|?[\s:|-]+\|[\s:|-]*$", line):
            lines.append("")
            continue
        item = re.match(r"(?:[-*+]|\d+[.)]) +", line)
        line = re.sub(r"^(?:> *)+|^(?:[-*+]|\d+[.)]) +", "", line)
        if line.startswith("|"):
            line = ", ".join(cell.strip() for cell in line.strip("|").split("|") if cell.strip())
            item = item or re.match("", line)
        if item and lines and lines[-1] and not re.search(r"[.!?:;,]$", lines[-1]):
            lines[-1] += "."
        if item or ROW.match(line):
            lines.append("")
        lines.append(
            line + ("." if item and line and not re.search(r"[.!?:;,]$", line) and raw.strip().startswith("|") else "")
        )
    # Escaped marks are put out of the way in the private use area, and back as plain characters in the end.
    text = _ESCAPED.sub(lambda match: chr(_PRIVATE + ord(match[1])), "\n".join(lines))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<[^<>\n]{1,200}>", "", text)
    text = re.sub(r"(\*\*|__|\*|`|~~)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)", r"\1", text)
    text = re.sub("[\ue000-\ue07f]", lambda match: chr(ord(match[0]) - _PRIVATE), text)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return "\n".join(part for part in paragraphs if part)
