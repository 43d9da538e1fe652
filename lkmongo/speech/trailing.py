"""Whether what somebody said trails off: "I'd like to", "my number is, um" and "can you" are not yet a turn.

A turn detector that listens to the voice takes them for finished as soon as there is noise in the room. Words tell it
more surely, and in English a few dozen of them tell most of it. Who is taken for unfinished by mistake waits a second
longer for the answer; who is taken for finished by mistake is cut off.
"""

from __future__ import annotations

import re

_FILLERS = "um uh uhm umm erm er ah hmm mm"
_BEFORE_NOUNS = """a an the my your his our their every each another favorite favourite"""
_JOINTS = """and or but because so if when while whose whether since although unless than maybe perhaps like"""
_VERBS = """is are was were be been am isn't aren't wasn't i'm it's that's there's he's she's we're they're
    can could will would should may might must has had i'd i'll i've let's"""
_PREPOSITIONS = "to of for with about from at by into between without on in as"
_NEVER_LAST = frozenset(f"{_FILLERS} {_BEFORE_NOUNS} {_JOINTS} {_VERBS} {_PREPOSITIONS}".split())
_LAST_OF_QUESTIONS = frozenset(_PREPOSITIONS.split())
_ASKS = re.compile(r"(?:and |so |but |um )?(?:what|who|whom|where|which|when|how)\b")
_ASKED_WITHIN = re.compile(
    r"\b(?:where|what|who|how|when) (?:my|the|your|it|that|this|he|she|they)\b.* (?:is|are|was|were)$"
)
_COMES_ON = re.compile(
    r"(?:from now|turned?|log(?:ged)?|check(?:ed)?|switch(?:ed)?|hold|go|come|sign(?:ed)?) (?:on|in)$"
)
_PHRASES = re.compile(
    r"\b(?:let me (?:see|think|check|look)|you know|i mean|remember that|sure that|so that|think that)$"
    r"|^(?:(?:can|could|would|will|do|did|may|should|have) (?:you|i|we|they)|i|i (?:think|guess|want|need)|we|well)$"
)
_PIECE_OF_NUMBER = re.compile(r"(?:(?:\d{1,3}|zero|oh|one|two|three|four|five|six|seven|eight|nine)(?:[ ,.-]+|$)){1,3}")


def trails_off(text: str) -> bool:
    """Whether more is likely to come: the last words want another, or the recogniser heard that the voice stayed up."""
    said = text.strip().strip("\"'").lower()
    words = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+", said)
    if not words:
        return False
    if said[-1] in ",:;-":  # as punctuation goes by the melody
        return True
    plain = " ".join(words)
    if _PHRASES.search(plain) or _PIECE_OF_NUMBER.fullmatch(said):
        return True
    if _ASKED_WITHIN.search(plain):
        return False  # "tell me where my order is"
    if words[-1] in _LAST_OF_QUESTIONS and (_ASKS.match(plain) or _COMES_ON.search(plain)):
        return False  # "what am I allergic to?"
    return words[-1] in _NEVER_LAST
