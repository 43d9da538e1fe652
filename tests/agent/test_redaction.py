"""Nothing that the policy masks is stored, whichever mind answers; the conversation under way is unchanged."""

from __future__ import annotations

import json
import logging

import pytest
from livekit.agents import Agent

from lkmongo.conversation import Conversation
from lkmongo.demo.llm import DemoLLM
from lkmongo.errors import SecretError
from lkmongo.model import Source, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.recovery import recover
from lkmongo.redaction import Redaction, Redactor
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people.corrections import set_known
from lkmongo.store.people.import_formats import Entry
from lkmongo.store.people.import_memories import import_facts
from lkmongo.store.sessions.sessions import Sessions
from tests.agent.test_realtime import Plain
from tests.fake_llm import ScriptedLLM, calls
from tests.fake_realtime import ScriptedRealtime
from tests.overlaps import DATABASE, SID, away, die, recorder_of, say
from tests.people import anywhere
from tests.talk import hang_up, talk

ROBIN = UserScope(tenant_id="default", user_id="u-red")
SHOP = UserScope(tenant_id="shop", user_id="u-red")
COUSIN = Entry(1, "u-red", "cousin", "Cem, call 0151 2345 6789", None, None, None, Source("imported"))
SPOKEN = "four one one one, um, one one one one one one one one one one one one"
SAID = ["I'd like to pay", f"my card is {SPOKEN}", "my pin is", "9034", "my social is 078-05-1120"]
TOLD = ("four one one one", "9034", "078-05", "one one one one")


def repeat(context):
    """A model that repeats what it hears."""
    last = context.items[-1]
    return [f"You said: {last.text_content}"] if last.type == "message" and last.role == "user" else ["Hello."]


class Own(Agent):
    """An agent that knows nothing of lkmongo."""

    def __init__(self):
        super().__init__(instructions="You are a florist.")


MINDS = {
    "pipeline": lambda: {"model": ScriptedLLM(repeat)},
    "demo": lambda: {"model": DemoLLM()},
    "realtime": lambda: {"model": ScriptedRealtime(repeat), "agent": Plain(), "userdata": None},
    "own agent": lambda: {"model": ScriptedLLM(repeat), "agent": Own(), "userdata": None},
}


@pytest.mark.parametrize("mind", MINDS)
async def test_nothing_of_it_is_stored_whichever_mind_answers(store, mind):
    async with talk(store, ROBIN, repeat, **MINDS[mind]()) as call:
        heard = [await call.say(words) for words in SAID]
        live = str([item.text_content for item in call.session.history.messages()])
        await hang_up(call)
    assert SPOKEN in live, "the conversation under way is as it was"
    assert mind == "demo" or SPOKEN in heard[1], "so is what is heard"
    turns = [turn.content for turn in await store.sessions.turns(ROBIN, "console-test") if turn.role == "user"]
    assert turns == [
        *("I'd like to pay", "my card is [card ending 1111]", "my pin is", "[secret]", "my social is [national id]"),
    ]
    assert await anywhere(store, *TOLD) == []
    counts = (await store.sessions.get(ROBIN, "console-test")).redacted
    assert counts["card"] >= 1
    assert counts["secret"] >= 1


async def test_what_a_tool_is_given_and_returns_is_redacted_and_the_tool_gets_it_whole(store):
    model = ScriptedLLM(calls(("recall_detail", {"memory_type": "4111 1111 1111 1111"})))
    async with talk(store, ROBIN, repeat, model=model) as call:
        await call.say("pay")
        await hang_up(call)
    (tool,) = [turn for turn in await store.sessions.turns(ROBIN, "console-test") if turn.name]
    assert json.loads(tool.arguments) == {"memory_type": "[card ending 1111]"}
    assert await anywhere(store, "4111") == []


async def test_a_number_in_pieces_is_taken_back_from_turns_that_are_stored(store):
    async with talk(store, ROBIN, repeat) as call:
        await call.say("it is 4111 1111")
        await call.call.recorder._outbox.stored("turns")
        assert await anywhere(store, "4111 1111") == ["turns"]
        await call.say("1111 1111, and that's all")
        await hang_up(call)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "console-test")][1:] == [
        "it is [card]",
        "You said: it is [card]",
        "[card ending 1111], and that's all",
        "You said: [card], and that's all",
    ]


async def test_each_item_is_redacted_once(store, monkeypatch):
    seen = []
    turn = Conversation.turn
    monkeypatch.setattr(Conversation, "turn", lambda self, one: seen.append(one.item_id) or turn(self, one))
    texts = []
    text = Redactor.text
    monkeypatch.setattr(Redactor, "text", lambda self, one, **more: texts.append(one) or text(self, one, **more))
    async with talk(store, ROBIN, repeat) as call:
        with away((Sessions, "append")):
            await call.say("the first attempt to store this fails")
        await call.say("the kettle is blue")
        await hang_up(call)
    assert len(seen) == len(set(seen)) == 5
    assert texts.count("the kettle is blue") == 1, "nor again for the gist and the summary"
    assert (await store.users.get(ROBIN)).last_session.gist.endswith("the kettle is blue")


async def test_a_resumed_call_reads_what_is_stored_and_counts_on(store):
    async with talk(store, ROBIN, repeat) as call:
        await call.say(SAID[1])
        await call.call.recorder._outbox.settle("turns", 5)
    before = await store.sessions.turns(ROBIN, "console-test")
    async with talk(store, ROBIN, repeat, resumed=before) as call:
        assert "four one one" not in str([turn.content for turn in call.call.said])
        await call.say("and 5500 0000 0000 0004")
        await hang_up(call)
    assert (await store.sessions.get(ROBIN, "console-test")).redacted["card"] > 2


