"""Whose telephone number it is: found by the number alone, in one tenant, and never read out of the database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from bson import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.errors import SettingsError
from lkmongo.model import TenantScope, UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people.phones import NoPhoneKeyError, PhoneLink

ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
NUMBER, OTHER = PhoneNumber("+4930901820"), PhoneNumber("+4930901821")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _key(store):
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


def whose(links: list[PhoneLink]) -> list[str]:
    return [link.user_id for link in links]


async def test_a_number_leads_to_whom_it_is_linked_to(store):
    at = now().replace(microsecond=0)
    assert await store.phones.of_number("default", NUMBER) == []
    assert await store.phones.link(ROBIN, NUMBER, by="call", at=at)
    (link,) = await store.phones.of_number(TenantScope("default"), NUMBER)
    assert (link.scope, link.last_digits, link.by) == (ROBIN, "20", "call")
    assert link.linked_at == link.last_seen_at == at
    assert await store.phones.of_number("default", OTHER) == []


async def test_a_number_may_be_several_peoples_and_the_last_to_use_it_comes_first(store):
    at = now()
    await store.phones.link(ROBIN, NUMBER, by="call", at=at - 2 * DAY)
    await store.phones.link(KIM, NUMBER, by="staff", at=at - DAY)
    assert whose(await store.phones.of_number("default", NUMBER)) == ["kim", "robin"]
    await store.phones.seen(ROBIN, NUMBER, at)
    assert whose(await store.phones.of_number("default", NUMBER)) == ["robin", "kim"]
    await store.phones.seen(ROBIN, NUMBER, at - 9 * DAY)  # of a call that is stored late
    assert whose(await store.phones.of_number("default", NUMBER)) == ["robin", "kim"]


async def test_a_person_may_have_several_numbers(store):
    at = now()
    await store.phones.link(ROBIN, NUMBER, by="call", at=at - DAY)
    await store.phones.link(ROBIN, OTHER, by="program", at=at)
    await store.phones.link(KIM, NUMBER, by="call")
    assert [link.last_digits for link in await store.phones.of_person(ROBIN)] == ["21", "20"]


async def test_a_second_link_renews_the_first(store):
    at = now().replace(microsecond=0)
    assert await store.phones.link(ROBIN, NUMBER, by="call", at=at - DAY)
    assert not await store.phones.link(ROBIN, NUMBER, by="staff", at=at)
    (link,) = await store.phones.of_person(ROBIN)
    assert (link.linked_at, link.last_seen_at, link.by) == (at - DAY, at, "call")


async def test_two_calls_at_once_make_one_link(store):
    made = await asyncio.gather(*(store.phones.link(ROBIN, NUMBER, by="call") for _ in range(10)))
    assert sum(made) == len(await store.phones.of_person(ROBIN)) == 1


async def test_to_have_seen_a_number_links_nobody(store):
    await store.phones.seen(ROBIN, NUMBER)
    assert await store.phones.of_person(ROBIN) == []


async def test_a_link_lapses_when_it_is_not_used_for_longer(store):
    at = now().replace(microsecond=0)
    await store.phones.link(ROBIN, NUMBER, by="call", at=at)
    (link,) = await store.phones.of_person(ROBIN)
    assert not link.lapsed(180 * DAY, at + 180 * DAY)
    assert link.lapsed(180 * DAY, at + 180 * DAY + timedelta(seconds=1))


async def test_unlinking_takes_one_number_those_with_the_last_digits_or_all(store):
    async def left() -> list[str]:
        return sorted(link.last_digits for link in await store.phones.of_person(ROBIN))

    third = PhoneNumber("+4930901899")
    for number in (NUMBER, OTHER, third):
        await store.phones.link(ROBIN, number, by="call")
        await store.phones.link(KIM, number, by="call")
    assert await store.phones.unlink(ROBIN, PhoneNumber("+4930901700")) == 0
    assert await store.phones.unlink(ROBIN, NUMBER) == 1
    assert await left() == ["21", "99"]
    assert await store.phones.unlink(ROBIN, last_digits="98") == 0
    assert await store.phones.unlink(ROBIN, last_digits="99") == 1
    assert await left() == ["21"]
    await store.phones.link(ROBIN, third, by="call")
    assert await store.phones.unlink(ROBIN) == 2
    assert await left() == []
    assert len(await store.phones.of_person(KIM)) == 3


async def test_the_database_never_holds_a_number(store):
    await store.phones.link(ROBIN, NUMBER, by="call")
    await store.phones.seen(ROBIN, NUMBER)
    looked = 0
    for name in await store.db.list_collection_names():
        async for document in store.db[name].find():
            looked += 1
            assert b"901820" not in encode(document), name
            assert b"1820" not in encode(document), name
    assert looked, "the link is there"


async def test_a_hash_of_another_key_is_another_one(store):
    await store.phones.link(ROBIN, NUMBER, by="call")
    assert await store.phones.under_another_key() == 0
    store.db.client.erasure_key = ErasureKey(b"l" * 32)
    assert await store.phones.of_number("default", NUMBER) == []
    assert await store.phones.under_another_key() == 1
    assert len(await store.phones.of_person(ROBIN)) == 1, "staff still see it, and may unlink it"


@pytest.mark.parametrize("key", [None, ErasureKey(b"k" * 32, is_set=False)], ids=["none", "of an embedded mongod"])
async def test_without_a_key_no_number_is_taken_and_the_error_says_what_to_set(store, key):
    store.db.client.erasure_key = key
    for attempt in (
        store.phones.of_number("default", NUMBER),
        store.phones.link(ROBIN, NUMBER, by="call"),
        store.phones.seen(ROBIN, NUMBER),
        store.phones.unlink(ROBIN, NUMBER),
    ):
        with pytest.raises(NoPhoneKeyError, match="LKMONGO_ERASURE_KEY") as refused:
            await attempt
        assert isinstance(refused.value, SettingsError)
        assert NUMBER.text not in f"{refused.value!r} {refused.value.why} {refused.value.hint}"
        assert "32 characters" in refused.value.hint
    assert await store.db.phones.count_documents({}) == 0


# Few of each, so that people share numbers, ids and tenants.
_IDS = st.sampled_from(["a", "b", "a.b", "$ne", "A"])
_NUMBERS = st.sampled_from([f"+49309018{n}" for n in (20, 21, 200)] + ["+4930901820;ext=1", "+14930901820"])
_LINKS = st.sets(
    st.tuples(st.builds(UserScope, tenant_id=_IDS, user_id=_IDS), st.builds(PhoneNumber, _NUMBERS)), max_size=12
)


@given(links=_LINKS, dropped=_LINKS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_linked_a_number_leads_to_its_people_in_its_tenant_alone(store, links, dropped):
    await store.db.phones.delete_many({})
    for scope, number in links:
        await store.phones.link(scope, number, by="call")
    for scope, number in dropped:
        assert await store.phones.unlink(scope, number) == ((scope, number) in links)
    links = links - dropped
    for tenant in ("a", "b", "a.b", "$ne", "A"):
        for number in {number for _, number in links}:
            found = await store.phones.of_number(tenant, number)
            assert {link.scope for link in found} == {s for s, n in links if n == number and s.tenant_id == tenant}
            # Nor by its hash: that of one tenant is nobody's in another.
            hashes = [link.phone_hash for link in found]
            elsewhere = {"phone_hash": {"$in": hashes}, "tenant_id": {"$ne": tenant}}
            assert await store.db.phones.count_documents(elsewhere) == 0
    for scope in {scope for scope, _ in links}:
        assert len(await store.phones.of_person(scope)) == sum(scope == each for each, _ in links)
