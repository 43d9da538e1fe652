"""The record of a session: each turn as it completes and, at the end, when and why it ended and the session report.

Turns are written in the background and never delay speech. Each is journaled at once, so that even a killed process
loses none, and removed from the journal when MongoDB has it. Items arrive out of order (a tool call comes in an event
of its own, after the words that precede it), so they are held briefly and stored sorted by creation time.
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
from lkmongo.outbox.journal import Entry
from lkmongo.outbox.lease import Lease, SupersededError
from lkmongo.outbox.outbox import PREVIOUS_SCOPE, Outbox, wait_for_disk
from lkmongo.outbox.recovery import turn_entry
from lkmongo.store.open import Store
from lkmongo.store.people.tombstones import ErasedError
from lkmongo.store.sessions.sessions import TakenError

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent
    from livekit.agents.llm import FunctionCall

logger = logging.getLogger(__name__)

_BATCH = 100
"""Turns stored per write, so that on a slow line each attempt makes progress."""


class Recorder:
    """Writes one session to the store."""

    def __init__(
        self,
        store: Store,
        scope: UserScope,
        session_id: str,
        room_name: str,
        outbox: Outbox | None = None,
        *,
        participant_identity: str | None = None,
        agent: str | None = None,
        agent_participant: str | None = None,
        livekit: str | None = None,
    ) -> None:
        """Write nothing before `start`; `outbox` journals what MongoDB has not stored."""
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
        """Additional report fields, computed at the end."""
        self.lease = Lease(store, self.record)
        self.lease.on_lost(self._clear)
        self.is_journaled = False
        self._store = store
        self._outbox = outbox or Outbox()
        self._wake = asyncio.Event()
        self._unordered: list[Turn] = []
        self._seen: set[str] = set()
        self._journaled: set[str] = set()
        self._journaling: asyncio.Task[None] | None = None
        self._stored = self._acknowledged = 0
        self._first_seq: int | None = None
        self._previous_scopes: list[UserScope] = []
        self._lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    def attach(self, session: AgentSession[Any]) -> None:
        """Record the events of an AgentSession, with what was said before, and start writing."""
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)
        calls: dict[str, FunctionCall] = {}
        for item in session.history.items:
            if item.type == "function_call":
                calls[item.call_id] = item
            elif item.type == "function_call_output" and item.call_id in calls:
                self._add(turn_of_tool(calls.pop(item.call_id), item))
            else:
                self._add(turn_of(item))
        self.start()

    def start(self) -> None:
        """Create the session document, and start writing turns in the background."""
        self.lease.start()
        self._wake.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_with_retries())

    async def change_scope(self, scope: UserScope) -> None:
        """Move the session, with everything said so far, to another person's scope; call `start` afterwards.

        What is stored under the previous scope is deleted once it is stored under the new one.
        """
        async with self._lock:
            before, self.lease = self.lease, Lease(self._store, replace(self.record, scope=scope))
            self.lease.backdate(before.session_began)
            self._previous_scopes.append(self.record.scope)
            self.record = replace(self.record, scope=scope)
            self.lease.on_lost(self._clear)
            self._stored, self._acknowledged, self._first_seq = 0, 0, None
            self._journaled.clear()
        await before.release()
        await self._outbox.reopen()

    @property
    def erased(self) -> bool:
        """Whether the person was erased during the session, so that nothing of it is stored."""
        return self.lease.lost

    def _clear(self) -> None:
        self._unordered.clear()
        self.turns.clear()
        self._journaled.clear()
        self._stored = self._acknowledged = 0
        self._wake.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        self._add(turn_of(event.item))

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._add(turn_of_tool(call, output))

    def _add(self, turn: Turn | None) -> None:
        if turn is None or turn.item_id in self._seen or self.erased or self.lease.superseded:
            return
        self._seen.add(turn.item_id)
        self._unordered.append(turn)
        self._wake.set()
        if self._journaling is None or self._journaling.done():
            self._journaling = asyncio.create_task(self._journal_new())

    async def _journal_new(self) -> None:
        """Journal new turns at once, because this process may be killed at any time."""
        try:
            while new := self._unjournaled():
                if not await self._journal(new, sync=False):
                    return
        except Exception:
            logger.exception("turns could not be journaled")

    def _unjournaled(self) -> list[Turn]:
        """The turns neither stored nor journaled, with provisional numbers: an earlier turn may still arrive."""
        unordered = [replace(turn, seq=seq) for seq, turn in enumerate(self._unordered, len(self.turns))]
        return [turn for turn in [*self.turns[self._stored :], *unordered] if turn.item_id not in self._journaled]

    async def _journal(self, turns: list[Turn], *, sync: bool) -> bool:
        """Journal turns; returns whether they are written and, with `sync`, on the disk with all before them."""
        first = self._first_seq
        entries: dict[Hashable, Entry] = {
            turn.item_id: turn_entry(replace(turn, seq=turn.seq + (first or 0)), is_numbered=first is not None)
            for turn in turns
        }
        if not await self._outbox.add(entries, sync=sync):
            return False
        self._journaled.update(turn.item_id for turn in turns)
        return True

    async def _write_with_retries(self) -> None:
        await wait_for_disk(self._outbox.open())
        failed = 0
        while True:
            pause = retry_pause(failed) if failed else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            if self._wake.is_set():
                self._wake.clear()
                await asyncio.sleep(deadlines.TURN_ORDER)
            try:
                await self._attempt(self._flush(), deadlines.RECORD_ATTEMPT)
            except ErasedError:
                with suppress(LkmongoError):  # else the guest's copy stays until it is erased or expires
                    await self._discard_previous_scopes()
                await wait_for_disk(self._outbox.close(delete=True))
                return
            except SupersededError:
                await self._sync_journal()  # recovery adds the turns that this agent still had
                return
            except LkmongoError as error:
                if self.error is None:
                    logger.log(level_of(error), "turns are not stored yet: %s (%s)", error.message, error.why)
                self.error = error
                failed += 1
                await self._sync_journal()
            except Exception:
                logger.exception("turns are not stored yet")
                failed += 1
                await self._sync_journal()
            else:
                failed = 0

    async def _attempt(self, work: Coroutine[Any, Any, None], deadline: float) -> None:
        """Await `work`, and journal what it is to store if it takes longer than `deadlines.ACKNOWLEDGED`.

        Raises:
            DatabaseUnavailableError: it takes longer than `deadline` seconds.
        """
        task = asyncio.create_task(work)
        try:
            until = asyncio.get_running_loop().time() + deadline
            while not task.done() and (left := until - asyncio.get_running_loop().time()) > 0:
                if self.error:
                    await self._sync_journal()
                await asyncio.wait({task}, timeout=min(left, deadlines.ACKNOWLEDGED))
                if not task.done():
                    await self._sync_journal()
            if not task.done():
                raise DatabaseUnavailableError(why="it does not answer")
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _number_turns(self) -> None:
        unordered, self._unordered = sorted(self._unordered, key=lambda turn: turn.created_at), []
        for turn in unordered:
            self.turns.append(replace(turn, seq=len(self.turns)))

    async def _sync_journal(self) -> bool:
        """Sync the turns that are not stored to the disk; returns whether that succeeded."""
        if self.erased:
            return False
        journaling = asyncio.create_task(self._journal(self._unjournaled(), sync=True))
        return await wait_for_disk(journaling) and journaling.result()

    async def _flush(self) -> None:
        async with self._lock:
            self._number_turns()
            scope, session_id = self.record.scope, self.record.session_id
            pending = self.turns[self._stored :]
            async with self.lease.writing():
                if self._first_seq is None:
                    sessions = self._store.sessions
                    self._first_seq = await sessions.next_seq(scope, session_id) if self.lease.continues else 0
            for start in range(0, len(pending), _BATCH):
                batch = pending[start : start + _BATCH]
                async with self.lease.writing():  # per batch: together they may take longer than a lease
                    await self._append([replace(turn, seq=turn.seq + self._first_seq) for turn in batch])
                    self._stored += len(batch)
            done = self._stored  # includes turns of an earlier attempt that was cancelled
            ids = [turn.item_id for turn in self.turns[self._acknowledged : done]]
            if await wait_for_disk(self._outbox.acknowledge(ids)):
                self._acknowledged = done
            for before in self._previous_scopes:
                await self._copy_turns(before)
            if self._previous_scopes:
                await self._discard_previous_scopes()
                await wait_for_disk(self._outbox.acknowledge([PREVIOUS_SCOPE]))
            self.error = None

    async def _copy_turns(self, before: UserScope) -> None:
        """Copy the turns that an earlier agent recorded under the guest's scope to the identified person."""
        scope, session_id, sessions = self.record.scope, self.record.session_id, self._store.sessions
        async with self.lease.writing():
            turns = [(turn, True) for turn in await sessions.turns(before, session_id)]
            if await sessions.append_missing(scope, session_id, turns):
                self._first_seq = await sessions.next_seq(scope, session_id) - self._stored

    async def _discard_previous_scopes(self) -> None:
        while self._previous_scopes:
            await self._store.sessions.discard(self._previous_scopes[0], self.record.session_id)
            self._previous_scopes.pop(0)

    async def _append(self, turns: list[Turn]) -> None:
        scope, session_id, sessions = self.record.scope, self.record.session_id, self._store.sessions
        try:
            await sessions.append(scope, session_id, turns)
        except TakenError:
            # An agent that seemed dead wrote after all, or its journal was recovered later.
            await self.lease.check()
            await sessions.append_missing(scope, session_id, [(turn, True) for turn in turns])
            written = self._stored + len(turns)
            self._first_seq = await sessions.next_seq(scope, session_id) - written

    async def close(
        self,
        reason: str,
        report: Callable[[], dict[str, Any]],
        deadline: float = deadlines.RECORD_END,
        *,
        ended_at: datetime | None = None,
        alongside: Coroutine[Any, Any, None] | None = None,
    ) -> bool:
        """Store the remaining turns and the end of the session; the lease is released afterwards.

        What MongoDB does not store stays in the journal, and `is_journaled` says so.

        Args:
            reason: why it ended, in a word or two.
            report: makes the session report; if it fails, only the report is lost.
            deadline: seconds that this may take.
            ended_at: when the session ended; now by default.
            alongside: other work of the session's end; it is awaited, but does not delay the record.

        Returns:
            Whether everything that must be stored is in MongoDB.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        await self.lease.release(deadline)
        if self._journaling:
            await wait_for_disk(self._journaling)
        try:
            facts = clean(report() | {name: fact() for name, fact in self.facts.items()})
        except Exception:
            logger.exception("the session report could not be made")
            facts = {}
        self.record = replace(
            self.record,
            status=SessionStatus.COMPLETE,
            ended_at=ended_at or now(),
            close_reason=reason,
            report=facts,
        )
        # If turns must be written, the record gets both connections first.
        side_task = asyncio.create_task(alongside) if alongside and not self._has_pending_turns else alongside
        try:
            is_stored = await self._end(until)
        finally:
            if self._writer:  # not earlier, which would cut off its current write and drop the connection
                self._writer.cancel()
                await asyncio.gather(self._writer, return_exceptions=True)
            if side_task:
                await side_task
        await wait_for_disk(self._outbox.close(delete=self.erased, when_empty=True))
        return is_stored

    @property
    def _has_pending_turns(self) -> bool:
        return bool(self._unordered) or self._stored < len(self.turns)

    async def _end(self, until: float) -> bool:
        """Store the end of the session, or journal it; returns whether nothing is left to be stored."""
        loop = asyncio.get_running_loop()
        try:
            patience = deadlines.AWAY if self.error else until - loop.time()
            await self._attempt(self._finish(), max(deadlines.AWAY, patience))
        except ErasedError:
            await self.lease.release(until - loop.time())
        except SupersededError:
            self.is_journaled = await self._sync_journal() and not self._outbox.is_empty
            return False
        except LkmongoError as error:
            logger.log(level_of(error), "the session could not be stored: %s (%s)", error.message, error.why)
            record = self.record
            end: Entry = {
                "op": "end",
                "reason": record.close_reason,
                "ended_at": record.ended_at,
                "report": record.report,
            }
            journaling = await self._sync_journal()
            ended = asyncio.create_task(self._outbox.add({"end": end}))
            self.is_journaled = await wait_for_disk(ended) and ended.result() and journaling
            return False
        return True

    async def _finish(self) -> None:
        """Store the last turns and the record: concurrently, unless another agent may have written to this session.

        Both hold the lease until the last write is acknowledged, so that an erasure waits for them.
        """
        if self.lease.continues or self._previous_scopes:
            await self._flush()
            await self._save_record()
            return
        for outcome in await asyncio.gather(self._flush(), self._save_record(), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _save_record(self) -> None:
        sessions, owner = self._store.sessions, self.lease.owner
        async with self.lease.writing():
            if self._note_saved(await sessions.save(self.record, owner=owner, keep_lease=True)):
                return
        await self.lease.check()  # the lease may have expired or been taken over since the last check
        if not self._note_saved(await sessions.save(self.record, owner=owner, keep_lease=True)):
            raise SupersededError

    def _note_saved(self, done: bool) -> bool:
        self.lease.ended = done
        return done

    @property
    def all_turns(self) -> list[Turn]:
        """The turns in order, including those that are not stored yet."""
        return [*self.turns, *sorted(self._unordered, key=lambda turn: turn.created_at)]
