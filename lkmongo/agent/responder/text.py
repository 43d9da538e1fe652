"""From what was typed or transcribed to plain words: quotes, contractions, slips of spelling, labels."""

from __future__ import annotations

import re
import unicodedata

from lkmongo.agent.responder.vocabulary import STOP_WORDS, word_set
from lkmongo.errors import InvalidTextError
from lkmongo.model import MAX_CONTENT, MAX_LABEL, clean_text, slot_name

_I = re.IGNORECASE
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "\u2026": "..."})

_EXPANSIONS = [
    (re.compile(pattern, _I), replacement)
    for pattern, replacement in (
        (r"\b(?:i'm|im|i'am)\b", "I am"),
        (r"\b(i|you|we|they)'?ve\b", r"\1 have"),
        (r"\b(you|we|they)'re\b|\b(you|they)re\b", r"\1\2 are"),
        (r"\b(i|you|he|she|we|they)'d\b|\b(you|they)d\b", r"\1\2 would"),
        (r"\bid(?= (?:like|love|rather|prefer|appreciate|want|be happy)\b)", "I would"),
        (r"\b(i|you|he|she|it|we|they|that)'ll\b|\b(you|they)ll\b", r"\1\2 will"),
        (r"\b(what|where|when|who|how|why|that|there|here|it|he|she|name)'s\b", r"\1 is"),
        (r"\b(what|where|when|who|how|that)s\b", r"\1 is"),
        (r"^its\b", "it is"),
        (r"\b(what|where|when|who|how|why)'re\b", r"\1 are"),
        (r"\blet'?s\b(?= (?:talk|speak|chat|switch|use|go|do|see|start|try|continue))", "let us"),
        (r"\bwo(?:n't|nt)\b", "will not"),
        (r"\b(?:can't|cant|can not)\b", "cannot"),
        (r"\bain'?t\b", "is not"),
        (
            r"\b(do|does|did|is|are|was|were|has|have|had|would|could|should|must)(?:n't|nt)\b",
            r"\1 not",
        ),
        (r",?\s+(?:um+|uh+|uhm+|erm+|hmm+)\b[,.]*(?=\s+\S)", ""),
        (r"^(?:um+|uh+|uhm+|erm+|hmm+)\b[,.]*\s+", ""),
        (r"\b(my [\w ]{1,30}?)'s (?=(?:on|in|at|an?|the|called|named|from|not|\d\w*)\b)", r"\1 is "),
        (r"\bwanna\b", "want to"),
        (r"\bgonna\b", "going to"),
        (r"\bgotta\b", "got to"),
        (r"\blemme\b", "let me"),
        (r"\bgimme\b", "give me"),
        (r"\b(?:dunno)\b", "do not know"),
        (r"\b(?:pls|plz|plse)\b", "please"),
        (r"\b(?:thx|tnx|thanx|ty|tysm)\b", "thanks"),
        (r"\bur\b", "your"),
        (r"(?<!\b\w )\bu\b(?! \w\b)", "you"),
        (r"\br u\b|\br you\b", "are you"),
        (r"\b(?:wat|wut|waht|whta)\b", "what"),
        (r"\b(?:abt|abut)\b", "about"),
        (r"\b(?:cuz|coz)\b", "because"),
        (r"\btime[ -]zone(s?)\b", r"timezone\1"),
        (r"\be[ -]mail(s?)\b", r"email\1"),
        (r"\b(fav|fave)\b", "favorite"),
        (r"\bbday\b", "birthday"),
        (r"\bappt\b", "appointment"),
    )
]
_MISSPELT = {
    "remember": "rember remmeber rembember remeber rememeber remmber remembr",
    "forget": "foget forgt froget forgett",
    "favorite": "favorit favrite favourit favorate faverite favoirte",
    "order": "ordr oder roder",
    "status": "staus statsu satus",
    "email": "emial eamil emal",
    "address": "adress addres adres",
    "receive": "recieve",
    "received": "recieved",
    "where": "wher whre",
    "allergic": "alergic allergc",
    "please": "pleas plese plase",
}
_TRIGGERS = word_set(
    "remember forget delete remove favorite favourite status address language timezone birthday anniversary allergic "
    "allergy prefer package delivery return refund policy warranty shipping shipment memories knowledge name"
)
_NEVER_A_SLIP = word_set(
    """forgets forged forged returns refunds forgot forgotten remembers remembered removed removes deleted deletes deleter deleted
    preferred prefers packages packed packaged allergies allergens addressed addresses languages favorites favourites
    birthdays policies police refined remote removal dated elate relate forge statue statues states stats returned
    stratus shopping chipping skipping slipping whipping package deliver delivered refunded refuse refute reform"""
)
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*", re.UNICODE)


def rx(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that is written over several lines: breaks and indents go, spaces mean themselves."""
    return re.compile(re.sub(r"\s*\n\s*", "", pattern), _I)


def normalise(raw: str) -> str:
    """Return one line of plain text: straight quotes, contractions written out, frequent slips of spelling mended."""
    text = unicodedata.normalize("NFKC", clean_text(raw))[: 2 * MAX_CONTENT].translate(_QUOTES)
    text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split())[:MAX_CONTENT]
    for pattern, replacement in _EXPANSIONS:
        text = pattern.sub(replacement, text)
    return re.sub(r"\b[a-z]{4,}\b", lambda match: _mend(match[0]), text)


_SLIPS = {slip: word for word, slips in _MISSPELT.items() for slip in slips.split()}


def _mend(word: str) -> str:
    if word in _SLIPS:
        return _SLIPS[word]
    if len(word) < 6 or word in _TRIGGERS or word in _NEVER_A_SLIP:
        return word
    from rapidfuzz.distance import OSA

    for trigger in sorted(_TRIGGERS):
        # One slip in a long word whose first letter is right: "shipping" is not "shopping" with a slip.
        if trigger[0] == word[0] and len(trigger) > 6 and OSA.distance(word, trigger, score_cutoff=1) <= 1:
            return trigger
    return word


def words(text: str) -> list[str]:
    """The words of a text in lower case, without possessive endings."""
    return [re.sub(r"'s?$", "", word.casefold()) for word in _WORD.findall(text)]


def fit_label(label: str) -> str:
    """A label as the store will have it, cut between words to 64 characters; empty when nothing is left of it."""
    for kept in (label, label[:MAX_LABEL].rpartition("_")[0], label[: MAX_LABEL // 4]):
        try:
            return slot_name(kept)
        except InvalidTextError:
            continue
    return ""


def content_words(text: str) -> list[str]:
    """The words that carry meaning."""
    return [word for word in words(text) if word not in STOP_WORDS]


def label_of(text: str, limit: int = 8, *, prefix: str = "") -> str:
    """A memory's label from a noun phrase: at most `limit` words that carry meaning, or any when none does.

    Returns:
        Snake case of at most 64 characters; empty when the text has no word at all.
    """
    chosen = content_words(text)[:limit] or words(text)[:limit]
    label = ""
    for word in [*prefix.split(), *chosen]:
        longer = f"{label}_{word.replace('-', '_')}".strip("_")
        if len(longer.encode("utf-16-le")) // 2 > MAX_LABEL or len(longer) > MAX_LABEL:
            break
        label = longer
    return label or (chosen[0][: MAX_LABEL // 2] if chosen else "")
