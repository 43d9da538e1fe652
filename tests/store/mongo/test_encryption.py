"""What people said is stored encrypted, opens only where it belongs, and its key is a person's own."""

import asyncio
import secrets
from datetime import UTC, datetime

import bson
import pytest
from bson import Binary
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.errors import DatabaseError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, Turn, TurnKind, UserScope
from lkmongo.store.mongo.cipher import PLAIN, Cipher, EncryptionError, is_sealed
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.key_vault import KeyVault
from lkmongo.store.open import Store
from lkmongo.store.people.person import export
from lkmongo.store.sessions import search
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.summary import Commitment, Summary
from tests.encrypted import encrypted, local_master

ROBIN = UserScope(tenant_id="acme", user_id="robin")
WREN = UserScope(tenant_id="acme", user_id="wren")
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_IDS = st.sampled_from(["acme", "robin", "wren", "a", "ab", "b", "content", "dates"])
_WHERE = st.tuples(_IDS, _IDS, st.tuples(_IDS, _IDS, _IDS))


def cipher_of(scope: UserScope, secret: bytes = b"k" * 32) -> Cipher:
    return Cipher(scope, b"i" * 16, secret)


@given(value=_TEXTS | st.lists(_TEXTS, min_size=1), here=_WHERE, there=_WHERE)
def test_a_value_opens_where_it_was_sealed_and_nowhere_else(value, here, there):
    seals = cipher_of(UserScope(tenant_id=here[0], user_id=here[1]))
    opens = cipher_of(UserScope(tenant_id=there[0], user_id=there[1]))
    sealed = seals.seal(here[2], value)
    assert seals.open(here[2], sealed) == value
    if here != there:
        with pytest.raises(EncryptionError):
            opens.open(there[2], sealed)


