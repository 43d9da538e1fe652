"""What people see of their own calls: the list of past ones, and the words that something remembered rests on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.confidential import without_secrets
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.paging import read_place, write_place
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.documents import VECTOR, record_of, turn_of

Document = dict[str, Any]

_ENDED: Document = {
    "status": {"$nin": [SessionStatus.ACTIVE.value, SessionStatus.NO_AGENT.value]},
    "started_at": {"$type": "date"},
}
"""Those in which somebody answered: without a word it was no call to them."""
_SHOWN = dict.fromkeys(("report", "learning", *VECTOR), 0)
_MOST_SKIPPED = 1_000
"""Calls that may have begun in one millisecond."""
_ANSWERED_WITHIN = 12
"""Turns in which the answer to what was said is looked for."""
_STORED_WITHIN = timedelta(seconds=30)
"""Time between a tool's call and what it stores."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What somebody said, what was answered, and the session; as far as it is stored, and as it is stored."""

    said: str | None = None
    answer: str | None = None
    at: datetime | None = None
    session: SessionRecord | None = None


async def past_calls(
    db: AsyncDatabase[Document], scope: UserScope, *, limit: int, after: str = ""
) -> tuple[list[SessionRecord], str | None]:
    """One page of the person's calls that are over, newest first, without their reports.

    Args:
        db: the database.
        scope: the person.
        limit: how many calls a page has.
        after: what came with the page before; empty for the first one.

    Returns:
        The page, and what gets the next one; None for the last.

    Raises:
        UsageError: `after` did not come with a page.
    """
    place = read_place(after, most=_MOST_SKIPPED) if after else None
    until, skip = place or (None, 0)
    selector = scope.filter | _ENDED | ({"started_at": {"$lte": until}} if until else {})
    documents = await Encryption.of(db).read(
        SESSIONS,
        lambda: db[SESSIONS].find(selector, _SHOWN, sort=[("started_at", -1)], skip=skip, limit=limit + 1).to_list(),
        scope,
    )
    records = [record_of(document) for document in documents]
    page = records[:limit]
    if len(records) <= limit or (last := page[-1].started_at) is None:
        return page, None
    return page, write_place(last, (each.started_at for each in page), place)


async def exchange(db: AsyncDatabase[Document], scope: UserScope, session_id: str, item_id: str | None) -> Exchange:
    """A turn of the person's own session with the answer to it; empty if the session is not kept any more."""
    session = await _session(db, scope, {"session_id": session_id})
    if session is None or item_id is None:
        return Exchange(session=session)
    turns = await _turns(db, scope, {"session_id": session_id, "item_id": item_id}, limit=1)
    if not turns:
        return Exchange(session=session)
    return await _answered(db, scope, session, turns[0])


async def exchange_at(db: AsyncDatabase[Document], scope: UserScope, at: datetime, tool: str) -> Exchange:
    """What the person said last when a tool stored something at that time; empty if it was not in a call."""
    not_over = {"$or": [{"ended_at": None}, {"ended_at": {"$gte": at}}]}
    answered = {"status": {"$ne": SessionStatus.NO_AGENT.value}}
    session = await _session(db, scope, {"started_at": {"$lte": at}} | not_over | answered)
    if session is None:
        return Exchange()
    around: Document = {"$gte": at - _STORED_WITHIN, "$lte": at + _STORED_WITHIN}
    selector: Document = {"session_id": session.session_id, "created_at": around, "name": tool}
    if not await _turns(db, scope, selector, limit=1):
        return Exchange()
    before = {"session_id": session.session_id, "role": "user", "created_at": {"$lte": at}}
    turns = await _turns(db, scope, before, limit=1, newest=True)
    return await _answered(db, scope, session, turns[0]) if turns else Exchange(session=session)


async def _answered(db: AsyncDatabase[Document], scope: UserScope, session: SessionRecord, turn: Turn) -> Exchange:
    following = {"session_id": session.session_id, "seq": {"$gt": turn.seq}}
    answer = None
    for each in await _turns(db, scope, following, limit=_ANSWERED_WITHIN):
        if each.kind is TurnKind.MESSAGE and each.role != "assistant":
            break
        if each.role == "assistant" and each.content:
            answer = without_secrets(each.content)
            break
    return Exchange(without_secrets(turn.content or "") or None, answer, turn.created_at, session)


async def _session(db: AsyncDatabase[Document], scope: UserScope, selector: Document) -> SessionRecord | None:
    found = await Encryption.of(db).read(
        SESSIONS,
        lambda: db[SESSIONS].find(scope.filter | selector, _SHOWN, sort=[("started_at", -1)], limit=1).to_list(),
        scope,
    )
    return record_of(found[0]) if found else None


async def _turns(
    db: AsyncDatabase[Document], scope: UserScope, selector: Document, *, limit: int, newest: bool = False
) -> list[Turn]:
    order = [("seq", -1 if newest else 1)]
    found = await Encryption.of(db).read(
        TURNS, lambda: db[TURNS].find(scope.filter | selector, sort=order, limit=limit).to_list(), scope
    )
    return [turn_of(document) for document in found]
