"""From a statement of a fact to a label and a value: "my favorite color is teal" is favorite_color, teal.

"My X is Y" is labelled by X. Of people, animals and things many such facts can be told, so their labels say which.
"""

from __future__ import annotations

import re

from lkmongo.agent.responder.habits import of_oneself
from lkmongo.agent.responder.intents import Remember
from lkmongo.agent.responder.labels import VAGUE, name_label, noun_label, one_of_many
from lkmongo.agent.responder.text import content_words, label_of, rx, words
from lkmongo.agent.responder.vocabulary import (
    ADVERBS,
    AGE,
    DURABLE,
    FIRST_NAMES,
    LANGUAGES,
    NO_FACT_HEADS,
    PASSING_STATES,
    PEOPLE_AND_PETS,
    THINGS,
    TRANSIENT,
    word_set,
)
from lkmongo.model import MAX_LABEL

_OWN = r"(?:my|our)"
_TROUBLE = re.compile(
    r"\b(?:stolen|misplaced|fraud\w*|charges?|declined|damaged|frozen|blocked|suspicious|transactions?|overdrawn|unsynced|broken|defective|not working|"
    r"error|you|your|yours|how many|how much|what|why|when is|when are|help me|this song|your voice|voice)\b",
    re.IGNORECASE,
)
"""The matter of a call, said as a statement: nothing to remember unless that is asked for."""
_IS = r"(?:is|are|was|were|will be|would be|has always been|has been|=|remains|falls on|is coming up on|takes place|starts|begins)"
_ATTRIBUTE_OF = rx(rf"the (?P<what>[\w ]{{2,30}}?) (?:of|for|to) {_OWN} (?P<who>[\w' -]+?) {_IS} (?P<value>.+)")
_HAPPENS = rx(
    rf"{_OWN} (?P<who>[\w' -]+?) (?P<verb>expires|ends|finishes|renews|departs|leaves|lands|arrives|runs out|closes|opens) (?P<value>.+)"
)
_NAME_OF = rx(rf"(?:the )?names? of {_OWN} (?P<who>.+?) {_IS} (?P<value>.+)")
_CALLED = rx(
    rf"{_OWN} (?P<who>.+?)(?:'s?|s)? (?:(?:{_IS} |)(?:called|named)|names? {_IS}|goes by|answers to|is known as|responds to)(?: the name)? (?P<value>.+)"
)
_NAMED = rx(rf"(?:i|we) (?:have )?(?:named|called|call) {_OWN} (?P<who>[\w' -]+?) (?P<value>[A-Z][\w'-]*|\w+)")
_HAVE_NAMED = rx(
    r"(?:i|we) (?:have|have got|got|own|adopted|just got|just adopted) (?:a|an|one|two|three|another|this) (?P<who>[\w' -]+?)"
    r",? (?:called|named|whose names? (?:is|are)|who is called|that is called|by the name of|who goes by) (?P<value>.+)"
)
_MY_IS = rx(rf"{_OWN} (?P<who>(?:(?!\b(?:is|are|was|were)\b).)+?) {_IS} (?P<value>.+)")
_FAVORITE_S = rx(rf"{_OWN} (?P<who>(?:all ?-?time )?favou?rite [\w ]+?)'s (?P<value>.+)")
_USED_TO = rx(r"(?:i|we) used to (?P<what>.+)")
_REVERSED = rx(rf"(?P<value>.+?) (?:is|are|was) {_OWN} (?P<who>[\w' -]+)")
_COLON = re.compile(r"(?:my |our |the )?(?P<who>[^:=]{2,60}?)\s*[:=]\s+(?P<value>.+)", re.IGNORECASE)
_LEADING = re.compile(
    r"^(?:that |on |actually |now |currently |probably |always |still |just |definitely |obviously |most likely |simply |, )+(?=\S)",
    re.IGNORECASE,
)


