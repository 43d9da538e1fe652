"""Give back what a person said in their own words after the grammar has written out contractions."""

from __future__ import annotations

from lkmongo.agent.responder.text import normalise

_LONGEST = 80


def as_said(content: str, raw: str) -> str:
    """Return the part of `raw` that normalises to `content`; `content` itself where there is none.

    "let's dance" is looked for as it was typed, although the grammar has read "let us dance".
    """
    tokens = raw.split()
    if content in raw or len(tokens) > _LONGEST:
        return content
    wanted = content.casefold()
    size = len(content.split())
    for length in range(max(1, size - 4), size + 1):
        for start in range(len(tokens) - length + 1):
            window = " ".join(tokens[start : start + length])
            if window[:1].casefold() != wanted[:1]:
                continue
            said = window.strip(" .,!?;:")
            if normalise(said).casefold() == wanted:
                return said
    return content
