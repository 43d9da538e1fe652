"""Speculative search while the caller is still speaking, so that the result is ready when the model asks for it.

It listens to the session's transcription events, so it does nothing in text; it does not touch the chat context, so a
preemptive reply stays valid. A search starts when the partial transcript has been stable for a moment or is final. Its
result is used only for a query with the same or nearly the same words.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.status_line import polite_stems, statement_opening
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

logger = logging.getLogger(__name__)

_SENTENCE = re.compile("(?<=[.?!\u3002\uff1f\uff01\u061f])\\s*")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_MAX_TRANSCRIPT = 600
"""Characters of a turn that are considered: its end, where the question is."""


class PartialTranscript:
    """The transcript of one turn as it is recognised: final pieces, and an interim one that may still change."""

    def __init__(self) -> None:
        self._final = ""
        self._interim = ""

    def add(self, transcript: str, *, final: bool) -> bool:
        """Add a transcription; returns whether any words changed."""
        before = words(self.text)
        if final:
            self._final = f"{self._final} {transcript}".strip()[-_MAX_TRANSCRIPT:]
            self._interim = ""
        else:
            self._interim = transcript
        return words(self.text) != before

    @property
    def text(self) -> str:
        """The whole transcript so far."""
        return f"{self._final} {self._interim}".strip()


def question_in(text: str) -> str | None:
    """The sentence to search for: the last question, else the last sentence worth a search, else None."""
    worthy = [sentence.strip() for sentence in _SENTENCE.split(text[-_MAX_TRANSCRIPT:]) if is_worth_a_search(sentence)]
    asking = [sentence for sentence in worthy if sentence.endswith(_QUESTION_MARKS)]
    return next(reversed(asking or worthy), None)


def is_worth_a_search(sentence: str) -> bool:
    """Whether a sentence may be a question of substance, judged by its words alone, in microseconds.

    It is not if it states something ("remember that ..."), consists of courtesies and numbers ("yes, thank you", an
    order number), or is a single word without a question mark.
    """
    if statement_opening().match(fold(sentence.strip())):
        return False
    stems = [each for each in content_words(sentence)[0] if each not in polite_stems() and not each.isdigit()]
    return len(stems) > 1 or (
        len(stems) == 1 and (len(words(sentence)) > 2 or sentence.strip().endswith(_QUESTION_MARKS))
    )


def overlap(searched: frozenset[str], asked: frozenset[str]) -> float:
    """The share of the words in `asked` that are in `searched`, 0 to 1.

    It is 0 if they are less than a third of `searched`, because the result is then about other things as well. It is
    not symmetric, because a model's query is usually shorter than what was said.
    """
    shared = len(searched & asked)
    return shared / len(asked) if asked and 3 * shared >= len(searched) else 0.0


def stems_of(text: str) -> frozenset[str]:
    """The stems of the content words of a text."""
    return frozenset(content_words(text)[0])


LIMIT = 3
"""Passages returned by a search of the knowledge base."""
MAX_SEARCHES = 3
"""Searches per turn, one at a time."""
OVERLAP = 0.6
"""The `overlap` of content words from which a result may answer another query than its own."""


@dataclass(slots=True)
class Counts:
    """Counts of one session: early searches, and tool calls that could use one or not."""

    started: int = 0
    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class _EarlySearch:
    tenant: TenantScope
    text: str
    stems: frozenset[str]
    task: asyncio.Task[SearchResult[Passage]]


class Speculation:
    """The early searches of the current turn; they are cancelled when the next turn begins."""

    def __init__(self, search: SearchStrategy, tenant: Callable[[], TenantScope]) -> None:
        """Create it idle until `attach`; `tenant` returns the session's current tenant, which may change."""
        self.counts = Counts()
        self._search = search
        self._tenant = tenant
        self._transcript = PartialTranscript()
        self._turn_is_over = False
        self._started = 0
        self._searches: list[_EarlySearch] = []
        self._rerun = False
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Task[Any] | None = None

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to an AgentSession until it closes."""
        session.on("user_input_transcribed", self._on_transcribed)
        session.on("conversation_item_added", self._on_item)
        session.on("agent_state_changed", self._on_state)
        session.on("close", self._on_close)
        # The stop word lists take half a second to load, which must not delay the first search.
        self._warming = asyncio.create_task(asyncio.to_thread(question_in, "Is it warm?"))

    def report(self) -> dict[str, int]:
        """The counts, for the session report."""
        return asdict(self.counts)

    async def knowledge(self, query: str) -> SearchResult[Passage] | None:
        """Await and return the result of an early search that matches `query`; None if there is none."""
        early = self._matching(query)
        if early is None:
            return None
        if not early.task.done():
            await asyncio.wait({early.task})
        if early.task.cancelled() or early.task.exception():
            self.counts.misses += 1
            return None
        self.counts.hits += 1
        return early.task.result()

    def similar_query(self, query: str) -> str | None:
        """The text of an early search that matches `query`, so that its vector can be reused; None if there is none."""
        early = self._matching(query)
        if early is not None:
            self.counts.hits += 1
        return early.text if early else None

    def _matching(self, query: str) -> _EarlySearch | None:
        if not self._transcript.text:
            return None  # nothing was transcribed: a session in text
        stems = stems_of(query)
        tenant = self._tenant()
        searches = [early for early in self._searches if early.tenant == tenant]
        best = max(searches, key=lambda early: overlap(early.stems, stems), default=None)
        if best is not None and overlap(best.stems, stems) >= OVERLAP:
            return best
        # The tool now searches itself: another early search in this turn would be too late.
        self._stop_timer()
        self._rerun = False
        self.counts.misses += 1
        return None

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        if not event.transcript.strip():
            return
        if self._turn_is_over:
            self._begin_turn()
        changed = self._transcript.add(event.transcript, final=event.is_final)
        if not (changed or event.is_final):
            return
        self._stop_timer()
        if event.is_final:
            self._search_if_new()
        else:
            self._timer = asyncio.get_running_loop().call_later(deadlines.STABLE_TRANSCRIPT, self._search_if_new)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if getattr(event.item, "role", None) == "user":
            self._turn_is_over = True

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._turn_is_over = True

    def _on_close(self, _event: CloseEvent) -> None:
        self._begin_turn()

    def _begin_turn(self) -> None:
        self._stop_timer()
        for early in self._searches:
            early.task.cancel()
        self._searches = []
        self._transcript = PartialTranscript()
        self._turn_is_over = False
        self._started = 0
        self._rerun = False

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _search_if_new(self) -> None:
        """Search for the question in the transcript unless a search matches it; after the one that is running."""
        text = question_in(self._transcript.text)
        if text is None or self._started >= MAX_SEARCHES:
            return
        stems = stems_of(text)
        if any(overlap(early.stems, stems) >= OVERLAP for early in self._searches):
            return
        if any(not early.task.done() for early in self._searches):
            self._rerun = True
            return
        self._started += 1
        self.counts.started += 1
        tenant = self._tenant()
        task = asyncio.create_task(self._search.knowledge(tenant, text, limit=LIMIT))
        task.add_done_callback(self._done(self._transcript))
        self._searches.append(_EarlySearch(tenant, text, stems, task))

    def _done(self, turn: PartialTranscript) -> Callable[[asyncio.Task[Any]], None]:
        def done(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and (error := task.exception()):
                logger.debug("an early search failed; the tool will search again: %s", error)
            if turn is self._transcript and self._rerun:
                self._rerun = False
                self._search_if_new()

        return done
