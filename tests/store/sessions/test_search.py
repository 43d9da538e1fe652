"""A search for what was said: literal, in any case, newest first."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from lkmongo.errors import UsageError
from lkmongo.store.sessions import search as session_search
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.search import search
from tests.session_documents import BEGAN, said, session, used


async def test_a_search_takes_the_text_literally_and_in_whatever_case(store):
    mine, others = session("mine"), session("theirs", tenant="acme")
    await store.db.turns.insert_many(
        [
            said(0, "Where is my ORDER (a.b)?", of=mine),
            said(1, "order aXb", of=mine),
            used(2, "lookup_order", of=mine, arguments='{"order_id": "A-1"}', output="Über den Order"),
            said(3, "order (a.b)", of=others),
        ]
    )
    assert [
        (one.session.session_id, one.turn.seq) for one in await search(store.db, SessionFilter(), "order (A.b)")
    ] == [("mine", 0)]
    (found,) = await search(store.db, SessionFilter(), "über")
    assert (found.text, found.start, found.end, found.snippet) == ("Über den Order", 0, 4, "[[Über]] den Order")
    assert [one.turn.seq for one in await search(store.db, SessionFilter(), "order")] == [2, 1, 0]
    assert [one.turn.seq for one in await search(store.db, SessionFilter(), "order", limit=2)] == [2, 1]
    assert len(await search(store.db, SessionFilter(None), "order")) == 4
    assert await search(store.db, SessionFilter(user_id="nobody"), "order") == []
    assert await search(store.db, SessionFilter(since=BEGAN + timedelta(seconds=2)), "order") != []
    assert [
        one.turn.seq for one in await search(store.db, SessionFilter(until=BEGAN + timedelta(seconds=2)), "order")
    ] == [
        1,
        0,
    ]


async def test_a_search_goes_back_span_after_span_and_misses_none(store, monkeypatch):
    rng = random.Random(1)
    call = session()
    moments = [BEGAN - timedelta(hours=rng.randrange(24 * 60)) for _ in range(200)]
    await store.db.turns.insert_many([said(n, f"needle {n}", of=call, created_at=at) for n, at in enumerate(moments)])
    for width in (timedelta(hours=1), timedelta(days=7)):
        monkeypatch.setattr(session_search, "_FIRST_SPAN", width)
        told = []
        found = await search(store.db, SessionFilter(), "needle", limit=500, on_progress=told.append)
        assert {one.turn.seq for one in found} == set(range(200))
        assert [one.turn.created_at for one in found] == sorted(moments, reverse=True)
        assert told == sorted(told, reverse=True)
        assert len(await search(store.db, SessionFilter(), "needle", limit=50)) == 50


@pytest.mark.parametrize("text", ["", "  ", "x" * 201])
async def test_a_search_for_nothing_or_a_novel_is_refused(store, text):
    with pytest.raises(UsageError):
        await search(store.db, SessionFilter(), text)
