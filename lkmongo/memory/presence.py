"""Whether the client of a participant is there, and whether the next one of the same identity came in its place.

LiveKit lets the same token in again: the newcomer takes the place of whoever is there; others are told of both in one
message, without the reason. A client that lost its connection resumes it as the same participant or, after some seconds
of silence, comes back as a new one. So what counts is whether anything was heard of the first one until then: LiveKit
says when it receives nothing of what somebody publishes; and every client answers a call of a method, if only that it
knows none of that name, which tells of those who publish nothing. Who comes back before anything was missed is known by
a mark (`return_mark`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.model import now

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import AgentSession

    from lkmongo.memory.return_mark import ReturnMark

logger = logging.getLogger(__name__)

METHOD = "lkmongo.there"
EVERY = 4.0
"""Seconds between two calls of the method."""
_ANSWER = 3.0
"""Seconds in which a client that is there answers, on a bad line too."""
_LOOK_EVERY = 0.02
"""Seconds between two looks at whether a client is there."""
_MISSED = 2
"""Calls in a row without an answer that make a silence; one may come late."""
_AT_ONCE = 1.0
"""Seconds between the end of one participant and the beginning of the one that has replaced it."""


class Presence:
    """What was heard of the participant who is served."""

    def __init__(self) -> None:
        self._lost_since: datetime | None = None
        self._unanswered: list[datetime] = []
        self._answers = False
        self._vanished_at: float | None = None
        self._is_blind = False
        self._mark: ReturnMark | None = None
        self._asking: asyncio.Task[None] | None = None

    async def until_there(self, room: rtc.Room, session: AgentSession[Any], identity: Callable[[], str | None]) -> None:
        """Wait until LiveKit passes on to them what the session says in the room, but not for long.

        The others see a client in the room before its media connection stands. What is sent to it meanwhile LiveKit
        (1.11) keeps for two seconds. That it is connected, it tells the others up to three seconds late: so the client
        is asked as well.
        """
        from livekit import rtc

        try:
            session.room_io  # noqa: B018 - raises
        except RuntimeError:  # it speaks elsewhere
            return

        def is_connected() -> bool:
            participant = room.remote_participants.get(identity() or "")
            return participant is not None and participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE

        asking = asyncio.create_task(self._ask_until_answered(room, identity))
        try:
            async with asyncio.timeout(deadlines.CALLER_THERE):
                while not (asking.done() or is_connected()):  # noqa: ASYNC110 - no event, if it is there
                    await asyncio.sleep(_LOOK_EVERY)
        except TimeoutError:
            logger.info("the caller's client is not connected yet: the agent speaks anyway")
        finally:
            asking.cancel()

    @property
    def silent_since(self) -> datetime | None:
        """Since when nothing is heard of them; None while they are there."""
        return self._lost_since or (self._unanswered[0] if len(self._unanswered) >= _MISSED else None)

    def quality(self, quality: Any) -> None:
        """LiveKit has judged their connection, some seconds before it gives them up."""
        from livekit import rtc

        self._lost_since = now() if quality == rtc.ConnectionQuality.QUALITY_LOST else None

    def left(self, why: Any) -> None:
        """They are not in the room any more."""
        from livekit import rtc

        unknown = {None, rtc.DisconnectReason.UNKNOWN_REASON, rtc.DisconnectReason.DUPLICATE_IDENTITY}
        # An agent that connects anew itself is told that all have gone, and come, as it is told of a newcomer.
        if why in unknown and self.silent_since is None and not self._is_blind:
            self._vanished_at = asyncio.get_running_loop().time()

    def came(self, participant: rtc.RemoteParticipant) -> bool:
        """A participant of that identity is there; returns whether somebody else was, until they came."""
        gone, self._vanished_at = self._vanished_at, None
        self._lost_since = None
        self._unanswered.clear()
        if self._mark and self._mark.is_on(participant):
            return False
        if gone is not None and asyncio.get_running_loop().time() - gone < _AT_ONCE:
            return True
        if self._mark:
            self._mark.give(participant)
        return False

    def ask(self, room: rtc.Room, identity: Callable[[], str | None], mark: ReturnMark | None = None) -> None:
        """Ask from now on whether they are there, until `close`; `mark` is what they will be known by again."""
        if self._asking is None:
            self._mark = mark
            if mark and (participant := room.remote_participants.get(identity() or "")):
                mark.give(participant)
            room.on("reconnecting", self._on_reconnecting)
            room.on("reconnected", self._on_reconnected)
            self._asking = asyncio.create_task(self._ask_periodically(room, identity))

    def _on_reconnecting(self) -> None:
        self._is_blind = True

    def _on_reconnected(self) -> None:
        self._is_blind = False
        self._lost_since = None
        self._unanswered.clear()

    def close(self) -> None:
        """Ask no more."""
        if self._asking:
            self._asking.cancel()
        if self._mark:
            self._mark.close()

    async def _ask_periodically(self, room: rtc.Room, identity: Callable[[], str | None]) -> None:
        while True:
            await asyncio.sleep(EVERY)
            if who := identity():
                await self._ask(room.local_participant, who)

    async def _ask_until_answered(self, room: rtc.Room, identity: Callable[[], str | None]) -> None:
        while not self._answers:
            if room.isconnected() and (who := identity()):
                await self._ask(room.local_participant, who)
            await asyncio.sleep(_LOOK_EVERY)

    async def _ask(self, me: rtc.LocalParticipant, who: str) -> None:
        from livekit import rtc

        asked, code = now(), rtc.RpcError.ErrorCode
        try:
            await me.perform_rpc(
                destination_identity=who,
                method=METHOD,
                payload="",
                response_timeout=_ANSWER,
                max_round_trip_latency=_ANSWER,
            )
        except rtc.RpcError as error:
            if error.code in {code.CONNECTION_TIMEOUT, code.RESPONSE_TIMEOUT}:
                if self._answers:  # a telephone never does
                    self._unanswered.append(asked)
                return
            if error.code != code.UNSUPPORTED_METHOD:
                return
        self._answers = True
        self._unanswered.clear()
