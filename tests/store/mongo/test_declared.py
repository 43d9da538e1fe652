"""Stored declarations: written once, kept when nobody declares them any more, and never contradicted silently."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lkmongo import declarations
from lkmongo.declarations import Collection, DeclarationError, Declarations, ProfileField, declare
from lkmongo.store.mongo import declared
from lkmongo.store.mongo.schema import PERSONAL

CATS = Collection("cats", owner="person", key=("nr",), indexes=["-at"], retention=("at", timedelta(days=9)))
TIER = ProfileField("tier", choices=("gold",), check=str)


async def documents(store):
    return {each.pop("_id"): each async for each in store.db.declarations.find()}


async def test_what_is_declared_is_stored_and_read_by_a_process_that_declares_nothing(store, monkeypatch):
    declare(CATS, TIER)
    await declared.keep(store.db)
    monkeypatch.setattr(declarations, "_declared", Declarations())
    known = await declared.read(store.db)
    assert known.own == {"cats": CATS}
    assert known.fields["tier"].choices == ("gold",)
    assert await declared.personal(store.db) == (*PERSONAL, "cats")


async def test_it_is_written_when_it_changes_and_not_again(store):
    declare(CATS)
    await declared.keep(store.db)
    before = await documents(store)
    await store.db.declarations.update_one({}, {"$set": {"note": "of an operator"}})
    await declared.keep(store.db)
    assert (await documents(store))["collection/cats"] == before["collection/cats"] | {"note": "of an operator"}
    declare(Collection("cats", owner="person", key=("nr",), erased=False))
    known = await declared.keep(store.db)
    assert known.own["cats"].erased is False
    assert (await documents(store))["collection/cats"]["erased"] is False


async def test_orders_of_the_sample_shop_are_not_stored(store):
    await declared.keep(store.db)
    assert await documents(store) == {}
    assert (await declared.read(store.db)).collections == {"orders": declarations.ORDERS}


async def test_a_collection_does_not_change_its_owner(store):
    declare(CATS)
    await declared.keep(store.db)
    declare(Collection("cats", owner="tenant", key=("nr",)))
    with pytest.raises(DeclarationError, match=r"cats is declared as owner='tenant', and this database knows it as"):
        await declared.keep(store.db)


async def test_a_declaration_of_a_later_version_stops_what_would_miss_its_documents(store):
    await store.db.declarations.insert_one({"_id": "collection/cats", "owner": "household", "key": []})
    with pytest.raises(DeclarationError, match="the declaration collection/cats in the collection declarations"):
        await declared.personal(store.db)


async def test_a_store_is_asked_once_for_each_set_of_declarations(store):
    declare(CATS)
    await declared.keep_once(store.db)
    await store.db.declarations.delete_many({})
    await declared.keep_once(store.db)
    assert await documents(store) == {}, "it is not looked at again"
    declare(TIER)
    await declared.keep_once(store.db)
    assert set(await documents(store)) == {"collection/cats", "profile_field/tier"}