async def test_a_guest_who_is_identified_takes_along_only_what_may_be_stored(store):
    guest = UserScope.guest("default")
    async with talk(store, guest, repeat, guest=True) as call:
        await call.say(SAID[1])
        await call.call.recorder._outbox.stored("turns")
        await call.call.identify(ROBIN)
        await call.say("thanks")
        await hang_up(call)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "console-test")][
        1
    ] == "my card is [card ending 1111]"
    assert await anywhere(store, *TOLD) == []
    assert (await store.sessions.get(ROBIN, "console-test")).redacted["card"] >= 1


async def test_the_disk_has_nothing_of_it_while_mongodb_is_away(store, tmp_path):
    recorder = recorder_of(store, ROBIN, folder=tmp_path)
    with away((Sessions, "append"), (Sessions, "count_redacted")):
        recorder.start()
        for number, words in enumerate(SAID):
            say(recorder, words, 1_800_000_000 + number)
        await recorder._outbox.settle("turns", 0.1)
        files = b"".join(path.read_bytes() for path in journal.files(tmp_path))
        await die(recorder)
    assert b"card ending 1111" in files
    assert not [text for text in TOLD if text.encode() in files]
    await recover(store, tmp_path, DATABASE)
    assert await anywhere(store, *TOLD) == []
    assert (await store.sessions.get(ROBIN, SID)).redacted == {"card": 1, "secret": 1, "national_id": 1}


async def test_a_journal_that_was_redacted_is_not_redacted_again(store, tmp_path, monkeypatch):
    recorder = recorder_of(store, ROBIN, folder=tmp_path)
    with away((Sessions, "append"), (Sessions, "count_redacted")):
        recorder.start()
        say(recorder, SAID[1], 1_800_000_000)
        await recorder._outbox.settle("turns", 0.1)
        await die(recorder)
    monkeypatch.setattr(Conversation, "turn", None)
    (found,) = await recover(store, tmp_path, DATABASE)
    assert (found.turns, found.damaged) == (1, 0)


# ------------------------------------------------------------------ facts, by policy


@pytest.fixture
def shop(store, tmp_path):
    """A store with a tenant that masks phone numbers and drops e-mail addresses."""
    policies = tmp_path / "tenants.yaml"
    policies.write_text("tenants: {shop: {redaction: {phone: mask, email: drop}}}")
    redaction = Redaction.of(Settings.load({"LKMONGO_TENANTS": str(policies)}))
    return Store.of(store.db, redaction=redaction)


async def test_facts_are_stored_as_the_policy_says_whoever_sets_them(shop, store):
    async with talk(shop, SHOP, repeat) as call:
        fact = await call.call.remember("sister", "Ana, 0151 2345 6789")
        assert fact.content == "Ana, [phone number]"
        assert call.call.recall("sister").content == "Ana, [phone number]"
        with pytest.raises(SecretError):
            await call.call.remember("mail", "ana@example.com")
        with pytest.raises(SecretError):
            await call.call.update_profile("email", "robin@example.com")
        assert await call.call.update_profile("name", "Robin") == "Robin"
        await call.say("call me on 0151 2345 6789 about the kettle")
        await hang_up(call)
    await set_known(shop, SHOP, "brother", "Ben, +49 151 23456789")
    await import_facts(shop, [COUSIN], tenant_id="shop")
    slots = {slot.memory_type: slot.content for slot in await store.memories.slots(SHOP)}
    last = (await store.users.get(SHOP)).last_session
    assert last.gist == "call me on [phone number] about the kettle"
    assert slots == {
        "sister": "Ana, [phone number]",
        "brother": "Ben, [phone number]",
        "cousin": "Cem, call [phone number]",
    }
    assert await anywhere(store, "2345", "ana@", "robin@") == []


async def test_who_is_identified_as_somebody_of_a_stricter_tenant_takes_along_only_what_that_keeps(shop):
    async with talk(shop, UserScope.guest("default"), repeat, guest=True) as call:
        await call.say("my sister has 0151 2345 6789")
        await call.call.remember("sister", "Ana, 0151 2345 6789")
        await call.call.update_profile("email", "robin@example.com")
        await call.call.recorder._outbox.stored("turns")
        await call.call.identify(SHOP)
        await hang_up(call)
    turns = await shop.sessions.turns(SHOP, "console-test")
    assert "my sister has [phone number]" in [turn.content for turn in turns]
    assert [slot.content for slot in await shop.memories.slots(SHOP)] == ["Ana, [phone number]"]
    assert await anywhere(shop, "robin@example.com", "2345 6789") == []


async def test_a_label_that_would_be_redacted_is_refused(shop):
    async with talk(shop, SHOP, repeat) as call:
        for label in ("ana +49 151 2345 6789", "robin@example.com"):
            with pytest.raises(SecretError):
                await call.call.remember(label, "my sister")
        await call.call.remember("sister 2", "Ana")
    assert [slot.memory_type for slot in await shop.memories.slots(SHOP)] == ["sister_2"]


async def test_another_tenant_keeps_them(shop, store):
    async with talk(shop, ROBIN, repeat) as call:
        await call.call.remember("sister", "Ana, 0151 2345 6789")
        await call.say("I am robin@example.com")
        await hang_up(call)
    assert (await store.memories.recall(ROBIN, "sister")).content == "Ana, 0151 2345 6789"
    assert await anywhere(store, "robin@example.com")


async def test_the_log_of_a_call_holds_nothing_of_it(store, caplog):
    with caplog.at_level(logging.DEBUG, "lkmongo"):
        async with talk(store, ROBIN, repeat) as call:
            for words in SAID:
                await call.say(words)
            await hang_up(call)
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("lkmongo"))
    assert not [text for text in TOLD if text in own]
