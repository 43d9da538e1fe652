"""A caller by telephone who was taken for somebody else: whatever happens meanwhile, nothing stays with that person."""

from __future__ import annotations

import asyncio

import pytest
from livekit.agents import stt

from lkmongo.agent.phone_caller import PhoneCaller
from lkmongo.consent import Consent
from lkmongo.model import UserScope, now
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people.erase import erase
from lkmongo.tenant_phone import TenantPhone
from lkmongo.tenants import TenantPolicy, Tenants
from lkmongo.trust import Level
from tests.fake_llm import ScriptedLLM, calls
from tests.people import anywhere
from tests.phoning import HOME, linked, phoning
from tests.talk import calling
from tests.voice import voice_call
from tests.waiting import until

ASKS = Tenants(TenantPolicy(consent="ask"))


@pytest.fixture(autouse=True)
def _has_key(store) -> None:
    store.db.client.erasure_key = ErasureKey(b"k" * 32)


async def robin(store) -> UserScope:
    scope = await linked(store, "u-100", name="Robin Fletcher")
    await store.memories.remember(scope, "favorite_color", "teal")
    return scope


async def test_what_was_stored_of_somebody_who_agreed_once_is_taken_back_though_the_guest_agrees_to_nothing(store):
    scope = await robin(store)
    await store.users.set_consent(scope, Consent("agreed", now(), "staff"))
    async with phoning(store, tenants=ASKS) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        await talk.call.caller.flush(1)
        assert await anywhere(store, "heron")
        await talk.say("Sorry, I'm not Robin.")
        await talk.say("I have a canary.")
    assert not await anywhere(store, "heron")
    assert not await anywhere(store, "canary")
    assert await store.sessions.recent(scope) == []


async def test_what_somebody_else_has_agreed_to_is_not_the_persons(store):
    scope = await robin(store)
    async with phoning(store, tenants=ASKS) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.consent.state == "asked")
        await talk.tool("give_consent")
        await talk.call.caller.flush(1)
        await talk.say("Sorry, I'm not Robin.")
    assert await store.users.consent(scope) is None


async def test_who_only_says_who_they_are_declines_for_this_call(store):
    scope = await robin(store)
    async with phoning(store, tenants=ASKS) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.consent.state == "asked")
        await talk.tool("decline_consent")
        await talk.say("Sorry, I'm not Robin.")
    assert await store.users.consent(scope) is None


async def test_what_tools_told_of_somebody_else_is_in_no_record_and_given_to_no_model(store):
    await robin(store)
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        assert "teal" in (await talk.tool("recall_detail", memory_type="favorite_color"))[0]
        await talk.call.caller.flush(1)
        seen = len(talk.llm.contexts)
        talk.llm.script = calls(("not_this_person", {}))
        await talk.say("You have the wrong one.")
        await talk.say("And now?")
        tools = [each for each in talk.llm.contexts[-1].items if each.type.startswith("function_call")]
        assert {each.name for each in tools} == {"not_this_person"}
        for context in talk.llm.contexts[seen + 1 :]:
            made = {each.call_id for each in context.items if each.type == "function_call"}
            assert {each.call_id for each in context.items if each.type == "function_call_output"} == made
    kept = [each async for each in store.db.turns.find({"kind": "tool"})]
    assert {each["user_id"] for each in kept} != {"u-100"}
    assert "teal" not in str(kept)


async def test_a_name_is_denied_before_it_is_loaded_and_where_it_is_closed(store):
    scope = await robin(store)
    closed = Tenants(TenantPolicy(phone=TenantPhone(levels={"name": "verified"})))
    async with phoning(store, tenants=closed) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        assert talk.call.scope == scope
        assert talk.call.profile.name is None
        await talk.say("I'm not Robin.")
        assert talk.call.caller.guest


