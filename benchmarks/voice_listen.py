"""What the engines of this machine hear of a sentence: each silence in it, how likely the turn is over, and the words.

It goes over the sound as a session does, faster than it was said: the voice activity detector in windows of 32 ms, the
turn detector once in each silence, after a fifth of a second, and the recogniser from the beginning of speech to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.hearing import canonical, word_errors
from benchmarks.voice_cases import RATE, Said, Samples
from benchmarks.voice_turns import Heard, Pause

WINDOW = 512
ASKED = 0.2
"""Seconds of silence after which the session asks the turn detector."""
_LEAD = 0.5  # seconds of silence before the sentence, and what a stretch of speech is given from before it
_TAIL = 1.0
_PAUSE = 0.1  # seconds of silence after which the recogniser gets to work
_FILLERS = re.compile(r"\b(?:um+|uh+|ah+|er|hmm+)\b[,.]*", re.IGNORECASE)
_SEES = 19_200  # samples that the turn detector looks at


def listen(said: Said, recognise: Callable[[Samples], str]) -> Heard:
    """Hear a sentence; `recognise` makes a text of samples."""
    from livekit.local_inference import EOT, VAD

    from lkmongo.speech.patience import trails_off

    before, after = (np.zeros(round(seconds * RATE), np.int16) for seconds in (_LEAD, _TAIL))
    sound = np.concatenate([before, said.sound, after])
    vad, eot = VAD(), EOT()
    pauses: list[Pause] = []
    speaking, speech, silence, began = False, 0.0, 0.0, 0
    probability: float | None = None
    step = WINDOW / RATE
    resumed: list[float] = []
    for end in range(WINDOW, len(sound) + 1, WINDOW):
        if speaking and silence >= ASKED and probability is None:
            probability = float(eot.predict(sound[:end][-_SEES:]))
        likely = float(vad.predict(sound[end - WINDOW : end]))
        if likely >= 0.5 or (speaking and likely > 0.35):  # as the detector has them unless it is told otherwise
            speech, silence, probability = speech + step, 0.0, None
            if not speaking and speech >= 0.05:
                speaking, began = True, end - round((speech + _LEAD) * RATE)
                resumed.append(end / RATE)
        else:
            silence, speech = silence + step, 0.0
            if speaking and silence >= 0.25:
                speaking = False
                start = end / RATE - silence
                text = recognise(sound[max(0, began) : round((start + _PAUSE) * RATE)])
                trails = trails_off(" ".join([each.text for each in pauses] + [text]))
                over = 1.0 if probability is None else probability
                pauses.append(Pause(start - _LEAD, silence, over, None, text, trails))
    ends = [*(at - _LEAD for at in resumed[1:]), None]
    pairs = zip(pauses, ends, strict=False)
    known = tuple(replace(each, resumed=None if at is None else at - each.start) for each, at in pairs)
    return Heard(said.sentence.kind, said.sentence.text, said.end, known)


def wrong_words(said: Said, heard: str) -> tuple[int, int]:
    """How many words were changed, lost or added, and how many were said, fillers apart."""
    return word_errors(_FILLERS.sub("", said.sentence.text), _FILLERS.sub("", heard))


def survives(said: Said, heard: str) -> bool:
    """Whether one of the spellings of what matters is in what was heard."""
    found = f" {' '.join(canonical(_FILLERS.sub('', heard)))} "
    return any(f" {' '.join(canonical(slot))} " in found for slot in said.sentence.slots)
