"""The record of a call: its turns as they complete, and at the end when, why and with what report.

A turn is written in the background and never delays speech. It is noted on this machine at once, so that not even a
process that is killed loses it, and the note goes when MongoDB has the turn. Items reach us out of order (a tool call
comes by an event of its own, after the words that precede it), so they wait for a moment and go out sorted by the time
at which they were made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.turns import turn_of, turn_of_tool
from lkmongo.aio import level_of
from lkmongo.backoff import retry_pause
from lkmongo.errors import DatabaseUnavailableError, LkmongoError
from lkmongo.model import SessionRecord, SessionStatus, Turn, UserScope, clean, now
from lkmongo.outbox.backlog import WAS, Backlog, unless_it_hangs
from lkmongo.outbox.journal import Entry
from lkmongo.outbox.lease import Lease, SupersededError
from lkmongo.outbox.recovery import turn_entry
from lkmongo.store.open import Store
from lkmongo.store.people.tombstones import ErasedError
from lkmongo.store.sessions.sessions import TakenError

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent

logger = logging.getLogger(__name__)

_PORTION = 100
"""Turns that are stored at once, so that of many on a slow line each attempt gets some through."""


class Recorder:
    """Writes one call to the store."""

    def __init__(
        self,
        store: Store,
        scope: UserScope,
        session_id: str,
        room_name: str,
        backlog: Backlog | None = None,
        *,
        participant_identity: str | None = None,
        agent: str | None = None,
        agent_participant: str | None = None,
        livekit: str | None = None,
    ) -> None:
        """Nothing is written before `start`; `backlog` keeps on disk what MongoDB does not take."""
        self.record = SessionRecord(
            session_id,
            scope,
            room_name,
            SessionStatus.ACTIVE,
            now(),
            participant_identity=participant_identity,
            agent=agent,
            agent_participant=agent_participant,
            livekit=livekit,
        )
        self.turns: list[Turn] = []
        self.error: LkmongoError | None = None
        self.facts: dict[str, Callable[[], Any]] = {}
        """What goes into the report beside what the SDK reports; asked for at the end."""
        self.lease = Lease(store, self.record)
        self.lease.when_lost(self._drop)
        self.is_kept = False
        self._store = store
        self._backlog = backlog or Backlog()
        self._news = asyncio.Event()
        self._waiting: list[Turn] = []
        self._seen: set[str] = set()
        self._noted: set[str] = set()
        self._noting: asyncio.Task[None] | None = None
        self._written = self._struck_out = 0
        self._first_seq: int | None = None
        self._left_behind: list[UserScope] = []
        self._lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to the session, and write that the call has begun."""
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)
        self.start()

    def start(self) -> None:
        """Write that the call has begun, and go on writing."""
        self.lease.start()
        self._news.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_on())

    async def move_to(self, scope: UserScope) -> None:
        """Let the call be another person's from now on, with everything that was said so far; `start` writes that.

        What was written for the one before is deleted when it is written for the other.
        """
        async with self._lock:
            before, self.lease = self.lease, Lease(self._store, replace(self.record, scope=scope))
            self.lease.said_since(before.call_began)
            self._left_behind.append(self.record.scope)
            self.record = replace(self.record, scope=scope)
            self.lease.when_lost(self._drop)
            self._written, self._struck_out, self._first_seq = 0, 0, None
            self._noted.clear()
        await before.release()
        await self._backlog.begin_again()

    @property
    def erased(self) -> bool:
        """Whether the person was erased during the call, so that nothing of it is stored."""
        return self.lease.lost

    def _drop(self) -> None:
        self._waiting.clear()
        self.turns.clear()
        self._noted.clear()
        self._written = self._struck_out = 0
        self._news.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        self._add(turn_of(event.item))

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._add(turn_of_tool(call, output))

    def _add(self, turn: Turn | None) -> None:
        if turn is None or turn.item_id in self._seen or self.erased or self.lease.superseded:
            return
        self._seen.add(turn.item_id)
        self._waiting.append(turn)
        self._news.set()
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note())

    async def _note(self) -> None:
        """Note the turns that have come since; at once, for this process may be killed at any time."""
        try:
            while new := self._not_noted():
                if not await self._put(new, safe=False):
                    return
        except Exception:
            logger.exception("what was said is not noted")

    def _not_noted(self) -> list[Turn]:
        """The turns that are neither stored nor on the disk, numbered as they would be if no other one came late."""
        waiting = [replace(turn, seq=seq) for seq, turn in enumerate(self._waiting, len(self.turns))]
        return [turn for turn in [*self.turns[self._written :], *waiting] if turn.item_id not in self._noted]

    async def _put(self, turns: list[Turn], *, safe: bool) -> bool:
        """Put turns on the disk; returns whether they, and with `safe` all before them, are there."""
        first = self._first_seq
        entries: dict[Hashable, Entry] = {
            turn.item_id: turn_entry(replace(turn, seq=turn.seq + (first or 0)), is_numbered=first is not None)
            for turn in turns
        }
        if not await self._backlog.keep(entries, safe=safe):
            return False
        self._noted.update(turn.item_id for turn in turns)
        return True

    async def _write_on(self) -> None:
        """Store what comes, and while MongoDB takes nothing keep it on disk and try again."""
        await unless_it_hangs(self._backlog.open())
        failed = 0
        while True:
            pause = retry_pause(failed) if failed else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
            if self._news.is_set():
                self._news.clear()
                await asyncio.sleep(deadlines.TURN_ORDER)
            try:
                await self._attempt(self._flush(), deadlines.RECORD_ATTEMPT)
            except ErasedError:
                with suppress(LkmongoError):  # else the guest's copy stays until it is erased, or too old
                    await self._discard_left_behind()
                await unless_it_hangs(self._backlog.end(delete=True))
                return
            except SupersededError:
                await self._keep()  # what was said before belongs to the call, and is put into it when that is over
                return
            except LkmongoError as error:
                if self.error is None:
                    logger.log(level_of(error), "the call is not recorded for now: %s (%s)", error.message, error.why)
                self.error = error
                failed += 1
                await self._keep()
            except Exception:
                logger.exception("the call is not recorded for now")
                failed += 1
                await self._keep()
            else:
                failed = 0

    async def _attempt(self, work: Coroutine[Any, Any, None], deadline: float) -> None:
        """Await `work`, and have what it is to store on disk when it takes longer than a moment.

        Raises:
            DatabaseUnavailableError: it takes longer than `deadline` seconds.
        """
        task = asyncio.create_task(work)
        try:
            until = asyncio.get_running_loop().time() + deadline
            while not task.done() and (left := until - asyncio.get_running_loop().time()) > 0:
                if self.error:
                    await self._keep()
                await asyncio.wait({task}, timeout=min(left, deadlines.ACKNOWLEDGED))
                if not task.done():
                    await self._keep()
            if not task.done():
                raise DatabaseUnavailableError(why="it does not answer")
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _order(self) -> None:
        """Give the turns that have come since their numbers."""
        waiting, self._waiting = sorted(self._waiting, key=lambda turn: turn.created_at), []
        for turn in waiting:
            self.turns.append(replace(turn, seq=len(self.turns)))

    async def _keep(self) -> bool:
        """Have the turns that are not stored on the disk, whatever happens to the machine; returns whether they are."""
        if self.erased:
            return False
        kept = asyncio.create_task(self._put(self._not_noted(), safe=True))
        return await unless_it_hangs(kept) and kept.result()

    async def _flush(self) -> None:
        async with self._lock:
            self._order()
            scope, session_id = self.record.scope, self.record.session_id
            pending = self.turns[self._written :]
            async with self.lease.writing():
                if self._first_seq is None:
                    sessions = self._store.sessions
                    self._first_seq = await sessions.next_seq(scope, session_id) if self.lease.continues else 0
            for start in range(0, len(pending), _PORTION):
                portion = pending[start : start + _PORTION]
                async with self.lease.writing():  # each anew: together they may take longer than a lease
                    await self._append([replace(turn, seq=turn.seq + self._first_seq) for turn in portion])
                    self._written += len(portion)
            done = self._written  # those of an attempt that was given up in between included
            ids = [turn.item_id for turn in self.turns[self._struck_out : done]]
            if await unless_it_hangs(self._backlog.stored(ids)):
                self._struck_out = done
            for before in self._left_behind:
                await self._take_over(before)
            if self._left_behind:
                await self._discard_left_behind()
                await unless_it_hangs(self._backlog.stored([WAS]))
            self.error = None

    async def _take_over(self, before: UserScope) -> None:
        """Let what an agent before this one has recorded of a guest be the person's whom they have shown to be."""
        scope, session_id, sessions = self.record.scope, self.record.session_id, self._store.sessions
        async with self.lease.writing():
            turns = [(turn, True) for turn in await sessions.turns(before, session_id)]
            if await sessions.append_missing(scope, session_id, turns):
                self._first_seq = await sessions.next_seq(scope, session_id) - self._written

    async def _discard_left_behind(self) -> None:
        """Delete what was recorded for the guest that the caller was at first."""
        while self._left_behind:
            await self._store.sessions.discard(self._left_behind[0], self.record.session_id)
            self._left_behind.pop(0)

    async def _append(self, turns: list[Turn]) -> None:
        scope, session_id, sessions = self.record.scope, self.record.session_id, self._store.sessions
        try:
            await sessions.append(scope, session_id, turns)
        except TakenError:
            # An agent whose worker seemed dead has written still, or what it had left on its disk came later.
            await self.lease.check()
            await sessions.append_missing(scope, session_id, [(turn, True) for turn in turns])
            written = self._written + len(turns)
            self._first_seq = await sessions.next_seq(scope, session_id) - written

    async def close(
        self,
        reason: str,
        report: Callable[[], dict[str, Any]],
        deadline: float = deadlines.RECORD_END,
        *,
        ended_at: datetime | None = None,
        beside: Coroutine[Any, Any, None] | None = None,
    ) -> bool:
        """Write what is left and how the call ended: the last thing that a call writes; the lease's `release` follows.

        What MongoDB does not take stays on disk, and `is_kept` says so.

        Args:
            reason: why it ended, in a word or two.
            report: makes the session report; an error in it loses the report, and nothing else.
            deadline: seconds that this may take.
            ended_at: when the call ended; by default now.
            beside: stores what else is left of the call; it is waited for, and does not keep the record waiting.

        Returns:
            Whether everything is stored that is to be stored.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        await self.lease.release(deadline)
        if self._noting:
            await unless_it_hangs(self._noting)
        try:
            facts = clean(report() | {name: fact() for name, fact in self.facts.items()})
        except Exception:
            logger.exception("there is no session report")
            facts = {}
        self.record = replace(
            self.record,
            status=SessionStatus.COMPLETE,
            ended_at=ended_at or now(),
            close_reason=reason,
            report=facts,
        )
        # With turns to write, the two connections are the record's first.
        other = asyncio.create_task(beside) if beside and not self._unwritten else beside
        try:
            is_stored = await self._end(until)
        finally:
            if self._writer:  # not before: what it writes just now would be cut off, and its connection with it
                self._writer.cancel()
                await asyncio.gather(self._writer, return_exceptions=True)
            if other:
                await other
        await unless_it_hangs(self._backlog.end(delete=self.erased, when_clear=True))
        return is_stored

    @property
    def _unwritten(self) -> bool:
        return bool(self._waiting) or self._written < len(self.turns)

    async def _end(self, until: float) -> bool:
        """Write the end, or put it on the disk; returns whether it is written, and nothing is left to be done."""
        loop = asyncio.get_running_loop()
        try:
            patience = deadlines.AWAY if self.error else until - loop.time()
            await self._attempt(self._finish(), max(deadlines.AWAY, patience))
        except ErasedError:
            await self.lease.release(until - loop.time())
        except SupersededError:
            self.is_kept = await self._keep() and not self._backlog.is_clear
            return False
        except LkmongoError as error:
            logger.log(level_of(error), "the call could not be stored: %s (%s)", error.message, error.why)
            record = self.record
            end: Entry = {
                "op": "end",
                "reason": record.close_reason,
                "ended_at": record.ended_at,
                "report": record.report,
            }
            kept = await self._keep()
            ended = asyncio.create_task(self._backlog.keep({"end": end}))
            self.is_kept = await unless_it_hangs(ended) and ended.result() and kept
            return False
        return True

    async def _finish(self) -> None:
        """Write the last turns and the end: beside each other, where no other agent may have written of this call.

        Both are within the lease, which stands until the last write is acknowledged: an erasure waits for it.
        """
        if self.lease.continues or self._left_behind:
            await self._flush()
            await self._save()
            return
        for outcome in await asyncio.gather(self._flush(), self._save(), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _save(self) -> None:
        sessions, owner = self._store.sessions, self.lease.owner
        async with self.lease.writing():
            if self._is_saved(await sessions.save(self.record, owner=owner, keep_lease=True)):
                return
        await self.lease.check()  # it may have been another's since the last look, or nobody's
        if not self._is_saved(await sessions.save(self.record, owner=owner, keep_lease=True)):
            raise SupersededError

    def _is_saved(self, done: bool) -> bool:
        self.lease.ended = done
        return done

    @property
    def so_far(self) -> list[Turn]:
        """The turns in their order, those that are not stored yet included."""
        return [*self.turns, *sorted(self._waiting, key=lambda turn: turn.created_at)]
