"""Searching while the caller is still speaking, so that the answer is there when the model asks for it.

The words come from an event of the session, with a voice only; nothing here touches the chat context, so a reply that
the model has begun early stays valid. A search begins when the partial transcript has been stable for a moment, or when
the recogniser says that it is final. Its result is used only for a query of the same words, or of nearly the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lkmongo.agent.status_line import polite_stems, telling
from lkmongo.model import Passage, TenantScope
from lkmongo.search.strategy import SearchResult, SearchStrategy
from lkmongo.search.words import content_words, fold, words

if TYPE_CHECKING:
    from livekit.agents import (
        AgentSession,
        AgentStateChangedEvent,
        CloseEvent,
        ConversationItemAddedEvent,
        UserInputTranscribedEvent,
    )

_SENTENCE = re.compile("(?<=[.?!\u3002\uff1f\uff01\u061f])\\s*")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_MAX_HEARD = 600
"""Characters of a turn that are looked at: its end, where the question is."""


class Turn:
    """The words of one turn as the recogniser gives them: final pieces, and one that may still change."""

    def __init__(self) -> None:
        """Nothing is said yet."""
        self._final = ""
        self._interim = ""

    def add(self, transcript: str, *, final: bool) -> bool:
        """Take what was recognised; returns whether words were added, dropped or changed."""
        before = words(self.text)
        if final:
            self._final = f"{self._final} {transcript}".strip()[-_MAX_HEARD:]
            self._interim = ""
        else:
            self._interim = transcript
        return words(self.text) != before

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self._final} {self._interim}".strip()


def question_in(text: str) -> str | None:
    """The sentence to search for: the last that asks something, else the last worth a search, else None."""
    worthy = [sentence.strip() for sentence in _SENTENCE.split(text[-_MAX_HEARD:]) if is_worth_a_search(sentence)]
    asking = [sentence for sentence in worthy if sentence.endswith(_QUESTION_MARKS)]
    return next(reversed(asking or worthy), None)


def is_worth_a_search(sentence: str) -> bool:
    """Whether a sentence may be a question of substance; decided by its words alone, in microseconds.

    It is not when it only tells something ("remember that ..."), has nothing but courtesies and numbers ("yes,
    thank you", an order number), or is a single word that is no question.
    """
    if telling().match(fold(sentence.strip())):
        return False
    stems = [each for each in content_words(sentence)[0] if each not in polite_stems() and not each.isdigit()]
    return len(stems) > 1 or (
        len(stems) == 1 and (len(words(sentence)) > 2 or sentence.strip().endswith(_QUESTION_MARKS))
    )


def overlap(searched: frozenset[str], asked: frozenset[str]) -> float:
    """How much of what is asked was searched for already: the share of its words that are among those, 0 to 1.

    It is 0 when they are less than a third of the words that were searched for: the result is then about other things,
    too. A model's query is shorter than what was said, as a rule; a measure that counts both alike would hold that
    against it.
    """
    shared = len(searched & asked)
    return shared / len(asked) if asked and 3 * shared >= len(searched) else 0.0


def stems_of(text: str) -> frozenset[str]:
    """The stems of the words that say what a text is about."""
    return frozenset(content_words(text)[0])


logger = logging.getLogger(__name__)

LIMIT = 3
"""Passages that a search of the knowledge base returns."""
SETTLED = 0.45
"""Seconds without a new word after which the words count as stable. At three words a second they are 0.33 s apart:
less would search half questions, and each search costs an embedding."""
MAX_STARTS = 3
"""Searches of one turn; one is under way at a time."""
OVERLAP = 0.6
"""The overlap of content words (`heard.overlap`) from which a result answers another query than its own."""


@dataclass(slots=True)
class Counts:
    """How it went in one call: searches begun early, and tools that found theirs among them or did not."""

    started: int = 0
    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class _Guess:
    """A search that was begun before it was asked for."""

    tenant: TenantScope
    text: str
    stems: frozenset[str]
    task: asyncio.Task[SearchResult[Passage]]


class Speculation:
    """The searches of the turn that is going on; those of the last one are dropped when the next begins."""

    def __init__(self, search: SearchStrategy, tenant: Callable[[], TenantScope]) -> None:
        """Search in the knowledge of whose call it is at the time. Nothing happens before `attach`."""
        self.counts = Counts()
        self._search = search
        self._tenant = tenant
        self._turn = Turn()
        self._answered = False
        self._started = 0
        self._guesses: list[_Guess] = []
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Task[Any] | None = None

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to the session until it closes."""
        session.on("user_input_transcribed", self._on_transcribed)
        session.on("conversation_item_added", self._on_item)
        session.on("agent_state_changed", self._on_state)
        session.on("close", self._on_close)
        # The lists of stop words take half a second to load, which no word of the caller shall wait for.
        self._warming = asyncio.create_task(asyncio.to_thread(question_in, "Is it warm?"))

    def report(self) -> dict[str, int]:
        """The counts, for the report of the call."""
        return asdict(self.counts)

    # ------------------------------------------------------------------ what the tools ask for

    async def knowledge(self, query: str) -> SearchResult[Passage] | None:
        """The result of a search that was begun early and fits `query`, waited for; None when there is none."""
        guess = self._fitting(query)
        if guess is None:
            return None
        if not guess.task.done():
            await asyncio.wait({guess.task})
        if guess.task.cancelled() or guess.task.exception():
            self.counts.misses += 1
            return None
        self.counts.hits += 1
        return guess.task.result()

    def nearly(self, query: str) -> str | None:
        """The words of a search that fits `query`, whose vector is there or about to be; None when there are none."""
        guess = self._fitting(query)
        if guess is not None:
            self.counts.hits += 1
        return guess.text if guess else None

    def _fitting(self, query: str) -> _Guess | None:
        if not self._turn.text:
            return None  # nobody was heard: a call in text
        stems = stems_of(query)
        tenant = self._tenant()
        ours = [guess for guess in self._guesses if guess.tenant == tenant]
        best = max(ours, key=lambda guess: overlap(guess.stems, stems), default=None)
        if best is not None and overlap(best.stems, stems) >= OVERLAP:
            return best
        # The tool searches itself now: another early search of this turn would come too late.
        self._stop_timer()
        self._again = False
        self.counts.misses += 1
        return None

    # ------------------------------------------------------------------ what is heard

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        if not event.transcript.strip():
            return
        if self._answered:
            self._begin_turn()
        changed = self._turn.add(event.transcript, final=event.is_final)
        if not (changed or event.is_final):
            return
        self._stop_timer()
        if event.is_final:
            self._consider()
        else:
            self._timer = asyncio.get_running_loop().call_later(SETTLED, self._consider)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if getattr(event.item, "role", None) == "user":
            self._answered = True

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._answered = True

    def _on_close(self, _event: CloseEvent) -> None:
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._stop_timer()
        for guess in self._guesses:
            guess.task.cancel()
        self._guesses = []
        self._turn = Turn()
        self._answered = False
        self._started = 0
        self._again = False

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------ searching

    def _consider(self) -> None:
        """Begin a search for what was heard, unless there is one that fits; after the one that is under way."""
        text = question_in(self._turn.text)
        if text is None or self._started >= MAX_STARTS:
            return
        stems = stems_of(text)
        if any(overlap(guess.stems, stems) >= OVERLAP for guess in self._guesses):
            return
        if any(not guess.task.done() for guess in self._guesses):
            self._again = True
            return
        self._started += 1
        self.counts.started += 1
        tenant = self._tenant()
        task = asyncio.create_task(self._search.knowledge(tenant, text, limit=LIMIT))
        task.add_done_callback(self._done(self._turn))
        self._guesses.append(_Guess(tenant, text, stems, task))

    def _done(self, turn: Turn) -> Callable[[asyncio.Task[Any]], None]:
        def done(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and (error := task.exception()):
                logger.debug("an early search failed; the tool will search again: %s", error)
            if turn is self._turn and self._again:
                self._again = False
                self._consider()

        return done
