"""Callers to whom no agent came, recorded by the web server that gave them their token: no worker knows of them.

Only LiveKit knows whether a token was used, so it is asked for the rooms of those that were given, again and again
while there are any, in the background. A room whose dispatch a worker has taken is that worker's. One that is gone, and
whose dispatch nobody took, is recorded then: until LiveKit closes it, some seconds after the last one has left, an
agent may still come. What is known of the caller stands sealed in the dispatch itself, so a server that was started
again finds those who wait in LiveKit: their rooms are the ones whose seal names a visitor.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lkmongo.aio import poll
from lkmongo.dispatch import LEEWAY, Dispatched, Room, read_dispatch
from lkmongo.livekit_api import PATIENCE, dispatches_in, livekit_client
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.store.people.admission import Admission, NotAdmittedError
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.tokens import LIFE, TokenRequest

if TYPE_CHECKING:
    from livekit import api
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.settings import LiveKitCredentials
    from lkmongo.store.open import Store

logger = logging.getLogger(__name__)

NO_AGENT = "no agent"
"""The close reason of such a record."""
EVERY = timedelta(seconds=4)
"""Between two looks: LiveKit keeps a room for 20 s after the last one has left, if it is not set up otherwise."""
LATE = timedelta(seconds=10)
"""How long somebody waits until the log says so."""
WAITS = timedelta(minutes=6)
"""How old a room is at most that a server which was started again looks into: the talk page gives up after five."""
MOST = 10_000
"""Rooms that are looked for; of more, the oldest are given up."""


@dataclass(slots=True)
class _Waiting:
    """Who is, or was, in a room to which no agent has come."""

    who: Dispatched
    room: Room
    seen: datetime
    """When they were last known to be there."""


class Unanswered:
    """The rooms of the tokens that were given."""

    def __init__(
        self, store: Store, credentials: LiveKitCredentials, agent_name: str, tenant_id: str, *, asks: bool = False
    ) -> None:
        """Look at nothing yet; `serve` does.

        Args:
            store: the database.
            credentials: the LiveKit project.
            agent_name: of the agent that the tokens dispatch.
            tenant_id: of the callers.
            asks: nothing is stored of callers who have not agreed to it.
        """
        self._store = store
        self._credentials = credentials
        self._agent_name = agent_name
        self._tenant = tenant_id
        self._asks = asks
        self._given: dict[str, datetime] = {}
        """Names of rooms, with the time from which nobody can enter any more."""
        self._waiting: dict[str, _Waiting] = {}
        """By the room's id, like these."""
        self._settled: set[str] = set()
        self._over: dict[str, SessionRecord] = {}
        """Yet to be stored."""
        self._earlier_until = now() + LIFE + LEEWAY
        """Until then tokens may be used that were given before this server was started."""
        self._is_told = False

    def given(self, wanted: TokenRequest) -> None:
        """A token was given."""
        self._given[wanted.room] = now() + wanted.ttl + LEEWAY
        _bound(self._given)

    async def serve(self) -> None:
        """Look again and again; never returns."""
        await asyncio.to_thread(importlib.import_module, "livekit.api")  # which takes half a second
        await poll(self.look, EVERY.total_seconds(), "callers to whom no agent came could not be looked for")

    async def look(self) -> None:
        """One look, and the records of those who have left since the one before.

        Raises:
            UnreachableError: LiveKit does not answer.
            AuthenticationError: it refuses the key.
            DatabaseError: a record could not be stored; the next look tries again.
        """
        await self._store_over()
        moment = now()
        self._given = {name: until for name, until in self._given.items() if until > moment}
        names = None if moment < self._earlier_until else [*self._given, *(w.room.name for w in self._waiting.values())]
        if names is None or names:
            await self._look_at(names)
        await self._store_over()

    async def _store_over(self) -> None:
        for session_id, record in list(self._over.items()):
            if await record_unanswered(self._store.db, record, asks=self._asks):
                logger.info("no agent came to the caller in %s: recorded", record.room_name)
            del self._over[session_id]

    async def _look_at(self, names: Sequence[str] | None) -> None:
        from livekit import api

        began = now()
        async with livekit_client(self._credentials) as client:
            async with asyncio.timeout(PATIENCE):
                found = await client.room.list_rooms(api.ListRoomsRequest(names=names or ()))
            rooms = {room.sid: room for room in found.rooms}
            self._settled &= rooms.keys()
            for room in rooms.values():
                if room.sid not in self._settled:
                    await self._look_into(client, room)
        for session_id in self._waiting.keys() - rooms.keys():
            self._end(session_id, self._waiting.pop(session_id))
        self._tell(began)

    async def _look_into(self, client: api.LiveKitAPI, room: api.Room) -> None:
        is_known, age = room.name in self._given or room.sid in self._waiting, _age(Room.of(room))
        if not is_known and age > WAITS:
            self._settled.add(room.sid)
            return
        found = await dispatches_in(client, room.name)
        if found is None:
            return
        ours = [each for each in found if each.agent_name == self._agent_name]
        if not ours and (is_known or age < LATE):
            return  # it is yet to be dispatched, or a worker does so again
        waiting = self._waiting.get(room.sid) or self._find_out(room, ours)
        if waiting is None or any(each.state.jobs for each in ours):
            self._waiting.pop(room.sid, None)
            self._settled.add(room.sid)
            return
        if room.num_participants:
            waiting.seen = now()
        self._waiting[room.sid] = waiting
        _bound(self._waiting)

    def _find_out(self, listed: api.Room, dispatches: Sequence[api.AgentDispatch]) -> _Waiting | None:
        """Who is in a room; None unless it is one of those that a server like this gave a token for."""
        if not dispatches:
            return None
        room, secrets = Room.of(listed), self._credentials.secrets
        who = read_dispatch(dispatches[0].metadata, room=room, secret=secrets, tenant_id=self._tenant)
        is_ours = room.name in self._given or (who.ticket is not None and who.ticket.visitor is not None)
        if not is_ours or who.scope.tenant_id != self._tenant:
            return None
        return _Waiting(who, room, seen=room.began or now())

    def _end(self, session_id: str, left: _Waiting) -> None:
        """They were there for no longer than until the look after the last one that saw them."""
        self._over[session_id] = SessionRecord(
            session_id,
            left.who.scope,
            left.room.name,
            SessionStatus.NO_AGENT,
            left.room.began,
            min(now(), left.seen + EVERY),
            participant_identity=left.who.participant_identity,
            agent=self._agent_name,
            ticket=left.who.ticket,
        )
        _bound(self._over)

    def _tell(self, began: datetime) -> None:
        """Log once while callers wait, whom the look that began then has seen."""
        late = sum(each.seen >= began and _age(each.room) > LATE for each in self._waiting.values())
        if late and not self._is_told:
            logger.warning(
                "callers to whom no agent has come: %d; is a worker running whose LKMONGO_AGENT_NAME is %s, with the "
                "same LIVEKIT_URL, and has it a place left?",
                late,
                self._agent_name,
            )
        self._is_told = bool(late)


