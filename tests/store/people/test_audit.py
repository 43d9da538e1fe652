"""The audit trail: entries are only added, name nobody by their id, and a change, a gap or a forgery of them shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from pymongo.errors import PyMongoError

from lkmongo.errors import DatabaseError, InvalidTextError
from lkmongo.model import UserScope, now
from lkmongo.store.mongo.client import create_client
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people.audit import GENESIS, THEMSELVES, Audit, AuditFilter
from lkmongo.store.people.audit_chain import count_before, shorten, verify
from lkmongo.store.people.erase import erase
from tests.people import anywhere, furnish

ROBIN = UserScope(tenant_id="default", user_id="robin")
OTHER = UserScope(tenant_id="default", user_id="somebody-else")
KEY = ErasureKey(b"k" * 32)
ANOTHER = ErasureKey(b"a" * 32)


@pytest.fixture
def audit(store):
    store.db.client.erasure_key = KEY
    return Audit(store.db)


async def entries(audit, number, **more):
    for _ in range(number):
        await audit.write(operator="sam", action="memory list", tenant_id="default", scope=ROBIN, **more)


async def problems(store):
    return (await verify(store.db)).problems


async def test_an_entry_says_who_what_when_and_why_and_names_nobody(store, audit):
    before = now()
    written = await audit.write(
        operator="sam",
        action="memory list",
        tenant_id="default",
        scope=ROBIN,
        reason=" TICKET-17\n",
        counts={"memories": 2},
    )
    (found,) = await audit.newest(AuditFilter(scope=ROBIN))
    assert found == written
    assert (found.number, found.operator, found.action, found.reason) == (1, "sam", "memory list", "TICKET-17")
    assert found.counts == {"memories": 2}
    assert before <= found.at <= now()
    assert found.previous_hash == GENESIS
    assert await anywhere(store, "robin") == []
    assert await audit.newest(AuditFilter(scope=OTHER)) == []
    assert await audit.newest(AuditFilter(tenant_id="another")) == []
    assert await audit.newest(AuditFilter(tenant_id="default", operator="somebody")) == []


async def test_what_names_the_person_is_refused_or_left_out(store, audit):
    with pytest.raises(InvalidTextError):
        await entries(audit, 1, reason="Robin asked")
    assert await store.db.audit.count_documents({}) == 0
    entry = await audit.write(operator="robin", action="memory list", tenant_id="default", scope=ROBIN)
    assert entry.operator == THEMSELVES


async def test_many_writers_make_one_chain(store, audit):
    writers = [Audit(store.db) for _ in range(20)]
    await asyncio.gather(*(entries(each, 5) for each in writers))
    seen = await verify(store.db)
    assert (seen.entries, seen.problems) == (100, [])
    assert [each.number async for each in audit.all(AuditFilter())] == list(range(1, 101))


TAMPERING = {
    "a change": ([("update_one", {"_id": 3}, {"$set": {"operator": "nobody"}})], "entry 3 was changed"),
    "a field": ([("update_one", {"_id": 3}, {"$set": {"note": 1}})], "entry 3 was changed"),
    "no seal": ([("update_one", {"_id": 3}, {"$unset": {"hash": 1}})], "entry 3 was changed"),
    "nonsense": ([("replace_one", {"_id": 3}, {"at": "x"})], "entry 3 was changed"),
    "a gap": ([("delete_one", {"_id": 3})], "entry 3 is missing"),
    "a wide gap": ([("delete_many", {"_id": {"$in": [2, 3, 4]}})], "entries 2 to 4 are missing"),
    "the first": ([("delete_one", {"_id": 1})], "entry 1 is missing"),
    "one's own": ([("insert_one", {"_id": "x"})], "1 documents are no entries"),
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_what_is_tampered_with_shows(store, audit, what):
    await entries(audit, 6)
    assert await problems(store) == []
    changes, expected = TAMPERING[what]
    for method, *arguments in changes:
        await getattr(store.db.audit, method)(*arguments)
    assert expected in await problems(store)


async def test_the_newest_that_are_missing_show_if_they_were_noted(store, audit):
    await entries(audit, 4)
    noted = (await verify(store.db)).last
    await entries(audit, 1)
    assert (await verify(store.db, holds=noted)).problems == []
    await store.db.audit.delete_many({"_id": {"$gte": 4}})
    assert (await verify(store.db)).problems == [], "nothing in the database can tell"
    assert (await verify(store.db, holds=noted)).problems
    await entries(audit, 2)
    assert (await verify(store.db, holds=noted)).problems, "others took their place"


async def test_whoever_has_the_database_alone_cannot_write_an_entry(store, audit, mongodb_uri):
    await entries(audit, 3)
    async with create_client(mongodb_uri) as client:
        await store.db["keys"].update_one({}, {"$unset": {"erasure_key": 1}})
        await store.db.audit.delete_many({})
        await entries(Audit(client[store.db.name]), 3)
        await store.db["keys"].update_one({}, {"$set": {"erasure_key": KEY.id}})
    assert "the last entry is sealed with the secret in the database, although there is a key" in await problems(store)


async def test_the_key_of_somebody_else_verifies_nothing(store, audit, mongodb_uri):
    await entries(audit, 2)
    await store.db["keys"].update_one({}, {"$set": {"erasure_key": ANOTHER.id}})
    async with create_client(mongodb_uri) as client:
        client.erasure_key = ANOTHER
        seen = await verify(client[store.db.name])
    assert seen.problems[0] == f"entry 1 is sealed with a key that is not here, with the id {KEY.id}"


async def test_old_entries_go_with_a_signed_checkpoint(store, audit):
    await entries(audit, 5)
    await _age(store, audit, 3)
    assert await count_before(store.db, timedelta(days=1)) == 3
    noted = (await verify(store.db)).last
    checkpoint = await shorten(store.db, timedelta(days=1))
    assert checkpoint.number == 3
    assert [each.number async for each in audit.all(AuditFilter())] == [4, 5]
    seen = await verify(store.db, holds=noted)
    assert (seen.problems, seen.checkpoint, seen.last) == ([], checkpoint, noted)
    assert await shorten(store.db, timedelta(days=1)) is None, "there is nothing more"

    await store.db.audit.delete_one({"_id": 4})
    assert await problems(store) == ["entry 4 is missing"]
    await store.db.audit_checkpoints.insert_one(
        {"_id": 4, "hash": "0" * 64, "at": now(), "problems": 0, "key": KEY.id, "signature": "f" * 64}
    )
    assert "the checkpoint at entry 4 is not signed with the key of this machine" in await problems(store)


async def test_the_trail_goes_on_when_every_entry_was_old(store, audit):
    await entries(audit, 2)
    await _age(store, audit, 2)
    await shorten(store.db, timedelta(days=1))
    assert await store.db.audit.count_documents({}) == 0
    await entries(audit, 1)
    (entry,) = await audit.newest(AuditFilter())
    assert entry.number == 3
    assert await problems(store) == []


async def test_a_checkpoint_whose_entries_were_not_deleted_yet_is_completed(store, audit, monkeypatch):
    await entries(audit, 3)
    await _age(store, audit, 2)

    async def killed(*_arguments, **_more):
        raise PyMongoError

    with monkeypatch.context() as patch:
        patch.setattr("pymongo.asynchronous.collection.AsyncCollection.delete_many", killed)
        with pytest.raises(DatabaseError):
            await shorten(store.db, timedelta(days=1))
    assert await store.db.audit.count_documents({}) == 3
    assert await problems(store) == []
    await shorten(store.db, timedelta(days=1))
    assert await store.db.audit.count_documents({}) == 1


async def test_deleting_does_not_hide_what_was_wrong(store, audit):
    await entries(audit, 4)
    await _age(store, audit, 3)
    await store.db.audit.delete_one({"_id": 2})
    checkpoint = await shorten(store.db, timedelta(days=1))
    assert checkpoint.problems == 1
    assert (await verify(store.db)).checkpoint.problems == 1


async def test_erasing_somebody_leaves_the_trail_whole_and_nobody_named(store, audit):
    await furnish(store, ROBIN)
    await furnish(store, OTHER)
    await entries(audit, 2)
    await audit.write(operator="sam", action="memory list", tenant_id="default", scope=OTHER)
    found = await audit.newest(AuditFilter(tenant_id="default"))
    assert set((await audit.names(found)).values()) == {"robin", "somebody-else"}
    await erase(store.db, ROBIN, by="Sam")
    assert await problems(store) == []
    assert set((await audit.names(found)).values()) == {"somebody-else"}
    assert await anywhere(store, "robin") == []
    assert len(await audit.newest(AuditFilter(scope=ROBIN))) == 2, "who asks for the id finds them"


async def _age(store, audit, number):
    """Write the first entries as of two days ago, by a writer whose clock said so."""
    found = [each async for each in audit.all(AuditFilter())]
    hashing = await audit._hashes.known()
    previous = GENESIS
    for each in found:
        at = each.at - timedelta(days=2) if each.number <= number else each.at
        new = replace(each, at=at, previous_hash=previous)
        new = replace(new, hash=new.sealed_by(hashing))
        previous = new.hash
        await store.db.audit.update_one(
            {"_id": new.number}, {"$set": {"at": new.at, "previous_hash": new.previous_hash, "hash": new.hash}}
        )
