"""Erased ids are hidden by a key that is not in the database, also those of before there was one."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import stat
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from lkmongo.doctor.database import erasure
from lkmongo.errors import SettingsError
from lkmongo.model import UserScope, now
from lkmongo.settings import Settings
from lkmongo.store.mongo.client import Client, create_client
from lkmongo.store.mongo.erasure_key import ErasureKey, load_erasure_key
from lkmongo.store.open import Store, open_store
from lkmongo.store.people.audit import Audit, AuditFilter
from lkmongo.store.people.audit_chain import verify
from lkmongo.store.people.erase import erase, receipts
from lkmongo.store.people.person_hash import WrongKeyError
from lkmongo.store.people.sealing import seal_hashes, unsealed
from lkmongo.store.people.tombstones import Tombstones
from tests.people import anywhere, furnish, killed_at

ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
STRANGER = UserScope(tenant_id="default", user_id="stranger")
KEY = ErasureKey(b"k" * 32)
ANOTHER = ErasureKey(b"a" * 32)
LONG = timedelta(days=300)


async def guess(store, scope):
    """What whoever has the database can compute of an id."""
    secret = bytes((await store.db["keys"].find_one({}))["key"])
    return hmac.new(secret, json.dumps([scope.tenant_id, scope.user_id]).encode(), hashlib.sha256).hexdigest()


@asynccontextmanager
async def process(uri, store, key):
    """Another process, which has this key."""
    async with create_client(uri) as client:
        client.erasure_key = key
        yield Store.of(client[store.db.name])


async def live(store):
    """Erase, forget and look at somebody."""
    await furnish(store, ROBIN)
    await erase(store.db, ROBIN, by="Sam")
    await Tombstones(store.db).note_forgotten(STRANGER, now())
    await Audit(store.db).write(operator="sam", action="memory list", tenant_id="default", scope=KIM)


async def test_no_guess_can_be_confirmed_with_what_the_database_holds(store):
    store.db.client.erasure_key = KEY
    await live(store)
    for scope in (ROBIN, KIM, STRANGER):
        assert await anywhere(store, await guess(store, scope), scope.user_id) == []
    assert await Tombstones(store.db).bars(ROBIN, LONG)
    assert len(await receipts(store.db, ROBIN.tenant, scope=ROBIN)) == 1


async def test_without_a_key_a_guess_can_be_and_the_doctor_says_so(store):
    await live(store)
    assert sorted(await anywhere(store, await guess(store, ROBIN))) == ["receipts", "tombstones"]
    finding = await erasure(store)
    assert finding.status == "warn"
    assert "LKMONGO_ERASURE_KEY" in str(finding.hint)


async def everything_holds(store):
    tombstones = Tombstones(store.db)
    assert await tombstones.bars(ROBIN, LONG)
    assert not await tombstones.bars(KIM, LONG)
    assert (await tombstones.get(ROBIN)).done
    assert await tombstones.forgotten_at(STRANGER)
    erased, forgotten = await tombstones.among([ROBIN, KIM, STRANGER])
    assert (erased, set(forgotten)) == ({ROBIN}, {STRANGER})
    (receipt,) = await receipts(store.db, ROBIN.tenant, scope=ROBIN)
    assert receipt.by == "Sam"
    assert len(await Audit(store.db).newest(AuditFilter(scope=KIM))) == 1


async def test_hashes_of_before_are_sealed_while_everybody_goes_on(store, mongodb_uri):
    await live(store)
    async with process(mongodb_uri, store, KEY) as early, process(mongodb_uri, store, KEY) as late:
        waiting = Tombstones(early.db)
        assert not await waiting.bars(KIM, LONG)
        await everything_holds(early)
        assert await unsealed(late.db) == {"tombstones": 2, "receipts": 1}
        assert await seal_hashes(late.db) == {"tombstones": 2, "receipts": 1}
        assert await unsealed(late.db) is None
        assert await seal_hashes(late.db) is None
        await everything_holds(late)
        for scope in (ROBIN, STRANGER):
            assert await anywhere(store, await guess(store, scope)) == []
        # A session that began before learns of an erasure since.
        await erase(late.db, KIM, by="Sam")
        assert await waiting.bars(KIM, LONG)
        # A process that has not noticed yet erases as before, and everybody knows.
        await waiting.begin(STRANGER, {"memories": 0})
        assert await Tombstones(late.db).bars(STRANGER, LONG)
        assert [each["_id"] async for each in store.db.tombstones.find({"_id": re.compile("^[0-9a-f]{64}$")})] == []
        await Audit(late.db).write(operator="sam", action="db upgrade", tenant_id=None)
        seen = await verify(late.db)
        assert (seen.problems, seen.in_database) == ([], 1)
        assert (await erasure(late)).status == "ok"


@pytest.mark.parametrize("number", range(1, 12))
async def test_sealing_is_completed_wherever_it_was_interrupted(store, mongodb_uri, number, monkeypatch):
    await live(store)
    monkeypatch.setattr("lkmongo.store.mongo.client.Client.erasure_key", KEY)
    monkeypatch.setattr("tests.people.AsyncMongoClient", Client)
    assert await killed_at(number, mongodb_uri, lambda client: seal_hashes(client[store.db.name]))
    async with process(mongodb_uri, store, KEY) as other:
        await everything_holds(other)
        await seal_hashes(other.db)
        await everything_holds(other)
    assert await anywhere(store, await guess(store, ROBIN)) == []


async def test_a_machine_with_another_key_or_none_is_told_so_and_nothing_is_taken_for_granted(store, mongodb_uri):
    store.db.client.erasure_key = KEY
    await live(store)
    for key, message in ((None, "is not set"), (ANOTHER, "is not that of this database")):
        async with process(mongodb_uri, store, key) as other:
            for ask in (
                lambda db: Tombstones(db).bars(ROBIN, LONG),
                lambda db: erase(db, KIM, by="Sam"),
                lambda db: Audit(db).write(operator="sam", action="x", tenant_id=None),
                lambda db: erasure(Store.of(db)),
            ):
                with pytest.raises(WrongKeyError, match=message) as caught:
                    await ask(other.db)
                assert KEY.id in str(caught.value.why)
                assert "kkkk" not in str(caught.value.why)


async def test_the_embedded_mongod_has_a_file_that_only_its_owner_reads(tmp_path):
    settings = Settings.load({"LKMONGO_HOME": str(tmp_path)})
    assert load_erasure_key(settings, embedded=False) is None
    key = load_erasure_key(settings, embedded=True)
    file = tmp_path / "erasure-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_erasure_key(settings, embedded=True) == key
    assert load_erasure_key(settings, embedded=False) == ErasureKey(key.secret, is_set=False)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="others can read the key"):
        load_erasure_key(settings, embedded=True)
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(SettingsError, match="does not hold a key"):
        load_erasure_key(settings, embedded=True)


async def test_a_file_of_the_embedded_mongod_begins_no_other_database(store, mongodb_uri):
    async with process(mongodb_uri, store, ErasureKey(KEY.secret, is_set=False)) as other:
        await live(other)
    await everything_holds(store)


async def test_the_setting_goes_before_the_file(store, mongodb_uri, tmp_path):
    environ = {"LKMONGO_HOME": str(tmp_path), "MONGODB_URI": mongodb_uri, "LKMONGO_ERASURE_KEY": "k" * 32}
    async with open_store(Settings.load(environ)) as opened:
        assert opened.erasure_key == KEY
    with pytest.raises(SettingsError, match="LKMONGO_ERASURE_KEY must be a key of at least 32 characters"):
        Settings.load({"LKMONGO_ERASURE_KEY": "short"})
