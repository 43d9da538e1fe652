"""What was stored before encryption was on is encrypted afterwards, and decrypted again."""

import pytest

from lkmongo.store.indexes.encrypt import convert, states
from lkmongo.store.mongo.cipher import EncryptionError
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.open import Store
from lkmongo.store.people.person import export
from tests.store.mongo.test_encryption import ROBIN, WORDS, WREN, fill, raw

PEOPLE = (ROBIN, WREN)


async def exported(store):
    return ["".join([part async for part in export(store.db, each)]).partition("tenant_id")[2] for each in PEOPLE]


def readable(stored):
    return [word for word in WORDS.split() if word.encode() in stored.lower()]


@pytest.fixture
async def plain(store, vault):
    """A database with something of every kind, and encryption on since then."""
    Encryption().use(store.db)
    for each in PEOPLE:
        await fill(Store.of(store.db), each)
    await store.db.users.update_one(ROBIN.filter, {"$set": {"fields.seat": "by the harpsichord"}})
    learned = {
        "answer": {"text": "obsidian"},
        "proposals": [{"id": "p", "label": "pet", "content": "quokka", "state": "suggested"}],
    }
    await store.db.sessions.update_one(ROBIN.filter, {"$set": {"learning": learned}})
    Encryption(vault).use(store.db)
    return store


async def test_everything_is_encrypted_and_reads_the_same(plain):
    before = await exported(plain)
    assert len(readable(await raw(plain))) == 6
    found = await convert(plain.db)
    assert [(each.done, each.left) for each in found] == [(each.found, 0) for each in found]
    assert readable(await raw(plain)) == []
    assert await exported(plain) == before
    assert all(each.plain == 0 and each.encrypted for each in await states(plain.db))
    assert sum(each.found for each in await convert(plain.db)) == 0


async def test_a_dry_run_counts_and_changes_nothing(plain):
    before = await raw(plain)
    found = await convert(plain.db, dry_run=True)
    assert {each.collection: (each.found, each.done) for each in found} == {
        "memories": (4, 0),
        "memory_history": (2, 0),
        "turns": (4, 0),
        "sessions": (2, 0),
        "users": (2, 0),
    }
    assert await raw(plain) == before


async def test_it_is_decrypted_again(plain):
    before = await exported(plain)
    stored = await raw(plain)
    await convert(plain.db)
    await convert(plain.db, decrypt=True)
    assert readable(await raw(plain)) == readable(stored)
    Encryption().use(plain.db)
    assert await exported(Store.of(plain.db)) == before


async def test_what_changes_meanwhile_is_not_overwritten(plain, monkeypatch):
    encryption = Encryption.of(plain.db)
    opens = encryption.open

    async def change_first(collection, documents, scope=None):
        if collection == "memories":
            await plain.memories.remember(ROBIN, "food", "hates plums")
        return await opens(collection, documents, scope)

    monkeypatch.setattr(encryption, "open", change_first)
    await convert(plain.db)
    monkeypatch.undo()
    assert {each.memory_type: each.content for each in await plain.memories.slots(ROBIN)}["food"] == "hates plums"


async def test_an_interrupted_run_is_continued(plain, monkeypatch):
    monkeypatch.setattr("lkmongo.store.indexes.encrypt._BATCH", 1)

    def stop(collection, done, total):
        if (collection, done) == ("turns", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await convert(plain.db, on_progress=stop)
    assert 0 < sum(each.found for each in await convert(plain.db, dry_run=True)) < 14
    await convert(plain.db)
    assert readable(await raw(plain)) == []


async def test_off_with_encrypted_data_is_an_error_and_no_ciphertext(plain):
    await convert(plain.db)
    Encryption().use(plain.db)
    off = Store.of(plain.db)
    for reading in (off.memories.slots(ROBIN), off.users.get(ROBIN), off.sessions.turns(ROBIN, "call")):
        with pytest.raises(EncryptionError):
            await reading
