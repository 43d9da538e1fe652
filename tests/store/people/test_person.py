"""The file for an access request: all of one person, readable, and safe to open."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from bson import Binary, Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.errors import NotFoundError
from lkmongo.model import LastSession, Turn, TurnKind, UserScope, now
from lkmongo.store.people.forget import forget_known
from lkmongo.store.people.person import count, export
from lkmongo.summary import Commitment, Summary
from tests.people import furnish

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
HOSTILE = "[red]x[/x] :smile: \x1b[31mred\x1b[0m \x9b31m \u202ertl\u202c \u2066 \u200f =cmd() \u2028 \x7f ü 日本"


async def text_of(store, scope) -> str:
    return "".join([piece async for piece in export(store.db, scope)])


def keys_of(value) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(key for item in value.values() for key in keys_of(item))}
    return {key for item in value for key in keys_of(item)} if isinstance(value, list) else set()


async def test_it_holds_everything_of_the_person_and_nothing_of_others(store):
    await furnish(store, ROBIN, slots=["city"], calls=["s-1", "s-2"], orders=["7"], content="Lisbon")
    await furnish(store, SOMEBODY_ELSE, orders=["8"], content="Porto")
    await store.users.set_last_session(ROBIN, LastSession(now(), "a trip"), started_at=now())
    await store.sessions.append(ROBIN, "s-gone", [Turn(0, "i", TurnKind.MESSAGE, now(), role="user", content="alone")])
    made = Commitment.of("book a trip", "caller", now(), "s-1")
    summary, vector = Summary("A trip.", now(), (), (made,), by="model"), np.ones(4, np.float32)
    assert await store.summaries.save(ROBIN, "s-1", summary, vector=vector, model="m@4")
    text = await text_of(store, ROBIN)
    found = json.loads(text)
    assert list(found) == [
        "exported_at",
        "tenant_id",
        "user_id",
        "profile",
        "memories",
        "memory_history",
        "offered",
        "orders",
        "browsers",
        "phones",
        "pins",
        "phone_attempts",
        "calls",
    ]
    assert found["profile"]["name"] == "Name of u-100"
    assert found["profile"]["last_session"]["gist"] == "a trip"
    assert [slot["content"] for slot in found["memories"]] == ["Lisbon of u-100"]
    assert found["orders"][0]["order_id"] == "7"
    assert [call["session_id"] for call in found["calls"]] == ["s-1", "s-2", "s-gone"]
    assert [turn["content"] for turn in found["calls"][0]["turns"]] == ["Lisbon 0", "Lisbon 1", "Lisbon 2"]
    assert found["calls"][0]["summary"]["text"] == "A trip."
    assert found["profile"]["commitments"][0]["text"] == "book a trip"
    assert [turn["content"] for turn in found["calls"][2]["turns"]] == ["alone"]
    assert datetime.fromisoformat(found["memories"][0]["updated_at"]).tzinfo
    assert "Porto" not in text
    technical = {"_id", "embedding", "embedding_model", "label_words", "memory_version", "lease", "report"}
    assert not technical & keys_of(found)
    assert text.startswith('{\n  "exported_at": ')
    assert '\n      "turns": [\n        {\n' in text, "it is indented"
    assert text.endswith("\n}\n")


async def test_somebody_with_nothing_is_an_object_with_nothing(store):
    found = json.loads(await text_of(store, ROBIN))
    assert (found["profile"], found["memories"], found["orders"], found["calls"]) == (None, [], [], [])
    assert not any((await count(store.db, ROBIN)).values())


async def test_many_calls_come_in_the_order_in_which_they_began(store):
    names = [f"s-{number:03}" for number in range(120)]
    await furnish(store, ROBIN, slots=[], calls=names)
    for number, name in enumerate(reversed(names)):
        started = {"$set": {"started_at": datetime(2026, 1, 1, number // 60, number % 60, tzinfo=UTC)}}
        await store.db.sessions.update_one({"session_id": name}, started)
    found = json.loads(await text_of(store, ROBIN))
    assert [call["session_id"] for call in found["calls"]] == names[::-1]
    assert all(len(call["turns"]) == 3 for call in found["calls"])


async def test_hostile_text_is_whole_and_obeyed_by_nobody(store):
    await store.memories.remember(ROBIN, "note", HOSTILE)
    text = await text_of(store, ROBIN)
    assert json.loads(text)["memories"][0]["content"] == HOSTILE
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text)
    assert "ü 日本" in text, "letters stay readable"


async def test_what_others_wrote_does_not_break_it(store):
    odd = {"big": 2**60, "money": Decimal128("1.10"), "blob": Binary(b"xyz"), "ref": ObjectId(), "list": [1.5, None]}
    await store.db.orders.insert_one(ROBIN.filter | {"order_id": "1", "total": float("nan"), "odd": odd})
    await store.db.memories.insert_one(ROBIN.filter | {"memory_type": "huge", "content": "x" * 1_000_000})
    await store.db.turns.insert_one(ROBIN.filter | {"session_id": "s", "seq": 0, "extra": {"a": [{"b": now()}]}})
    found = json.loads(await text_of(store, ROBIN))
    assert found["orders"][0]["total"] == "nan"
    assert found["orders"][0]["odd"]["money"] == "1.10"
    assert found["orders"][0]["odd"]["blob"] == "3 bytes"
    assert len(found["memories"][0]["content"]) == 1_000_000
    assert "b" in found["calls"][0]["turns"][0]["extra"]["a"][0]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_whatever_was_said_comes_back(text):
    from lkmongo.store.people.person import _json

    encoded = _json({"content": text})
    assert json.loads(encoded) == {"content": text}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]", encoded)


@pytest.mark.parametrize("profile", [{"name": "Robin"}, {"preferences": {"language": "German"}}, {}])
async def test_forgetting_the_profile_leaves_the_person_and_nothing_told_of_them(store, profile):
    await store.db.users.insert_one(ROBIN.filter | profile | {"created_at": now(), "memory_version": 1})
    await furnish(store, SOMEBODY_ELSE)
    asked = []
    fields = (await forget_known(store, ROBIN, profile=True, confirm=asked.append)).profile_fields
    assert fields == {"name": ["name"], "preferences": ["preferred_language"]}.get(next(iter(profile), ""), [])
    left = await store.users.get(ROBIN)
    assert (left.name, left.email, left.preferred_language, left.timezone) == (None, None, None, None)
    assert left.created_at is not None
    assert left.memory_version > 1
    assert (await store.users.get(SOMEBODY_ELSE)).name
    nobody = UserScope(tenant_id="default", user_id="nobody")
    with pytest.raises(NotFoundError):
        await forget_known(store, nobody, profile=True, confirm=asked.append)
    assert [found.profile_fields for found in asked] == ([fields] if fields else []), "nothing is asked for nothing"
