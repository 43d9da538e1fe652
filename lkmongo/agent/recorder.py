"""The record of a session: each turn as it completes and, at the end, when and why it ended and the session report.

The recorder turns LiveKit's events into operations of the outbox, which never delays speech.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.turns import turn_of, turn_of_tool
from lkmongo.model import SessionRecord, Turn, UserScope, clean, now
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.operations import AddTurn, End, Notify
from lkmongo.outbox.outbox import Outbox
from lkmongo.store.sessions.documents import summary_fields
from lkmongo.store.sessions.webhooks import new_event_id

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent
    from livekit.agents.llm import FunctionCall

    from lkmongo.summary import Summary

logger = logging.getLogger(__name__)


class Recorder:
    """Records one session in its outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self.facts: dict[str, Callable[[], Any]] = {}
        """Additional report fields, computed at the end."""
        self._outbox = outbox
        self._turns: dict[str, Turn] = {}
        outbox.on_erased(self._turns.clear)

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

    def start(self) -> None:
        """Create the session document and its journal, and renew its lease from now on."""
        self._outbox.start()

    def on_acquired(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the session may write: at first, and again as another person's."""
        self._outbox.on_acquired(callback)

    async def change_scope(self, scope: UserScope) -> None:
        """Move the session, with everything said so far, to another person's scope; call `start` afterwards.

        What is stored under the previous scope is deleted once it is stored under the new one.
        """
        await self._outbox.change_scope(scope, self.turns)

    @property
    def record(self) -> SessionRecord:
        """The session as it began."""
        return self._outbox.record

    @property
    def lease(self) -> Lease:
        return self._outbox.lease

    @property
    def erased(self) -> bool:
        """Whether the person was erased during the session, so that nothing of it is stored."""
        return self.lease.lost

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
        """The turns in the order in which they were made."""
        return sorted(self._turns.values(), key=lambda turn: turn.created_at)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        self._add(turn_of(event.item))

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._add(turn_of_tool(call, output))

    def _add(self, turn: Turn | None) -> None:
        if turn is None or turn.item_id in self._turns or self.erased or self.lease.superseded:
            return
        self._turns[turn.item_id] = turn
        self._outbox.add(AddTurn(turn))

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
            facts = clean(report() | {name: fact() for name, fact in self.facts.items()})
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
