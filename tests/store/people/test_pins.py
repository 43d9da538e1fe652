"""PINs: who knows one is right, nobody finds one by trying, and none can be read or tried out of the database."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from datetime import timedelta

import pytest
from bson import encode
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.model import UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people import pins as module
from lkmongo.store.people.person_hash import WrongKeyError
from lkmongo.store.people.phones import NoPhoneKeyError
from lkmongo.store.people.pins import ATTEMPTS, PinError, check_pin

ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
ELSEWHERE = UserScope(tenant_id="other", user_id="robin")
NUMBER, OTHER = PhoneNumber("+4930901820"), PhoneNumber("+4930901821")
PIN, WRONG = "274963", "274964"


@pytest.fixture(autouse=True)
def _key(store):
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


@pytest.fixture
def compared(monkeypatch) -> list[threading.Thread]:
    """The thread of each comparison."""
    done = []
    derive = module._derive

    def note(*arguments):
        done.append(threading.current_thread())
        return derive(*arguments)

    monkeypatch.setattr(module, "_derive", note)
    return done


async def tries(store, scope, number, count: int, pin: str = WRONG) -> list[str]:
    return [await store.pins.verify(scope, number, pin) for _ in range(count)]


async def an_hour_passes(store) -> None:
    """Make the attempts older; MongoDB would delete them within a minute."""
    back = {"$set": {"expires_at": {"$subtract": ["$expires_at", 3_600_000]}}}
    await store.db.phone_attempts.update_many({}, [back])


# ---------------------------------------------------------------- what may be one


@pytest.mark.parametrize("pin", ["2749", "27496", "27490318", "0852", "1357", "1221", "9002"])
def test_four_to_eight_digits_may_be_a_pin(pin):
    assert check_pin(pin) == pin


@pytest.mark.parametrize(
    "pin",
    [
        *("", "274", "274903188", "27 49", "2749\n", "abcd", "-274", "२७४९", "²³¹⁴"),
        *("0000", "99999999", "1234", "4321", "0123456", "7890", "2109", "12345678", "1212", "90909090", "2727272"),
    ],
)
def test_what_is_none_or_tried_first_is_refused_without_being_repeated(pin):
    with pytest.raises(PinError) as refused:
        check_pin(pin)
    told = f"{refused.value} {refused.value.why} {refused.value.hint}"
    assert not pin or pin not in told


@given(st.from_regex(r"[0-9]{4,8}", fullmatch=True))
def test_few_pins_are_refused_and_no_message_has_one(pin):
    try:
        check_pin(pin)
    except PinError as error:
        assert pin not in f"{error} {error.hint}"  # noqa: PT017
        assert len(set(pin)) <= 2 or re.search("012|123|234|345|456|567|678|789|890|901", pin + pin[::-1])


async def test_a_pin_that_may_not_be_one_is_not_set(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    with pytest.raises(PinError):
        await store.pins.set(ROBIN, "1234", by="staff")
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"


# ---------------------------------------------------------------- set, verified, cleared


async def test_who_knows_the_pin_is_right_from_any_number_and_none(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    for number in (NUMBER, OTHER, None):
        assert await store.pins.verify(ROBIN, number, PIN) == "right"
        assert await store.pins.verify(ROBIN, number, WRONG) == "wrong"
    for other in ("", PIN[:-1], PIN + "0", " " + PIN):
        await store.pins.set(ROBIN, PIN, by="staff")  # which ends a lock-out
        assert await store.pins.verify(ROBIN, None, other) == "wrong"


async def test_the_pin_is_the_persons_in_their_tenant_alone(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    for other in (KIM, ELSEWHERE):
        assert await store.pins.verify(other, NUMBER, PIN) == "none"
        assert not await store.pins.has(other)
    await store.pins.set(KIM, "385074", by="staff")
    assert await store.pins.verify(KIM, NUMBER, PIN) == "wrong"


async def test_a_new_pin_takes_the_place_of_the_former(store):
    await store.pins.set(ROBIN, WRONG, by="staff")
    await store.pins.set(ROBIN, PIN, by="call")
    assert await store.pins.verify(ROBIN, NUMBER, WRONG) == "wrong"
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"
    assert await store.db.pins.count_documents({}) == 1


async def test_staff_see_since_when_and_by_whom_and_nothing_else(store):
    assert await store.pins.info(ROBIN) is None
    before = now() - timedelta(seconds=1)
    await store.pins.set(ROBIN, PIN, by="staff")
    info = await store.pins.info(ROBIN)
    assert await store.pins.has(ROBIN)
    assert info.by == "staff"
    assert before <= info.set_at == info.last_used_at
    await store.pins.verify(ROBIN, NUMBER, WRONG)
    assert await store.pins.info(ROBIN) == info
    await store.db.pins.update_one(ROBIN.filter, {"$set": {"last_used_at": before}})
    await store.pins.verify(ROBIN, NUMBER, PIN)
    assert (await store.pins.info(ROBIN)).last_used_at > before
    assert info.__slots__ == ("set_at", "by", "last_used_at")


async def test_a_cleared_pin_is_none(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    await store.pins.verify(ROBIN, NUMBER, WRONG)
    assert await store.pins.clear(ROBIN)
    assert not await store.pins.clear(ROBIN)
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "none"
    assert await store.db.phone_attempts.count_documents({}) == 0


# ---------------------------------------------------------------- what the database holds


async def test_neither_the_pin_nor_anything_to_try_pins_on_is_in_the_database(store, caplog):
    with caplog.at_level(logging.DEBUG, "lkmongo"):
        await store.pins.set(ROBIN, PIN, by="staff")
        await tries(store, ROBIN, NUMBER, 7)
        await store.pins.verify(ROBIN, NUMBER, PIN)
    found = {name: [each async for each in store.db[name].find()] for name in await store.db.list_collection_names()}
    assert all(found[name] for name in ("pins", "phone_attempts"))
    for secret in (PIN, WRONG, NUMBER.text, NUMBER.text[1:]):
        assert [name for name, those in found.items() if any(secret.encode() in encode(each) for each in those)] == []
        assert secret not in caplog.text
    # With all that is in the document but the erasure key, the right PIN is as wrong as any other.
    (document,) = found["pins"]
    for key in (b"", b"l" * 32, document["key"].encode()):
        assert module._derive(ErasureKey(key), PIN, document["salt"], document["cost"]) != document["derived"]
    assert module._derive(ErasureKey(b"k" * 32), PIN, document["salt"], document["cost"]) == document["derived"]


async def test_two_people_with_one_pin_have_nothing_in_common(store):
    for scope in (ROBIN, KIM):
        await store.pins.set(scope, PIN, by="staff")
    one, other = [each async for each in store.db.pins.find()]
    assert one["salt"] != other["salt"]
    assert one["derived"] != other["derived"]
    assert len(one["salt"]) == 16
    assert one["cost"]["n"] >= 2**14


async def test_a_pin_is_verified_with_the_cost_it_was_set_with(store, monkeypatch):
    await store.pins.set(ROBIN, PIN, by="staff")
    monkeypatch.setitem(module._COST, "n", 2**15)
    await store.pins.set(KIM, PIN, by="staff")
    assert [await store.pins.verify(scope, None, PIN) for scope in (ROBIN, KIM)] == ["right", "right"]


async def test_the_event_loop_does_not_wait_for_scrypt(store, compared):
    await store.pins.set(ROBIN, PIN, by="staff")
    await store.pins.verify(ROBIN, NUMBER, PIN)
    assert len(compared) == 2
    assert threading.main_thread() not in compared


async def test_with_another_key_it_says_so_instead_of_wrong(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    store.db.client.erasure_key = ErasureKey(b"l" * 32)
    with pytest.raises(WrongKeyError, match="LKMONGO_ERASURE_KEY"):
        await store.pins.verify(ROBIN, NUMBER, PIN)
    assert await store.db.phone_attempts.count_documents({}) == 0


async def test_without_a_key_none_is_set_or_verified(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    store.db.client.erasure_key = None
    for attempt in (store.pins.set(ROBIN, PIN, by="staff"), store.pins.verify(ROBIN, NUMBER, PIN)):
        with pytest.raises(NoPhoneKeyError) as refused:
            await attempt
        assert PIN not in f"{refused.value} {refused.value.hint}"
    assert await store.pins.has(ROBIN), "staff still see that there is one, and may clear it"
    assert await store.pins.clear(ROBIN)


# ---------------------------------------------------------------- attempts


async def test_the_sixth_attempt_within_an_hour_is_not_compared(store, compared):
    await store.pins.set(ROBIN, PIN, by="staff")
    compared.clear()
    assert await tries(store, ROBIN, NUMBER, 7) == ["wrong"] * ATTEMPTS + ["locked"] * 2
    assert await store.pins.verify(ROBIN, OTHER, PIN) == "locked", "from whichever number"
    assert await store.pins.verify(ROBIN, None, PIN) == "locked"
    assert len(compared) == ATTEMPTS == 5


async def test_a_lock_out_ends_after_an_hour_and_what_was_refused_does_not_prolong_it(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    assert await store.pins.lock(ROBIN) is None
    await tries(store, ROBIN, NUMBER, ATTEMPTS - 1)
    assert await store.pins.lock(ROBIN) is None
    await tries(store, ROBIN, NUMBER, 1)
    until = await store.pins.lock(ROBIN)
    oldest = await store.db.phone_attempts.find().sort("expires_at").to_list(1)
    assert until == oldest[0]["expires_at"]
    assert timedelta(minutes=55) < until - now() <= timedelta(minutes=61)
    await tries(store, ROBIN, NUMBER, 3)
    assert await store.pins.lock(ROBIN) == until
    await an_hour_passes(store)
    assert await store.pins.lock(ROBIN) is None
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"


async def test_mongodb_deletes_attempts_when_they_expire(store):
    (expiry,) = [i for i in (await store.db.phone_attempts.index_information()).values() if "expireAfterSeconds" in i]
    assert (expiry["key"], expiry["expireAfterSeconds"]) == ([("expires_at", 1)], 0)
    await store.pins.set(ROBIN, PIN, by="staff")
    await store.pins.verify(ROBIN, NUMBER, WRONG)
    (attempt,) = await store.db.phone_attempts.find().to_list()
    assert attempt["expires_at"] - attempt["at"] == timedelta(hours=1)


async def test_a_number_has_five_attempts_whomever_they_are_for(store):
    people = [UserScope(tenant_id="default", user_id=f"u-{n}") for n in range(ATTEMPTS + 1)]
    for scope in people:
        await store.pins.set(scope, PIN, by="staff")
    *first, last = people
    assert [await store.pins.verify(scope, NUMBER, WRONG) for scope in first] == ["wrong"] * ATTEMPTS
    assert await store.pins.verify(last, NUMBER, PIN) == "locked"
    assert await store.pins.lock(last) is None, "it is the number's"
    assert await store.pins.lock(last, NUMBER) is not None
    assert await store.pins.lock(last, OTHER) is None
    assert await store.pins.verify(last, OTHER, PIN) == "right"


async def test_whoever_tries_from_a_number_that_is_locked_locks_nobody_out(store):
    people = [ROBIN, *(UserScope(tenant_id="default", user_id=f"u-{n}") for n in range(ATTEMPTS))]
    for scope in people:
        await store.pins.set(scope, PIN, by="staff")
    for scope in people[1:]:
        await store.pins.verify(scope, NUMBER, WRONG)
    assert await tries(store, ROBIN, NUMBER, 8) == ["locked"] * 8
    assert await store.pins.verify(ROBIN, OTHER, PIN) == "right"


async def test_a_number_is_counted_in_each_tenant_by_itself(store):
    for scope in (ROBIN, ELSEWHERE):
        await store.pins.set(scope, PIN, by="staff")
    await tries(store, ROBIN, NUMBER, ATTEMPTS)
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "locked"
    assert await store.pins.verify(ELSEWHERE, NUMBER, PIN) == "right"


async def test_a_right_pin_takes_back_the_persons_attempts_and_not_the_numbers_at_others(store):
    for scope in (ROBIN, KIM):
        await store.pins.set(scope, PIN, by="staff")
    await tries(store, ROBIN, OTHER, 3)
    await tries(store, KIM, NUMBER, 4)
    assert await store.pins.verify(ROBIN, NUMBER, PIN) == "right"
    assert await tries(store, ROBIN, OTHER, ATTEMPTS) == ["wrong"] * ATTEMPTS, "those before are taken back"
    assert await store.pins.verify(KIM, NUMBER, WRONG) == "wrong"
    assert await store.pins.verify(KIM, NUMBER, PIN) == "locked"
    another = UserScope(tenant_id="default", user_id="sam")
    await store.pins.set(another, PIN, by="staff")
    assert await store.pins.verify(another, NUMBER, PIN) == "locked", "the number's five were of Kim"


async def test_a_caller_who_is_right_each_time_may_call_as_often_as_they_like(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    assert await tries(store, ROBIN, NUMBER, 12, PIN) == ["right"] * 12


async def test_setting_a_pin_ends_a_lock_out(store):
    await store.pins.set(ROBIN, PIN, by="staff")
    await tries(store, ROBIN, NUMBER, ATTEMPTS + 1)
    await store.pins.set(ROBIN, "385074", by="staff")
    assert await store.pins.lock(ROBIN, NUMBER) is None
    assert await store.pins.verify(ROBIN, NUMBER, "385074") == "right"


async def test_of_many_attempts_at_once_no_more_than_five_are_compared(store, compared):
    others = [UserScope(tenant_id="default", user_id=f"u-{n}") for n in range(20)]
    for scope in (ROBIN, *others):
        await store.pins.set(scope, PIN, by="staff")
    for attempts in (
        [(ROBIN, PhoneNumber(f"+49309019{n}")) for n in range(20, 40)],
        [(scope, NUMBER) for scope in others],
    ):
        compared.clear()
        results = await asyncio.gather(*(store.pins.verify(scope, number, WRONG) for scope, number in attempts))
        assert set(results) <= {"wrong", "locked"}
        assert results.count("wrong") == len(compared) <= ATTEMPTS
        for scope, number in attempts:  # and afterwards no more than what was left
            results.append(await store.pins.verify(scope, number, WRONG))
        assert results.count("wrong") == len(compared) == ATTEMPTS


async def test_no_attempt_is_counted_where_there_is_no_pin(store):
    assert await tries(store, ROBIN, NUMBER, 8) == ["none"] * 8
    assert await store.db.phone_attempts.count_documents({}) == 0


async def test_a_lock_out_is_a_warning_without_ids_numbers_and_digits(store, caplog):
    await store.pins.set(ROBIN, PIN, by="staff")
    with caplog.at_level(logging.WARNING, "lkmongo"):
        await tries(store, ROBIN, NUMBER, ATTEMPTS - 1)
        assert caplog.text == ""
        await tries(store, ROBIN, NUMBER, 1)
        assert caplog.text.count("no PIN is taken") == 1, "said as soon as it is so, as nobody may try again"
        await tries(store, ROBIN, NUMBER, 1)
    assert caplog.text.count("no PIN is taken") == 2
    for private in ("robin", "default", "4930", "20", PIN, WRONG):
        assert private not in "".join(record.getMessage() for record in caplog.records)
