"""The phrases of `phrases.toml`: data that is read once, for status lines and for telling questions from courtesies."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lkmongo.search.words import fold, stem, words

DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Language:
    """What is said in one language; see the head of `phrases.toml`."""

    names: tuple[str, ...]
    wait: tuple[str, ...]
    polite: tuple[str, ...]
    telling: tuple[str, ...]


@cache
def languages() -> dict[str, Language]:
    """Every language of the table by its two letters."""
    table = tomllib.loads(files("lkmongo.agent").joinpath("phrases.toml").read_text(encoding="utf-8"))
    return {code: Language(**{name: tuple(said) for name, said in entry.items()}) for code, entry in table.items()}


def language_code(preferred: str | None) -> str:
    """The two letters of a language as it stands in a profile, "Deutsch" or "de-AT"; English when it is not known."""
    text = " ".join((preferred or "").casefold().split())
    tag = re.match(r"([a-z]{2})(?:[-_]|$)", text)
    if tag and tag[1] in languages():
        return tag[1]
    first = re.split(r"[,;/(]", text)[0].strip()
    return next((code for code, each in languages().items() if first in each.names), DEFAULT)


@cache
def polite_stems() -> frozenset[str]:
    """The stems of the words that ask for nothing, of all languages."""
    return frozenset(stem(word) for each in languages().values() for said in each.polite for word in words(said))


@cache
def telling() -> re.Pattern[str]:
    """Matches the beginning of a folded sentence that tells something."""
    openings = {fold(said) for each in languages().values() for said in each.telling}
    return re.compile(rf"(?:{'|'.join(re.escape(each) for each in sorted(openings, key=len, reverse=True))})\b")
