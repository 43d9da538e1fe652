"""What callers say about who they are: a name of their own, that they are somebody else, or a name at all.

One turn of a caller is compared with names that are recorded. The rule is to rather miss a claim than to make one: who
is missed is asked again, and who is mistaken hears what is somebody else's. So a name counts in a form that claims it
("this is", "speaking"), or alone as an answer, and a word too many on either side is enough for it not to count; one
that is denied, owned, asked for, quoted, or said of somebody else counts nowhere in that turn.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from lkmongo import naming_words as of
from lkmongo.naming_patterns import (
    NAME,
    OTHER,
    OWNED,
    SYMBOLS,
    WHOLE,
    claims,
    denies_name,
    in_question,
    is_guarded,
    is_wrong,
)

MOST = 2_000
"""Characters of a turn from which on it says nothing about who is speaking."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")
_QUOTED = re.compile("[\"“”„«»][^\"“”„«»]*[\"“”„«»]|(?<!\\w)'[^']*'(?!\\w)")
_ACCENTS = re.compile("[\u0300-\u036f]")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "\u0131": "i"})
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_UNPUNCTUATED = {"isnt": "is", "arent": "are", "wasnt": "was", "aint": "is", "dont": "do", "doesnt": "does"}


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    spellings: frozenset[str]
    is_capital: bool
    owns: bool = False
    end: str = ""
    """The punctuation that follows: a comma, a full stop or a question mark."""


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    end: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn in the form that the patterns read, and where the name stands among its words."""

    form: str
    mentions: Sequence[_Mention]


def claimed(words: str, names: Sequence[str]) -> int | None:
    """Which of the recorded names the caller says is theirs.

    Args:
        words: one turn of the caller, as it was transcribed.
        names: names as they are in profiles, such as "Dr. Anna-Lena Meyer".

    Returns:
        The index of the one name; None if they claim none, or one that several have.
    """
    if len(words) > MOST:
        return None
    spoken = _words(words)
    found: dict[int, tuple[int, set[int]]] = {}
    for index, name in enumerate(names):
        turn = _turn(spoken, name)
        if turn.mentions and claims(turn.form) and not is_guarded(turn.form):
            longest = max(each.end - each.start for each in turn.mentions)
            found[index] = longest, {at for each in turn.mentions for at in range(each.start, each.end)}
    if not found:
        return None
    longest = max(length for length, _ in found.values())
    best = [index for index, (length, _) in found.items() if length == longest]
    if len(best) > 1 or any(not places & found[best[0]][1] for _, places in found.values()):
        return None  # the same name, or two claims in one turn
    return best[0]


def denies(words: str, names: Sequence[str]) -> bool:
    """Whether the caller says that they are not who they are taken for.

    That is: not one of these people, reached by mistake, or not on their own telephone. Somebody may deny one name and
    claim another in the same turn, so ask `claimed` first.

    Args:
        words: one turn of the caller, as it was transcribed.
        names: the recorded names of whom they may have been taken for.
    """
    if len(words) > MOST:
        return False
    spoken = _words(words)
    forms = [_turn(spoken, name).form for name in names] or [_turn(spoken, "").form]
    return any(is_wrong(form) or denies_name(form) for form in forms)


def name_said(words: str, name: str) -> bool:
    """Whether this name, which a model wants to note, stands in the caller's words as their own may.

    It need not be claimed in a form that is known here, but it counts for nothing if it is denied, owned, asked for,
    quoted, or said of somebody else.
    """
    turn = _turn(_words(words[:MOST]), name, exact=True)
    if not turn.mentions or is_guarded(turn.form):
        return False
    return claims(turn.form) or not in_question(turn.form)


def _fold(text: str) -> str:
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS)))


def _spellings(text: str) -> frozenset[str]:
    """Without accents, and as German writes them out: "Müller" is "Muller" and "Mueller"."""
    return frozenset({_fold(text), _fold(text.casefold().translate(_UMLAUTS))})


def _words(text: str) -> list[_Word]:
    plain = re.sub("[\u2019\u02bc\u2018`\u00b4]", "'", unicodedata.normalize("NFKC", text))
    plain = _QUOTED.sub(" , xquotedx , ", plain)
    found: list[_Word] = []
    spots = list(_WORD.finditer(plain))
    for spot, after in zip_longest(spots, spots[1:]):
        between = plain[spot.end() : after.start() if after else len(plain)]
        parts = list(_split(spot[0]))
        *first, last = parts
        is_short = last.text in of.TITLES or (len(last.text) == 1 and last.text != "i")
        end = "" if is_short and between.strip() == "." else _end(between)
        found += [*first, replace(last, end=end)]
    return [_without_ending(word, after) for word, after in zip_longest(found, found[1:])]


def _without_ending(word: _Word, after: _Word | None) -> _Word:
    """A word that may be a genitive without its apostrophe, as in German, is that name as well."""
    if after is None or word.end or not word.text.endswith("s") or after.text not in of.RELATIONS | of.NUMBERS:
        return word
    return replace(word, spellings=word.spellings | {each.removesuffix("s") for each in word.spellings})


def _end(between: str) -> str:
    if "?" in between:
        return "?"
    if re.search(r"[.!…\n]", between):
        return "."
    return "," if re.search(r"[,;:\u2014\u2013()]|\s-+\s", between) else ""


def _split(raw: str) -> Iterator[_Word]:
    """The words in a contraction: "I'm" is two, "Robin's" one that owns."""
    lowered, is_capital = raw.casefold(), raw[:1].isupper()

    def word(text: str, *, owns: bool = False) -> _Word:
        return _Word(_fold(text), _spellings(text), is_capital, owns)

    if "'" not in lowered:
        base = _UNPUNCTUATED.get(lowered)
        yield from (word(base), word("not")) if base else (word(lowered),)
        return
    first, _, rest = lowered.partition("'")
    head, _, tail = lowered.rpartition("'")
    written_out = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
    if lowered.endswith("n't"):
        yield from (word(lowered[:-3]), word("not"))
    elif first in of.ELISIONS and rest:
        yield from (word(first), *_split(rest if not is_capital else raw[len(first) + 1 :]))
    elif tail in written_out and head.isalpha():
        yield from (word(head), word(written_out[tail]))
    elif tail == "s":
        if head in of.CLITICS:
            yield from (word(head), word("is"))
        elif head in of.GERMAN_ES:
            yield from (word(head), word("es"))
        else:
            yield word(head.replace("'", ""), owns=True)
    else:
        yield word(lowered.replace("'", ""), owns=not tail and lowered[-2:-1] in {"s", "x", "z", "ß"})


_Part = tuple[tuple[frozenset[str], ...], int]
"""The words of a part of a name, and how many of them may be left out before."""


def _parts(name: str) -> list[_Part]:
    """First name, further names, last name; titles are none, and particles go with what they stand before."""
    before, comma, after = name.partition(",")
    if comma and after.strip():
        name = f"{after} {before}"
    parts: list[_Part] = []
    particles: list[frozenset[str]] = []
    for piece in name.replace(".", ". ").split():
        words = [each.spellings for each in _words(piece.replace("'s", "'s "))]
        text = _fold(piece.strip(".,"))
        if not words or text in of.TITLES or (parts and text in of.SUFFIXES):
            continue
        if parts and text in of.PARTICLES:
            particles += words
            continue
        parts.append(((*particles, *words), len(particles)))
        particles = []
    return parts


def _turn(words: Sequence[_Word], name: str, *, exact: bool = False) -> _Turn:
    """The turn as the patterns read it; with `exact`, a name counts as a whole only."""
    parts = _parts(name)
    mentions = list(_mentions(words, parts, exact=exact)) if parts else []
    atoms: list[str] = []
    at = 0
    for mention in [*mentions, None]:
        until = mention.start if mention else len(words)
        for place in range(at, until):
            word = words[place]
            if (
                mention
                and _are_titles(words[place:until])
                and (not place or words[place - 1].text not in of.MINE | of.THEIRS)
            ):
                continue  # "Frau Meyer" is her name, "meine Frau Meyer" is somebody else
            atoms += [word.text + ("'s" if word.owns else ""), word.end]
        if mention is None:
            break
        atoms += [_atom(words, mention, len(parts)), words[mention.end - 1].end]
        at = mention.end
    form = " ".join(filter(None, atoms))
    form = form if form.endswith((".", "?")) else f"{form} ."
    for pattern, symbol in SYMBOLS:
        form = pattern.sub(symbol, form)
    return _Turn(form, mentions)


def _are_titles(words: Sequence[_Word]) -> bool:
    return all(word.text in of.TITLES and not word.end for word in words)


def _atom(words: Sequence[_Word], mention: _Mention, parts: int) -> str:
    last = words[mention.end - 1]
    after = words[mention.end] if mention.end < len(words) and not last.end else None
    if last.owns or (last.text.endswith("s") and after and after.text in of.RELATIONS | of.NUMBERS):
        return OWNED
    if mention.is_whole:
        return WHOLE
    is_other = after is not None and after.is_capital and last.is_capital and after.text not in of.KNOWN and parts > 1
    return OTHER if is_other else NAME


def _mentions(words: Sequence[_Word], parts: Sequence[_Part], *, exact: bool) -> Iterator[_Mention]:
    at = 0
    while at < len(words):
        found = _longest(words, at, parts)
        if found is None:
            at += 1
            continue
        end, used = found
        # "Fletcher, Robin Fletcher", and "Fletcher, Robin"
        while end < len(words) and (more := _longest(words, end, parts)) and not words[end - 1].owns:
            end, used = more[0], used | more[1]
        if len(parts) == 1 and not exact and _has_further_name(words, end):
            end += 1
        is_whole = {0, len(parts) - 1} <= used
        if not exact or used == set(range(len(parts))):
            yield _Mention(at, end, is_whole and (len(parts) > 1 or end - at > 1))
        at = end


def _has_further_name(words: Sequence[_Word], end: int) -> bool:
    """Whether a last name follows, of somebody who is recorded by the first one only."""
    if end >= len(words) or words[end - 1].end or words[end - 1].owns:
        return False
    after = words[end]
    return (
        bool(after.end or end == len(words) - 1) and after.is_capital and not after.owns and after.text not in of.KNOWN
    )


def _longest(words: Sequence[_Word], at: int, parts: Sequence[_Part]) -> tuple[int, set[int]] | None:
    """Where a name that begins here ends, and which parts it has: the first or the last one, or several in order."""
    best: tuple[int, set[int]] | None = None
    for first in range(len(parts)):
        end, used = at, set[int]()
        for number in range(first, len(parts)):
            if used and (words[end - 1].end or words[end - 1].owns):
                break
            if (length := _length(words, end, parts[number], is_first=number == 0)) == 0:
                if number == first:
                    break
                continue
            end, used = end + length, used | {number}
        is_name = len(used) > 1 or used <= {0, len(parts) - 1}
        if used and is_name and (best is None or end > best[0]):
            best = end, used
    return best


def _length(words: Sequence[_Word], at: int, part: _Part, *, is_first: bool) -> int:
    """How many words a part of a name takes from here; 0 if it is not there."""
    spelled, optional = part
    tries = [spelled, spelled[optional:]] if optional else [spelled]
    if len(spelled) > 1 and not optional:
        tries.append((frozenset({"".join(map(min, spelled))}),))  # "Annalena" for "Anna-Lena"
        tries += [spelled[:1]] if is_first else []  # "Anna"
    for tried in tries:
        these = words[at : at + len(tried)]
        is_there = len(these) == len(tried) and all(
            word.spellings & each for word, each in zip(these, tried, strict=True)
        )
        if is_there and not any(word.end or word.owns for word in these[:-1]):
            return len(tried)
    return 0
