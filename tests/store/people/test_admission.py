"""Whether a seal still holds: one room, and a visitor who has not logged out; also when several ask at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.model import UserScope, now
from lkmongo.store.mongo.schema import USED_SEALS, VISITORS
from lkmongo.store.people.admission import LATEST, Admission, LoggedOutError, NotAdmittedError
from lkmongo.store.people.users import Visitors
from lkmongo.ticket import Ticket

ROBIN = UserScope(tenant_id="default", user_id="u-100")
MADE = now() - timedelta(minutes=5)
TICKET = Ticket("RM_1", "seal-1", "visitor-1", MADE, MADE + timedelta(minutes=15))


async def outcome(store, ticket=TICKET, *, began=None, how="confirm"):
    """What a session in that room is told: None, or the error."""
    admission = Admission(store.db, ticket, began or now())
    try:
        if how == "confirm":
            await admission.confirm()
        else:
            await store.users.get_admitted(ROBIN, admission)
    except NotAdmittedError as error:
        assert not admission.is_given
        return type(error)
    assert admission.is_given
    return None


@pytest.fixture(params=["confirm", "preload"])
def how(request):
    return request.param


async def test_a_seal_is_good_in_the_first_room_and_again_there(store, how):
    assert await outcome(store) is None
    for room, error in (("RM_1", None), ("RM_2", NotAdmittedError), ("", NotAdmittedError)):
        assert await outcome(store, replace(TICKET, room=room), how=how) is error
    assert await outcome(store, replace(TICKET, room="RM_2", seal="seal-2"), how=how) is None
    assert await outcome(store, replace(TICKET, room="RM_2", seal=None), how=how) is None, "it names its room itself"


async def test_of_many_rooms_at_once_one_has_it(store):
    rooms = [replace(TICKET, room=f"RM_{n}") for n in range(12)]
    found = await asyncio.gather(*(outcome(store, each) for each in rooms))
    assert found.count(None) == 1
    (winner,) = [each for each, error in zip(rooms, found, strict=True) if error is None]
    assert (await store.db[USED_SEALS].find_one({"_id": "seal-1"}))["room"] == winner.room


async def test_after_its_time_a_seal_is_good_only_where_it_was_used(store, how):
    late = TICKET.until + LATEST + timedelta(seconds=1)
    assert await outcome(store, began=late, how=how) is NotAdmittedError
    assert await store.db[USED_SEALS].count_documents({}) == 0
    assert await outcome(store, began=TICKET.until + LATEST) is None
    assert await outcome(store, began=late, how=how) is None
    assert await outcome(store, replace(TICKET, room="RM_2"), began=late, how=how) is NotAdmittedError


@pytest.mark.parametrize("login", [False, True])
async def test_a_logout_ends_what_was_made_before_it(store, how, login):
    visitors = Visitors(store.db)
    await visitors.add("visitor-1", ROBIN)
    assert await outcome(store, how=how) is None
    if login:
        await visitors.end_login("visitor-1", ROBIN)
    else:
        await visitors.end("visitor-1", ROBIN)
    ended_at = (await store.db[VISITORS].find_one({"_id": "visitor-1"}))["ended_at"]
    after = ended_at + timedelta(milliseconds=1)
    assert await outcome(store, began=after, how=how) is NotAdmittedError
    assert await outcome(store, began=ended_at - timedelta(milliseconds=1), how=how) is LoggedOutError
    # A login is the same when they come again; a browser gets another cookie.
    newer = replace(TICKET, seal="seal-2", made_at=after)
    assert await outcome(store, newer, began=after, how=how) is (None if login else NotAdmittedError)
    assert await outcome(store, replace(TICKET, visitor="visitor-2"), began=after, how=how) is None


async def test_the_profile_comes_with_the_same_read_and_only_to_whom_it_may(store):
    await store.users.set_field(ROBIN, "name", "Robin")
    admission = Admission(store.db, TICKET, now())
    assert (await store.users.get_admitted(ROBIN, admission)).name == "Robin"
    assert await store.users.get_admitted(replace(ROBIN, user_id="u-200"), admission) is None
    await admission.confirm()
    elsewhere = Admission(store.db, replace(TICKET, room="RM_2"), now())
    with pytest.raises(NotAdmittedError):
        await store.users.get_admitted(ROBIN, elsewhere)


async def test_what_is_kept_of_a_seal_names_nobody_and_goes(store):
    await outcome(store)
    (kept,) = await store.db[USED_SEALS].find().to_list()
    assert set(kept) == {"_id", "room", "expires_at"}
    assert kept["expires_at"] > TICKET.until + LATEST
    index = (await store.db[USED_SEALS].index_information())["expiry"]
    assert (index["key"], index["expireAfterSeconds"]) == ([("expires_at", 1)], 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["RM_1", "RM_2", "RM_3"]), st.sampled_from(["confirm", "preload"]))))
async def test_whatever_the_order_no_second_room_is_let_in(store, uses):
    await store.db[USED_SEALS].delete_many({})
    bound = None
    for room, how in uses:
        error = await outcome(store, replace(TICKET, room=room), how=how)
        assert (error is None) is (bound in {None, room})
        if how == "confirm" and error is None:
            bound = room