_TRAILING = re.compile(r"(?<=\w)(?: now| instead| these days| at the moment| currently)+$", re.IGNORECASE)
_RELATION = rx(
    rf"{_OWN} (?P<who>[\w' -]+?) {ADVERBS}(?P<verb>likes?|loves?|hates?|dislikes?|prefers?|enjoys?|lives?|works?|has|have|plays?|speaks?|drives?|studies|study|"
    r"eats?|drinks?|collects?|teaches|goes|attends?|owns?|wears?|comes|grew|was born|turns?|turned|starts?|started|graduated|graduates|moved|"
    r"cannot \w+|does not \w+|do not \w+|barks|sleeps|weighs?|suffers|got|takes?|died|passed) (?P<rest>.+)"
)
_LASTING = word_set("in at on the a an from my with about for to not blue red")
_TRANSIENT = (PASSING_STATES | (TRANSIENT - _LASTING)) - DURABLE
_NO_VALUE = re.compile(r"(?:not|no longer|what|where|who|how|why|going to|getting|trying|about to)\b", re.IGNORECASE)
_WITH = re.compile(r"(?:with|from|by|near|about|for|without|like|under)\b", re.IGNORECASE)
_BY_NAME = re.compile(r"(?P<kind>[\w-]+) [A-Z][\w'-]*")
_PROPER = re.compile(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2}")
_NOT_REVERSED = rx(
    r"(?:in|on|at|for|from|by|check|find|explain|maybe|true|false|yes|no|tell|did|would|will|please|the reason|what|where|who|when|how|which|why|this|that|it|here|there|he|she|they|these|is|are|do|does|and|if|not)\b"
)
_THE_IS = rx(rf"(?:the |our |an? )(?P<who>[\w' -]+?) {_IS} (?P<value>.+)")
_NAMES_IS = re.compile(rf"(?P<who>(?:[a-z]+|[A-Z][\w-]*'s) [\w' -]+?) {_IS} (?P<value>.+)")
_COLOR = rx(
    r"(?:(?:dark|light|bright|deep|pale) )?(?:red|blue|green|yellow|black|white|silver|gr[ae]y|orange|purple|violet|pink|brown|gold|golden|beige|navy|turquoise|teal)"
)
_KIND = rx(r"an? \w+.*")
_AREA = rx(
    r"(?:(?:about|around|roughly|nearly|almost|over) )?[\d.,]+ ?(?:square (?:met(?:er|re)s?|feet|foot|yards?)|sqm|sq ?(?:m|ft)|m2|m²)"
)
_DEICTIC = rx(r"(?:there|it|this|that|he|she|they|tomorrow|today)\b")


def fact(text: str, *, explicit: bool = False) -> Remember | None:
    """Understand a statement.

    Args:
        text: one clause, such as "my dog is called Rex".
        explicit: whether remembering it was asked for; then any statement is one, and gets a label from its words.

    Returns:
        What to remember; None when it tells nothing worth keeping.
    """
    text = re.sub(r"^(?:both|all)(?: of)? (?=(?:my|our) )", "", text.strip(), flags=re.IGNORECASE)
    if not explicit and _TROUBLE.search(text):
        return None
    if found := _named(text) or _attribute(text, explicit=explicit):
        return found
    if match := _USED_TO.fullmatch(text):
        return Remember(label_of(match["what"], 4, prefix="used to"), f"used to {match['what']}")
    if re.match(rf"{_OWN}\b", text, re.IGNORECASE):
        found, decided = _of_mine(text, explicit=explicit)
        if decided:
            return found
    elif re.match(r"(?:i|we)\b", text, re.IGNORECASE):
        found = of_oneself(text, explicit=explicit)
    else:
        match = _REVERSED.fullmatch(text)
        if match and len(words(match["value"])) <= 5 and not _NOT_REVERSED.match(text):
            return _my(match["who"], match["value"], explicit=explicit)
    return found or (_anything(text) if explicit else None)


def _named(text: str) -> Remember | None:
    match = _NAME_OF.fullmatch(text) or _CALLED.fullmatch(text) or _HAVE_NAMED.fullmatch(text)
    if not match and (given := _NAMED.fullmatch(text)) and set(words(given["who"])[-1:]) & (PEOPLE_AND_PETS | THINGS):
        match = given
    if not match:
        return None
    value = re.sub(r"^(?:by|the name) |,? (?:and )?not [\w' -]+$", "", match["value"], flags=re.IGNORECASE)
    label = name_label(match["who"])
    return Remember(label, value) if label and _says_something(value) else None


def _attribute(text: str, *, explicit: bool) -> Remember | None:
    if match := _ATTRIBUTE_OF.fullmatch(text):
        return Remember(noun_label(f"{match['who']} {match['what']}"), _LEADING.sub("", match["value"]))
    match = _HAPPENS.fullmatch(text)
    if match and (explicit or (words(match["who"])[-1:] != [] and words(match["who"])[-1] not in NO_FACT_HEADS)):
        return Remember(noun_label(f"{match['who']} {match['verb']}"), match["value"])
    return None


