"""The record of a caller to whom no agent came: of whom, if of anybody, and whether at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.store.people.admission import Admission, NotAdmittedError
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.sessions import Sessions

NO_AGENT = "no agent"
"""The close reason of such a record."""


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
