"""Journals hold no words, and are read again by whoever has the key."""

import pytest

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.operations import AddTurn, Remember
from lkmongo.outbox.recovery import recover
from lkmongo.outbox.sealed_journal import Seal, opened
from lkmongo.store.mongo.cipher import EncryptionError
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.key_vault import KeyVault
from lkmongo.store.open import Store
from tests.store.mongo.test_encryption import AT, ROBIN

RECORD = SessionRecord("call", ROBIN, "room", SessionStatus.ACTIVE, AT)
ENTRIES = [
    Remember(AT, "pet", "a heron").entry,
    AddTurn(Turn(0, "i-0", TurnKind.MESSAGE, AT, role="user", content="my heron is ill")).entry,
]


async def left(encryption, folder, *, patience=5.0):
    written = Journal.create(folder, RECORD, owner="host/boot/1", database="db")
    written.append(await Seal(encryption, ROBIN, "call")(written.path, ENTRIES, patience=patience))
    written.close(delete=False)
    return written.path


async def test_a_journal_holds_no_words_and_is_recovered(store, vault, tmp_path):
    path = await left(store.encryption, tmp_path / "spool")
    assert b"heron" not in path.read_bytes()
    assert [entry["op"] for entry in journal.read(path).entries] == ["remember", "turn"]
    (found,) = await recover(store, path.parent, "db")
    assert (found.turns, found.changes, found.damaged) == (1, 1, 0)
    assert [each.content for each in await store.memories.slots(ROBIN)] == ["a heron"]
    assert [each.content for each in await store.sessions.turns(ROBIN, "call")] == ["my heron is ill"]


async def test_it_is_recovered_on_another_machine_that_reaches_the_vault(store, vault, tmp_path):
    path = await left(store.encryption, tmp_path / "spool")
    elsewhere = KeyVault(store.db.client, f"{store.db.name}_keys", vault.master)
    Encryption(elsewhere).use(store.db)
    (found,) = await recover(Store.of(store.db), path.parent, "db")
    assert (found.turns, found.changes) == (1, 1)
    await elsewhere.close()


async def test_without_encryption_it_stays_and_says_so(store, vault, tmp_path):
    path = await left(store.encryption, tmp_path / "spool")
    Encryption().use(store.db)
    told = []
    assert await recover(Store.of(store.db), path.parent, "db", on_error=told.append) == []
    assert "cannot be stored" in told[0].message
    assert path.exists()


async def test_while_the_vault_is_away_it_is_sealed_by_a_key_of_the_machine(store, vault, tmp_path, monkeypatch):
    async def fails(_scope, **_options):
        raise EncryptionError

    monkeypatch.setattr(vault, "cipher", fails)
    path = await left(store.encryption, tmp_path / "spool")
    monkeypatch.undo()
    assert b"heron" not in path.read_bytes()
    assert (tmp_path / "spool.key").stat().st_mode & 0o777 == 0o600
    (found,) = await recover(store, path.parent, "db")
    assert (found.turns, found.changes, found.damaged) == (1, 1, 0)


async def test_a_line_of_another_session_counts_as_damaged(store, vault, tmp_path):
    path = await left(store.encryption, tmp_path / "spool")
    entries, damaged = await opened(store.encryption, ROBIN, "another", path.parent, journal.read(path).entries)
    assert (entries, damaged) == ([], 2)


async def test_a_key_that_is_gone_is_said(store, vault, tmp_path):
    path = await left(store.encryption, tmp_path / "spool")
    await vault.destroy(ROBIN)
    with pytest.raises(EncryptionError):
        await opened(store.encryption, ROBIN, "call", path.parent, journal.read(path).entries)
