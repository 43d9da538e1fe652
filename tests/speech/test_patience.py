"""What was said is final when the silence is long enough for it, and one text with what follows before."""

from __future__ import annotations

import pytest
from livekit.agents import LanguageCode, stt, vad

from lkmongo.speech.patience import Patience

KIND = stt.SpeechEventType


class Caller:
    """Somebody who is heard by a recogniser; `told` is what comes out behind the patience."""

    def __init__(self) -> None:
        self.events: list[stt.SpeechEvent] = []
        self.patience = Patience(self.events.append, 0.5, 1.5)

    @property
    def told(self) -> list[tuple[stt.SpeechEventType, str]]:
        return [(event.type, event.alternatives[0].text if event.alternatives else "") for event in self.events]

    def recognised(self, kind: stt.SpeechEventType, text: str = "") -> None:
        data = [stt.SpeechData(language=LanguageCode("en"), text=text)] if text else []
        self.patience.tell(stt.SpeechEvent(kind, "request", data))

    def says(self, text: str) -> None:
        self.recognised(KIND.START_OF_SPEECH)
        self.patience.on(_event(vad.VADEventType.START_OF_SPEECH, speaking=True))
        self.recognised(KIND.FINAL_TRANSCRIPT, text)
        self.recognised(KIND.END_OF_SPEECH)
        self.patience.on(_event(vad.VADEventType.END_OF_SPEECH, silence=0.256))

    def is_silent(self, seconds: float) -> None:
        self.patience.on(_event(vad.VADEventType.INFERENCE_DONE, silence=seconds))


def _event(kind: vad.VADEventType, *, speaking: bool = False, silence: float = 0.0) -> vad.VADEvent:
    return vad.VADEvent(kind, 0, 0.0, 1.0, silence, speaking=speaking)


@pytest.mark.parametrize(("text", "patience"), [("Where is order 1001?", 0.5), ("My order number is, um", 1.5)])
def test_a_text_is_final_after_the_silence_that_it_needs(text, patience):
    caller = Caller()
    caller.says(text)
    caller.is_silent(patience - 0.02)
    assert caller.told == [(KIND.START_OF_SPEECH, "")]
    caller.is_silent(patience + 0.02)
    caller.is_silent(patience + 1)
    assert caller.told[1:] == [(KIND.FINAL_TRANSCRIPT, text), (KIND.END_OF_SPEECH, "")]


def test_who_goes_on_before_has_said_one_text():
    caller = Caller()
    caller.says("My order number is,")
    caller.is_silent(1.4)
    caller.recognised(KIND.START_OF_SPEECH)
    caller.recognised(KIND.INTERIM_TRANSCRIPT, "um")
    caller.recognised(KIND.FINAL_TRANSCRIPT, "um,")
    caller.is_silent(1.4)
    caller.recognised(KIND.PREFLIGHT_TRANSCRIPT, "4711.")
    caller.recognised(KIND.FINAL_TRANSCRIPT, "4711.")
    caller.is_silent(0.51)
    assert caller.told == [
        (KIND.START_OF_SPEECH, ""),
        (KIND.INTERIM_TRANSCRIPT, "My order number is um"),
        (KIND.PREFLIGHT_TRANSCRIPT, "My order number is um 4711."),
        (KIND.FINAL_TRANSCRIPT, "My order number is um 4711."),
    ]


def test_what_is_finished_keeps_its_period_when_more_follows():
    caller = Caller()
    caller.says("I bought a lamp.")
    caller.says("It is broken.")
    caller.is_silent(0.6)
    assert caller.told[1] == (KIND.FINAL_TRANSCRIPT, "I bought a lamp. It is broken.")


def test_no_answer_is_thought_of_while_what_was_said_trails_off():
    caller = Caller()
    caller.recognised(KIND.PREFLIGHT_TRANSCRIPT, "I'd like to")
    caller.recognised(KIND.PREFLIGHT_TRANSCRIPT, "I'd like to go.")
    assert [kind for kind, _ in caller.told] == [KIND.INTERIM_TRANSCRIPT, KIND.PREFLIGHT_TRANSCRIPT]


def test_speech_lets_nothing_go_however_long_the_silence_before_was():
    caller = Caller()
    caller.says("Where is my order?")
    caller.patience.on(_event(vad.VADEventType.INFERENCE_DONE, speaking=True, silence=9.0))
    assert caller.told == [(KIND.START_OF_SPEECH, "")]


def test_the_end_of_the_sound_lets_go_what_is_held():
    caller = Caller()
    caller.says("I'd like to")
    caller.patience.close()
    caller.patience.close()
    assert caller.told[1:] == [(KIND.FINAL_TRANSCRIPT, "I'd like to"), (KIND.END_OF_SPEECH, "")]