def _age(room: Room) -> timedelta:
    return now() - (room.began or now())


def _bound(listed: dict[str, Any]) -> None:
    while len(listed) > MOST:
        del listed[next(iter(listed))]


async def record_unanswered(db: AsyncDatabase[dict[str, Any]], waited: SessionRecord, *, asks: bool) -> bool:
    """Store that somebody waited for an agent in vain, once, whoever else records the same room.

    Of who has not agreed to be kept, or whose token was not valid any more, only that somebody waited is stored, under
    the id of a guest that nobody else has; of who was erased meanwhile, nothing.

    Args:
        db: the database.
        waited: the room's id, who waited there, under which ticket, from when to when.
        asks: nothing is stored of people in this tenant who have not agreed to it.

    Returns:
        Whether it was stored; False if they were erased, or the room has a session or such a record.

    Raises:
        DatabaseError: MongoDB failed; it can be called again.
    """
    if await _is_erased(db, waited):
        return False
    record = replace(waited, status=SessionStatus.NO_AGENT, close_reason=NO_AGENT)
    if not await _may_be_named(db, waited, asks=asks):
        nobody = UserScope.guest(waited.scope.tenant_id)
        report = {"consent": {"state": "unanswered"}} if asks else {}
        record = replace(record, scope=nobody, room_name=None, participant_identity=None, report=report)
    is_new = await Sessions(db).add_unanswered(record)
    if await _is_erased(db, waited):  # an erasure that has looked before the write does not find it
        await sweep_behind(db, record.scope, record.session_id)
        return False
    return is_new


async def _is_erased(db: AsyncDatabase[dict[str, Any]], waited: SessionRecord) -> bool:
    age = now() - waited.started_at if waited.started_at else timedelta()
    return await Tombstones(db).bars(waited.scope, max(age, timedelta()))


async def _may_be_named(db: AsyncDatabase[dict[str, Any]], waited: SessionRecord, *, asks: bool) -> bool:
    admission = Admission(db, waited.ticket, waited.started_at or now()) if waited.ticket else None
    try:
        profile = await Users(db).get_admitted(waited.scope, admission)
    except NotAdmittedError:
        return False
    return not asks or bool(profile and profile.consent and profile.consent.allows)