@given(value=_TEXTS, at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_value_that_was_changed_does_not_open(value, at, bit):
    cipher, place = cipher_of(ROBIN), ("memories", "content", "pet")
    changed = bytearray(cipher.seal(place, value))
    changed[at % len(changed)] ^= 1 << bit
    with pytest.raises(EncryptionError):
        cipher.open(place, Binary(bytes(changed), 0x80))


def test_a_value_opens_by_no_other_key():
    place = ("memories", "content", "pet")
    sealed = cipher_of(ROBIN).seal(place, "a heron")
    with pytest.raises(EncryptionError):
        cipher_of(ROBIN, b"l" * 32).open(place, sealed)


def test_without_encryption_what_is_sealed_is_an_error_and_not_shown():
    sealed = cipher_of(ROBIN).seal(("memories", "content", "pet"), "a heron")
    with pytest.raises(EncryptionError) as error:
        PLAIN.open(("memories", "content", "pet"), sealed)
    assert "LKMONGO_ENCRYPTION" in str(error.value.why)
    assert "heron" not in str(error.value)


def test_the_same_text_is_never_sealed_the_same():
    cipher, place = cipher_of(ROBIN), ("memories", "content", "pet")
    assert len({bytes(cipher.seal(place, "a heron")) for _ in range(100)}) == 100


# ---------------------------------------------------------------- in the store

WORDS = "quokka marzipan zeppelin obsidian tangerine harpsichord"
_QUOKKA, _MARZIPAN, _ZEPPELIN, _OBSIDIAN, _TANGERINE, _HARPSICHORD = WORDS.split()


async def fill(store: Store, scope: UserScope = ROBIN) -> None:
    """Something of every kind that is kept of a person."""
    record = SessionRecord("call", scope, "room", SessionStatus.COMPLETE, AT, ended_at=AT, close_reason="hang-up")
    await store.users.seen(scope)
    await store.users.set_field(scope, "name", f"Robin {_HARPSICHORD}")
    await store.users.set_field(scope, "email", f"{_HARPSICHORD}@example.com")
    await store.memories.remember(scope, "pet", f"a {_QUOKKA}")
    await store.memories.remember(scope, "pet", f"a {_QUOKKA} next friday")
    await store.memories.remember(scope, "food", f"likes {_MARZIPAN}")
    await store.history.settle(scope, "pet")
    await store.sessions.save(record)
    turns = [
        Turn(0, "i-0", TurnKind.MESSAGE, AT, role="user", content=f"the {_ZEPPELIN} is late"),
        Turn(1, "i-1", TurnKind.TOOL, AT, name="look", arguments=f'{{"a": "{_OBSIDIAN}"}}', output=f"{_OBSIDIAN}!"),
    ]
    await store.sessions.append(scope, "call", turns)
    told = Summary(f"about {_TANGERINE}", AT, (_TANGERINE,), (Commitment("c-1", f"send {_TANGERINE}", "caller", AT),))
    await store.summaries.save(scope, "call", told)
    await store.users.set_last_session(scope, LastSession(AT, f"spoke of {_TANGERINE}", "call"), started_at=AT)


async def raw(store: Store) -> bytes:
    """Every byte of the database."""
    names = await store.db.list_collection_names()
    return b"".join([bson.encode(each) for name in names async for each in store.db[name].find()])


async def test_nothing_that_was_said_is_readable_in_the_database(store, vault):
    await fill(store)
    stored = await raw(store)
    assert [word for word in WORDS.split() if word.encode() in stored.lower()] == []


async def test_everything_is_read_as_it_was_said(store, vault):
    await fill(store)
    pet, food = sorted(await store.memories.slots(ROBIN), key=lambda each: each.memory_type, reverse=True)
    assert (pet.content, food.content) == (f"a {_QUOKKA} next friday", f"likes {_MARZIPAN}")
    assert [each.content for each in await store.history.former(ROBIN)] == [f"a {_QUOKKA}"]
    said, used = await store.sessions.turns(ROBIN, "call")
    assert (said.content, used.output) == (f"the {_ZEPPELIN} is late", f"{_OBSIDIAN}!")
    record = await store.sessions.get(ROBIN, "call")
    assert record.summary.text == f"about {_TANGERINE}"
    assert record.summary.commitments[0].text == f"send {_TANGERINE}"
    profile = await store.users.get(ROBIN)
    assert (profile.name, profile.email) == (f"Robin {_HARPSICHORD}", f"{_HARPSICHORD}@example.com")
    assert profile.last_session.gist == f"spoke of {_TANGERINE}"
    assert profile.commitments[0].text == f"send {_TANGERINE}"
    assert (await store.users.page())[0]["name"] == f"Robin {_HARPSICHORD}"
    exported = "".join([part async for part in export(store.db, ROBIN)])
    assert [word for word in WORDS.split() if word not in exported] == []
    (found,) = await search.search(store.db, SessionFilter("acme"), "ZEPPELIN")
    assert found.snippet == f"the [[{_ZEPPELIN}]] is late"


async def test_a_slot_that_says_the_same_again_has_no_former_value(store, vault):
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.memories.remember(ROBIN, "pet", "a heron")
    assert await store.history.former(ROBIN) == []


async def test_plain_and_encrypted_are_read_together(store, vault):
    off = Encryption()
    on = Encryption.of(store.db)
    off.use(store.db)
    plain = Store.of(store.db)
    await plain.memories.remember(ROBIN, "food", "likes plums")
    await plain.memories.remember(ROBIN, "pet", "a heron")
    on.use(store.db)
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.memories.remember(ROBIN, "tea", "mint")
    assert {each.memory_type: each.content for each in await store.memories.slots(ROBIN)} == {
        "food": "likes plums",
        "pet": "a heron",
        "tea": "mint",
    }
    assert await store.history.former(ROBIN) == []
    off.use(store.db)
    with pytest.raises(EncryptionError):
        await Store.of(store.db).memories.slots(ROBIN)
    on.use(store.db)


async def test_what_is_put_elsewhere_in_the_database_does_not_open(store, vault):
    await fill(store)
    await store.memories.remember(WREN, "pet", "a stork")
    slots = store.db.memories
    theirs = await slots.find_one(WREN.filter | {"memory_type": "pet"})
    await slots.update_one(ROBIN.filter | {"memory_type": "pet"}, {"$set": {"content": theirs["content"]}})
    with pytest.raises(EncryptionError):
        await store.memories.slots(ROBIN)
    food = await slots.find_one(ROBIN.filter | {"memory_type": "food"})
    await slots.update_one(ROBIN.filter | {"memory_type": "pet"}, {"$set": {"content": food["content"]}})
    with pytest.raises(EncryptionError):
        await store.memories.slots(ROBIN)


# ---------------------------------------------------------------- keys


async def test_each_person_has_one_key_however_many_ask_for_it(store, vault):
    other = KeyVault(store.db.client, f"{store.db.name}_keys", vault.master)
    found = await asyncio.gather(*(each.cipher(ROBIN, make=True) for each in (vault, other) * 5))
    assert len({each.key_id for each in found}) == 1
    assert await vault.count() == 1
    assert (await vault.cipher(WREN, make=True)).key_id != found[0].key_id
    await other.close()


async def test_a_key_is_found_by_nobody_without_the_master_key(store, vault):
    await vault.cipher(ROBIN, make=True)
    kept = await raw_keys(store)
    assert b"robin" not in kept
    assert b"acme" not in kept


async def raw_keys(store: Store) -> bytes:
    keys = store.db.client[f"{store.db.name}_keys"]["key_vault"]
    return b"".join([bson.encode(each) async for each in keys.find()])


async def test_another_master_key_opens_nothing_and_says_so(store, vault):
    await store.memories.remember(ROBIN, "pet", "a heron")
    stranger = KeyVault(store.db.client, f"{store.db.name}_keys", local_master())
    with pytest.raises(EncryptionError) as error:
        await stranger.cipher(ROBIN)
    assert "check the master key" in error.value.hint
    await stranger.close()


async def test_a_destroyed_key_leaves_what_it_sealed_unreadable(store, vault):
    await store.memories.remember(ROBIN, "pet", "a heron")
    assert await vault.destroy(ROBIN)
    assert not await vault.destroy(ROBIN)
    with pytest.raises(EncryptionError) as error:
        await store.memories.slots(ROBIN)
    assert "key" in error.value.message


async def test_a_key_that_was_fetched_just_before_is_gone_when_its_destruction_returns(store, vault):
    for _ in range(100):  # the library keeps a fetched key for a millisecond, which a fast machine beats
        await vault.cipher(ROBIN, make=True, fresh=True)
        await vault.destroy(ROBIN)
        assert await vault.cipher(ROBIN, fresh=True) is None


async def test_somebody_who_comes_back_after_an_erasure_elsewhere_has_another_key(store, vault):
    await store.memories.remember(ROBIN, "pet", "a heron")
    elsewhere = KeyVault(store.db.client, f"{store.db.name}_keys", vault.master)
    await elsewhere.destroy(ROBIN)
    await store.db.memories.delete_many({})
    Encryption(elsewhere).use(store.db)
    await Store.of(store.db).memories.remember(ROBIN, "pet", "a stork")
    Encryption(vault).use(store.db)
    assert [each.content for each in await store.memories.slots(ROBIN)] == ["a stork"]
    await elsewhere.close()


async def test_keys_are_wrapped_anew_and_values_stay(store, mongodb_uri):
    old, new = secrets.token_bytes(96), secrets.token_bytes(96)
    name = f"{store.db.name}_keys"
    async with encrypted(store.db, master=local_master(old)) as vault:
        await Store.of(store.db).memories.remember(ROBIN, "pet", "a heron")
        both = KeyVault(store.db.client, name, local_master(new, old))
        assert await both.to_rewrap() == 2  # the names' and the person's
        assert await both.rewrap() == 2
        assert await both.rewrap() == 0
        only = KeyVault(store.db.client, name, local_master(new))
        Encryption(only).use(store.db)
        assert [each.content for each in await Store.of(store.db).memories.slots(ROBIN)] == ["a heron"]
        vault.forget(ROBIN)
        with pytest.raises(EncryptionError):
            await KeyVault(store.db.client, name, local_master(old)).cipher(ROBIN)


async def test_a_key_that_is_known_serves_while_the_vault_is_away(store, vault, monkeypatch):
    before = await vault.cipher(ROBIN, make=True)

    async def fails(_name: str) -> None:
        raise DatabaseError

    monkeypatch.setattr(vault, "_secret", fails)
    monkeypatch.setattr("lkmongo.store.mongo.key_vault._FRESH", 0)
    assert await vault.cipher(ROBIN) is before
    with pytest.raises(DatabaseError):
        await vault.cipher(WREN)


def test_what_is_sealed_is_told_from_vectors_and_text():
    assert not is_sealed(Binary(b"\x27\x00", 9))
    assert not is_sealed("text")
    assert is_sealed(replace_subtype(b"x"))


def replace_subtype(value: bytes) -> Binary:
    return Binary(value, 0x80)
