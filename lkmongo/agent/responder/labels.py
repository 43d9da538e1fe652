"""Labels of memories: a slot holds one value, so what two facts are told apart by has to be in their labels."""

from __future__ import annotations

import re

from lkmongo.agent.responder.intents import Remember
from lkmongo.agent.responder.text import content_words, label_of, words
from lkmongo.agent.responder.vocabulary import PEOPLE_AND_PETS, word_set

VAGUE = word_set("it that this so them him her you one what something anything everything nothing those these")
"""Words that say nothing without what was said before."""
_DROPPED = word_set("current new own dear lovely beautiful actual exact little sweet very all entire whole brand")
_ASIDE = re.compile(r"\b(?:over|more than|rather than|instead of|because|since|when|but|to)\b", re.IGNORECASE)


def noun_label(text: str) -> str:
    """The label of a noun phrase: "current favorite color" is favorite_color, "dog's name" is dog_name."""
    kept = [word for word in words(text) if word not in _DROPPED]
    return label_of(" ".join(kept) or text)


def name_label(who: str) -> str:
    """The label of somebody's name: dog_name for "dog", "dog's", and for "dogs", as it is often transcribed."""
    singular = re.sub(r"(?<=\w)'?s$", "", who) if who.rstrip("s").casefold() in PEOPLE_AND_PETS else who
    return noun_label(f"{singular} name")


def one_of_many(label: str, what: str, content: str | None = None) -> Remember | None:
    """A fact of which there may be several: "I like tea" is likes_tea, "I like hiking" likes_hiking.

    Args:
        label: what such facts have in common; several words with spaces between.
        what: the thing itself, whose first words go into the label.
        content: what to store, if not `what`.
    """
    if what.casefold().split()[0] in VAGUE or not content_words(what):
        return None
    thing = _ASIDE.split(what, maxsplit=1)[0]
    return Remember(label_of(thing if content_words(thing) else what, 3, prefix=label), content or what)
