"""Whose telephone number it is, through the door, as a program links and looks up numbers."""

from __future__ import annotations

import pytest

import lkmongo
from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import UserScope
from lkmongo.store.mongo.erasure_key import ErasureKey

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KEY = "a key that the database does not hold"
NUMBER, PIN = "+49 30 5550 1767", "860417"


@pytest.fixture
def opened(store, mongodb_uri, database_name, home):
    store.db.client.erasure_key = ErasureKey(KEY.encode())

    def make(**settings):
        return lkmongo.Memory(mongodb_uri=mongodb_uri, mongodb_db=database_name, home=home, **settings)

    return make


@pytest.fixture
async def memory(opened):
    async with opened(erasure_key=KEY, phone_region="DE") as memory:
        yield memory


async def test_a_number_is_linked_looked_up_and_unlinked_within_its_tenant(store, memory):
    await store.users.set_field(ROBIN, "name", "Robin")
    assert await memory.phones.lookup(NUMBER) == []
    planned = await memory.phones.link("u-100", "030 5550 1767", dry_run=True)
    assert (planned.changed, planned.others) == (True, [])
    assert await memory.phones.list("u-100") == []
    assert (await memory.phones.link("u-100", "030 5550 1767")).changed
    assert not (await memory.phones.link("u-100", NUMBER)).changed
    (known,) = await memory.phones.lookup(NUMBER)
    assert (known.link.scope, known.link.last_digits, known.link.by) == (ROBIN, "67", "program")
    assert (known.lapsed, known.has_pin, known.locked_until) == (False, False, None)
    assert await memory.phones.list() == await memory.phones.list("u-100") == [known]
    assert await memory.phones.list(after="u-100") == []
    assert await memory.phones.lookup(NUMBER, tenant_id="acme") == []
    assert (await memory.phones.link("u-7", NUMBER, new=True)).others == ["u-100"]
    assert await memory.phones.unlink("u-100", last_digits="67") == [known.link]
    assert [each.link.user_id for each in await memory.phones.list()] == ["u-7"]
    assert len(await memory.phones.unlink("u-7", NUMBER, dry_run=True)) == 1
    for work in (memory.phones.unlink("u-100"), memory.phones.link("u-8", NUMBER), memory.phones.list("u-8")):
        with pytest.raises(NotFoundError):
            await work
    with pytest.raises(UsageError) as wrong:
        await memory.phones.lookup(f"{NUMBER} 99999999")
    assert "5550" not in f"{wrong.value.message} {wrong.value.why} {wrong.value.hint}"


async def test_a_pin_is_set_cleared_and_unlocked(store, memory):
    await store.users.seen(ROBIN)
    assert not await memory.phones.set_pin("u-100", PIN)
    assert await memory.phones.set_pin("u-100", "860418")
    assert await store.pins.verify(ROBIN, None, PIN) == "wrong"
    assert await memory.phones.unlock_pin("u-100")
    assert not await memory.phones.unlock_pin("u-100")
    with pytest.raises(UsageError) as wrong:
        await memory.phones.set_pin("u-100", "123456")
    assert "123456" not in f"{wrong.value.message} {wrong.value.why} {wrong.value.hint}"
    assert await memory.phones.clear_pin("u-100")
    assert not await memory.phones.clear_pin("u-100")
    for work in (memory.phones.set_pin("u-7", PIN), memory.phones.clear_pin("u-7"), memory.phones.unlock_pin("u-7")):
        with pytest.raises(NotFoundError):
            await work


async def test_without_a_key_it_is_said_what_to_set(opened):
    async with opened() as memory:
        with pytest.raises(UsageError, match="LKMONGO_ERASURE_KEY"):
            await memory.phones.lookup(NUMBER)
