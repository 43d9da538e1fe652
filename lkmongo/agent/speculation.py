"""Searching while the caller still speaks, so that the answer is there when the model asks for it.

The words come by an event of the session, with a voice only; nothing here touches the chat context, so that a reply
which the model has begun early stays valid. A search begins when the words have stood still for a moment, or when the
recogniser says that they are final. Its result is used only for a query of the same words, or of nearly the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lkmongo.agent.heard import Turn, overlap, question_in, stems_of
from lkmongo.model import Passage, Tenant
from lkmongo.search.strategy import SearchResult, SearchStrategy

if TYPE_CHECKING:
    from livekit.agents import (
        AgentSession,
        AgentStateChangedEvent,
        CloseEvent,
        ConversationItemAddedEvent,
        UserInputTranscribedEvent,
    )

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

    tenant: Tenant
    text: str
    stems: frozenset[str]
    task: asyncio.Task[SearchResult[Passage]]


class Speculation:
    """The searches of the turn that is going on; those of the last one are dropped when the next begins."""

    def __init__(self, search: SearchStrategy, tenant: Callable[[], Tenant]) -> None:
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
