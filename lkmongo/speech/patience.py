"""What was said becomes final when the caller has paused long enough for it, and one text with what follows until then.

An AgentSession takes every final transcript for the end of a turn, and the turn is over soon after: then who stops to
think is answered in the middle of a sentence, and the rest of it becomes a turn of its own. Here a text that trails off
waits for the longer of two delays, any other for the shorter; whoever goes on before has said one text.

A turn detector that listens to the voice takes "I'd like to" and "my number is, um" for finished as soon as there is
noise in the room. Words tell it more surely, and in English a few dozen of them tell most of it. Who is taken for
unfinished by mistake waits a second longer for the answer; who is taken for finished by mistake is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from livekit.agents import stt, vad

_Kind = stt.SpeechEventType
_TEXTS = {_Kind.INTERIM_TRANSCRIPT, _Kind.PREFLIGHT_TRANSCRIPT, _Kind.FINAL_TRANSCRIPT}

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
_NUMBER = re.compile(r"(?:\b(?:\d+|zero|oh|one|two|three|four|five|six|seven|eight|nine)\b[ ,.-]*)+$")


class Patience:
    """Stands between a recogniser that makes a text of each stretch of speech and what listens to it."""

    def __init__(self, tell: Callable[[stt.SpeechEvent], None], shortest: float, longest: float) -> None:
        """Hold nothing yet.

        Args:
            tell: gets the events.
            shortest: seconds of silence after which what was said is final.
            longest: the same for what trails off.
        """
        self._tell = tell
        self._shortest = shortest
        self._longest = longest
        self._held: stt.SpeechEvent | None = None
        self._ended: stt.SpeechEvent | None = None

    def tell(self, event: stt.SpeechEvent) -> None:
        """Pass an event on, with what was said before it; keep a final text."""
        if self._held is not None and event.type is _Kind.END_OF_SPEECH:
            self._ended = event
            return
        if self._held is not None and event.type is _Kind.START_OF_SPEECH:
            self._ended = None  # for whoever listens, it goes on
            return
        if event.type not in _TEXTS or not event.alternatives:
            self._tell(event)
            return
        joined = self._joined(event)
        if event.type is _Kind.FINAL_TRANSCRIPT:
            self._held = joined
        elif event.type is _Kind.PREFLIGHT_TRANSCRIPT and trails_off(joined.alternatives[0].text):
            self._tell(replace(joined, type=_Kind.INTERIM_TRANSCRIPT))  # nobody needs to think of an answer yet
        else:
            self._tell(joined)

    def on(self, event: vad.VADEvent) -> None:
        """Let the text go once the silence is long enough for it; the recogniser gets the event before."""
        if self._held is not None and not event.speaking:
            trails = trails_off(self._held.alternatives[0].text)
            if event.silence_duration >= (self._longest if trails else self._shortest):
                self.close()

    def close(self) -> None:
        """Let the text go, as nothing will follow."""
        told, self._held, self._ended = (self._held, self._ended), None, None
        for event in filter(None, told):
            self._tell(event)

    def _joined(self, event: stt.SpeechEvent) -> stt.SpeechEvent:
        if self._held is None:
            return event
        said, (now, *others) = self._held.alternatives[0].text, event.alternatives
        text = f"{said.rstrip(' ,;:-') if trails_off(said) else said} {now.text}".strip()
        return replace(event, alternatives=[replace(now, text=text), *others])


def trails_off(text: str) -> bool:
    """Whether more is likely to come: the last words want another, or the recogniser heard that the voice stayed up."""
    said = text.strip().strip("\"'").lower()
    words = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+", said)
    if not words:
        return False
    if said[-1] in ",:;-":  # as punctuation goes by the melody
        return True
    plain = " ".join(words)
    if _PHRASES.search(plain) or _is_piece_of_number(said):
        return True
    if _ASKED_WITHIN.search(plain):
        return False  # "tell me where my order is"
    if words[-1] in _LAST_OF_QUESTIONS and (_ASKS.match(plain) or _COMES_ON.search(plain)):
        return False  # "what am I allergic to?"
    return words[-1] in _NEVER_LAST


def _is_piece_of_number(said: str) -> bool:
    """Whether it is two or three digits of a longer number: nothing else was said, or that it is a telephone's."""
    number = _NUMBER.search(said)
    if number is None or (number.start() and "phone number is" not in said[: number.start()]):
        return False
    digits = re.findall(r"\d+|[a-z]+", number[0])
    count = sum(len(each) if each.isdigit() else 1 for each in digits)
    return count == 3 or (count == 2 and len(digits) == 2)
