"""Documents that another program wrote, or that lack fields, become records with gaps."""

from __future__ import annotations

from lkmongo.model import UserScope
from lkmongo.store.sessions import listing
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.stats import SessionStats
from tests.session_documents import BEGAN, said, session


async def test_what_something_else_wrote_can_be_read_too(store):
    await store.db.sessions.insert_one({"session_id": "bare", "user_id": "u", "tenant_id": "default", "report": {}})
    await store.db.turns.insert_one({"session_id": "bare", "user_id": "u", "tenant_id": "default", "metrics": "?"})
    record = await listing.find(store.db, SessionFilter(), "bare")
    assert (record.started_at, record.length, record.status, record.totals.turns) == (None, None, None, 1)
    assert [turn.content for turn in await store.sessions.turns(record.scope, "bare")] == [None]
    assert (await SessionStats(store.db, SessionFilter()).read()).total.sessions == 0


async def test_a_session_whose_ids_are_not_valid_hides_no_other(store):
    strange = {"session_id": "strange", "user_id": "", "tenant_id": "a\x1bb", "status": {"a": 1}, "started_at": BEGAN}
    await store.db.sessions.insert_many([strange, session()])
    await store.db.turns.insert_one({"session_id": "strange", "user_id": "", "tenant_id": "a\x1bb", "kind": ["?"]})
    found = {record.session_id: record for record in await listing.newest(store.db, SessionFilter(None))}
    assert set(found) == {"strange", "s-1"}
    assert (found["strange"].scope.tenant_id, found["strange"].totals.turns) == ("a\x1bb", 1)
    assert [turn.kind for turn in await store.sessions.turns(found["strange"].scope, "strange")] == ["message"]


async def test_a_strange_document_keeps_no_lost_session_from_being_ended(store):
    lost = {"status": "active", "agent": "front-desk", "livekit": "host"}
    await store.db.sessions.insert_many([session(ended_at=None, **lost), {"session_id": "strange", **lost}])
    assert {record.session_id for record in await store.sessions.expired("front-desk", "host")} == {"s-1", "strange"}
    assert {session_id for _, session_id in await store.sessions.lost()} == {"s-1", "strange"}
    await store.sessions.interrupt_lost()
    assert (await store.sessions.get(UserScope(tenant_id="default", user_id="u"), "s-1")).status == "interrupted"


async def test_turns_without_an_item_of_their_own_are_told_apart(store):
    record = session()
    await store.db.turns.insert_many([{**said(n, f"turn {n}", of=record), "item_id": None} for n in range(2)])
    turns = await store.sessions.turns(UserScope(tenant_id="default", user_id="u"), "s-1")
    assert len({turn.item_id for turn in turns}) == 2
