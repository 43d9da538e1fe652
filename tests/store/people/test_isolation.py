"""Whatever ids, labels and texts there are: nobody ever sees or changes what belongs to another (tenant, user)."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from bson import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.errors import InvalidIdError, InvalidTextError
from lkmongo.model import Passage, UserScope, check_content, slot_name
from lkmongo.search.atlas import AtlasStrategy
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.people.forget import forget
from lkmongo.store.people.person import export
from tests.search_backends import OLD, open_backend, place


@pytest.fixture(scope="module")
def where(request):
    with place("atlas-fused", request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        yield made


def _passes(check, value):
    try:
        check(value)
    except (InvalidIdError, InvalidTextError):
        return False
    return True


# Few letters, so that ids are alike: each other's beginnings, other case, tenant and user changed over, an accent in
# two spellings; and those that mean something to a query language or to a token.
_IDS = st.one_of(
    st.text("aA.$", min_size=1, max_size=3),
    st.sampled_from(
        ["u-1", "u-10", "U-1", "u 1", "u\u00e9", "ue\u0301", "$ne", "$$ROOT", '{"$gt":""}', "*", "u-1\u200b", "a" * 128]
    ),
    st.text(min_size=1, max_size=20),
).filter(lambda value: _passes(lambda each: UserScope(tenant_id=each, user_id=each), value))
_LABELS = st.one_of(
    st.sampled_from(["pet", "favorite color", "$where", "tenant_id", "user_id", "a.b"]),
    st.text(min_size=1, max_size=12),
).filter(lambda value: _passes(slot_name, value))
_TEXTS = st.one_of(
    st.sampled_from(["a dog called Biscuit", "teal", "u-1", "$tenant_id", "tenant_id: u-1 OR 1=1"]),
    st.text(min_size=1, max_size=30),
).filter(lambda value: _passes(check_content, value))
# Tenants and users come from the same few ids: people share one, or the other, or have them changed over.
_PEOPLE = st.lists(_IDS, min_size=2, max_size=3, unique=True).flatmap(
    lambda ids: st.lists(
        st.builds(UserScope, tenant_id=st.sampled_from(ids), user_id=st.sampled_from(ids)),
        min_size=2,
        max_size=4,
        unique=True,
    )
)
_SLOTS = st.dictionaries(_LABELS, _TEXTS, min_size=1, max_size=3)


async def everything(backend, *, but):
    """Every memory, user and passage to the byte, but those of one person."""
    found = []
    for name in ("memories", "users"):
        found += [encode(document) async for document in backend.db[name].find({"$nor": [but.filter]})]
    return sorted(found)


@given(people=_PEOPLE, data=st.data())
@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
async def test_nobody_ever_sees_or_changes_what_is_anothers(backend, people, data):
    for name in ("memories", "knowledge", "users"):
        await backend.db[name].delete_many({})
    # The mark at the end of each text tells whose it is.
    drawn = [data.draw(_SLOTS) for _ in people]
    marked = [
        {slot_name(label): f"{check_content(text)} owner{number}" for label, text in slots.items()}
        for number, slots in enumerate(drawn)
    ]
    tenants = list(dict.fromkeys(person.tenant_id for person in people))
    for number, (person, slots) in enumerate(zip(people, marked, strict=True)):
        await backend.remember(person, slots, age=timedelta(0) if number % 2 else OLD)
        await backend.store.memories.remember(person, "note", f"a new note owner{number}")
        marked[number]["note"] = f"a new note owner{number}"
    for number, tenant in enumerate(tenants):
        await backend.add(
            next(person.tenant for person in people if person.tenant_id == tenant),
            [Passage("a.md", n, "Tea", f"Tea number {n} tenant{number}") for n in range(2)],
            age=timedelta(0) if number % 2 else OLD,
        )

    queries = ["a new note owner0 owner1 owner2 owner3", data.draw(_TEXTS)]
    strategies = [ExactStrategy(backend.db, backend.embedder)] + [
        AtlasStrategy(backend.db, backend.embedder, fuses=fuses, deadline=30) for fuses in (True, False)
    ]
    for number, person in enumerate(people):
        for strategy in strategies:
            for query in queries:
                found = await strategy.memories(person, query, 50)
                assert {hit.item.memory_type: hit.item.content for hit in found.hits}.items() <= marked[number].items()
                assert found.hits or query != queries[0], "it finds one's own"
                passages = await strategy.knowledge(person.tenant, query, 50)
                mark = f"tenant{tenants.index(person.tenant_id)}"
                assert all(hit.item.content.endswith(mark) for hit in passages.hits)
        listed = await backend.store.memories.slots(person)
        assert {slot.memory_type: slot.content for slot in listed} == marked[number]
        label = data.draw(st.sampled_from(sorted(set().union(*marked))))
        recalled = await backend.store.memories.recall(person, label)
        assert (recalled.content if recalled else None) == marked[number].get(label)
        exported = json.loads("".join([piece async for piece in export(backend.db, person)]))
        assert {slot["memory_type"]: slot["content"] for slot in exported["memories"]} == marked[number]

    for whole in (False, True):
        number = data.draw(st.integers(0, len(people) - 1))
        others = await everything(backend, but=people[number])
        if whole:
            await forget(backend.store, people[number])
            marked[number] = {}
        else:
            label = data.draw(st.sampled_from(sorted(set().union(*marked))))
            await forget(backend.store, people[number], [label])
            marked[number].pop(label, None)
        assert await everything(backend, but=people[number]) == others
        left = await backend.store.memories.slots(people[number])
        assert {slot.memory_type: slot.content for slot in left} == marked[number]
