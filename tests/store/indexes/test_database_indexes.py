"""Indexes: created once, left alone when they are right, named when something stands in the way."""

from __future__ import annotations

import pytest
from pymongo.errors import DuplicateKeyError

from lkmongo import declarations
from lkmongo.declarations import Collection, declare
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes.database_indexes import Action
from lkmongo.store.mongo.client import create_client
from lkmongo.store.mongo.schema import COLLECTIONS, INDEXES


@pytest.fixture
async def empty(mongodb_uri, database_name):
    async with create_client(mongodb_uri) as client:
        yield client[database_name]
        await client.drop_database(database_name)


async def test_a_second_run_changes_nothing(empty):
    first = await database_indexes.apply(empty)
    assert {change.action for change in first} == {Action.CREATE}
    assert set(await empty.list_collection_names()) == set(COLLECTIONS)
    second = await database_indexes.apply(empty)
    assert {change.action for change in second} == {Action.UNCHANGED}
    assert len(second) == len(INDEXES)


async def test_a_plan_writes_nothing(empty):
    await database_indexes.plan(empty)
    assert await empty.list_collection_names() == []


async def test_an_unknown_index_is_left_alone(empty):
    await empty.users.create_index("email", name="mine")
    await database_indexes.apply(empty)
    assert "mine" in await empty.users.index_information()


async def test_an_index_that_is_not_unique_where_it_must_be_is_named(empty):
    await empty.orders.create_index([("tenant_id", 1), ("order_id", 1)], name="order")
    blocked = [change for change in await database_indexes.apply(empty) if change.action is Action.BLOCKED]
    assert [(change.index.name, change.detail) for change in blocked] == [
        ("order", "the index order exists and is not unique")
    ]


async def test_the_same_index_under_another_name_will_do(empty):
    await empty.orders.create_index([("tenant_id", 1), ("order_id", 1)], name="mine", unique=True)
    (change,) = [c for c in await database_indexes.plan(empty) if c.index.name == "order"]
    assert (change.action, change.detail) == (Action.UNCHANGED, "exists as mine")


async def test_the_same_order_number_may_stand_in_two_tenants_and_not_twice_in_one(empty):
    await database_indexes.apply(empty)
    await empty.orders.insert_one({"tenant_id": "a", "order_id": "1"})
    await empty.orders.insert_one({"tenant_id": "b", "order_id": "1"})
    with pytest.raises(DuplicateKeyError):
        await empty.orders.insert_one({"tenant_id": "a", "order_id": "1"})


def test_unique_indexes_begin_with_what_a_cluster_would_shard_by():
    for index in INDEXES:
        if index.unique:
            assert index.keys[0] == ("tenant_id", 1)


# ---------------------------------------------------------------- declared collections

CATS = Collection("cats", owner="person", key=("nr",), indexes=["-at", ("name", "at")])
BILLS = Collection("bills", owner="person", key=("nr",), unique_within="tenant")
ROOMS = Collection("rooms", owner="tenant", key=("house", "nr"))
DAYS = Collection("days", owner="shared", key=("day",))
PERSON = [("tenant_id", 1), ("user_id", 1)]


async def keys(db, name):
    information = await db[name].index_information()
    return {each: [tuple(key) for key in index["key"]] for each, index in information.items() if each != "_id_"}


async def test_declared_collections_get_their_indexes_behind_their_owners_ids(empty):
    declare(CATS, BILLS, ROOMS, DAYS)
    planned = await database_indexes.plan(empty)
    assert await empty.list_collection_names() == []
    first = await database_indexes.apply(empty)
    assert [change.index for change in first] == [change.index for change in planned]
    assert {change.action for change in first} == {Action.CREATE}
    assert await keys(empty, "cats") == {
        "key": [*PERSON, ("nr", 1)],
        "by_-at": [*PERSON, ("at", -1)],
        "by_name_at": [*PERSON, ("name", 1), ("at", 1)],
    }
    assert await keys(empty, "bills") == {"key": [("tenant_id", 1), ("nr", 1)], "of_user": PERSON}
    assert await keys(empty, "rooms") == {"key": [("tenant_id", 1), ("house", 1), ("nr", 1)]}
    assert await keys(empty, "days") == {"key": [("day", 1)]}
    assert {change.action for change in await database_indexes.apply(empty)} == {Action.UNCHANGED}
    await empty.bills.insert_one({"tenant_id": "a", "user_id": "u", "nr": 1})
    with pytest.raises(DuplicateKeyError):
        await empty.bills.insert_one({"tenant_id": "a", "user_id": "v", "nr": 1})


async def test_who_declares_nothing_checks_and_creates_what_is_stored(empty, monkeypatch):
    declare(CATS)
    await database_indexes.apply(empty)
    monkeypatch.setattr(declarations, "_declared", declarations.Declarations())
    await empty.cats.drop()
    missing = [change.index.name for change in await database_indexes.plan(empty) if change.action is Action.CREATE]
    assert missing == ["key", "by_-at", "by_name_at"]
    await database_indexes.apply(empty)
    assert "key" in await keys(empty, "cats")


async def test_orders_of_ones_own_have_their_own_indexes(empty):
    declare(Collection("orders", owner="person", key=("number",)))
    await database_indexes.apply(empty)
    assert await keys(empty, "orders") == {"key": [*PERSON, ("number", 1)]}
