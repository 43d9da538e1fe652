"""Retention: a limit is set, changed and taken away, and never shortened without being told what goes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.declarations import Collection, declare
from lkmongo.errors import UsageError
from lkmongo.model import now
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.times import parse_duration, show_duration
from tests.auth_mongod import guarded_mongod


async def limits(store) -> dict[str, timedelta | None]:
    return {row.subject: row.keep for row in await database_indexes.current_retention(store.db)}


async def test_nothing_is_deleted_unless_it_is_said(store):
    assert await limits(store) == {"calls": None, "memories": None, "profiles": None}


async def test_a_limit_is_set_changed_and_taken_away(store):
    for keep in (timedelta(days=90), timedelta(days=30), timedelta(days=365), None):
        await database_indexes.set_retention(store.db, "calls", keep)
        assert (await limits(store))["calls"] == keep
    information = await store.db.turns.index_information()
    assert not any("expireAfterSeconds" in index for index in information.values())


async def test_calls_and_their_turns_go_together_and_a_call_that_goes_on_stays(store):
    await database_indexes.set_retention(store.db, "calls", timedelta(days=90))
    sessions = await store.db.sessions.index_information()
    turns = await store.db.turns.index_information()
    assert sessions["retention"]["key"] == [("ended_at", 1)]
    assert turns["retention"]["key"] == [("created_at", 1)]
    assert sessions["retention"]["expireAfterSeconds"] == turns["retention"]["expireAfterSeconds"] == 90 * 86_400


async def test_what_would_go_is_counted(store):
    old, new = now() - timedelta(days=40), now()
    await store.db.memories.insert_many(
        [{"memory_type": str(n), "updated_at": old if n < 3 else new} for n in range(5)]
    )
    assert await database_indexes.count_older(store.db, "memories", timedelta(days=30)) == 3
    assert await database_indexes.count_older(store.db, "memories", timedelta(days=50)) == 0


async def test_a_collection_that_is_not_there_yet_can_have_a_limit(store):
    await store.db.memories.drop()
    assert (await limits(store))["memories"] is None
    await database_indexes.set_retention(store.db, "memories", timedelta(days=1))
    assert (await limits(store))["memories"] == timedelta(days=1)


@pytest.mark.parametrize("text", ["", "90", "d", "-5d", "1.5d", "5 d", "5y", "999999999w", "٣d"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(UsageError):
        parse_duration(text)


@given(st.integers(0, 36_500 * 86_400))
def test_a_length_of_time_reads_back_as_it_was(seconds):
    length = timedelta(seconds=seconds)
    assert parse_duration(show_duration(length)) == length


async def test_the_role_readwrite_is_enough_to_change_a_limit(tmp_path):
    with guarded_mongod(tmp_path) as mongod:
        uri = mongod.add("agent", {"role": "readWrite", "db": "lkmongo"})
        async with create_client(uri) as client:
            db = client["lkmongo"]
            for days in (90, 30):
                await database_indexes.set_retention(db, "memories", timedelta(days=days))
                assert {row.subject: row.keep for row in await database_indexes.current_retention(db)}[
                    "memories"
                ] == timedelta(days=days)


# ---------------------------------------------------------------- declared collections


async def test_a_declared_retention_is_set_unless_an_operator_has_set_another(store):
    days = timedelta(days=1)
    declare(
        Collection("cats", owner="person", key=("nr",), retention=("at", 90 * days)),
        Collection("dogs", owner="tenant", key=("nr",), retention=("at", None)),
        Collection("fish", owner="tenant", key=("nr",)),
    )
    await database_indexes.apply(store.db)
    assert (await limits(store)).items() >= {"cats": 90 * days, "dogs": None}.items()
    assert "fish" not in await limits(store)
    index = (await store.db.cats.index_information())["retention"]
    assert (index["key"], index["expireAfterSeconds"]) == ([("at", 1)], 90 * 86_400)
    for keep in (30 * days, None, 60 * days):
        await database_indexes.set_retention(store.db, "cats", keep)
        await database_indexes.apply(store.db)
        assert (await limits(store))["cats"] == keep, "the operator's, not the declared one"
    await database_indexes.set_retention(store.db, "dogs", 5 * days)
    assert (await database_indexes.retention_of(store.db, "dogs")).keep == 5 * days
    await store.db.dogs.insert_many([{"nr": n, "at": now() - timedelta(days=n)} for n in range(4)])
    assert await database_indexes.count_older(store.db, "dogs", 36 * timedelta(hours=1)) == 2
    with pytest.raises(UsageError, match="'fish' has no retention"):
        await database_indexes.retention_of(store.db, "fish")
