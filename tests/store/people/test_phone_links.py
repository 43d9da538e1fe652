"""What staff see of numbers and PINs: in pages, with lock-outs, and nothing is changed before they agree."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lkmongo.errors import DeclinedError, NotFoundError
from lkmongo.model import TenantScope, UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people import phone_links
from lkmongo.store.people.pins import check_pin
from lkmongo.trust import Level

TENANT = TenantScope("default")
ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
NUMBERS = [PhoneNumber(f"+49305550{number}") for number in range(1700, 1710)]
PIN, WRONG = "860417", "777123"
HALF_A_YEAR = timedelta(days=180)


@pytest.fixture(autouse=True)
def _key(store):
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


@pytest.mark.parametrize("limit", range(1, 8))
async def test_pages_hold_each_number_once_and_part_no_person(store, limit):
    of = {"a": 1, "b": 3, "c": 2, "d": 1}
    for user, count in of.items():
        for number in NUMBERS[:count]:
            await store.phones.link(UserScope(tenant_id="default", user_id=user), number, by="call")
    await store.phones.link(UserScope(tenant_id="other", user_id="a"), NUMBERS[0], by="call")
    seen, after = [], None
    while True:
        page = await phone_links.list_links(store, TENANT, recycled_after=HALF_A_YEAR, after=after, limit=limit)
        assert page.total == 7
        if not page.numbers:
            break
        users = [each.link.user_id for each in page.numbers]
        assert len(users) <= limit or len(set(users)) == 1
        assert all(users.count(user) == of[user] for user in users)
        seen += users
        after = users[-1]
    assert seen == [user for user, count in of.items() for _ in range(count)]


async def test_what_a_number_gives_and_what_its_owner_can_reach(store):
    at = now()
    await store.phones.link(ROBIN, NUMBERS[0], by="call", at=at - HALF_A_YEAR - timedelta(minutes=1))
    await store.phones.link(KIM, NUMBERS[0], by="staff", at=at)
    await store.pins.set(KIM, PIN, by="staff")
    found = await phone_links.lookup(store, TENANT, NUMBERS[0], recycled_after=HALF_A_YEAR, at=at)
    assert [(each.link.user_id, each.level, each.can_reach) for each in found] == [
        ("kim", Level.RECOGNISED, Level.VERIFIED),
        ("robin", None, None),
    ]
    assert await phone_links.lookup(store, TENANT, NUMBERS[1], recycled_after=HALF_A_YEAR) == []


async def test_a_lock_out_is_that_of_the_person_or_of_the_number(store):
    await store.phones.link(ROBIN, NUMBERS[0], by="call")
    await store.phones.link(ROBIN, NUMBERS[1], by="call")
    await store.phones.link(KIM, NUMBERS[2], by="call")
    await store.pins.set(KIM, PIN, by="staff")
    for _ in range(5):
        assert await store.pins.verify(KIM, NUMBERS[0], WRONG) == "wrong"

    async def locked():
        page = await phone_links.list_links(store, TENANT, recycled_after=HALF_A_YEAR)
        for each in page.numbers:
            number = next(one for one in NUMBERS if one.last_digits == each.link.last_digits)
            assert each.locked_until == await store.pins.lock(each.link.scope, number)
        return [(each.link.user_id, each.link.last_digits) for each in page.numbers if each.locked_until]

    assert await locked() == [("kim", "02"), ("robin", "00")]
    await store.users.seen(ROBIN)
    assert await phone_links.unlock_pin(store, ROBIN)
    assert not await phone_links.unlock_pin(store, ROBIN)
    assert await locked() == [("kim", "02")]
    assert await phone_links.unlock_pin(store, KIM)
    assert await locked() == []


async def test_nothing_is_unlinked_or_removed_before_the_answer(store):
    await store.phones.link(ROBIN, NUMBERS[0], by="call")
    await store.pins.set(ROBIN, PIN, by="staff")

    def decline(*_):
        raise DeclinedError

    for work in (
        phone_links.unlink_known(store, ROBIN, confirm=decline),
        phone_links.clear_pin(store, ROBIN, confirm=decline),
    ):
        with pytest.raises(DeclinedError):
            await work
    assert len(await store.phones.of_person(ROBIN)) == 1
    assert await store.pins.has(ROBIN)
    assert await phone_links.set_pin(store, ROBIN, "860418", by="staff", dry_run=True)
    assert await store.pins.verify(ROBIN, None, PIN) == "right"


async def test_the_number_of_somebody_else_is_not_unlinked(store):
    await store.phones.link(ROBIN, NUMBERS[0], by="call")
    await store.phones.link(KIM, NUMBERS[1], by="call")
    with pytest.raises(NotFoundError, match=r"no number that ends in 01 is linked to robin"):
        await phone_links.unlink_known(store, ROBIN, NUMBERS[1])
    assert len(await store.phones.of_person(KIM)) == 1


def test_a_new_pin_is_one_that_may_be_set():
    made = {check_pin(phone_links.new_pin()) for _ in range(200)}
    assert {len(each) for each in made} == {6}
    assert len(made) > 190
