"""What earlier releases stored is redacted in place: everything of it, once, resumably, and counted by kind."""

from __future__ import annotations

import json
from datetime import timedelta

import bson
import pytest

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.redaction import POLICY, Redaction
from lkmongo.store.indexes.encrypt import convert, states
from lkmongo.store.mongo.schema import COLLECTIONS
from lkmongo.store.open import Store
from lkmongo.store.redact_stored import redact_stored
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.tenants import TenantPolicy, Tenants
from tests.people import VECTOR, anywhere, killed_at

ROBIN = UserScope(tenant_id="default", user_id="robin")
OTHER = UserScope(tenant_id="default", user_id="other")
SHOP = UserScope(tenant_id="shop", user_id="robin")
EVERYBODY = SessionFilter(tenant_id=None)
TOLD = ("4111", "9034", "078-05", "0000 0004", "one two three four")


async def old(store, scope: UserScope, name: str = "s-1", *, ago: timedelta = timedelta(days=40)) -> None:
    """A person of an earlier release that redacted nothing."""
    at = now() - ago
    await store.users.seen(scope)
    await store.sessions.save(SessionRecord(name, scope, "room", SessionStatus.COMPLETE, at, at, "hang-up"))
    said = ["hello", "my card is 4111 1111 1111 1111", "my pin is", "9034", "it is 5500 0000", "0000 0004"]
    turns = [
        Turn(seq, f"{name}-{seq}", TurnKind.MESSAGE, at + timedelta(seconds=seq), role="user", content=text)
        for seq, text in enumerate(said)
    ]
    given = json.dumps({"pin": "9034", "order": "A-1001"})
    turns.append(Turn(6, f"{name}-6", TurnKind.TOOL, at, name="pay", arguments=given, output="ssn 078-05-1120"))
    await store.sessions.append(scope, name, turns)
    summary = {
        "text": "They gave card 4111 1111 1111 1111.",
        "at": at,
        "topics": ["pin one two three four", "tea"],
        "commitments": [{"id": "c1", "text": "charge 4111111111111111", "by": "assistant", "made_at": at}],
        "by": "model",
        "embedding": VECTOR,
        "embedding_model": "m@2",
    }
    proposals = [
        {"id": "p1", "kind": "new", "label": "note", "content": "pin 9034", "said_at": at, "state": "suggested"}
    ]
    session = {"summary": summary, "learning": {"proposals": proposals, "attempts": 1}}
    await store.db.sessions.update_one(scope.filter | {"session_id": name}, {"$set": session})
    slot = {"embedding": VECTOR, "embedding_model": "m@2", "updated_at": at, "created_at": at, "valid_from": at}
    former = {"content": "ssn 078-05-1120", "valid_from": at, "valid_to": at}
    await store.db.memories.insert_many(
        [
            scope.filter | slot | {"memory_type": "note", "content": "my pin is 9034", "former": [former]},
            scope.filter | slot | {"memory_type": "pin", "content": "9034"},
            scope.filter | slot | {"memory_type": "city", "content": "Lisbon"},
        ]
    )
    await store.db.memory_history.insert_one(
        scope.filter | {"memory_type": "note", "content": "card 4111 1111 1111 1111", "valid_from": at, "valid_to": at}
    )
    person = {
        "name": "Robin, pin 9034",
        "email": "robin@example.com",
        "fields": {"club": "4111 1111 1111 1111"},
        "last_session": {"at": at, "gist": "a card 4111 1111 1111 1111", "session_id": name},
        "commitments": summary["commitments"],
    }
    await store.db.users.update_one(scope.filter, {"$set": person})


async def everything(store) -> dict[str, list[bytes]]:
    return {name: [bson.encode(each) async for each in store.db[name].find().sort("_id", 1)] for name in COLLECTIONS}


async def test_everything_that_is_stored_of_a_person_is_redacted(store):
    await old(store, ROBIN)
    done = await redact_stored(store, EVERYBODY)
    assert await anywhere(store, *TOLD) == []
    assert [turn.content or turn.output for turn in await store.sessions.turns(ROBIN, "s-1")] == [
        *("hello", "my card is [card ending 1111]", "my pin is", "[secret]", "it is [card]", "[card ending 0004]"),
        "ssn [national id]",
    ]
    assert json.loads((await store.sessions.turns(ROBIN, "s-1"))[-1].arguments) == {
        "pin": "[secret]",
        "order": "A-1001",
    }
    assert done.sessions == 1
    assert dict(done.documents) == {"turns": 5, "sessions": 1, "memories": 2, "memory_history": 1, "users": 1}
    assert set(done.counts) == {"card", "secret", "national_id"}
    person = await store.db.users.find_one(ROBIN.filter)
    assert (person["email"], person["name"]) == ("robin@example.com", "Robin, pin [secret]")
    assert (await store.sessions.get(ROBIN, "s-1")).redacted == {"card": 3, "secret": 2, "national_id": 1}


async def test_vectors_of_what_changed_are_dropped_and_others_stay(store):
    await old(store, ROBIN)
    await redact_stored(store, EVERYBODY)
    slots = {slot["memory_type"]: slot.get("embedding") async for slot in store.db.memories.find(ROBIN.filter)}
    assert slots == {"note": None, "pin": None, "city": VECTOR}
    session = await store.db.sessions.find_one(ROBIN.filter)
    assert not {"embedding", "embedding_model"} & session["summary"].keys()
    assert session["summary"]["topics"] == ["pin [secret]", "tea"]


async def test_a_session_in_progress_knows_it_one_turn_later(store):
    await old(store, ROBIN)
    before = await store.users.memory_version(ROBIN)
    await redact_stored(store, EVERYBODY)
    assert await store.users.memory_version(ROBIN) > before


