"""The record of a session: each turn as it completes and, at the end, when and why it ended and the session report.

The recorder turns LiveKit's events into operations of the outbox, which never delays speech.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.turns import turn_of, turn_of_tool
from lkmongo.conversation import masks_of
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, clean, now
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.operations import AddTurn, AmendTurn, CountRedacted, End, Notify
from lkmongo.outbox.outbox import Outbox
from lkmongo.store.people.take_back import Known, without_data
from lkmongo.store.sessions.documents import summary_fields
from lkmongo.store.sessions.transcript import TYPED
from lkmongo.store.sessions.webhooks import new_event_id
from lkmongo.ticket import Ticket

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent
    from livekit.agents.llm import ChatItem, FunctionCall

    from lkmongo.store.sessions.sessions import Sessions
    from lkmongo.summary import Summary

logger = logging.getLogger(__name__)


class Recorder:
    """Records one session in its outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self.facts: dict[str, Callable[[], Any]] = {}
        """Additional report fields, computed at the end; None for one that is left out."""
        self._outbox = outbox
        self._turns: dict[str, Turn] = {}
        self._kept: dict[str, Turn] = {}
        self._undecided: list[Turn] | None = None
        self._typed: tuple[str, float] | None = None
        self._waits_since: float | None = None
        outbox.on_erased(self._turns.clear)
        outbox.on_erased(self._kept.clear)

    def attach(self, session: AgentSession[Any]) -> None:
        """Record the events of an AgentSession, with what was said before."""
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

    def resume_after(self, turns: Sequence[Turn]) -> None:
        """Record what follows turns that an agent before has recorded."""
        self.lease.backdate(min((turn.created_at for turn in turns), default=None))
        self._outbox.conversation.resume(turns)

    def start(self) -> None:
        """Create the session document and its journal, and renew its lease from now on."""
        self._outbox.start()

    def on_acquired(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the session may write: at first, and again as another person's."""
        self._outbox.on_acquired(callback)

    def on_logged_out(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the visitor logs out during the session."""
        self._outbox.on_logged_out(callback)

    async def change_scope(self, scope: UserScope, ticket: Ticket | None = None, trust: str | None = None) -> None:
        """Move the session, with everything said so far, to another person's scope; call `start` afterwards.

        What is stored under the previous scope is deleted once it is stored under the new one.
        """
        if scope.tenant_id != self.record.scope.tenant_id:
            self._kept = {turn.item_id: turn for turn in self._outbox.redacted_for(scope, self.kept)}
        await self._outbox.change_scope(replace(self.record, scope=scope, ticket=ticket, trust=trust), self.kept)
        self._count_redacted()

    async def take_back(self, guest: UserScope, known: Known) -> None:
        """As `change_scope`, to a guest's, as the person has not spoken: nothing of the session stays with them."""
        self._turns, self._kept = (
            {item_id: without_data(each) for item_id, each in turns.items()} for turns in (self._turns, self._kept)
        )
        record = replace(self.record, scope=guest, ticket=None, trust=None)
        await self._outbox.take_back(record, self.kept, known)
        self._count_redacted()

    @property
    def record(self) -> SessionRecord:
        """The session as it began."""
        return self._outbox.record

    @property
    def lease(self) -> Lease:
        return self._outbox.lease

    def has_dropped(self, turn: Turn) -> bool:
        """Whether a turn was said while nothing might be kept, so that it is told nowhere."""
        return self._outbox.has_dropped(turn)

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Hold the lease for writes beside the record; see `Outbox.writing`."""
        return self._outbox.writing()

    @property
    def erased(self) -> bool:
        """Whether the person was erased during the session, or is not the caller, so that nothing of it is stored."""
        return self.lease.lost

    @property
    def is_held(self) -> bool:
        """Whether nothing of the session may be stored, as its caller has not agreed to it."""
        return self._outbox.is_held

    @property
    def is_journaled(self) -> bool:
        """Whether something is not in MongoDB, and all of that is on disk."""
        return not self._outbox.is_empty and self._outbox.is_kept

    @property
    def changes(self) -> int:
        """How many memories and profile fields of the person were set or forgotten."""
        return len(self._outbox.changed)

    @property
    def turns(self) -> list[Turn]:
        """The turns as they were heard, in the order in which they were made."""
        return sorted(self._turns.values(), key=lambda turn: turn.created_at)

    @property
    def kept(self) -> list[Turn]:
        """The turns as they are stored, redacted, in the order in which they were made."""
        return sorted(self._kept.values(), key=lambda turn: turn.created_at)

    def for_model(self, item_id: str, words: str) -> str:
        """The caller's words as a model may have them: a secret that is masked in the record is masked there, too."""
        kept = self._kept.get(item_id)
        if kept is None:
            return self._outbox.conversation.for_model(words)
        return kept.content or "" if masks_of(kept)["secret"] else words

    def hold_turns(self) -> None:
        """Keep what is said in memory until `take_turns`: a machine may be saying it, of which nothing is recorded."""
        self._undecided = []

    def take_turns(self) -> None:
        """A person is talking: record what was said so far, and what follows."""
        said, self._undecided = self._undecided or [], None
        for turn in said:
            self._add(turn)

    async def attempted(self, scope: UserScope) -> None:
        """Make this the record of an attempt to reach somebody with whom nobody has talked; without a turn."""
        self._undecided = []
        await self.change_scope(scope)
        self.start()

    def has_heard(self, item_id: str) -> bool:
        """Whether a turn is a part of the conversation, recorded or not yet."""
        return item_id in self._turns or any(each.item_id == item_id for each in self._undecided or ())

    def note(self, item: ChatItem) -> None:
        """Record an item that did not become part of the conversation, such as a message that was not answered."""
        self._add(turn_of(item))

    def await_pin(self, awaited: bool, *, settled: bool = False) -> None:
        """A PIN is waited for, or no more: see `Conversation.await_pin`."""
        self._outbox.conversation.await_pin(awaited, settled=settled)

    def typed(self, text: str, arrived_at: float) -> None:
        """What is answered next was typed, and arrived at this time in seconds since the epoch."""
        self._typed = text, arrived_at

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        turn = turn_of(event.item)
        if turn and turn.kind is TurnKind.MESSAGE:
            self._measure(turn)
        self._add(turn)

    def _measure(self, turn: Turn) -> None:
        """Add to the first answer to what was typed how long the caller waited for its first word."""
        if turn.role == "user":
            self._waits_since = None
            if self._typed and turn.content == self._typed[0]:
                self._waits_since, self._typed = self._typed[1], None
        elif self._waits_since is not None:
            if began := turn.metrics.get("started_speaking_at"):
                turn.metrics[TYPED] = max(0.0, round(began - self._waits_since, 3))
            self._waits_since = None

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._add(turn_of_tool(call, output))

    def _add(self, turn: Turn | None) -> None:
        if turn is None or turn.item_id in self._turns or self.erased or self.lease.superseded:
            return
        if self._undecided is not None:
            self._undecided.append(turn)
            return
        self._turns[turn.item_id] = turn
        kept, amended = self._outbox.conversation.turn(turn)
        self._kept |= {each.item_id: each for each in (*amended, kept)}
        self._outbox.add(AddTurn(kept))
        for each in amended:
            self._outbox.add(AmendTurn(each.item_id, each.content or ""))
        if kept is not turn:
            self._count_redacted()

    def _count_redacted(self) -> None:
        if counts := self._outbox.conversation.redactor.counts:
            self._outbox.add(CountRedacted(dict(counts)))

    async def close_unkept(self, reason: str, ended_at: datetime, answer: str, store: Sessions) -> None:
        """Drop all of a session that may not be kept, except that there was one, of whom nobody can tell.

        That is its id, times, close reason, number of turns, and what the caller answered, under the id of a guest that
        nobody else has.
        """
        record = self.record
        unkept = SessionRecord(
            record.session_id,
            UserScope.guest(record.scope.tenant_id),
            None,  # a room may have the caller's number in its name
            SessionStatus.COMPLETE,
            record.started_at,
            ended_at,
            reason,
            report={"consent": {"state": answer}, "turns": len(self._turns)},
        )
        await self._outbox.close(0)
        try:
            async with asyncio.timeout(deadlines.AWAY):
                await store.save(unkept)
        except (LkmongoError, TimeoutError) as error:
            logger.info("that there was a session is not stored: %s", error)

    async def close(
        self,
        reason: str,
        report: Callable[[], dict[str, Any]],
        deadline: float = deadlines.RECORD_END,
        *,
        ended_at: datetime | None = None,
        learn: bool = False,
        summary: Summary | None = None,
        alongside: Coroutine[Any, Any, None] | None = None,
    ) -> bool:
        """Store what is pending and the end of the session; the lease is released afterwards.

        What MongoDB does not store stays in the journal, and `is_journaled` says so.

        Args:
            reason: why it ended, in a word or two.
            report: makes the session report; if it fails, only the report is lost.
            deadline: seconds that this may take.
            ended_at: when the session ended; now by default.
            summary: what it was about, to be stored with its end.
            learn: let it be due to be learned from.
            alongside: other work of the session's end; it is awaited, but does not delay the record.

        Returns:
            Whether everything that must be stored is in MongoDB.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        await self.lease.release(deadline)
        try:
            more = {name: fact() for name, fact in self.facts.items()}
            facts = clean(report() | {name: found for name, found in more.items() if found is not None})
        except Exception:
            logger.exception("the session report could not be made")
            facts = {}
        if self.changes:
            facts["changes"] = self.changes
        fields = summary_fields(summary) if summary else {}
        self._outbox.add(End(reason, ended_at or now(), facts, fields, learn))
        if self._outbox.announces:
            self._outbox.add(Notify(new_event_id()))
        # If turns must be written, the record gets both connections first.
        is_busy = bool(self._outbox.pending("turns"))
        side_task = asyncio.create_task(alongside) if alongside and not is_busy else alongside
        try:
            return await self._outbox.close(until - loop.time())
        finally:
            if side_task:
                await side_task
