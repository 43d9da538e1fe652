"""The store on a real MongoDB: what is written comes back, to the right person and to nobody else."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, monitoring

from lkmongo.embed.vectors import from_bson
from lkmongo.errors import DatabaseUnavailableError, InvalidIdError, InvalidTextError, LkmongoError
from lkmongo.model import (
    LastSession,
    OrderItem,
    SessionRecord,
    SessionStatus,
    Turn,
    TurnKind,
    UserScope,
    now,
)
from lkmongo.store.mongo.client import create_client, is_local
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAME_ID_ELSEWHERE = UserScope(tenant_id="other", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")


async def test_a_slot_holds_one_value_and_the_newest_wins(store):
    await store.memories.remember(ROBIN, "Favorite Color", "teal")
    await store.memories.remember(ROBIN, "favorite_color", "green")
    (slot,) = await store.memories.slots(ROBIN)
    assert (slot.memory_type, slot.content) == ("favorite_color", "green")
    assert slot.created_at <= slot.updated_at
    assert (await store.memories.recall(ROBIN, "favoriteColor")).content == "green"


async def test_slots_written_at_the_same_time_stay_one(store):
    await asyncio.gather(*(store.memories.remember(ROBIN, "city", f"city {n}") for n in range(20)))
    assert await store.memories.count(ROBIN) == 1


async def test_nobody_reads_or_forgets_what_is_not_theirs(store):
    await store.memories.remember(ROBIN, "city", "Lisbon")
    for other in (SAME_ID_ELSEWHERE, SOMEBODY_ELSE):
        assert await store.memories.slots(other) == []
        assert await store.memories.recall(other, "city") is None
        assert await forget(store, other) == 0
    assert await store.memories.count(ROBIN) == 1


class Answers(monitoring.CommandListener):
    """What MongoDB has answered."""

    def __init__(self):
        self.said = []

    def started(self, event):
        """Nothing of it is looked at."""

    def succeeded(self, event):
        self.said.append(event.reply)

    def failed(self, event):
        self.said.append(event.failure)


async def test_what_is_forgotten_is_not_sent_back_and_makes_nobody_known(store, mongodb_uri):
    await store.users.set_last_session(ROBIN, LastSession(now(), "a heron"), started_at=now())
    answers = Answers()
    async with AsyncMongoClient(mongodb_uri, event_listeners=[answers]) as client:
        watched = Store.of(client[store.db.name])
        await forget(watched, ROBIN, ["pet"])
        await forget(watched, SOMEBODY_ELSE, ["pet"], unless_newer=True)
    assert len(answers.said) >= 4
    assert "heron" not in str(answers.said)
    robin, other = await store.users.get(ROBIN), await store.users.get(SOMEBODY_ELSE)
    assert robin.last_session is None
    assert other is None


async def test_a_vector_is_stored_as_float32_and_never_for_another_content(store):
    first = await store.memories.remember(ROBIN, "city", "Lisbon")
    vector = np.array([0.6, 0.8], dtype=np.float32)
    assert await store.memories.set_vector(ROBIN, first, vector, "m@2")
    raw = await store.db.memories.find_one({})
    assert raw["embedding"].subtype == 9
    assert np.allclose(from_bson(raw["embedding"], 2), vector)
    await asyncio.sleep(0.005)
    await store.memories.remember(ROBIN, "city", "Porto")
    assert not await store.memories.set_vector(ROBIN, first, vector, "m@2")
    assert "embedding" not in await store.db.memories.find_one({})


async def test_slots_come_newest_first_and_without_vectors(store):
    for name in ("a", "b", "c"):
        await store.memories.remember(ROBIN, name, name)
        await asyncio.sleep(0.003)
    assert [slot.memory_type for slot in await store.memories.slots(ROBIN)] == ["c", "b", "a"]


async def test_forgetting_one_slot_leaves_the_others(store):
    for name in ("a", "b", "c"):
        await store.memories.remember(ROBIN, name, name)
    assert await forget(store, ROBIN, ["A", "c"]) == 2
    assert [slot.memory_type for slot in await store.memories.slots(ROBIN)] == ["b"]


async def test_forgetting_takes_the_gist_and_a_call_going_on_cannot_bring_it_back(store):
    started = now()
    await store.users.seen(ROBIN)
    assert await store.users.set_last_session(ROBIN, LastSession(now(), "teal"), started_at=started)
    assert (await store.users.get(ROBIN)).last_session.gist == "teal"
    await asyncio.sleep(0.003)
    await forget(store, ROBIN)
    assert (await store.users.get(ROBIN)).last_session is None
    assert not await store.users.set_last_session(ROBIN, LastSession(now(), "teal"), started_at=started)
    assert (await store.users.get(ROBIN)).last_session is None
    later = now() + timedelta(seconds=1)
    assert await store.users.set_last_session(ROBIN, LastSession(now(), "new"), started_at=later)


async def test_the_gist_of_a_first_call_is_stored_before_the_profile_is_made(store):
    started = now() - timedelta(minutes=1)
    assert await store.users.set_last_session(ROBIN, LastSession(now(), "teal"), started_at=started)
    profile = await store.users.seen(ROBIN)
    assert (profile.last_session.gist, profile.created_at, profile.memory_version) == ("teal", started, 0)


async def test_the_gist_and_the_profile_may_be_made_at_the_same_time(store):
    for number in range(20):
        caller = UserScope(tenant_id="default", user_id=f"u-{number}")
        last = LastSession(now(), "teal")
        stored, _ = await asyncio.gather(
            store.users.set_last_session(caller, last, started_at=now()), store.users.seen(caller)
        )
        assert stored
        assert (await store.users.get(caller)).last_session == last


async def test_a_profile_is_made_once_and_kept(store):
    first = await store.users.seen(ROBIN)
    assert first.name is None
    await store.users.set_field(ROBIN, "name", "  Robin   Doe ")
    await store.users.set_field(ROBIN, "preferred_language", "German")
    await store.users.set_field(ROBIN, "timezone", "berlin")
    again = await store.users.seen(ROBIN)
    assert (again.name, again.preferred_language, again.timezone) == ("Robin Doe", "German", "Europe/Berlin")
    assert again.created_at == first.created_at
    assert again.last_seen_at >= first.last_seen_at
    assert await store.users.get(SAME_ID_ELSEWHERE) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("is_admin", "yes"),
        ("preferences", "x"),
        ("email", "not an address"),
        ("email", "a@b"),
        ("timezone", "Mars/Olympus"),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "a\x1b[31mb"),
        ("name", {"$set": 1}),
    ],
)
async def test_only_profile_fields_with_proper_values_are_written(store, field, value):
    with pytest.raises(InvalidTextError):
        await store.users.set_field(ROBIN, field, value)
    assert await store.db.users.count_documents({}) == 0


async def test_each_change_raises_the_version_that_other_processes_watch(store):
    versions = [await store.users.memory_version(ROBIN)]
    await store.memories.remember(ROBIN, "a", "a")
    versions.append(await store.users.memory_version(ROBIN))
    await store.users.set_field(ROBIN, "name", "Robin")
    versions.append(await store.users.memory_version(ROBIN))
    await forget(store, ROBIN)
    versions.append(await store.users.memory_version(ROBIN))
    assert versions == sorted(set(versions))


async def test_an_order_is_read_by_its_owner_alone(store):
    order = {"order_id": "1001", "items": [{"name": "Lamp", "quantity": 2}], "total": 40, "status": "shipped"}
    await store.db.orders.insert_one(ROBIN.filter | order)
    found = await store.orders.get(ROBIN, "1001")
    assert (found.items, found.total, found.status) == ((OrderItem("Lamp", 2),), 40.0, "shipped")
    assert await store.orders.get(SOMEBODY_ELSE, "1001") is None
    assert await store.orders.get(SAME_ID_ELSEWHERE, "1001") is None
    with pytest.raises(InvalidIdError):
        await store.orders.get(ROBIN, {"$gt": ""})


async def test_a_call_and_its_turns_come_back_in_order(store):
    record = SessionRecord("s-1", ROBIN, "console", SessionStatus.ACTIVE, now())
    await store.sessions.save(record)
    turns = [
        Turn(0, "i-0", TurnKind.MESSAGE, now(), role="user", content="hello \ud800"),
        Turn(1, "i-1", TurnKind.TOOL, now(), name="lookup_order", arguments="{}", output="x", is_error=True),
    ]
    await store.sessions.append(ROBIN, "s-1", turns)
    await store.sessions.append(ROBIN, "s-1", turns)  # a repeated write changes nothing
    read = await store.sessions.turns(ROBIN, "s-1")
    assert [turn.item_id for turn in read] == ["i-0", "i-1"]
    assert read[0].content == "hello \ufffd"
    assert read[1].is_error
    assert await store.sessions.turns(SOMEBODY_ELSE, "s-1") == []
    assert (await store.sessions.get(ROBIN, "s-1")).status is SessionStatus.ACTIVE
    assert [found.session_id for found in await store.sessions.recent(ROBIN)] == ["s-1"]


ids = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
people = st.builds(UserScope, tenant_id=ids, user_id=ids)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    data=st.lists(st.tuples(people, st.text(max_size=20), st.text(min_size=1, max_size=30)), min_size=1, max_size=6),
    reader=people,
)
def test_whatever_is_stored_nobody_else_is_touched(mongodb_uri, database_name, data, reader):
    async def check() -> None:
        async with create_client(mongodb_uri) as client:
            store = Store.of(client[database_name])
            await store.db.memories.delete_many({})
            expected: dict[UserScope, set[str]] = {}
            for scope, label, content in data:
                try:
                    slot = await store.memories.remember(scope, label, content)
                except InvalidTextError:
                    continue
                expected.setdefault(scope, set()).add(slot.memory_type)
            for scope in {reader, *expected}:
                found = {slot.memory_type for slot in await store.memories.slots(scope)}
                assert found == expected.get(scope, set())
            assert await forget(store, reader) == len(expected.pop(reader, set()))
            for scope, names in expected.items():
                assert {slot.memory_type for slot in await store.memories.slots(scope)} == names
            await client.drop_database(database_name)

    asyncio.run(check())


async def test_a_mongodb_that_nobody_answers_is_named_without_the_password():
    async with create_client("mongodb://app:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=200") as client:
        with pytest.raises(DatabaseUnavailableError) as caught:
            await Store.of(client["x"]).users.get(ROBIN)
    assert "127.0.0.1:1" in caught.value.why
    assert "s3cret" not in f"{caught.value.message}{caught.value.why}{caught.value.hint}"


@pytest.mark.parametrize("uri", ["mongodb://", "mongodb://a:b:c@@x", "mongodb://h/?replicaSet", "mongodb://h:99999"])
def test_a_uri_that_cannot_be_parsed_is_an_error_of_ours(uri):
    with pytest.raises(LkmongoError):
        create_client(uri)


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("mongodb://localhost:27017", True),
        ("mongodb://app:p@127.0.0.1/db?x=y", True),
        ("mongodb://[::1]:27017", True),
        ("mongodb://%2Ftmp%2Fx.sock/?replicaSet=lk", True),
        ("mongodb://localhost,db.example.net", False),
        ("mongodb://localhost.example.net", False),
        ("mongodb://localhost@db.example.net", False),
        ("mongodb+srv://localhost", False),
    ],
)
def test_a_database_on_another_machine_is_recognised(uri, local):
    assert is_local(uri) is local
