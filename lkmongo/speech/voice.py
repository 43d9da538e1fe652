"""A voice on this machine: LiveKit's `tts.TTS` over hibari, which speaks English only."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from livekit.agents import APIConnectOptions, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from numpy.typing import NDArray

from lkmongo.errors import MissingExtraError
from lkmongo.speech.engine import Engine
from lkmongo.speech.local import HOW_TO_INSTALL, why_not_local

if TYPE_CHECKING:
    from hibari import Hibari

SPOKEN_RATE = 24_000
"""Samples a second of the voice."""
_SHORT = 100  # characters of a sentence that is spoken in one piece, seven seconds
_FIRST = 60  # characters of the first piece of a longer one, so that it is heard soon
_NEXT = 200  # characters of the further ones
_CLAUSE = re.compile("(?<=[,;:\u2013\u2014])\\s+")
_GAIN = 2.0  # as loud as other voices are; a sample in a hundred thousand is clipped
_SILENT = 0.002  # what nothing exceeds in the quarter of a second before its first sound, which nobody shall wait for
_ONSET = SPOKEN_RATE // 50  # samples that are left of that
_SILENCE = bytes(2 * SPOKEN_RATE // 50)  # for text without a word in it, for which the SDK wants a sound all the same


def _load() -> Hibari:
    if (missing := why_not_local()) is not None:
        raise MissingExtraError("this machine cannot speak", why=missing, hint=HOW_TO_INSTALL)
    from hibari import Hibari

    voice = Hibari(threads=1)
    voice("Hello.")  # the dictionaries are read with the first word
    return voice


engine: Engine[Hibari] = Engine("the voice", _load, lambda _: None)
"""The one of this process."""


class LocalTTS(tts.TTS[Any]):
    """Speaks English on this machine; all sessions of a process share one voice, and one core at most.

    An AgentSession hands it one sentence after the other. Closing it leaves the voice to others; `unload` is for the
    end of the process.
    """

    def __init__(self) -> None:
        """Load nothing yet: `load` does, or the first sentence."""
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SPOKEN_RATE, num_channels=1)

    @staticmethod
    def load() -> None:
        """Load the voice unless it is loaded; this blocks for about a second.

        Raises:
            MissingExtraError: it is not installed.
        """
        engine.load()

    @staticmethod
    def unload() -> None:
        """Give the memory of this process's voice back, for all of its sessions."""
        engine.unload()

    def prewarm(self) -> None:
        """Load the voice in its thread."""
        engine.load_soon()

    @property
    def model(self) -> str:
        """The model, for metrics."""
        return "hibari-heart"

    @property
    def provider(self) -> str:
        """Who runs it, for metrics."""
        return "local"

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a text; what has no word in it is a moment of silence."""
        return _Speaking(tts=self, input_text=text, conn_options=conn_options)


class _Speaking(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=SPOKEN_RATE, num_channels=1, mime_type="audio/pcm"
        )
        pieces = await engine.do(lambda voice: list(_pieces(voice.split_sentences(self.input_text))), urgent=True)
        spoken = False
        for piece in pieces:
            # While the first piece is heard, the others may wait for somebody else's.
            sound = await engine.do(partial(_sound_of, text=piece), urgent=not spoken)
            if sound:
                spoken = True
                output_emitter.push(sound)
        if not spoken:
            output_emitter.push(_SILENCE)
        output_emitter.flush()


def _sound_of(voice: Hibari, text: str) -> bytes:
    try:
        return _pcm(voice, text)
    except (ValueError, LookupError):  # some text of more than letters is too much for it, and long numbers are
        return _pcm(voice, _plain(text))


def _plain(text: str) -> str:
    """Letters of English, digits one by one and the marks between words."""
    return re.sub(r"(?<=\d)(?=\d)", " ", re.sub(r"[^A-Za-z0-9'.,;:!?-]", " ", text))


def _pcm(voice: Hibari, text: str) -> bytes:
    sound: NDArray[np.float32] = np.nan_to_num(voice(text, seed=0)) * _GAIN
    if len(loud := np.flatnonzero(np.abs(sound) > _SILENT)):
        sound = sound[max(0, loud[0] - _ONSET) :]
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes()


def _pieces(sentences: Iterable[str]) -> Iterator[str]:
    """Cut long sentences between their clauses, and at a space where there is no clause to be seen."""
    most = _FIRST
    for sentence in sentences:
        if len(sentence) <= _SHORT:
            yield sentence
            most = _NEXT
            continue
        piece = ""
        for clause in _CLAUSE.split(sentence):
            for part in textwrap.wrap(clause, _NEXT, break_on_hyphens=False):
                if piece and len(piece) + len(part) >= most:
                    yield piece
                    piece, most = part, _NEXT
                else:
                    piece = f"{piece} {part}".lstrip()
        if piece:
            yield piece
            most = _NEXT
