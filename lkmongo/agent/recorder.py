"""The record of a call: its turns as they complete, and at the end when, why and with what report.

A turn is written in the background and never delays speech. Items reach us out of order (a tool call comes by an
event of its own, after the words that precede it), so they wait for a moment and go out sorted by the time at
which they were made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lkmongo.agent.lease import Lease
from lkmongo.errors import LkmongoError
from lkmongo.model import Identity, SessionRecord, SessionStatus, Turn, TurnKind, clean, clean_text, now
from lkmongo.store.opening import Store
from lkmongo.store.tombstones import ErasedError

if TYPE_CHECKING:
    from livekit.agents import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent, llm

logger = logging.getLogger(__name__)

SETTLE = 0.25
"""Seconds that an item waits for one that was made before it."""
END_DEADLINE = 10.0
"""Seconds that a hang-up may take to store what is left."""


class Recorder:
    """Writes one call to the store."""

    def __init__(self, store: Store, identity: Identity, session_id: str, room_name: str) -> None:
        """Nothing is written before `open`."""
        self.record = SessionRecord(session_id, identity, room_name, SessionStatus.ACTIVE, now())
        self.turns: list[Turn] = []
        self.error: LkmongoError | None = None
        self.lease = Lease(store, self.record)
        self.lease.when_lost(self._drop)
        self._store = store
        self._waiting: list[Turn] = []
        self._seen: set[str] = set()
        self._written = 0
        self._lock = asyncio.Lock()
        self._flush_task: asyncio.Task[None] | None = None

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to the session, and write that the call has begun."""
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)
        self.lease.start()
        self._flush_soon(0)

    @property
    def erased(self) -> bool:
        """Whether the person was erased during the call, so that nothing of it is stored."""
        return self.lease.lost

    def _drop(self) -> None:
        self._waiting.clear()
        self.turns.clear()
        self._written = 0

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        self._add(_turn_of(event.item))

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in event.zipped():
            self._add(_turn_of_tool(call, output))

    def _add(self, turn: Turn | None) -> None:
        if turn is None or turn.item_id in self._seen or self.erased:
            return
        self._seen.add(turn.item_id)
        self._waiting.append(turn)
        self._flush_soon(SETTLE)

    def _flush_soon(self, delay: float) -> None:
        if self._flush_task and not self._flush_task.done():
            return

        async def flush() -> None:
            await asyncio.sleep(delay)
            try:
                await self._flush()
            except ErasedError:
                return
            except LkmongoError as error:
                if self.error is None:
                    logger.info("the call is not recorded for now: %s (%s)", error.message, error.why)
                self.error = error

        self._flush_task = asyncio.create_task(flush())

    async def _flush(self) -> None:
        async with self._lock:
            waiting, self._waiting = sorted(self._waiting, key=lambda turn: turn.created_at), []
            for turn in waiting:
                self.turns.append(replace(turn, seq=len(self.turns)))
            identity, session_id = self.record.identity, self.record.session_id
            pending = self.turns[self._written :]
            async with self.lease.writing():
                if pending:
                    await self._store.sessions.append(identity, session_id, pending)
                    self._written += len(pending)
            self.error = None

    async def close(
        self,
        reason: str,
        report: Callable[[], dict[str, Any]],
        deadline: float = END_DEADLINE,
        *,
        ended_at: datetime | None = None,
    ) -> bool:
        """Write what is left and how the call ended: the last thing that a call writes, for it gives up its lease.

        Args:
            reason: why it ended, in a word or two.
            report: makes the session report; an error in it loses the report, and nothing else.
            deadline: seconds that this may take.
            ended_at: when the call ended; by default now.

        Returns:
            Whether everything is stored that is to be stored.
        """
        await self.lease.release()
        if self._flush_task:
            self._flush_task.cancel()
            await asyncio.gather(self._flush_task, return_exceptions=True)
        try:
            facts = clean(report())
        except Exception:
            logger.exception("there is no session report")
            facts = {}
        self.record = SessionRecord(
            self.record.session_id,
            self.record.identity,
            self.record.room_name,
            SessionStatus.COMPLETE,
            self.record.started_at,
            ended_at=ended_at or now(),
            close_reason=reason,
            report=facts,
        )
        try:
            async with asyncio.timeout(deadline):
                await self._flush()
                async with self.lease.writing():
                    await self._store.sessions.save(self.record)
        except ErasedError:
            await self.lease.release()
        except TimeoutError:
            logger.info("the call could not be stored: MongoDB took too long to answer")
            return False
        except LkmongoError as error:
            logger.info("the call could not be stored: %s (%s)", error.message, error.why)
            return False
        return True

    def gist(self, limit: int = 400) -> str:
        """What the call was about, in the caller's own last words (three utterances); at most `limit` characters."""
        turns = [*self.turns, *sorted(self._waiting, key=lambda turn: turn.created_at)]
        said = [turn.content for turn in turns if turn.role == "user" and turn.content][-3:]
        parts: list[str] = []
        for content in reversed(said):
            part = " ".join(content.split())[:160]
            if parts and sum(map(len, parts)) + len(part) > limit:
                break
            parts.insert(0, part)
        return "; ".join(parts)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _turn_of(item: Any) -> Turn | None:
    """A turn of a chat item; None for what is no turn, such as instructions, which hold what the agent was told."""
    from livekit.agents import llm

    if isinstance(item, llm.ChatMessage) and item.role in {"user", "assistant"}:
        return Turn(
            seq=0,
            item_id=item.id,
            kind=TurnKind.MESSAGE,
            created_at=_moment(item.created_at),
            role=item.role,
            content=clean_text(item.text_content or ""),
            interrupted=item.interrupted,
            metrics={key: value for key, value in dict(item.metrics or {}).items() if isinstance(value, int | float)},
        )
    if isinstance(item, llm.AgentHandoff) and item.old_agent_id:  # the first agent takes over from nobody
        return Turn(
            seq=0,
            item_id=item.id,
            kind=TurnKind.HANDOFF,
            created_at=_moment(item.created_at),
            name=item.new_agent_id,
        )
    return None


def _turn_of_tool(call: llm.FunctionCall, output: llm.FunctionCallOutput | None) -> Turn:
    return Turn(
        seq=0,
        item_id=call.id,
        kind=TurnKind.TOOL,
        created_at=_moment(call.created_at),
        name=call.name,
        arguments=clean_text(call.arguments),
        output=clean_text(output.output) if output else None,
        is_error=bool(output and output.is_error),
        metrics={"seconds": round(output.created_at - call.created_at, 3)} if output else {},
    )
