"""Documents of earlier releases are read as they are, and brought to today's form without losing anything."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bson
import pymongo
import pytest
from bson import ObjectId

from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import TenantScope, UserScope
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.indexes import upgrade as upgrade_module
from lkmongo.store.indexes.upgrade import Upgraded, upgrade, versions
from lkmongo.store.mongo.schema import COLLECTIONS, KEYS, OURS, RECEIPTS, STAMP, TOMBSTONES
from lkmongo.store.people.erase import erase, receipts
from lkmongo.store.people.person import export, lines
from lkmongo.store.sessions import listing
from lkmongo.store.sessions.listing import SessionFilter
from tests.earlier import DATABASE, documents, restore

ADA = UserScope(tenant_id="default", user_id="ada")
CLEO = UserScope(tenant_id="default", user_id="cleo")
EVERYBODY = SessionFilter(tenant_id=None)


async def upgraded(store, **options) -> dict[str, Upgraded]:
    return {each.collection: each async for each in upgrade(store.db, **options)}


async def everything(store) -> dict[str, list[bytes]]:
    """Every document, to the byte."""
    return {name: [bson.encode(each) async for each in store.db[name].find().sort("_id", 1)] for name in COLLECTIONS}


async def to_upgrade(store) -> dict[str, int]:
    return {each.collection: each.older for each in await versions(store.db) if each.older}


async def read(store) -> dict[str, Any]:
    """What commands and agents show, of everybody and everything."""
    people = await store.users.page(limit=100)
    scopes = [UserScope(tenant_id=each["tenant_id"], user_id=each["user_id"]) for each in people]
    sessions = await listing.newest(store.db, EVERYBODY, limit=100)
    search = ExactStrategy(store.db, LocalEmbedder())
    found = await search.knowledge(TenantScope("default"), "how long is the warranty of a soundbar")
    remembered = await search.memories(ADA, "which colour does she like")
    return {
        "people": people,
        "profiles": [await store.users.get(each) for each in scopes],
        "memories": [await store.memories.slots(each) for each in scopes],
        "orders": [await store.orders.all(each) for each in scopes],
        "lines": [await lines(store, each) for each in scopes],
        "sessions": sessions,
        "turns": [await store.sessions.turns(each.scope, each.session_id) for each in sessions],
        "knowledge": [(hit.item, round(hit.score, 5)) for hit in found.hits],
        "remembered": [(hit.item, round(hit.score, 5)) for hit in remembered.hits],
        "receipts": await receipts(store.db, TenantScope("default")),
        "file": await file_of(store, ADA),
    }


async def file_of(store, scope: UserScope) -> dict[str, Any]:
    """The file for an access request, without when it was made."""
    file = json.loads("".join([piece async for piece in export(store.db, scope)]))
    del file["exported_at"]
    return file


async def test_all_of_it_is_read_as_before_the_upgrade(store):
    await restore(store)
    before = await read(store)
    assert len(before["people"]) == 11
    assert [slot.content for slot in before["memories"][0]] == ["teal"]
    assert before["knowledge"][0][0].title == "Warranty: How long is the warranty?"
    assert before["remembered"][0][0].content == "teal"
    assert len(before["sessions"]) == 11
    assert sum(map(len, before["turns"])) == 78
    assert await to_upgrade(store) == {
        "users": 11, "memories": 10, "knowledge": 8, "orders": 2, "sessions": 11, "turns": 78, "visitors": 2
    }  # fmt: skip
    done = await upgraded(store)
    assert {name: each.done for name, each in done.items()} == {name: each.older for name, each in done.items()}
    assert await to_upgrade(store) == {}
    assert await read(store) == before


async def test_an_upgrade_only_stamps_what_has_todays_form_already(store):
    await restore(store)
    await upgraded(store)
    differing = []
    for name, document in documents(DATABASE):
        now_is = await store.db[name].find_one({"_id": document["_id"]})
        if name in {KEYS, RECEIPTS, TOMBSTONES}:
            assert now_is == document
        elif now_is != document | STAMP:
            differing.append((name, document["user_id"], document["memory_type"]))
    assert differing == [("memories", "cleo", "bank_pin")]


async def test_a_secret_that_was_remembered_is_deleted_with_its_vector(store):
    await restore(store)
    shown = await store.memories.slots(CLEO)
    await upgraded(store)
    slot = await store.db.memories.find_one(CLEO.filter | {"memory_type": "bank_pin"})
    assert slot["content"] == "(withheld)"
    assert not {"embedding", "embedding_model"} & slot.keys()
    assert await store.memories.slots(CLEO) == shown
    assert "4711" not in str([each async for each in store.db.memories.find()])


async def test_who_is_erased_after_the_upgrade_is_erased_as_before_it(store):
    await restore(store)
    await upgraded(store)
    receipt = await erase(store.db, ADA, by="tests")
    assert receipt.counts == {
        "memories": 1,
        "memory_history": 0,
        "turns": 26,
        "sessions": 2,
        "users": 1,
        "visitors": 1,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
    }
    assert [each async for each in store.db.turns.find(ADA.filter)] == []


async def test_a_dry_run_counts_what_the_upgrade_does_and_changes_nothing(store):
    await restore(store)
    await store.db.memories.update_one(ADA.filter, {"$unset": {"label_words": ""}})
    before = await everything(store)
    planned = await upgraded(store, dry_run=True)
    assert await everything(store) == before
    assert planned["memories"].changes == {"add the words of the label": 1, "delete a secret": 1}
    assert await upgraded(store) == planned
    assert await upgraded(store) == {name: Upgraded(name) for name in OURS}


class _KilledError(Exception):
    pass


async def test_wherever_it_is_stopped_the_next_run_completes_it(store, monkeypatch):
    monkeypatch.setattr(upgrade_module, "_BATCH", 7)
    await restore(store)
    await upgraded(store)
    whole = await everything(store)
    stops = 0
    while True:
        for name in COLLECTIONS:
            await store.db[name].delete_many({})
        await restore(store)
        left = stops

        def stop(_collection: str, _done: int, _total: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _KilledError

        try:
            await upgraded(store, on_progress=stop)
        except _KilledError:
            assert await to_upgrade(store)
            await upgraded(store)
        else:
            break
        assert await everything(store) == whole
        stops += 3
    assert stops > 20


async def test_what_is_stamped_is_not_written_again(store):
    await restore(store)
    await store.db.users.update_one(ADA.filter, {"$set": STAMP | {"name": "my PIN is 4711"}})
    assert (await upgraded(store))["users"].older == 10
    assert (await store.db.users.find_one(ADA.filter))["name"] == "my PIN is 4711"


# -- what is older than any release, or of another program


SLOT = ADA.filter | {"memory_type": "favorite_song", "content": "Blue", "updated_at": datetime(2026, 1, 2, tzinfo=UTC)}


async def test_a_vector_as_an_array_is_packed_and_still_finds(store):
    (vector,) = await LocalEmbedder().embed(["favorite_song: Blue"], kind="document")
    as_array = {"embedding": [float(number) for number in vector], "embedding_model": LocalEmbedder.model}
    await store.db.memories.insert_one(SLOT | as_array)
    search = ExactStrategy(store.db, LocalEmbedder())
    before = (await search.memories(ADA, "music she likes")).hits
    assert (await upgraded(store))["memories"].changes == {"add the words of the label": 1, "pack the vector": 1}
    slot = await store.db.memories.find_one(ADA.filter)
    assert (slot["embedding"].subtype, len(slot["embedding"])) == (9, 2 + 4 * 256)
    assert slot["label_words"] == "favorite song"
    after = (await ExactStrategy(store.db, LocalEmbedder()).memories(ADA, "music she likes")).hits
    assert [hit.item for hit in after] == [hit.item for hit in before]
    assert after[0].score == pytest.approx(before[0].score, abs=1e-5)


async def test_what_is_no_vector_is_removed_so_that_one_is_made(store):
    await store.db.memories.insert_one(SLOT | {"embedding": ["no", "numbers"], "embedding_model": LocalEmbedder.model})
    await upgraded(store)
    assert not {"embedding", "embedding_model"} & (await store.db.memories.find_one(ADA.filter)).keys()


async def test_secrets_leave_the_profile_and_the_gist(store):
    told = {"name": "my password is hunter2", "email": "ada@example.com", "preferences": {"language": "en"}}
    gist = "She asked about a lamp. Her PIN is 4711."
    await store.db.users.insert_one(ADA.filter | told | {"last_session": {"at": datetime.now(UTC), "gist": gist}})
    before = await store.users.get(ADA)
    assert (await upgraded(store))["users"].changes == {"delete a secret": 1}
    document = await store.db.users.find_one(ADA.filter)
    assert "name" not in document
    assert document["last_session"]["gist"] == "She asked about a lamp."
    assert await store.users.get(ADA) == before
    await store.db.users.update_one(ADA.filter, {"$set": {"last_session.gist": "My PIN is 4711."}, "$unset": STAMP})
    await upgraded(store)
    assert "last_session" not in await store.db.users.find_one(ADA.filter)


async def test_a_session_without_a_start_began_when_its_document_was_made(store):
    made = ObjectId()
    await store.db.sessions.insert_one(ADA.filter | {"_id": made, "session_id": "s-1", "status": "complete"})
    await upgraded(store)
    (record,) = await store.sessions.recent(ADA)
    assert record.started_at == made.generation_time


async def test_what_another_program_keeps_in_orders_and_knowledge_stays_untouched(store):
    order = {"_id": 1, "tenant_id": "default", "user_id": "ada", "order_id": 7, "lines": []}
    passage = {"_id": 1, "tenant_id": "default", "source": "a", "chunk": 0, "content": "x", "embedding": [1.0, 0.0]}
    await store.db.orders.insert_one(order)
    await store.db.knowledge.insert_one(passage)
    assert await to_upgrade(store) == {}
    await upgraded(store)
    assert await store.db.orders.find_one() == order
    assert await store.db.knowledge.find_one() == passage


async def test_ids_of_several_types_are_all_reached(store, monkeypatch):
    monkeypatch.setattr(upgrade_module, "_BATCH", 2)
    ids = [1, 2.5, "a", "b", ObjectId(), ObjectId(), b"c", True, datetime(2026, 1, 1, tzinfo=UTC)]
    await store.db.visitors.insert_many([ADA.filter | {"_id": each} for each in ids])
    assert (await upgraded(store, dry_run=True))["visitors"].done == len(ids)
    assert (await upgraded(store))["visitors"].done == len(ids)
    assert await to_upgrade(store) == {}


# -- other releases at the same time


async def test_documents_of_a_later_release_are_counted_and_left_alone(store):
    later = ADA.filter | {"_id": 1, "person": {"name": "Ada"}, "schema_version": 2}
    await store.db.users.insert_one(later)
    assert [(each.older, each.newer) for each in await versions(store.db) if each.collection == "users"] == [(0, 1)]
    await upgraded(store)
    assert await store.db.users.find_one() == later


async def test_a_slot_that_changes_while_it_is_upgraded_keeps_the_change(store, mongodb_uri, monkeypatch):
    """The upgrade looks at the slot, a session writes it, and only then the upgrade would write."""
    secret = SLOT | {"content": "my PIN is 4711", "embedding": [1.0, 0.0], "embedding_model": "m"}
    await store.db.memories.insert_one(secret)
    written = []

    def meddling(migration):
        def change(document):
            needed = migration.change(document)
            if not written:
                written.append(needed)
                with pymongo.MongoClient(mongodb_uri) as client:
                    client[store.db.name].memories.update_one(
                        ADA.filter, {"$set": {"content": "a tune", "updated_at": datetime.now(UTC)}, "$unset": VECTOR}
                    )
            return needed

        return replace(migration, change=change)

    monkeypatch.setattr(upgrade_module, "MIGRATIONS", tuple(map(meddling, upgrade_module.MIGRATIONS)))
    done = (await upgraded(store))["memories"]
    assert written
    assert (done.done, done.left) == (1, 0)
    slot = await store.db.memories.find_one(ADA.filter)
    assert slot["content"] == "a tune"
    assert slot["schema_version"] == 1
    assert "embedding" not in slot


VECTOR = {"embedding": "", "embedding_model": ""}


async def test_what_an_earlier_release_goes_on_writing_is_counted_as_left(store, mongodb_uri, monkeypatch):
    await restore(store)
    client = pymongo.MongoClient(mongodb_uri)

    def write(collection: str, _done: int, _total: int) -> None:
        if collection == "visitors":
            client[store.db.name].visitors.insert_one(ADA.filter | {"_id": str(ObjectId())})

    with client:
        done = await upgraded(store, on_progress=write)
    assert done["visitors"].left
    assert sum(each.left for each in done.values()) == done["visitors"].left
    assert not (await upgraded(store))["visitors"].left
