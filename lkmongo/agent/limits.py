"""What one caller may: bounds of a call and of a person, each told in a sentence when it is reached.

What was accepted before is never taken back: a message that is let in is answered or at least recorded, a change that
is made is stored, and who has more than new callers may have keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lkmongo import deadlines
from lkmongo.agent.slots import Slots
from lkmongo.backoff import retry_pause
from lkmongo.errors import LimitError, LkmongoError
from lkmongo.model import Fact, now
from lkmongo.outbox.lease import Lease
from lkmongo.store.open import Store
from lkmongo.store.people.memories import bytes_of
from lkmongo.tenants import Limits

if TYPE_CHECKING:
    from livekit.agents import AgentSession, SpeechHandle

logger = logging.getLogger(__name__)

MINUTE = 60.0
WARNED_BEFORE = timedelta(minutes=1)
"""How long before the end of a call its caller is told."""
TOO_FAST = "That was a lot in one minute. Please wait a moment, then say the rest again."
"""The answer to what was said when it is too much; typed messages have `agent.typed_text.TOO_MANY`."""
ONE_MINUTE_LEFT = "We have one minute left in this call."
TIME_IS_UP = "Our time for this call is up. Please call again if there is more to say. Goodbye."
TOO_MANY_CALLS = "You are in other calls already, so I have to end this one. Please end one of them, and call again."
TIME_LIMIT, CALL_LIMIT = "time limit", "too many calls"
"""Close reasons."""


class Allowance:
    """What the caller of one session still may, and how often it was too much."""

    def __init__(self, limits: Limits) -> None:
        """Refuse nothing yet; messages and changes are bounded once the session `is_call`, one in a room."""
        self.limits = limits
        self.is_call = False
        self._refused: Counter[str] = Counter()
        self._changes = 0
        self._said: deque[float] = deque(maxlen=limits.messages + 1)
        """When the last messages came."""
        self._admitted = 0
        """Typed messages that are counted already, and to become part of the conversation."""

    def admit(self) -> bool:
        """Count a typed message that is about to be answered; False if it is too much, and must not be."""
        if self.is_call and self._in_a_minute() >= self.limits.messages:
            return self.refuse()
        self._said.append(time.monotonic())
        self._admitted += 1
        return True

    def refuse(self) -> Literal[False]:
        """Count a typed message that is not answered."""
        self._refused["messages"] += 1
        return False

    def passed_over(self) -> None:
        """A typed message that was admitted does not become part of the conversation."""
        self._admitted -= 1

    def heard(self) -> None:
        """Count what the caller said, unless it was typed and admitted."""
        if self._admitted:
            self._admitted -= 1
            return
        self._said.append(time.monotonic())
        if self.is_flooded:
            self.refuse()

    @property
    def is_flooded(self) -> bool:
        """Whether more was said within a minute than is answered."""
        return self.is_call and self._in_a_minute() > self.limits.messages

    def _in_a_minute(self) -> int:
        began = time.monotonic() - MINUTE
        return sum(moment > began for moment in self._said)

    def change(self) -> None:
        """Count a change of what is remembered. Raises LimitError if there were too many in this call."""
        if self.is_call and self._changes >= self.limits.changes:
            self._refused["changes"] += 1
            raise LimitError(
                f"I have changed {self.limits.changes} things in this call, and must not change more: please tell me "
                "the rest in another call"
            )
        self._changes += 1

    def room(self, slots: Slots, memory: Fact) -> None:
        """Raise LimitError if a slot is one too many of its person, or makes their memories too large."""
        old = slots.all.get(memory.memory_type)
        if old is None and len(slots.all) >= self.limits.slots:
            self._refused["slots"] += 1
            raise LimitError(
                f"I remember {len(slots.all):,} things about you, and cannot take in more: ask me to forget one first"
            )
        more = bytes_of(memory) - (bytes_of(old) if old else 0)
        # A character has four bytes at most.
        if more > 0 and 4 * (slots.characters + len(memory.content)) > self.limits.bytes < slots.bytes + more:
            self._refused["bytes"] += 1
            raise LimitError(
                "there is no room for that beside what I remember about you: say it in fewer words, or ask me to "
                "forget something first"
            )

    def report(self) -> dict[str, int] | None:
        """How often what was too much, for the session report; None if nothing was."""
        return dict(self._refused) or None


async def tell(session: AgentSession[Any], sentence: str) -> None:
    """Let the agent say a sentence, after what it is saying; wait until that is said, but not for long."""
    try:
        if speech := begin_to_tell(session, sentence):
            async with asyncio.timeout(deadlines.LAST_WORDS):
                await speech.wait_for_playout()
    except TimeoutError as error:
        logger.info("the caller could not be told: %s (%s)", sentence, error)


def begin_to_tell(session: AgentSession[Any], sentence: str) -> SpeechHandle | None:
    """Let the agent say a sentence, after what it is saying; None if the session is closing, which is logged."""
    try:
        try:
            return session.say(sentence)
        except RuntimeError:  # a realtime model without a voice of its own beside it
            return session.generate_reply(instructions=f'Say this to the caller, and nothing else: "{sentence}"')
    except RuntimeError as error:
        logger.info("the caller could not be told: %s (%s)", sentence, error)
        return None


class CallWatch:
    """Ends a call that has lasted as long as it may, or that is one too many of its caller."""

    def __init__(
        self,
        session: AgentSession[Any],
        store: Store,
        lease: Callable[[], Lease],
        limits: Limits,
        finish: Callable[[str], None],
    ) -> None:
        """Watch from now on, until `stop`.

        Args:
            session: says why it ends.
            store: tells of the caller's other calls.
            lease: of the session, in the scope that it has now.
            limits: of the caller.
            finish: begins to end the call, for the reason it is given.
        """
        self._session = session
        self._store = store
        self._lease = lease
        self._limits = limits
        self._finish = finish
        self._tasks = [asyncio.create_task(self._watch_length()), asyncio.create_task(self._watch_calls())]

    def stop(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()

    async def _watch_length(self) -> None:
        ends_at = self._lease().session_began + self._limits.call_length  # with whichever agent it began
        await _sleep_until(ends_at - WARNED_BEFORE)
        await tell(self._session, ONE_MINUTE_LEFT)
        await _sleep_until(ends_at)
        await self._end(TIME_LIMIT, TIME_IS_UP)

    async def _watch_calls(self) -> None:
        """Count the caller's calls once those whose process died no longer count.

        Of calls that begin at the same time the first ones stay. If MongoDB does not answer, the call goes on.
        """
        attempt, earlier = 0, None
        while earlier is None:
            await asyncio.sleep(retry_pause(attempt) if attempt else deadlines.CALLS_COUNTED)
            lease = self._lease()
            if lease.scope.is_guest:  # who may be somebody with other calls, once they are identified
                continue
            try:
                earlier = await self._store.sessions.calls_before(
                    lease.scope, lease.session_id, lease.session_began, within=self._limits.call_length
                )
            except LkmongoError as error:
                logger.info("the caller's other calls could not be counted: %s (%s)", error.message, error.why)
                attempt += 1
        if earlier >= self._limits.calls:
            await self._end(CALL_LIMIT, TOO_MANY_CALLS)

    async def _end(self, reason: str, sentence: str) -> None:
        logger.info("the call is ended: %s", reason)
        await tell(self._session, sentence)
        self._finish(reason)


async def _sleep_until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - now()).total_seconds()))