async def test_who_has_denied_and_then_proves_who_they_are_is_that_person_without_the_number(store):
    await robin(store)
    jo = UserScope(tenant_id="default", user_id="u-200")
    await store.users.set_field(jo, "name", "Jo")
    async with phoning(store) as talk:
        await talk.say("I'm not Robin.")
        assert await talk.call.verify("u-200")
        await until(lambda: talk.call.caller.loaded)
        await talk.say("What now?")
        assert "they are a guest" not in str(talk.llm.contexts[-1].items)
        await talk.say("I'm not Jo.")
        assert talk.call.caller.guest
    assert await store.phones.of_person(jo) == []
    assert await store.sessions.recent(jo) == []


async def test_another_person_meanwhile_is_not_given_what_was_read_for_the_one_before(store, monkeypatch):
    scope = await robin(store)
    read = store.users.get
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        await store.memories.remember(scope, "pet", "a heron")  # another process

        async def slow(whose):
            found = await read(whose)
            if whose == scope:
                assert await talk.call.verify("u-200")
            return found

        monkeypatch.setattr(store.users, "get", slow)
        known = []
        monkeypatch.setattr(
            talk.call.caller, "on_change", lambda: known.append((talk.call.scope.user_id, str(talk.call.facts)))
        )
        await talk.call.caller.refresh()
        assert talk.call.scope.user_id == "u-200"
        assert not [facts for who, facts in known if who == "u-200" and "teal" in facts]


@pytest.mark.parametrize(("rest", "level"), [("", Level.NAMED), (" Smith from Acme", Level.RECOGNISED)])
async def test_the_beginning_of_a_turn_names_nobody_while_it_may_go_on(store, monkeypatch, rest, level):
    await robin(store)
    async with calling(store, UserScope.guest(), guest=True, session_id="call-1") as call:
        call.caller.phone, call.caller.may_phone = PhoneCaller(call, Tenants()), True
        call.caller.phone.calls_from(HOME)
        heard, hear = [], call.caller.phone.hear

        async def hearing(words, item_id=None):
            heard.append(item_id)
            await hear(words, item_id)

        monkeypatch.setattr(call.caller.phone, "hear", hearing)
        async with voice_call(call, ScriptedLLM(calls())) as voice:
            await voice.answered(1)
            voice.ears.put(stt.SpeechEventType.START_OF_SPEECH)
            voice.ears.put(stt.SpeechEventType.INTERIM_TRANSCRIPT, "This is Robin")
            voice.ears.put(stt.SpeechEventType.PREFLIGHT_TRANSCRIPT, "This is Robin")
            await until(lambda: any(each is not None for each in heard))
            await asyncio.sleep(0.1)  # the answer is being prepared
            voice.ears.put(stt.SpeechEventType.FINAL_TRANSCRIPT, f"This is Robin{rest}")
            voice.ears.put(stt.SpeechEventType.END_OF_SPEECH)
            await voice.answered(2)
            assert call.trust == level
            assert call.caller.guest == (level == Level.RECOGNISED)


async def test_a_model_that_notes_the_name_that_was_said_does_not_shorten_the_one_that_is_known(store):
    scope = await robin(store)
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        assert await talk.tool("update_profile", field="name", value="Robin") == ("Your name is Robin.", False)
        await talk.tool("update_profile", field="name", value="Robin Jane Fletcher")
    assert (await store.users.get(scope)).name == "Robin Jane Fletcher"


async def test_nothing_is_deleted_at_once_for_who_only_says_who_they_are(store):
    scope = await robin(store)
    async with phoning(store, tenants=ASKS) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.consent.state == "asked" and talk.call.caller.loaded)
        output, failed = await talk.tool("forget_detail", memory_type="favorite_color")
        assert failed
        assert "PIN" in output
        await talk.say("Sorry, I'm not Robin.")
    assert (await store.memories.recall(scope, "favorite_color")).content == "teal"


async def test_who_was_erased_meanwhile_is_verified_as_nobody(store):
    scope = await robin(store)
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        await erase(store.db, scope, by="tests")
        await until(lambda: talk.call.caller.guest)
        assert not await talk.call.verify("u-200")
        assert talk.call.trust < Level.VERIFIED
        assert talk.call.facts == {}
