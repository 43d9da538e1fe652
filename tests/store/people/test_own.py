"""Documents of declared collections through their handle: read and written by their owner, and by nobody else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal

import pytest
from bson import Decimal128, encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lkmongo import deadlines
from lkmongo.declarations import Collection, ShapeError, declare
from lkmongo.errors import DatabaseUnavailableError, InvalidIdError, NotFoundError, UsageError
from lkmongo.model import UserScope
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.people.own import OwnDocuments
from lkmongo.store.people.tombstones import ErasedError

ROBIN = UserScope(tenant_id="default", user_id="u-1")
KIM = UserScope(tenant_id="default", user_id="u-2")
ELSEWHERE = UserScope(tenant_id="hotel", user_id="u-1")


class Booking(BaseModel):
    number: str
    status: Literal["open", "done"] = "open"
    seats: int = 1


def of(store, scope, name="bookings", **options):
    return OwnDocuments(store.db, name, lambda: scope, **options)


@pytest.fixture
async def bookings(store):
    declare(Collection("bookings", owner="person", key=("number",), document=Booking))
    await database_indexes.apply(store.db)
    return of(store, ROBIN)


async def test_a_document_is_added_found_changed_and_deleted(store, bookings):
    assert await bookings.insert({"number": "1", "seats": 3})
    assert await bookings.insert({"number": "2"})
    assert not await bookings.insert({"number": "2", "seats": 5}), "its key is taken"
    assert await bookings.find() == [
        {"number": "1", "status": "open", "seats": 3},
        {"number": "2", "status": "open", "seats": 1},
    ]
    assert [each["number"] for each in await bookings.find({"seats": {"$lt": 9}}, sort="-number", limit=1)] == ["2"]
    assert [each["number"] for each in await bookings.find(sort=["status", "-seats"])] == ["1", "2"]
    assert await bookings.update({"number": "1"}, {"status": "done"}) == 1
    assert await bookings.update({"number": "1"}, {"$inc": {"seats": 2}, "$set": {"status": "open"}}) == 1
    assert await bookings.find({"number": "1"}) == [{"number": "1", "status": "open", "seats": 5}]
    assert await bookings.delete({"status": "done"}) == 0
    assert await bookings.delete({"number": {"$in": ["1", "3"]}}) == 1
    assert [each["number"] for each in await bookings.find()] == ["2"]
    stored = await store.db.bookings.find_one()
    assert (stored["tenant_id"], stored["user_id"]) == ("default", "u-1")


async def test_two_people_may_have_one_key_and_see_their_own(store, bookings):
    for person in (ROBIN, KIM, ELSEWHERE):
        assert await of(store, person).insert({"number": "1", "seats": 1})
    await of(store, KIM).update({"number": "1"}, {"seats": 9})
    assert await bookings.find() == [{"number": "1", "status": "open", "seats": 1}]
    assert await of(store, ELSEWHERE).delete({}) == 1
    assert len(await bookings.find()) == len(await of(store, KIM).find()) == 1


@pytest.mark.parametrize(
    "where",
    [
        {"user_id": "u-2"},
        {"user_id": {"$ne": "u-1"}},
        {"tenant_id": "hotel"},
        {"tenant_id": {"$exists": True}},
        {"$or": [{"number": "1"}, {"user_id": "u-2"}]},
        {"$and": [{"$nor": [{"tenant_id": "default"}, {"user_id": "u-2"}]}]},
        {"user_id.x": "u-1"},
        {"$where": "true"},
        {"$expr": {"$ne": ["$user_id", "u-1"]}},
        {"$or": ["number"]},
        "number",
    ],
)
async def test_a_filter_that_names_somebody_else_is_refused(store, bookings, where):
    await of(store, KIM).insert({"number": "1"})
    for attempt in (bookings.find(where), bookings.delete(where), bookings.update(where, {"seats": 3})):
        with pytest.raises(UsageError):
            await attempt
    assert await of(store, KIM).find() == [{"number": "1", "status": "open", "seats": 1}]


async def test_a_filter_may_name_the_owner(bookings):
    await bookings.insert({"number": "1"})
    assert await bookings.find({"$or": [{"user_id": "u-1", "tenant_id": "default"}]})


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "u-2"},
        {"$set": {"tenant_id": "hotel"}},
        {"$unset": {"user_id": ""}},
        {"$rename": {"number": "user_id"}},
        {"$setOnInsert": {"seats": 1}},
        {"seats": 3, "$inc": {"seats": 1}},
        {"_id": 1},
        {},
        {"seats": "many"},
        {"sets": 3},
    ],
)
async def test_a_change_of_whose_it_is_or_of_a_wrong_shape_is_refused(bookings, changes):
    await bookings.insert({"number": "1"})
    with pytest.raises(UsageError):
        await bookings.update({"number": "1"}, changes)
    assert await bookings.find() == [{"number": "1", "status": "open", "seats": 1}]


@pytest.mark.parametrize("document", [{"number": 1}, {"seats": 1}, {"number": "1", "user_id": "u-2"}, {"number": None}])
async def test_a_document_of_a_wrong_shape_is_not_added(store, bookings, document):
    with pytest.raises(ShapeError, match="bookings"):
        await bookings.insert(document)
    assert await store.db.bookings.count_documents({}) == 0


async def test_tenants_and_shared_collections_have_their_own_scope(store):
    declare(Collection("rooms", owner="tenant", key=("nr",)), Collection("holidays", owner="shared", key=("day",)))
    await database_indexes.apply(store.db)
    assert await of(store, ROBIN, "rooms").insert({"nr": 1})
    assert not await of(store, KIM, "rooms").insert({"nr": 1})
    assert await of(store, KIM, "rooms").find() == [{"nr": 1}]
    assert await of(store, ELSEWHERE, "rooms").find() == []
    with pytest.raises(UsageError):
        await of(store, ROBIN, "rooms").find({"user_id": "u-1"})
    assert await of(store, ELSEWHERE, "holidays").insert({"day": date(2026, 12, 25)})
    assert await of(store, ROBIN, "holidays").find() == [{"day": datetime(2026, 12, 25, tzinfo=UTC)}]


async def test_values_are_stored_as_bson_takes_them(store):
    declare(Collection("things", owner="person", key=()))
    things = of(store, ROBIN, "things")
    await things.insert({"text": "a\ud800b", "price": Decimal("1.5"), "tags": ("x", "\udfff"), "deep": {"k\ud800": 1}})
    await things.update({}, {"note": "c\ud800"})
    assert await things.find({"text": "a\ud800b"}) == [
        {
            "text": "a\ufffdb",
            "price": Decimal128("1.5"),
            "tags": ["x", "\ufffd"],
            "deep": {"k\ufffd": 1},
            "note": "c\ufffd",
        }
    ]


async def test_the_declaration_is_in_the_database_before_the_first_document(store, bookings):
    await store.db.declarations.delete_many({})
    async with store.db.client.start_session():
        await bookings.insert({"number": "1"})
    assert await store.db.declarations.count_documents({"_id": "collection/bookings"}) == 1


def test_what_is_not_declared_is_named(store):
    with pytest.raises(NotFoundError) as caught:
        of(store, ROBIN, "bokings")
    assert caught.value.message == "no collection bokings is declared"
    assert caught.value.why == "declared are orders"


async def test_while_mongodb_is_away_every_call_fails_at_once(store, bookings):
    breaker = CircuitBreaker()
    handle = of(store, ROBIN, breaker=breaker)
    breaker.failed()
    for attempt in (handle.find(), handle.insert({"number": "1"}), handle.update({}, {"seats": 1}), handle.delete({})):
        with pytest.raises(DatabaseUnavailableError):
            await attempt
    breaker.answered()
    assert await handle.find() == []


async def test_a_write_that_hangs_is_given_up(store, bookings, monkeypatch):
    monkeypatch.setattr(deadlines, "MONGODB_WRITE", 0.05)
    breaker = CircuitBreaker()

    @asynccontextmanager
    async def hanging():
        import asyncio

        await asyncio.Event().wait()
        yield

    with pytest.raises(DatabaseUnavailableError):
        await of(store, ROBIN, breaker=breaker, writing=hanging).insert({"number": "1"})
    assert breaker.is_open


async def test_documents_of_people_are_written_under_the_lease_and_others_are_not(store, bookings):
    declare(Collection("rooms", owner="tenant", key=("nr",)))

    @asynccontextmanager
    async def erased():
        raise ErasedError
        yield

    handle = of(store, ROBIN, writing=erased)
    for attempt in (handle.insert({"number": "1"}), handle.update({}, {"seats": 1}), handle.delete({})):
        with pytest.raises(ErasedError):
            await attempt
    assert await of(store, ROBIN, "rooms", writing=erased).insert({"nr": 1})


# Few ids, so that people share a tenant or a user id, and operators that a filter could be made of.
def _is_id(value):
    try:
        UserScope(tenant_id=value, user_id=value)
    except InvalidIdError:
        return False
    return True


_IDS = st.one_of(st.sampled_from(["u-1", "u-10", "$ne", "a.b", '{"$gt":""}']), st.text("aA.$", min_size=1, max_size=2))
_IDS = _IDS.filter(_is_id)
_PEOPLE = st.lists(st.builds(UserScope, tenant_id=_IDS, user_id=_IDS), min_size=2, max_size=3, unique=True)
_VALUES = st.one_of(st.integers(0, 3), _IDS, st.none(), st.dictionaries(st.sampled_from(["$ne", "$gt", "$in"]), _IDS))
_FILTERS = st.recursive(
    st.dictionaries(st.sampled_from(["nr", "user_id", "tenant_id", "x", "_id", "user_id.0"]), _VALUES, max_size=2),
    lambda inner: st.dictionaries(
        st.sampled_from(["$or", "$and", "$nor", "$where", "$expr"]), st.lists(inner, min_size=1, max_size=2), max_size=2
    ),
    max_leaves=4,
)
_CHANGES = st.one_of(
    st.dictionaries(st.sampled_from(["x", "user_id", "tenant_id", "_id", "user_id.0"]), _VALUES, min_size=1),
    st.dictionaries(
        st.sampled_from(["$set", "$unset", "$rename", "$inc", "$push"]),
        st.dictionaries(st.sampled_from(["x", "y", "user_id", "tenant_id"]), _VALUES, min_size=1),
        min_size=1,
    ),
)


@given(people=_PEOPLE, where=_FILTERS, changes=_CHANGES, data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
async def test_whatever_is_asked_nobody_reaches_what_is_anothers(store, people, where, changes, data):
    from lkmongo.errors import DatabaseError

    declare(Collection("things", owner="person", key=("nr",)))
    await store.db.things.delete_many({})
    for person in people:
        for number in range(2):
            await of(store, person, "things").insert({"nr": number, "x": number, "mine": str(person)})
    me = data.draw(st.sampled_from(people))

    async def others():
        cursor = store.db.things.find({"$nor": [me.filter]}).sort("_id")
        return [encode(each) async for each in cursor]

    async def attempt(work):
        try:
            return await work
        except (UsageError, DatabaseError):  # refused, by us or by MongoDB
            return []

    before, handle = await others(), of(store, me, "things")
    found = await attempt(handle.find(where))
    assert all(each["mine"] == str(me) for each in found)
    await attempt(handle.update(where, changes))
    assert await others() == before
    await attempt(handle.delete(where))
    assert await others() == before
