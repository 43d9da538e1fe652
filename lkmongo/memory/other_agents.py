"""Whether another agent serves the same caller in the same room, as after a restart of the LiveKit server.

A server that has restarted knows no rooms. The clients connect again, and so do the agents of calls that go on; the
first of them makes the room anew, for which the caller's token has an agent dispatched: a second one. The one that came
to this room later leaves; of two that come at once, the one that does not know what was said. Of two that continue the
same session, the one leaves that has lost its lease to the other: what it would record is not stored. Agents are asked,
by a call of a method: the participant of one whose process has died stays in the room for a while, and does not answer.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.model import UserScope

METHOD = "lkmongo.serves"
COMES_BACK = 60.0
"""Seconds after which a caller who has not come back to a room that was made anew is gone. LiveKit would keep the room
for five minutes; clients try for less than one."""
_AHEAD = 5.0
"""Seconds by which one that comes back counts as here before one that is new."""
_EVERY = 2.0
"""Seconds between two looks: a lease that was lost is noticed within that."""
_RECEIVED, _ANSWER = 3.0, 4.0
"""Seconds in which an agent that lives has received a question, and has answered it: all are busy after a restart."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one agent says of its session, and asks of it.

    Attributes:
        agent_name: the name that agents are dispatched by.
        identity: the participant who is served; None for whoever comes first.
        session: the same for the agents of one session, and telling nothing of the person: everybody may ask.
        is_superseded: whether another agent has taken over the session, which this one has begun.
    """

    agent_name: str
    identity: Callable[[], str | None]
    session: Callable[[], str]
    is_superseded: Callable[[], Awaitable[bool]]


def session_mark(scope: UserScope, session_id: str, secret: str | Sequence[str] | None) -> str:
    """The same in all agents of a session, and in no other; without the secret it tells nothing of the person."""
    key = secret if isinstance(secret, str) else next(iter(secret or ()), "")
    of = json.dumps([scope.tenant_id, scope.user_id, session_id])
    return hmac.new(key.encode(), of.encode(), "sha256").hexdigest()


class OtherAgents:
    """The other agents in a room, as seen by one that serves a caller there."""

    def __init__(self, room: rtc.Room, served: Served, leave: Callable[[str], None]) -> None:
        """Answer them from now on; to be made when this agent has joined the room.

        Args:
            room: as this agent sees it.
            served: its session.
            leave: called with the reason when this agent is not needed any more, after `look_on`.
        """
        self._room = room
        self._served = served
        self._leave = leave
        self._has_begun = False
        self._since = time.time()
        self._looking: asyncio.Task[None] | None = None
        room.local_participant.register_rpc_method(METHOD, self._tell)
        self._has_come_back = False
        room.on("reconnected", self._on_reconnected)
        room.on("participant_connected", self._on_participant)

    def close(self) -> None:
        """Look no more."""
        if self._looking:
            self._looking.cancel()

    def _tell(self, _: rtc.RpcInvocationData) -> str:
        mine = self._served
        return json.dumps([mine.agent_name, mine.identity(), self._since, mine.session()])

    async def serve(self) -> bool:
        """Whether one that is here longer serves the same participant."""
        others = [each.identity for each in self._room.remote_participants.values() if _is_agent(each)]
        return any(await asyncio.gather(*map(self._serves, others)))

    async def _serves(self, other: str) -> bool:
        from livekit import rtc

        me = self._room.local_participant
        try:
            said = await me.perform_rpc(
                destination_identity=other,
                method=METHOD,
                payload="",
                response_timeout=_ANSWER,
                max_round_trip_latency=_RECEIVED,
            )
            name, served, since, *more = json.loads(said)
            is_earlier = (float(since), other) < (self._since, me.identity)
        except (rtc.RpcError, ValueError, TypeError):  # it has died, or is another program
            return False
        who = self._served.identity()
        if name != self._served.agent_name or not (None in {served, who} or served == who):
            return False
        if self._has_begun and more == [self._served.session()]:
            return await self._served.is_superseded()
        return is_earlier

    def _on_reconnected(self) -> None:
        self._has_come_back = True
        self._since = time.time() - _AHEAD
        self.look_on()

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        """Another agent is seen only now, and may have been here before."""
        if _is_agent(participant) and (self._looking is None or self._looking.done()):
            self.look_on()

    def begin(self) -> None:
        """The session is stored from now on; see whether that of another one that is here is the same."""
        if not self._has_begun:
            self._has_begun = True
            if any(map(_is_agent, self._room.remote_participants.values())):
                self.look_on()

    def look_on(self) -> None:
        """Leave if another one is found to be here instead, within a while."""
        self.close()
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """See for a while whether another one is here instead, and whether the caller comes back."""
        until = time.monotonic() + COMES_BACK
        while not await self.serve():
            if time.monotonic() > until:
                if self._has_come_back and not self._is_there():
                    self._leave("connection lost")
                return
            await asyncio.sleep(_EVERY)
        self._leave("taken over")

    def _is_there(self) -> bool:
        who, others = self._served.identity(), self._room.remote_participants.values()
        return any(each.identity == who if who else not _is_agent(each) for each in others)


def _is_agent(participant: rtc.RemoteParticipant) -> bool:
    from livekit import rtc

    return participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
