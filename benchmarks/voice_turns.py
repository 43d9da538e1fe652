"""When a turn is taken for over, worked out from what was heard: the same as an AgentSession does, for any setting.

A caller is silent for a while; the voice activity detector says so after a quarter of a second; the turn detector says
how likely they have finished; the recogniser says what it was. The turn is over when the shorter or the longer delay
has passed since the last speech, as likely as it is, but not before the other two are there; unless they go on before.
`benchmarks.voice` compares this with what a real session did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import percentile

HESITATING = ("hesitation", "held out")
"""The kinds of sentences with a stop to think in them."""
UNLIKELY = 0.36
"""Below this probability the turn detector takes English for unfinished: the threshold that comes with it."""
MEDIAN, P95, CUT_INS = 1.2, 2.0, 0.02
"""What is to be reached: seconds from the end of speech to the first sound of the answer, and a share of the turns."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Endpointing: seconds after the last speech at which a turn is over, and after which if it seems unfinished.

    Attributes:
        detector: whether there is a turn detector, which hears it.
        words: whether the recogniser keeps back what trails off.
    """

    shortest: float
    longest: float
    detector: bool = True
    words: bool = True

    @property
    def name(self) -> str:
        """What tells that a turn is over, and the delays."""
        who = [name for name, there in (("the turn detector", self.detector), ("words", self.words)) if there]
        delays = f"{self.shortest:g}, {self.longest:g}" if who else f"{self.shortest:g}"
        return f"{' and '.join(who) or 'voice activity alone'}: {delays}"


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence after speech.

    Attributes:
        start: seconds of the sound at which it began, as the voice activity detector hears it.
        noticed: seconds after that at which it is told.
        probability: of the turn being over.
        resumed: seconds after which there was speech again; None for the last.
        text: what was said before it, since the last one.
        trails: whether what was said so far trails off.
    """

    start: float
    noticed: float
    probability: float
    resumed: float | None
    text: str
    trails: bool = False

    def over(self, setting: Setting, known: float = 0.0) -> float:
        """Seconds after its start at which the turn is over, if nobody goes on.

        Args:
            setting: the endpointing.
            known: seconds after its start at which what was said is known.
        """
        unfinished = (setting.detector and self.probability < UNLIKELY) or (setting.words and self.trails)
        return max(setting.longest if unfinished else setting.shortest, self.noticed, known)


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a sentence, silence by silence; `end` is when it really ended."""

    kind: str
    text: str
    end: float
    pauses: tuple[Pause, ...]

    @property
    def transcript(self) -> str:
        return " ".join(pause.text for pause in self.pauses if pause.text)

    def is_cut(self, setting: Setting) -> bool:
        """Whether the turn is taken for over while the caller only stopped to think.

        What was said is taken to be known at once: a slow recogniser does not count as patience.
        """
        return any(pause.resumed is not None and pause.over(setting) < pause.resumed for pause in self.pauses[:-1])

    def waits(self, setting: Setting, known: float) -> float:
        """Seconds from the end of speech until the turn is over.

        Args:
            setting: the endpointing.
            known: seconds from the end of speech until what was said is known.
        """
        last = self.pauses[-1]
        late = last.start - self.end
        return last.over(setting, known - late) + late


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a real session, in seconds from the end of speech; None for what did not happen.

    Attributes:
        cut: whether the turn was over, or the agent spoke, before the caller had finished.
        known: what was said is known.
        over: the turn is over.
        audible: the first sound of the answer.
        cpu: seconds of the processor from the beginning of the sentence until half a second after the first sound.
        stages: further times, for those who look into it.
    """

    kind: str
    sentence: str
    cut: bool
    known: float | None
    over: float | None
    audible: float | None
    cpu: float = 0.0
    stages: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a setting does to callers.

    Attributes:
        median, p95: seconds from the end of speech to the first sound of the answer.
        cut_ins: share of the turns in which the agent began before the caller had finished.
        hesitating: that share of those who stop to think.
        turns: on how many the times stand.
        heard: on how many sentences the shares stand.
    """

    median: float
    p95: float
    cut_ins: float
    hesitating: float
    turns: int
    heard: int

    @property
    def misses(self) -> list[str]:
        """Which targets it does not meet."""
        wrong = {"median": self.median > MEDIAN, "p95": self.p95 > P95, "cut-ins": self.cut_ins > CUT_INS}
        return [name for name, missed in wrong.items() if missed]


def measured(turns: Sequence[Turn]) -> Figures:
    """What a real session did in the turns of one setting; one that was never answered counts as infinitely late."""
    late = [math.inf if turn.audible is None else turn.audible for turn in turns if not turn.cut]
    stopping = [turn.cut for turn in turns if turn.kind in HESITATING]
    return _figures(late, [turn.cut for turn in turns], stopping)


def expected(setting: Setting, turns: Sequence[Turn], heard: Sequence[Heard]) -> Figures:
    """What another setting does: the waits of real turns worked out anew, the cut-ins over all that was heard.

    Args:
        setting: the endpointing.
        turns: of a real session; what follows on the end of a turn takes as long as it took there.
        heard: all sentences, as they were heard.
    """
    by_text = {each.text: each for each in reversed(heard)}  # the first of each is the one that the session heard
    late = []
    for turn in turns:
        if turn.sentence not in by_text or turn.cut or None in (turn.audible, turn.over, turn.known):
            continue
        assert turn.audible is not None
        assert turn.over is not None
        assert turn.known is not None
        late.append(by_text[turn.sentence].waits(setting, turn.known) + turn.audible - turn.over)
    cuts = [each.is_cut(setting) for each in heard]
    stopping = [cut for each, cut in zip(heard, cuts, strict=True) if each.kind in HESITATING]
    return _figures(late, cuts, stopping)


def _figures(late: Sequence[float], cuts: Sequence[bool], stopping: Sequence[bool]) -> Figures:
    if not late:
        return Figures(math.inf, math.inf, _share(cuts), _share(stopping), 0, len(cuts))
    return Figures(_late(late, 50), _late(late, 95), _share(cuts), _share(stopping), len(late), len(cuts))


def _late(late: Sequence[float], share: float) -> float:
    found = percentile(late, share)
    return math.inf if math.isnan(found) else found  # as between two that were never answered


def _share(of: Sequence[bool]) -> float:
    return sum(of) / len(of) if of else 0.0