async def test_a_dry_run_counts_the_same_and_changes_nothing(store):
    await old(store, ROBIN)
    before = await everything(store)
    would = await redact_stored(store, EVERYBODY, dry_run=True)
    assert await everything(store) == before
    did = await redact_stored(store, EVERYBODY)
    assert (would.sessions, would.documents, would.counts) == (did.sessions, did.documents, did.counts)


async def test_again_nothing_is_read_of_sessions_that_are_done_until_the_policy_changes(store):
    await old(store, ROBIN)
    await redact_stored(store, EVERYBODY)
    before = await everything(store)
    again = await redact_stored(store, EVERYBODY)
    assert (again.sessions, +again.documents, again.counts) == (0, {}, {})
    assert await everything(store) == before
    stricter = Redaction(Tenants(TenantPolicy(redaction={"email": "mask"})))
    changed = await redact_stored(Store.of(store.db, redaction=stricter), EVERYBODY)
    assert (changed.sessions, changed.counts) == (1, {"email": 1})
    assert "email" not in await store.db.users.find_one(ROBIN.filter), "the field takes no mask"


@pytest.mark.parametrize(
    ("wanted", "done", "left"),
    [
        (SessionFilter(user_id="robin"), {("default", "robin")}, {("default", "other"), ("shop", "robin")}),
        (SessionFilter(tenant_id="shop"), {("shop", "robin")}, {("default", "other"), ("default", "robin")}),
        (SessionFilter(since=now() - timedelta(days=9)), set(), {("default", "other"), ("default", "robin")}),
    ],
)
async def test_the_filters_bound_whose_and_since_when(store, wanted, done, left):
    for scope in (ROBIN, OTHER, SHOP):
        await old(store, scope)
    await redact_stored(store, wanted)
    holds = {"content": {"$regex": "4111"}}
    found = {(turn["tenant_id"], turn["user_id"]) async for turn in store.db.turns.find(holds)}
    assert not found & done
    assert left <= found


async def test_a_session_in_progress_is_passed_over(store):
    await old(store, ROBIN)
    record = SessionRecord("live", ROBIN, "room", SessionStatus.ACTIVE, now())
    await store.sessions.open(record, "host/boot/1")
    found = await redact_stored(store, EVERYBODY)
    assert (found.sessions, found.in_progress) == (1, 1)


async def test_what_is_erased_or_changed_meanwhile_is_not_written_back(store, monkeypatch):
    await old(store, ROBIN)
    turns = store.sessions.turns

    async def erased_meanwhile(scope, session_id):
        found = await turns(scope, session_id)
        for name in ("turns", "sessions"):
            await store.db[name].delete_many(ROBIN.filter)
        await store.db.memories.update_one(ROBIN.filter | {"memory_type": "note"}, {"$set": {"content": "tea"}})
        return found

    monkeypatch.setattr(type(store.sessions), "turns", lambda _, *given: erased_meanwhile(*given))
    await redact_stored(store, EVERYBODY)
    assert await store.db.turns.count_documents({}) == await store.db.sessions.count_documents({}) == 0
    assert (await store.db.memories.find_one(ROBIN.filter | {"memory_type": "note"}))["content"] == "tea"


async def test_stopped_at_any_command_and_run_again_it_completes(store, mongodb_uri, database_name):
    for number in range(1, 60):
        for name in ("users", "sessions", "turns", "memories", "memory_history"):
            await store.db[name].delete_many({})
        await old(store, ROBIN)
        await old(store, OTHER)
        was_killed = await killed_at(
            number, mongodb_uri, lambda client: redact_stored(Store.of(client[database_name]), EVERYBODY)
        )
        await redact_stored(store, EVERYBODY)
        assert await anywhere(store, *TOLD) == []
        counts = [(await store.sessions.get(scope, "s-1")).redacted for scope in (ROBIN, OTHER)]
        assert counts == [{"card": 3, "secret": 2, "national_id": 1}] * 2
        if not was_killed:
            break
    assert number > 10


async def test_a_kind_that_is_dropped_goes_without_a_trace_but_its_count(store):
    await old(store, ROBIN)
    drops = Redaction(Tenants(TenantPolicy(redaction=dict.fromkeys(POLICY, "drop") | {"phone": "keep"})))
    await redact_stored(Store.of(store.db, redaction=drops), EVERYBODY)
    assert await anywhere(store, *TOLD, "[card", "[secret") == []
    assert (await store.sessions.get(ROBIN, "s-1")).redacted["card"] >= 2


async def test_what_is_encrypted_is_opened_redacted_and_sealed_again(store, vault):
    await old(store, ROBIN)
    await convert(store.db)
    assert await anywhere(store, *TOLD, "Lisbon") == []
    done = await redact_stored(store, EVERYBODY)
    assert set(done.counts) == {"card", "secret", "national_id"}
    assert [state.plain for state in await states(store.db)] == [0] * 5
    assert await anywhere(store, "[secret]", "[card") == []
    again = await redact_stored(store, EVERYBODY)
    assert (+again.documents, again.counts) == ({}, {})
    await convert(store.db, decrypt=True)
    assert await anywhere(store, *TOLD) == []
    assert await anywhere(store, "[card ending 1111]")
    assert (await store.db.memories.find_one(ROBIN.filter | {"memory_type": "note"}))["content"] == "my pin is [secret]"


async def test_a_number_in_pieces_is_taken_back_where_turns_are_encrypted(store, vault):
    await old(store, ROBIN)
    await store.sessions.amend(ROBIN, "s-1", {"s-1-0": {"content": "hello again"}})
    stored = await store.db.turns.find_one(ROBIN.filter | {"item_id": "s-1-0"})
    assert isinstance(stored["content"], bytes)
    assert (await store.sessions.turns(ROBIN, "s-1"))[0].content == "hello again"
