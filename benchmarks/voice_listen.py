"""What the engines of this machine hear of a sentence: each silence in it, how likely the turn is over, and the words.

It goes over the sound as a session does, faster than it was said: the voice activity detector in windows of 32 ms, the
turn detector once in each silence, after a fifth of a second, and the recogniser from the beginning of speech to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from benchmarks.voice_cases import RATE, Said, Samples
from benchmarks.voice_turns import Heard, Pause

WINDOW = 512
ASKED = 0.2
"""Seconds of silence after which the session asks the turn detector."""
_LEAD = 0.5  # seconds of silence before the sentence, and what a stretch of speech is given from before it
_TAIL = 1.0
_PAUSE = 0.1  # seconds of silence after which the recogniser gets to work
_SEES = 19_200  # samples that the turn detector looks at


def listen(said: Said, recognise: Callable[[Samples], str]) -> Heard:
    """Hear a sentence; `recognise` makes a text of samples."""
    from livekit.local_inference import EOT, VAD

    from lkmongo.speech.trailing import trails_off

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


_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SAME = {
    "favourite": "favorite",
    "colour": "color",
    "neighbour": "neighbor",
    "goodby": "goodbye",
}
_FILLERS = {"um", "uh", "ah", "er", "hm", "hmm"}


def words(text: str) -> list[str]:
    """The words of a text, numbers spelled and spellings alike, without fillers."""
    plain = text.lower().replace("to-day", "today").replace("$", " dollars ")
    plain = re.sub(r"\d+(?:-\d+)+", lambda number: " ".join(re.findall(r"\d", number[0])), plain)  # by telephone
    found = re.findall(r"[a-z]+(?:'[a-z]+)?|\d+", re.sub(r"(?<=\w)-(?=\w)", " ", plain.replace("good-by", "goodby")))
    spelled = [each for word in found for each in (_spelled(word) if word.isdigit() else [word])]
    return [_SAME.get(word, word) for word in spelled if word not in _FILLERS]


def _spelled(digits: str) -> list[str]:
    ones, tens = _ONES.split(), _TENS.split()
    number = int(digits)
    if digits[0] == "0" or len(digits) > 4:
        return [ones[int(digit)] for digit in digits]
    if number < 20:
        return [ones[number]]
    if number < 100:
        return [tens[number // 10 - 2], *([ones[number % 10]] if number % 10 else [])]
    if len(digits) == 4 and number % 1000 >= 100:
        return [*_spelled(digits[:2]), *_spelled(digits[2:])]
    if number >= 1000:
        return [ones[number // 1000], "thousand", *(_spelled(str(number % 1000)) if number % 1000 else [])]
    return [ones[number // 100], "hundred", *(_spelled(str(number % 100)) if number % 100 else [])]


def errors(meant: str, heard: str) -> tuple[int, int]:
    """How many words have to be changed, added or left out, and how many were meant."""
    one, other = words(meant), words(heard)
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, said in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != said))
    return row[-1], len(one)


def survives(slots: Iterable[str], heard: str) -> bool:
    """Whether one of these spellings is in what was heard, as data or word by word."""
    try:
        from lkmongo.speech.heard import as_data
    except ImportError:
        as_data = str

    read = (as_data(heard).lower(), "".join(words(heard)))
    return any(slot in read[0] or "".join(words(slot)) in read[1] for slot in slots)
