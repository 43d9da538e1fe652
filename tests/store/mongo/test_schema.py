"""The version of a document: who stamps it, what it costs, and what becomes of a later one."""

from __future__ import annotations

import logging

import bson
import pytest

from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import DatabaseError, NewerVersionError
from lkmongo.model import (
    LastSession,
    Passage,
    SessionRecord,
    SessionStatus,
    TenantScope,
    Turn,
    TurnKind,
    UserScope,
    now,
)
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.knowledge.knowledge import Document, Knowledge
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import OURS, STAMP
from lkmongo.store.people.merge import merge
from lkmongo.store.people.users import Visitors
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import default_seed_folder, load_seeds
from lkmongo.store.sessions import documents
from tests.people import furnish

ADA = UserScope(tenant_id="default", user_id="ada")
GUEST = UserScope(tenant_id="default", user_id="guest-7")
LATER = {"schema_version": 2}


async def unstamped(store) -> list[str]:
    found = []
    for name, ours in OURS.items():
        found += [f"{name}: {each}" async for each in store.db[name].find(ours | {"schema_version": {"$ne": 1}})]
    return found


def test_a_version_is_twenty_bytes():
    assert len(bson.encode(STAMP)) - len(bson.encode({})) == 20


async def test_whatever_is_new_is_stamped(store):
    record = SessionRecord("s-1", ADA, "room", SessionStatus.ACTIVE, now())
    await store.sessions.open(record, "owner")
    await store.sessions.claim(SessionRecord("s-2", ADA, "room", SessionStatus.ACTIVE, now()), "owner", instead_of="")
    await store.sessions.save(SessionRecord("s-3", ADA, "room", SessionStatus.COMPLETE, now(), now()))
    await store.sessions.append(ADA, "s-1", [Turn(0, "i", TurnKind.MESSAGE, now(), role="user", content="Hello")])
    await store.memories.remember(ADA, "color", "blue")
    await store.memories.remember(ADA, "color", "teal")
    await store.history.settle(ADA)
    await store.memories.remember_if_newer(ADA, "food", "soup", now())
    for number, make in enumerate(
        [
            store.users.seen,
            store.users.touch_memories,
            lambda scope: store.users.set_field(scope, "name", "Ada"),
            lambda scope: store.users.fill_field(scope, "name", "Ada", now()),
            lambda scope: store.users.set_last_session(scope, LastSession(now(), "a lamp"), started_at=now()),
        ]
    ):
        await make(UserScope(tenant_id="default", user_id=f"u-{number}"))
    await Visitors(store.db).add("5f", ADA)
    store.db.client.erasure_key = ErasureKey(b"k" * 32)
    await store.phones.link(ADA, PhoneNumber("+4930901820"), by="call")
    await store.pins.set(ADA, "274963", by="staff")
    passages = (Passage("a.md", 0, "A", "One."), Passage("a.md", 1, "A", "Two."))
    await Knowledge(store.db).put(TenantScope("default"), Document("a.md", passages), "m")
    await Knowledge(store.db).put(TenantScope("default"), Document("a.md", passages[:1]), "m")
    await seed(store.db, load_seeds(default_seed_folder()), LocalEmbedder())
    assert all([await store.db[name].find_one() for name in OURS])
    assert await unstamped(store) == []


async def test_what_is_merged_is_as_old_as_the_older_of_the_two(store):
    await furnish(store, GUEST)
    await furnish(store, ADA)
    await store.db.users.update_one(GUEST.filter, {"$unset": STAMP})
    merged = await merge(store.db, GUEST, ADA)
    assert "schema_version" not in merged.filled
    assert (await store.db.users.find_one(ADA.filter))["schema_version"] == 0


async def test_a_merge_into_somebody_new_keeps_the_version(store):
    await furnish(store, GUEST)
    merged = await merge(store.db, GUEST, ADA)
    assert merged.filled == ["name"]
    assert await unstamped(store) == []


# -- a later release


async def test_a_profile_of_a_later_release_is_not_read_as_an_empty_one(store):
    await store.db.users.insert_one(ADA.filter | LATER | {"person": {"name": "Ada"}})
    with pytest.raises(NewerVersionError, match="later release") as refused:
        await store.users.get(ADA)
    assert "upgrade lkmongo" in refused.value.hint


async def test_further_fields_do_not_keep_a_document_from_being_read(store):
    await store.users.set_field(ADA, "name", "Ada")
    await store.memories.remember(ADA, "color", "blue")
    await store.memories.remember(ADA, "color", "teal")
    await store.history.settle(ADA)
    for name in ("users", "memories"):
        await store.db[name].update_one(ADA.filter, {"$set": {"further": [1]}})
    assert (await store.users.get(ADA)).name == "Ada"
    assert [slot.content for slot in await store.memories.slots(ADA)] == ["teal"]


@pytest.mark.parametrize("content", [{}, {"content": b"sealed"}, {"content": None}], ids=["gone", "sealed", "null"])
async def test_a_slot_of_a_later_release_says_so(store, content):
    await store.db.memories.insert_one(ADA.filter | LATER | {"memory_type": "color"} | content)
    for read in (store.memories.slots(ADA), store.memories.contents(ADA), store.memories.recall(ADA, "color")):
        with pytest.raises(NewerVersionError):
            await read
    await store.db.memories.update_one(ADA.filter, {"$unset": {"schema_version": ""}})
    with pytest.raises(DatabaseError, match="cannot be read") as refused:
        await store.memories.slots(ADA)
    assert not isinstance(refused.value, NewerVersionError)


async def test_a_session_of_a_later_release_is_shown_with_a_warning(store, caplog):
    documents._warn.cache_clear()
    await furnish(store, ADA)
    await store.db.turns.update_many(ADA.filter, {"$set": LATER})
    with caplog.at_level(logging.WARNING, "lkmongo"):
        assert len(await store.sessions.turns(ADA, "s-1")) == 3
        await store.sessions.turns(ADA, "s-2")
    assert caplog.text.count("later release") == 1
