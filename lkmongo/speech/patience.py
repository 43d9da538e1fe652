"""What was said becomes final when the caller has paused long enough for it, and one text with what follows until then.

An AgentSession takes every final transcript for the end of a turn, and the turn is over soon after: then who stops to
think is answered in the middle of a sentence, and the rest of it becomes a turn of its own. Here a text that trails off
waits for the longer of two delays, any other for the shorter; whoever goes on before has said one text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from livekit.agents import stt, vad

from lkmongo.speech.trailing import trails_off

_Kind = stt.SpeechEventType
_TEXTS = {_Kind.INTERIM_TRANSCRIPT, _Kind.PREFLIGHT_TRANSCRIPT, _Kind.FINAL_TRANSCRIPT}


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
