"""Numbers and PINs go with their person: merged, erased, exported, kept for as long as them, and nobody else's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.model import PROFILE_FIELDS, UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import PERSONAL, PHONE_ATTEMPTS, PHONES, PINS
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase
from lkmongo.store.people.forget import forget
from lkmongo.store.people.merge import merge
from lkmongo.store.people.person import export
from tests.people import anywhere, documents, furnish, of

GUEST = UserScope(tenant_id="default", user_id="phone-77f1")
LOGIN = UserScope(tenant_id="default", user_id="u-100")
OTHER = UserScope(tenant_id="default", user_id="u-1000")
ELSEWHERE = UserScope(tenant_id="other", user_id="u-100")
NUMBER, SECOND = PhoneNumber("+4930901820"), PhoneNumber("+4930901821")
PIN, ANOTHER, WRONG = "274963", "385074", "496185"
AT = datetime.fromisoformat("2026-03-01T10:00:00+00:00")
THEIRS = (PHONES, PINS, PHONE_ATTEMPTS)


@pytest.fixture(autouse=True)
def _key(store):
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


async def called(store: Store, scope: UserScope, number: PhoneNumber = NUMBER, pin: str | None = PIN) -> None:
    await store.phones.link(scope, number, by="call", at=AT)
    if pin:
        await store.pins.set(scope, pin, by="call")
        assert await store.pins.verify(scope, number, WRONG) == "wrong"


async def counts(store: Store, scope: UserScope) -> list[int]:
    return [await store.db[name].count_documents(scope.filter) for name in THEIRS]


async def test_erasing_somebody_deletes_their_numbers_their_pin_and_the_attempts_at_it(store):
    for scope in (LOGIN, OTHER, ELSEWHERE):
        await furnish(store, scope)
        await called(store, scope)
    others = await documents(store, LOGIN)
    receipt = await erase(store.db, LOGIN, by="Sam")
    assert {name: receipt.counts[name] for name in THEIRS} == dict.fromkeys(THEIRS, 1)
    assert await of(store, LOGIN) == {name: [] for name in PERSONAL}
    assert await documents(store, LOGIN) == others
    assert [link.scope for link in await store.phones.of_number("default", NUMBER)] == [OTHER]
    assert await store.pins.verify(LOGIN, NUMBER, PIN) == "none"


async def test_of_whom_there_is_a_number_alone_it_is_erased(store):
    await called(store, LOGIN, pin=None)
    assert (await erase(store.db, LOGIN, by="Sam")).counts[PHONES] == 1
    assert await anywhere(store, "u-100") == []


async def test_forgetting_everything_leaves_what_the_person_comes_in_by(store):
    await furnish(store, LOGIN)
    await called(store, LOGIN)
    await forget(store, LOGIN, fields=PROFILE_FIELDS)
    assert await store.memories.slots(LOGIN) == []
    assert await counts(store, LOGIN) == [1, 1, 1]


async def test_the_export_says_since_when_and_has_neither_hash_nor_pin(store):
    await furnish(store, LOGIN)
    await called(store, LOGIN)
    await called(store, OTHER, SECOND)
    text = "".join([piece async for piece in export(store.db, LOGIN)])
    found = json.loads(text)
    at = AT.isoformat()
    assert found["phones"] == [{"last_digits": "20", "linked_at": at, "last_seen_at": at, "by": "call"}]
    (pin,), (attempt,) = found["pins"], found["phone_attempts"]
    assert set(pin) == {"set_at", "by", "last_used_at"}
    assert set(attempt) == {"at"}
    (stored,) = await store.db.pins.find(LOGIN.filter).to_list()
    hashes = [str(each["phone_hash"]) async for each in store.db.phones.find()]
    for secret in (PIN, WRONG, NUMBER.text, *hashes, stored["derived"].hex(), stored["key"]):
        assert secret not in text


async def test_numbers_and_pins_that_are_not_used_go_with_unused_profiles(store):
    at = now()
    for days, scope in ((40, LOGIN), (20, OTHER)):
        await store.phones.link(scope, NUMBER, by="call", at=at - timedelta(days=days))
        await store.pins.set(scope, PIN, by="staff")
        used = {"$set": {"last_used_at": at - timedelta(days=days)}}
        await store.db.pins.update_one(scope.filter, used)
    assert await database_indexes.count_older(store.db, "profiles", timedelta(days=30)) == 2
    await database_indexes.set_retention(store.db, "profiles", timedelta(days=30))
    for name, path in ((PHONES, "last_seen_at"), (PINS, "last_used_at")):
        index = (await store.db[name].index_information())["retention"]
        assert (index["key"], index["expireAfterSeconds"]) == ([(path, 1)], 30 * 86_400)


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_number_of_the_guest_leads_to_the_account(store, atomic):
    await furnish(store, LOGIN)
    for scope in (GUEST, OTHER, ELSEWHERE):
        await called(store, scope)
    others = await documents(store, GUEST, LOGIN)
    merged = await merge(store.db, GUEST, LOGIN, atomic=atomic)
    assert ([merged.moved[name] for name in THEIRS], merged.doubles) == ([1, 1, 1], {})
    assert {link.scope for link in await store.phones.of_number("default", NUMBER)} == {LOGIN, OTHER}
    assert await counts(store, GUEST) == [0, 0, 0]
    assert await store.pins.verify(LOGIN, None, PIN) == "right", "they had none"
    assert await documents(store, GUEST, LOGIN) == others


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_number_that_both_had_is_one_and_the_accounts_pin_stays(store, atomic):
    await called(store, LOGIN, pin=PIN)
    await called(store, GUEST, pin=ANOTHER)
    await store.phones.seen(GUEST, NUMBER, AT + timedelta(days=9))
    before = await documents(store)
    planned = await merge(store.db, GUEST, LOGIN, dry_run=True)
    assert await documents(store) == before
    merged = await merge(store.db, GUEST, LOGIN, atomic=atomic)
    assert (merged.moved, merged.doubles) == (planned.moved, planned.doubles)
    assert ([merged.moved[name] for name in THEIRS], merged.doubles) == ([0, 0, 1], {PHONES: 1, PINS: 1})
    (link,) = await store.phones.of_person(LOGIN)
    assert (link.linked_at, link.last_seen_at) == (AT, AT + timedelta(days=9))
    assert await store.pins.verify(LOGIN, None, ANOTHER) == "wrong"
    assert await store.pins.verify(LOGIN, None, PIN) == "right"
    again = await merge(store.db, GUEST, LOGIN)
    assert again.is_empty


async def test_a_merge_gives_nobody_further_attempts(store):
    await called(store, LOGIN)
    await called(store, GUEST, SECOND)
    for scope in (LOGIN, GUEST):
        assert [await store.pins.verify(scope, None, WRONG) for _ in range(2)] == ["wrong"] * 2
    await merge(store.db, GUEST, LOGIN)
    assert await store.pins.verify(LOGIN, None, PIN) == "locked"
    assert await store.pins.lock(LOGIN) is not None


_DAYS = st.dictionaries(st.integers(20, 24), st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4)
"""Numbers by their last digits: the days on which each was linked, and seen after that."""
_HOLDINGS = st.fixed_dictionaries({"numbers": _DAYS, "pin": st.booleans(), "attempts": st.integers(0, 2)})


async def hold(store: Store, scope: UserScope, pin: str, holding: dict[str, Any]) -> None:
    for digits, (linked, later) in holding["numbers"].items():
        number, day = PhoneNumber(f"+49309018{digits}"), AT + timedelta(days=linked)
        await store.phones.link(scope, number, by="call", at=day)
        await store.phones.seen(scope, number, day + timedelta(days=later))
    if holding["pin"]:
        await store.pins.set(scope, pin, by="call")
        for _ in range(holding["attempts"]):
            await store.pins.verify(scope, None, WRONG)


@given(guest=_HOLDINGS, login=_HOLDINGS, other=_HOLDINGS, atomic=st.booleans())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_both_had_it_is_the_accounts_once_and_nobody_elses(store, guest, login, other, atomic):
    for name in (*PERSONAL, "tombstones"):
        await store.db[name].delete_many({})
    await hold(store, GUEST, ANOTHER, guest)
    await hold(store, LOGIN, PIN, login)
    await hold(store, OTHER, PIN, other)
    await hold(store, ELSEWHERE, ANOTHER, guest)
    others = await documents(store, GUEST, LOGIN)
    held = [encode(each) async for each in store.db.pins.find(LOGIN.filter)]
    await merge(store.db, GUEST, LOGIN, atomic=atomic)
    assert await documents(store, GUEST, LOGIN) == others
    assert await counts(store, GUEST) == [0, 0, 0]
    for digits in range(20, 25):
        had = [AT + timedelta(days=each[digits][0]) for each in (guest["numbers"], login["numbers"]) if digits in each]
        used = [
            AT + timedelta(days=sum(each[digits])) for each in (guest["numbers"], login["numbers"]) if digits in each
        ]
        found = await store.phones.of_number("default", PhoneNumber(f"+49309018{digits}"))
        links = [(link.linked_at, link.last_seen_at) for link in found if link.scope == LOGIN]
        assert links == ([(min(had), max(used))] if had else [])
    if login["pin"]:
        assert [encode(each) async for each in store.db.pins.find(LOGIN.filter)] == held
    attempts = sum(each["attempts"] for each in (guest, login) if each["pin"])
    assert await store.db.phone_attempts.count_documents(LOGIN.filter) == attempts
    known = PIN if login["pin"] else ANOTHER
    expected = "right" if login["pin"] or guest["pin"] else "none"
    assert await store.pins.verify(LOGIN, None, known) == expected
