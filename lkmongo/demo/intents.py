"""What a caller wants of the demo responder, read from one utterance.

An utterance is taken whole or not at all. Each form below has to match it from its first word to its last, and the
words that a form leaves open may hold none of those that could turn its meaning round: a negation, a correction, a
second fact, another person. Whatever is left over changes nothing; it is a question for the knowledge base, or the
caller is asked to say it again.
"""

from __future__ import annotations

import re
import unicodedata
from calendar import month_name
from dataclasses import dataclass
from typing import Literal

from lkmongo.confidential import holds_secret
from lkmongo.errors import InvalidTextError
from lkmongo.model import slot_name

TalkKind = Literal[
    "hello", "how are you", "thanks", "goodbye", "all right", "help", "silence", "secret", "too long",
    "forget that", "forget all", "forget field", "say again", "ask order", "ask name", "ask email",
    "ask preferred_language", "ask timezone",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Talk:
    """Something that is answered without a tool; `about` is what the answer names."""

    kind: TalkKind
    about: str = ""


@dataclass(frozen=True, slots=True)
class SetField:
    """Store `value` in one of the profile's fields."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class AskField:
    """Tell what the profile holds in `field`."""

    field: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Store a fact under the first of these labels; `is_change` when it is said to replace what is stored under one."""

    labels: tuple[str, ...]
    content: str
    is_change: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Tell the fact that is stored under one of these labels, which are spellings of the same."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the fact under one of these labels; `whole` when the caller has said that it may hold more."""

    labels: tuple[str, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class ListAll:
    """Tell everything that is known of the caller."""


@dataclass(frozen=True, slots=True)
class LookUpOrder:
    """Tell of one of the caller's orders, or of the latest."""

    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class AskPastCalls:
    """Tell what earlier calls were about."""

    query: str


@dataclass(frozen=True, slots=True)
class AskKnowledge:
    """Search the knowledge base."""

    query: str


Intent = Talk | SetField | AskField | Remember | Recall | Forget | ListAll | LookUpOrder | AskPastCalls | AskKnowledge

MAX_LENGTH = 300
"""Characters of an utterance; nobody says one thing in more."""

# ---------------------------------------------------------------------- the words that a form leaves open

_NEGATIONS = """no not never none nothing nobody neither nor without hardly barely cannot dont isnt arent wasnt
    wont cant didnt doesnt nope wrong incorrect changed different same other another unknown gone missing secret
    private"""
_CORRECTIONS = """wait actually sorry oops rather instead mean meant correction scratch strike uh um er erm hmm ah oh eh
    nah like let lets say just better hold kidding joking now still again anymore longer yet maybe perhaps probably
    possibly almost previously formerly"""
_JOINTS = """and or but because since if unless when while although though so then than except plus also too well
    what who whom whose which where why how that this these those there here after before
    as whatever whichever whoever"""
_PERSONS = """i im ive id ill me my mine myself you your yours we us our ours he him his she her hers they them their
    theirs it its somebody someone everybody everyone anybody anyone everything anything something"""
_VERBS = """is are was were be been am has have had do does did would could should used says said told thinks
    called named remember forget delete remove replace change"""
_NOT_OPEN = frozenset(f"{_NEGATIONS} {_CORRECTIONS} {_JOINTS} {_PERSONS} {_VERBS}".split())
_NOT_IN_LABELS = _NOT_OPEN | {"the", "a", "an"}
_NOT_IN_VALUES = _NOT_OPEN | {"favorite", "favourite"}
_WORD = r"[^\W_](?:[\w'.:/+&-]*\w)?"
_WORDS = re.compile(rf"{_WORD}(?: {_WORD})*")
_MOST_OF_VALUE, _MOST_OF_LABEL = 6, 4


def _is_plain(text: str, most: int, banned: frozenset[str] = _NOT_OPEN) -> bool:
    """Whether a text is nothing but words, at most so many, none of which can turn the meaning of a form round."""
    if not _WORDS.fullmatch(text):
        return False
    words = text.casefold().split()
    return len(words) <= most and not any(
        word in banned or word.partition("'")[0] in banned or word.endswith("n't") for word in words
    )


def _labels(text: str) -> tuple[str, ...]:
    """The labels that words may be stored under: "daughter's birthday" is daughter_birthday, and daughters_birthday."""
    if not _is_plain(text, _MOST_OF_LABEL, _NOT_IN_LABELS):
        return ()
    try:
        spellings = [slot_name(re.sub(r"'s?(?= |$)", "", text)), slot_name(text)]
    except InvalidTextError:
        return ()
    return tuple(dict.fromkeys(map(american, spellings)))


def american(label: str) -> str:
    """A label in American spelling: favourite_colour is favorite_color."""
    return re.sub("(?<=[lvbn])our", "or", label)


# ---------------------------------------------------------------------- forms


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_OPENING = _form(r"(?:(?:hi|hello|hey)(?: there)?[,.!]* )?(?:please,? )?(?=\S)")
_CLOSING = _form(r"(?:[,.!?]* (?:please|thanks|thank you))?[\s.!?]*$")
_TALK: tuple[tuple[TalkKind, re.Pattern[str]], ...] = (
    ("hello", _form(r"(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: there| again)?")),
    ("how are you", _form(r"how are you(?: doing)?(?: today)?")),
    ("thanks", _form(r"(?:thanks|thank you)(?: very much| so much| a lot)?")),
    ("goodbye", _form(r"(?:good ?bye|bye(?: bye)?|see you(?: later)?)")),
    ("all right", _form(r"(?:yes|no|ok|okay|yeah|sure|fine|great|never ?mind|stop|cancel|no,? (?:thanks|thank you))")),
    ("help", _form(
        r"help(?: me)?|what can (?:you do|i (?:say|ask))|what do you do|(?:who|what) are you|what(?:'s| is) your name"
        r"|are you (?:an? )?(?:human|robot|bot|person|ai)"
    )),
    ("forget that", _form(r"(?:forget|delete|remove|erase|undo|scratch)(?: about)? (?:it|that|this)")),
    ("forget all", _form(
        r"(?:forget|delete|erase|remove) (?:me|(?:it )?all|everything|all of it"
        r"|(?:all |everything |all of )?(?:about me|(?:my|the) (?:data|memor(?:y|ies)|profile|account|history))"
        r"|(?:everything|all)(?: that)? you (?:know|have)(?: about me)?)"
    )),
)  # fmt: skip

_FIELD_WORDS = r"name|e-?mail(?: address)?|(?:preferred )?language|time ?zone"
_KEEP = r"(?:remember|note|save|store)(?: that)?"
_SET_FIELD = _form(
    rf"(?:{_KEEP} )?my (?P<field>{_FIELD_WORDS})(?:'s| is) (?P<value>.+)"
    rf"|(?:change|update|set) my (?P<changed>{_FIELD_WORDS}) to (?P<to>.+)"
)
_ASK_FIELD = _form(
    rf"(?:what(?:'?s| is)|tell me|do you (?:know|remember)) my (?P<field>{_FIELD_WORDS})"
    r"|(?P<who>who am i|do you (?:know|remember) me)"
)
_REMEMBER = _form(
    rf"(?:{_KEEP} my (?P<any>.+?)|my (?P<favorite>favou?rite .+?))"
    r" (?:is|are)(?P<named> called)? (?P<value>.+)"
)
_CHANGE = _form(r"(?:change|update|set) my (?P<label>.+?) to (?P<value>.+)")
_ALLERGY = _form(rf"(?:{_KEEP} )?i(?:'?m| am) allergic to (?P<value>.+)")
_RECALL = _form(
    r"(?:what|who|when)(?:'?s| is| are) my (?P<label>.+?)(?P<named> called)?"
    r"|(?:tell me|recall|do you (?:know|remember)) (?:what )?my (?P<told>.+?)(?: is| are)?"
)
_FORGET = _form(r"(?:forget|delete|remove|erase) (?P<whole>everything stored as )?my (?P<label>.+)")
_FORGET_FIELD = _form(rf"(?:forget|delete|remove|erase) (?:everything stored as )?my (?:{_FIELD_WORDS})")
_LIST = _form(
    r"what (?:do|have) you (?:know|remember|stored|saved)(?: about me)?"
    r"|(?:list|show me|tell me) (?:everything|all|what) you (?:know|remember)(?: about me)?"
    r"|(?:list|show me|what are) my memories|what am i allergic to|am i allergic to .+"
)
_LOOK_UP = (
    r"(?:where|what)(?:'?s| is| are)(?: the status of)?|status of|track|look up|check|list"
    r"|show(?: me)?|tell me(?: about)?"
)
_ORDER = _form(rf"(?:(?:{_LOOK_UP}) )?(?:my |the )?order(?: number)? #?(?P<id>[a-z]{{0,4}}-?\d[a-z\d-]{{0,30}})")
_ORDERS = _form(rf"(?:(?:{_LOOK_UP}) )?my (?:latest |last |recent )?orders?|what (?:did i order|have i ordered)")

_PAST_CALLS = _form(
    r"what did we (?:talk about|speak about|discuss|agree(?: on)?)"
    r"(?: last time| in (?:our|the) last (?:call|conversation)"
    rf"| (?:in|last) (?:{'|'.join(month_name[1:])})(?: \d{{4}})?)?"
)

_OF_ORDERS = _form(
    r"(?:when|where|what|why|who|which|has|have|is|did|will|do you)\b.*"
    r"\bmy (?:\w+ )?(?:orders?|parcel|package|delivery)\b.*"
)

_SEVERAL = re.compile(r"[.!?;\u2026]\s+\S|\n")
_CORRECTED = _form(
    r",\s*no\b|\b(?:wait,|wait no|actually|sorry|oops|i meant?|or rather|scratch that|hold on|make (?:that|it)|uh|um)\b"
    r"|^(?:no|yes|wait)\b"
)
_ABOUT_MEMORY = _form(
    r"\b(?:(?:you|please|to) (?:remember|forget|note|call)|(?:remember|forget) (?:that|my|i)|allergic|call me)\b"
    r"|\bmy name\b|^(?:my|i|i'm|we|our|remember|forget|delete|erase|note)\b"
)
_QUESTION = _form(
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|do|does|did|can|could|may|must|should|will|would|have|has"
    r"|what's|where's|who's|how's|tell me (?:about|how|when|where|why|whether|if))\b.+"
)
_MOST_OF_TOPIC = 4

_LANGUAGES = frozenset(
    """arabic bengali bulgarian catalan chinese croatian czech danish dutch english estonian finnish french
    german greek hebrew hindi hungarian icelandic indonesian irish italian japanese korean latvian lithuanian
    malay mandarin norwegian persian polish portuguese punjabi romanian russian serbian slovak slovenian spanish
    swahili swedish tamil telugu thai turkish ukrainian urdu vietnamese welsh""".split()
)
_EMAIL = re.compile(r"[^\s@<>\"',;:()]+@[^\s@<>\"',;:()]+\.[^\W\d_]{2,}")
_ZONE = _form(r"(?:Africa|America|Antarctica|Asia|Atlantic|Australia|Europe|Indian|Pacific)/[a-z]+(?:[ _/-][a-z]+)*")
_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|['.-](?=[^\W\d_]))*")
_PARTICLES = frozenset("van von der den de del la da di du bin al el".split())
_MOST_OF_NAME = 4


# ---------------------------------------------------------------------- reading


def understand(text: str) -> Intent:
    """Read an utterance; `Talk("say again")` for what is not taken whole."""
    said = re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text).replace("\u2019", "'")).strip()
    if not re.search(r"[^\W_]", said):
        return Talk("silence")
    if len(said) > MAX_LENGTH:
        return Talk("too long")
    if holds_secret(said):
        return Talk("secret")
    closing = _CLOSING.search(said)
    plain, asked = (said[: closing.start()], "?" in closing[0]) if closing else (said, False)
    opening = _OPENING.match(plain)
    rest = plain[opening.end() :] if opening else plain
    for kind, form in _TALK:
        if form.fullmatch(plain) or form.fullmatch(rest):
            return Talk(kind)
    return (
        _read_request(rest)
        or (None if asked else _read_change(rest))
        or _read_question(rest, asked=asked)
        or Talk("say again")
    )


def _read_request(text: str) -> Intent | None:
    """What is only looked up."""
    if found := _ASK_FIELD.fullmatch(text):
        return AskField("name" if found["who"] else _field(found["field"]))
    if _LIST.fullmatch(text):
        return ListAll()
    if found := _ORDER.fullmatch(text) or _ORDERS.fullmatch(text):
        return LookUpOrder(found.groupdict().get("id"))
    if _OF_ORDERS.fullmatch(text):
        return Talk("ask order")
    if (found := _RECALL.fullmatch(text)) and (
        labels := _labels((found["label"] or found["told"]) + (" name" if found["named"] else ""))
    ):
        return Recall(labels)
    return None


def _read_change(text: str) -> Intent | None:
    """What changes something."""
    if found := _SET_FIELD.fullmatch(text):
        return _set_field(_field(found["field"] or found["changed"]), found["value"] or found["to"])
    if (found := _ALLERGY.fullmatch(text)) and _is_plain(found["value"], _MOST_OF_LABEL - 2):
        return _remember(f"allergy to {found['value']}", f"allergic to {found['value']}")
    if found := _REMEMBER.fullmatch(text):
        return _remember((found["any"] or found["favorite"]) + (" name" if found["named"] else ""), found["value"])
    if found := _CHANGE.fullmatch(text):
        return _remember(found["label"], found["value"], is_change=True)
    return _read_forget(text)


def _read_forget(text: str) -> Intent | None:
    if _FORGET_FIELD.fullmatch(text):
        return Talk("forget field")
    if (found := _FORGET.fullmatch(text)) and (labels := _labels(found["label"])):
        return Forget(labels, whole=bool(found["whole"]))
    return None


def _remember(label: str, value: str, *, is_change: bool = False) -> Remember | None:
    labels = _labels(label)
    is_plain = _is_plain(value, _MOST_OF_VALUE, _NOT_IN_VALUES)
    return Remember(labels, value, is_change) if labels and is_plain else None


def _read_question(text: str, *, asked: bool) -> Intent | None:
    if _PAST_CALLS.fullmatch(text):
        return AskPastCalls(text)
    if _SEVERAL.search(text) or _CORRECTED.search(text) or _ABOUT_MEMORY.search(text):
        return None
    is_question = asked or _QUESTION.fullmatch(text)
    return AskKnowledge(text) if is_question or _is_plain(text, _MOST_OF_TOPIC) else None


def _field(words: str) -> str:
    """The profile's field of these words."""
    folded = words.casefold()
    if folded.startswith("e"):
        return "email"
    return "name" if folded == "name" else "timezone" if folded.startswith("time") else "preferred_language"


def _set_field(field: str, value: str) -> Intent:
    if field == "name":
        return _set_name(value)
    if field == "email":
        return SetField(field, value) if _EMAIL.fullmatch(value) else Talk("ask email")
    if field == "timezone":
        is_zone = _ZONE.fullmatch(value) and _is_plain(value, 3)
        return SetField(field, value.replace(" ", "_")) if is_zone else Talk("ask timezone")
    is_language = value.casefold() in _LANGUAGES
    return SetField(field, value.capitalize()) if is_language else Talk("ask preferred_language")


def _set_name(value: str) -> Intent:
    """Take a name by its capitals: "robin" may be one, but so may "private"."""
    words = value.split()
    if not _is_plain(value, _MOST_OF_NAME) or not all(map(_NAME.fullmatch, words)):
        return Talk("ask name")
    if all(word == word.lower() != word.upper() or (word.isupper() and len(word) > 2) for word in words):
        return Talk("ask name", value.title() if len(words) == 1 else "")
    small = [word for word in words if word[0] != word[0].upper()]  # scripts without capitals have no small letters
    is_name = _PARTICLES.issuperset(small) and not {words[0], words[-1]} & set(small)
    return SetField("name", value) if is_name else Talk("ask name")
