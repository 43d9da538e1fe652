"""Erasing a person destroys their key: what a dump from before holds of them is unreadable for good."""

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import SessionRecord, SessionStatus
from lkmongo.outbox.journal import Journal, read
from lkmongo.outbox.operations import AddTurn, Remember, operation_of
from lkmongo.outbox.sealed_journal import Seal, opened
from lkmongo.store.mongo.cipher import EncryptionError
from lkmongo.store.mongo.client import create_client
from lkmongo.store.mongo.encryption import SEALED, Encryption
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase, receipts
from tests.encrypted import encrypted
from tests.store.mongo.test_encryption import AT, ROBIN, WORDS, WREN, fill

RECORD = SessionRecord("call", ROBIN, "room", SessionStatus.ACTIVE, AT)


@pytest.fixture
async def keeper(tmp_path):
    """A MongoDB of its own for the keys."""
    with EmbeddedMongod(tmp_path / "keys") as mongod:
        async with create_client(mongod.uri) as client:
            yield client


async def dumped(store):
    """Every document of the database, by collection."""
    return {name: await store.db[name].find().to_list() for name in await store.db.list_collection_names()}


async def oplog(store, since):
    """Every entry of the oplog that is about the database, after `since`: another test may have used its name."""
    raw = bson.CodecOptions(document_class=RawBSONDocument)
    entries = store.db.client.local.get_collection("oplog.rs", raw).find({"ts": {"$gt": since}})
    return b"".join([each.raw async for each in entries if store.db.name.encode() in each.raw])


async def last_of_oplog(store):
    newest = store.db.client.local["oplog.rs"].find({}, {"ts": 1}).sort("$natural", -1).limit(1)
    return (await newest.to_list())[0]["ts"]


async def spooled(store, folder):
    """A journal that its session has left, with what the person said last."""
    said = {"item_id": "i-9", "seq": 9, "kind": "message", "role": "user", "created_at": AT, "content": WORDS}
    operations = [Remember(AT, "pet", WORDS), AddTurn.of({"numbered": False, **said})]
    journal = Journal.create(folder, RECORD, owner="host/boot/1", database="db")
    seal = Seal(store.encryption, ROBIN, "call")
    journal.append(await seal(journal.path, [each.entry for each in operations], patience=5))
    journal.close(delete=False)
    return journal.path


def readable(data):
    return [word for word in WORDS.split() if word.encode() in data.lower()]


async def test_without_encryption_a_dump_holds_the_words(store):
    began = await last_of_oplog(store)
    await fill(store)
    documents = await dumped(store)
    assert len(readable(b"".join(bson.encode(each) for found in documents.values() for each in found))) == 6
    assert len(readable(await oplog(store, began))) == 6


async def test_a_dump_from_before_is_unreadable_afterwards(store, keeper, tmp_path):
    began = await last_of_oplog(store)
    async with encrypted(store.db, keeper=keeper) as vault:
        ours = Store.of(store.db)
        for each in (ROBIN, WREN):
            await fill(ours, each)
        path = await spooled(ours, tmp_path / "spool")
        documents, log, spool = await dumped(ours), await oplog(ours, began), path.read_bytes()
        keys = await keeper[f"{store.db.name}_keys"].key_vault.find().to_list()
        receipt = await erase(store.db, ROBIN, by="a test")

        dump = b"".join(bson.encode(each) for found in documents.values() for each in found)
        assert (readable(dump), readable(log), readable(spool)) == ([], [], [])
        assert b"keyMaterial" not in log
        assert receipt.key == "destroyed apart"
        assert (await receipts(store.db, ROBIN.tenant))[0].key == "destroyed apart"

        # A backup is brought back: with the master key and all that is left, nobody reads it.
        for name in SEALED:
            await store.db[name].delete_many({})
            await store.db[name].insert_many(documents[name])
        for reading in (ours.memories.slots(ROBIN), ours.sessions.turns(ROBIN, "call"), ours.users.get(ROBIN)):
            with pytest.raises(EncryptionError):
                await reading
        left = read(path)
        with pytest.raises(EncryptionError):
            await opened(ours.encryption, ROBIN, "call", path.parent, left.entries)
        assert len(await ours.memories.slots(WREN)) == 2

        # What the receipt says plainly: the key vault from before, with the master key, opens the backup.
        robins = [each for each in keys if each["_id"] not in await keys_left(keeper, store)]
        await keeper[f"{store.db.name}_keys"].key_vault.insert_many(robins)
        vault.forget(ROBIN)
        assert len(await ours.memories.slots(ROBIN)) == 2
        entries, damaged = await opened(ours.encryption, ROBIN, "call", path.parent, left.entries)
        assert ([operation_of(each).op for each in entries], damaged) == (["remember", "turn"], 0)


async def keys_left(keeper, store):
    return [each["_id"] for each in await keeper[f"{store.db.name}_keys"].key_vault.find().to_list()]


async def test_the_receipt_says_when_the_key_was_beside_the_data(store, vault):
    await fill(store)
    assert (await erase(store.db, ROBIN, by="a test")).key == "destroyed"


async def test_somebody_who_was_never_encrypted_has_no_key_to_destroy(store, vault):
    Encryption().use(store.db)
    await fill(Store.of(store.db))
    assert (await erase(store.db, ROBIN, by="a test")).key is None