def _of_mine(text: str, *, explicit: bool) -> tuple[Remember | None, bool]:
    """What begins with "my"; the second value says whether it was of a known form."""
    if (match := _FAVORITE_S.fullmatch(text)) and not re.search(rf"\b{_IS}\b", text):
        return _my(match["who"], match["value"], explicit=True), True
    relation, plain = _RELATION.fullmatch(text), _MY_IS.fullmatch(text)
    if plain and (
        not relation or plain.end("who") <= relation.start("verb") or re.match(_IS + r"\b", relation["rest"])
    ):
        return _my(plain["who"], plain["value"], explicit=explicit), True
    if relation and (explicit or _is_somebody(relation["who"])):
        verb = relation["verb"].casefold()
        subject = noun_label(relation["who"]).replace("_", " ")
        return one_of_many(f"{subject} {verb}", relation["rest"], f"{verb} {relation['rest']}"), True
    return None, False


def _is_somebody(who: str) -> bool:
    """Whether it is a person, an animal or a thing of theirs: "sister", "sister Nora", "old car"."""
    by_name = _BY_NAME.fullmatch(who)
    head = by_name["kind"].casefold() if by_name else "".join(words(who)[-1:])
    return head in PEOPLE_AND_PETS | THINGS


def _says_something(value: str) -> bool:
    return bool(words(value)) and value.casefold() not in VAGUE


def _my(who: str, value: str, *, explicit: bool) -> Remember | None:
    value = _TRAILING.sub("", _LEADING.sub("", value))
    if not _says_something(value) or not noun_label(who) or (not explicit and _is_passing(who, value)):
        return None
    head, label = words(who)[-1], noun_label(who)
    by_name = _BY_NAME.fullmatch(who)
    if by_name and by_name["kind"].casefold() in PEOPLE_AND_PETS:
        return _of_somebody(label, by_name["kind"].casefold(), value)
    if head in PEOPLE_AND_PETS | THINGS and not who.casefold().startswith("fav"):
        return _of_somebody(label, head, value)
    if preposition := _WITH.match(value):
        return Remember(f"{label[: MAX_LABEL - 10]}_{preposition[0].casefold()}", value)
    return Remember(label, value)


def _is_passing(who: str, value: str) -> bool:
    """Whether it tells of the moment, or of the matter of the call, instead of the person."""
    said = words(value)
    passing = (
        said[0] in _TRANSIENT
        and said[:2] not in (["afraid", "of"], ["scared", "of"])
        and len(said) <= 3
        and not value[:1].isupper()
        and "favo" not in who.casefold()
    )
    return passing or words(who)[-1] in NO_FACT_HEADS or _NO_VALUE.match(value) is not None


def _of_somebody(subject: str, head: str, value: str) -> Remember:
    if head in PEOPLE_AND_PETS and re.fullmatch(AGE, value, re.IGNORECASE):
        return Remember(f"{subject}_age", value)
    if allergic := re.fullmatch(r"(?:\w+ )?allergic to (.+)", value, re.IGNORECASE):
        return Remember(label_of(allergic[1], 3, prefix=f"{subject} allergy"), allergic[1])
    if (quality := "color" if _COLOR.fullmatch(value) else "size" if _AREA.fullmatch(value) else None) is not None:
        return Remember(f"{subject}_{quality}", value)
    if (head in THINGS or head == "pet") and _KIND.match(value):
        return Remember(subject, value)
    said = words(value)
    is_name = (_PROPER.fullmatch(value) and said[0] not in LANGUAGES) or (said[0] in FIRST_NAMES and len(said) <= 2)
    if head in PEOPLE_AND_PETS and is_name:
        return Remember(f"{subject}_name", value)
    return Remember(label_of(value, 3, prefix=f"{subject} is"), value)


def _anything(text: str) -> Remember | None:
    """Label what was to be remembered whatever it is: "the wifi password is hunter2" by its subject."""
    if match := _COLON.fullmatch(text):
        label = noun_label(match["who"])
        return Remember(label, match["value"]) if label else None
    subject = _THE_IS.fullmatch(text) or _NAMES_IS.fullmatch(text)
    if subject and content_words(subject["who"]) and not _DEICTIC.match(subject["who"]):
        return _my(subject["who"], subject["value"], explicit=True)
    label = label_of(re.sub(r"^(?:i|we) (?:am |have |had |was )?", "", text, flags=re.IGNORECASE), 5)
    return Remember(label, text) if label else None
