"""Secrets are nowhere, whichever model answers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from lkmongo.agent.ending import end_session
from lkmongo.confidential import REFUSAL, WITHHELD
from lkmongo.console.lines import Line
from lkmongo.console.text import Listener, converse
from lkmongo.demo.llm import DemoLLM
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import SecretError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox.journal import Journal, journal_folder
from lkmongo.outbox.operations import AddTurn
from lkmongo.outbox.recovery import recover
from lkmongo.settings import Settings
from lkmongo.store.indexes import backfill
from lkmongo.store.people import person
from lkmongo.store.people.merge import merge
from tests.fake_llm import ScriptedLLM, calls
from tests.people import anywhere
from tests.talk import hang_up, talk

ROBIN = UserScope(tenant_id="default", user_id="u-sec")
SAID = [
    "my card number is 4111 1111 1111 1111 cvv 123",
    "remember that my pin is 1234",
    "my social security number is 078-05-1120",
]
TOLD = ("4111 1111", "is 1234", "078-05")
FROM_BEFORE = "; ".join(SAID)


async def next_request(store):
    """What a model is told as the next call begins."""
    async with talk(store, ROBIN, calls(), session_id="console-next") as call:
        return "\n".join(item.text_content or "" for item in call.llm.contexts[0].items if item.type == "message")


async def next_greeting(store):
    async with talk(store, ROBIN, calls(), model=DemoLLM(), session_id="console-next") as call:
        (greeting,) = [item.text_content for item in call.session.history.messages() if item.role == "assistant"]
    return greeting


async def assert_nowhere(store, *texts):
    assert await anywhere(store, *texts) == []
    told = await next_request(store)
    assert not [text for text in texts if text in told]


# ------------------------------------------------------------------ the demo responder


async def test_the_responder_refuses_it_and_the_next_call_knows_nothing_of_it(
    store, mongodb_uri, database_name, tmp_path
):
    environment = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(tmp_path)}
    settings = Settings.load(environment)

    async def hold(*texts):
        async def lines():
            for number, text in enumerate(texts, 1):
                yield Line(number, text)

        events = []
        listener = Listener(events.append, lambda _: None, lambda _: None, lambda _: None)
        await converse(settings, ROBIN, lines(), listener)
        return [event["text"] for event in events if event.get("role") == "assistant"]

    greeting, *answers = await hold(*SAID, "it's 1234", "my pin is 1234")
    assert answers[:3] == [REFUSAL] * 3
    assert answers[4] == REFUSAL, "nor is it searched for"
    assert await hold() == [greeting], "as if there had been no call"
    assert (await hold("I would like to return my kettle", SAID[1]))[2] == REFUSAL
    await assert_nowhere(store, *TOLD)
    assert (await store.users.get(ROBIN)).last_session.gist == "I would like to return my kettle"


# ------------------------------------------------------------------ a language model


def storing(label, content, answer="I'd rather not keep that."):
    """A model that stores that when it is told something of it, and says nothing of it."""

    def script(context):
        last = context.items[-1]
        if last.type == "function_call_output":
            return [answer]
        if last.type == "message" and last.role == "user" and content in last.text_content:
            return [("remember_detail", {"memory_type": label, "content": content})]
        return ["Hello."]

    return script


@pytest.mark.parametrize("summary", ["none", "The caller's PIN is 1234.", "They gave [secret]. It was about tea."])
async def test_neither_what_the_caller_said_nor_a_models_summary_may_hold_it(store, summary):
    model = ScriptedLLM(lambda _: ["no JSON" if summary == "none" else json.dumps({"summary": summary})])
    async with talk(store, ROBIN, storing("pin", "1234")) as call:
        for words in ("I want to return my kettle", *SAID, "it's 1234"):
            await call.say(words)
        await hang_up(call, model)
    asked = "\n".join(item.text_content for item in model.contexts[0].items)
    assert not [text for text in TOLD if text in asked], "it is not told of that"
    expected = {"T": "It was about tea.", "n": "I want to return my kettle"}
    last = (await store.users.get(ROBIN)).last_session
    assert (last and last.gist) == (None if "PIN" in summary else expected[summary[0]])
    await assert_nowhere(store, *TOLD)


async def test_of_a_call_with_nothing_else_a_model_is_asked_nothing(store):
    model = ScriptedLLM(lambda _: ["never used"])
    async with talk(store, ROBIN, storing("wifi_password", "swordfish")) as call:
        assert (await call.say("swordfish opens everything")) == "I'd rather not keep that."
        await hang_up(call, model)
    assert model.contexts == []
    await assert_nowhere(store, "swordfish")


@pytest.mark.parametrize(
    ("words", "tool", "arguments"),
    [
        ("keep it", "remember_detail", {"memory_type": "pin", "content": "1234"}),
        ("keep it", "remember_detail", {"memory_type": "note", "content": "card 4111-1111-1111-1111"}),
        ("keep it", "remember_detail", {"memory_type": "card_4111111111111111", "content": "mine"}),
        ("keep it", "update_profile", {"field": "name", "value": "Robin, pin 1234"}),
        ("my pin is 1234", "remember_detail", {"memory_type": "favorite_number", "content": "1234"}),
        ("my pin is 1234", "update_profile", {"field": "name", "value": "12 34"}),
        ("my password is swordfish", "remember_detail", {"memory_type": "favorite_fish", "content": "Swordfish"}),
    ],
)
@pytest.mark.parametrize("guest", [False, True])
async def test_a_tool_refuses_it_under_whatever_name(store, words, tool, arguments, guest):
    async with talk(store, ROBIN, calls((tool, arguments)), guest=guest) as call:
        assert await call.say(words) == REFUSAL
        assert call.call.caller.slots == {}
        assert call.call.caller.profile.name is None
    assert await store.memories.slots(ROBIN) == []


async def test_what_was_told_beside_it_is_remembered(store, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.ACKNOWLEDGED", 60)  # a busy machine is no MongoDB that is away
    script = calls(("remember_detail", {"memory_type": "house_number", "content": "1204"}))
    async with talk(store, ROBIN, script) as call:
        assert "1204" in await call.say("my pin is 1234 and I live in number 1204")
    assert (await store.memories.recall(ROBIN, "house_number")).content == "1204"


# ------------------------------------------------------------------ the store


async def test_the_store_takes_it_from_nobody(store):
    moment = now()
    for refused in (
        store.memories.remember(ROBIN, "pin", "1234"),
        store.memories.remember_if_newer(ROBIN, "note", "my pin is 1234", moment),
        store.users.set_field(ROBIN, "name", "pin 1234"),
        store.users.set_field_if_newer(ROBIN, "name", "pin 1234", moment),
        store.users.fill_field(ROBIN, "name", "pin 1234", moment),
    ):
        with pytest.raises(SecretError):
            await refused
    assert not await store.users.set_last_session(ROBIN, LastSession(moment, FROM_BEFORE), started_at=moment)
    kettle = LastSession(moment, f"a kettle; {FROM_BEFORE}")
    assert await store.users.set_last_session(ROBIN, kettle, started_at=moment)
    assert (await store.users.get(ROBIN)).last_session == LastSession(moment, "a kettle")
    await assert_nowhere(store, *TOLD)


async def test_a_killed_call_of_a_release_that_did_not_redact_leaves_it_nowhere(store, tmp_path):
    began = now() - timedelta(minutes=1)
    record = SessionRecord("call-1", ROBIN, "room", SessionStatus.ACTIVE, began)
    turns = [
        Turn(n, f"i-{n}", TurnKind.MESSAGE, began + timedelta(seconds=n), role="user", content=words)
        for n, words in enumerate(SAID)
    ]
    entries = [AddTurn(turn, numbered=True).entry for turn in turns]
    at = began + timedelta(seconds=9)
    entries += [
        {"op": "remember", "label": "pin", "content": "1234", "at": at},
        {"op": "remember", "label": "pet", "content": "a heron", "at": at},
        {"op": "profile", "field": "name", "value": "my pin is 1234", "at": at},
        {"op": "gist", "gist": FROM_BEFORE, "at": at},
    ]
    folder = journal_folder(tmp_path / "home")
    call = Journal.create(folder, record, owner="host/boot/1", database="db")
    call.append(entries)
    call.close(delete=False)
    call.path.write_bytes(call.path.read_bytes().replace(b',"redacted":true', b""))
    (found,) = await recover(store, folder, "db")
    assert (found.turns, found.changes, found.left_out, found.damaged) == (3, 1, 2, 0)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "call-1")] == [
        "my card number is [card ending 1111] cvv [secret]",
        "remember that my pin is [secret]",
        "my social security number is [national id]",
    ]
    assert (await store.sessions.get(ROBIN, "call-1")).redacted == {"card": 2, "secret": 6, "national_id": 2}, (
        "its gist too"
    )
    assert [slot.memory_type for slot in await store.memories.slots(ROBIN)] == ["pet"]
    await assert_nowhere(store, *TOLD)


async def test_gone_on_with_a_call_tells_nothing_of_what_was_said_with_the_agent_before(store):
    before = [Turn(0, "a", TurnKind.MESSAGE, now(), role="user", content="my pin is")]
    async with talk(store, ROBIN, calls(), resumed=before) as call:
        await call.say("1234")
        await end_session(call.call, "hang-up", dict, ended_at=now())
    assert (await store.users.get(ROBIN)).last_session is None


# ------------------------------------------------------------------ what was stored when it was not refused


@pytest.fixture
async def old(store):
    """A database that holds secrets."""
    await store.users.seen(ROBIN)
    moment = now()
    await store.db.users.update_one(
        ROBIN.filter, {"$set": {"last_session": {"at": moment, "gist": FROM_BEFORE}, "name": "Robin, pin 1234"}}
    )
    slots = {"pin": "1234", "note": "card 4111 1111 1111 1111", "pet": "a heron"}
    await store.db.memories.insert_many(
        ROBIN.filter | {"memory_type": name, "content": content, "label_words": name, "updated_at": moment}
        for name, content in slots.items()
    )
    return store


async def test_it_is_neither_briefed_nor_told(old):
    told = await next_request(old)
    assert "1234" not in told
    assert "4111" not in told
    assert json.dumps({"pin": WITHHELD})[1:-1] in told
    assert "a heron" in told
    assert "last_call" not in told
    async with talk(old, ROBIN, calls(), session_id="console-tools") as call:
        assert await call.tool("recall_detail", memory_type="pin") == (f"Your pin: {WITHHELD}.", False)
        for tool, arguments in (("list_user_memories", {}), ("search_memories", {"query": "my card"})):
            output, is_error = await call.tool(tool, **arguments)
            assert not is_error
            assert not [text for text in TOLD if text in output]
        assert await call.tool("forget_detail", memory_type="pin") == ("I have forgotten your pin.", False)
    assert "4111" not in await next_greeting(old)


async def test_it_is_neither_shown_nor_embedded(old):
    profile = await old.users.get(ROBIN)
    assert (profile.name, profile.last_session) == (None, None)
    assert [row["name"] for row in await old.users.page()] == [None]
    assert {slot.memory_type: slot.content for slot in await old.memories.slots(ROBIN)} == {
        "pin": WITHHELD,
        "note": WITHHELD,
        "pet": "a heron",
    }
    shown = " ".join(line.content for line in await person.lines(old, ROBIN))
    assert not [text for text in TOLD if text in shown]
    embedder = create_embedder("local")
    embedded = []
    embed_many = embedder.embed_many
    embedder.embed_many = lambda texts, **more: [embedded.extend(texts), embed_many(texts, **more)][1]
    await backfill.backfill(old.db, embedder)
    await embedder.close()
    assert sorted(embedded) == ["note: (withheld)", "pet: a heron", "pin: (withheld)"]


async def test_a_merge_moves_it_and_shows_it_to_nobody(old):
    guest = replace(ROBIN, user_id="guest-1")
    await old.db.memories.insert_one(
        guest.filter | {"memory_type": "pin", "content": "9876", "label_words": "pin", "updated_at": now()}
    )
    merged = await merge(old.db, guest, ROBIN)
    assert [(each.kept, each.content) for each in merged.offered] == [(WITHHELD, WITHHELD)]
