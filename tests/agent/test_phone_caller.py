"""A caller by telephone: known by their number, named by their own words, and never anybody by mistake."""

from __future__ import annotations

from datetime import timedelta

import pytest
from livekit.agents import ToolError

from lkmongo.errors import UsageError
from lkmongo.model import UserScope, now
from lkmongo.phone_numbers import WITHHELD, PhoneNumber, parse_number
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.people.erase import erase
from lkmongo.tenant_phone import TenantPhone
from lkmongo.tenants import TenantPolicy, Tenants
from lkmongo.trust import Level, NotTrustedError
from tests.fake_llm import calls
from tests.people import anywhere
from tests.phoning import HOME, linked, phoning
from tests.waiting import until

KEY = ErasureKey(b"k" * 32)
MARKED = Tenants(TenantPolicy(phone=TenantPhone(levels={"diagnosis": "verified"})))


@pytest.fixture(autouse=True)
def _has_key(store) -> None:
    store.db.client.erasure_key = KEY


def told(talk) -> str:
    """Everything that the model was given in this call."""
    return str([context.items for context in talk.llm.contexts])


async def robin(store, name="Robin Fletcher") -> UserScope:
    scope = await linked(store, "u-100", name=name)
    await store.memories.remember(scope, "favorite_color", "teal")
    await store.memories.remember(scope, "diagnosis", "asthma")
    return scope


async def test_a_first_call_starts_a_person_whom_the_second_one_recognises_and_names(store):
    async with phoning(store) as first:
        assert "Nobody has called from this telephone number before" not in told(first)  # nobody has spoken yet
        await first.say("Hello, my name is Robin.")
        await first.tool("update_profile", field="name", value="Robin")
        await first.tool("remember_detail", memory_type="favorite_color", content="teal")
        assert (await first.tool("recall_detail", memory_type="favorite_color")) == (
            "Your favorite color: teal.",
            False,
        )
        assert first.call.scope.user_id.startswith("phone-")
        person = first.call.scope
    (record,) = await store.sessions.recent(person)
    assert record.report["phone"] == {"level": "recognised", "number": "…56"}
    async with phoning(store, session_id="call-2") as second:
        assert second.call.caller.status == "recognised"
        assert "ask who is speaking" in told(second)
        output, failed = await second.tool("recall_detail", memory_type="favorite_color")
        assert (output, failed) == ("Before I can do that, please tell me your name.", True)
        assert "Robin" not in told(second)
        assert "teal" not in told(second)
        await second.say("This is Robin.")
        assert second.call.scope == person
        assert second.call.trust == Level.NAMED
        assert (await second.tool("recall_detail", memory_type="favorite_color")) == (
            "Your favorite color: teal.",
            False,
        )
    assert {each.session_id for each in await store.sessions.recent(person)} == {"call-1", "call-2"}
    assert not await anywhere(store, "4930123456", "30123456")


async def test_orders_stay_closed_until_the_caller_is_verified(store):
    await robin(store)
    async with phoning(store) as talk:
        await talk.say("It's Robin.")
        output, failed = await talk.tool("lookup_order", order_id="1001")
        assert failed
        assert "PIN" in output
        with pytest.raises(NotTrustedError):
            await talk.call.latest_orders(3)
        with pytest.raises(ToolError, match="confirm who you are with your PIN"):
            talk.call.require(Level.VERIFIED)
        assert await talk.call.verify()
        assert talk.call.trust == Level.VERIFIED
        assert (await talk.tool("lookup_order", order_id="1001"))[0] == "You have no order 1001."


async def test_a_marked_slot_is_closed_to_who_is_only_named_whatever_the_model_tries(store):
    scope = await robin(store)
    async with phoning(store, tenants=MARKED) as talk:
        await talk.say("Robin Fletcher speaking.")
        await until(lambda: talk.call.caller.loaded)
        assert set(talk.call.facts) == {"favorite_color"}
        for tool, arguments in (
            ("recall_detail", {"memory_type": "diagnosis"}),
            ("remember_detail", {"memory_type": "diagnosis", "content": "none"}),
            ("forget_detail", {"memory_type": "diagnosis"}),
            ("search_past_calls", {"query": "asthma"}),
        ):
            output, failed = await talk.tool(tool, **arguments)
            assert failed, tool
            assert "PIN" in output, tool
        await talk.tool("search_memories", query="illness asthma diagnosis")
        await talk.tool("list_user_memories")
        assert "asthma" not in str(_outputs(talk))
        await talk.call.verify()
        assert (await talk.tool("recall_detail", memory_type="diagnosis"))[0] == "Your diagnosis: asthma."
    assert (await store.memories.recall(scope, "diagnosis")).content == "asthma"


def _outputs(talk) -> list[str]:
    return [
        item.output for context in talk.llm.contexts for item in context.items if item.type == "function_call_output"
    ]


async def test_a_withheld_number_is_a_guest(store):
    await robin(store)
    async with phoning(store, WITHHELD) as talk:
        await talk.say("This is Robin.")
        assert talk.call.caller.guest
        assert talk.call.caller.phone.state == "guest"
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        assert (await talk.tool("recall_detail", memory_type="pet"))[0] == "Your pet: a heron."
        assert (await talk.tool("recall_detail", memory_type="favorite_color"))[1]
    assert set(await anywhere(store, "heron")) == {"turns"}  # a guest's record; nobody remembers it


@pytest.mark.parametrize("words", ["I'm not Robin.", "That's not my number."])
async def test_who_is_somebody_else_is_a_guest_at_once_and_nothing_of_the_call_is_the_other_ones(store, words):
    scope = await robin(store)
    async with phoning(store) as talk:
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        await talk.say(words)
        assert talk.call.caller.phone.denied
        await talk.say("This is Robin.")  # too late
        assert talk.call.caller.guest
        assert talk.call.facts.keys() == {"pet"}
    assert await store.sessions.recent(scope) == []
    assert await store.memories.recall(scope, "pet") is None
    assert "teal" not in told(talk)


async def test_who_was_taken_for_somebody_is_a_guest_again_and_what_was_stored_is_taken_back(store):
    scope = await robin(store)
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        await talk.tool("remember_detail", memory_type="favorite_color", content="red")
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        await talk.tool("update_profile", field="email", value="jo@example.com")
        await talk.say("Sorry, I'm not Robin, I'm Jo.")
        assert talk.call.caller.guest
        assert talk.call.facts == {}
        await talk.tool("remember_detail", memory_type="city", content="Porto")
    slots = {each.memory_type: each.content for each in await store.memories.slots(scope)}
    assert slots == {"favorite_color": "teal", "diagnosis": "asthma"}
    assert (await store.users.get(scope)).email is None
    assert await store.history.former(scope, None) == []
    assert await store.sessions.recent(scope) == []
    (record,) = [each for each in await _records(store) if each["session_id"] == "call-1"]
    assert record["user_id"].startswith("guest-")
    assert await store.db.turns.count_documents({"session_id": "call-1", "user_id": "u-100"}) == 0


async def _records(store) -> list[dict]:
    return [each async for each in store.db.sessions.find()]


async def test_a_shared_number_names_nobody_and_takes_the_one_who_says_who_they_are(store):
    await robin(store)
    jo = await linked(store, "u-200", name="Jo Fletcher")
    async with phoning(store) as talk:
        assert "Several people call from this telephone number" in told(talk)
        assert "Fletcher" not in told(talk)
        await talk.say("Fletcher.")
        assert talk.call.caller.guest
        await talk.say("Jo Fletcher.")
        assert talk.call.scope == jo


async def test_a_name_that_nobody_of_the_number_has_is_a_new_person(store):
    scope = await robin(store)
    async with phoning(store) as talk:
        talk.llm.script = calls(("caller_says_name", {"name": "Jo"}))
        await talk.say("Hi, you're talking to Jo.")
        assert talk.call.scope.user_id.startswith("phone-")
        assert talk.call.profile.name == "Jo"
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        person = talk.call.scope
    assert {each.user_id for each in await store.phones.of_number("default", HOME)} == {"u-100", person.user_id}
    assert await store.memories.recall(scope, "pet") is None
    assert (await store.users.get(scope)).name == "Robin Fletcher"


async def test_a_name_that_the_caller_has_not_said_names_nobody(store):
    await robin(store)
    async with phoning(store) as talk:
        for name in ("Robin", "Robin Fletcher", "Jo"):
            talk.llm.script = calls(("caller_says_name", {"name": name}))
            assert "has not said that name" in await talk.say("What can you do?")
        await talk.tool("update_profile", field="name", value="Robin Fletcher")
        assert talk.call.caller.guest
        await talk.say("Is Robin there?")
        assert talk.call.caller.guest


async def test_a_number_that_was_unused_for_long_is_recognised_as_new(store):
    scope = await linked(store, "u-100", name="Robin", at=now() - timedelta(days=181))
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        assert talk.call.scope.user_id.startswith("phone-")
    assert (await store.sessions.recent(scope)) == []


async def test_only_the_use_of_somebody_named_keeps_a_number_from_lapsing(store):
    before = now() - timedelta(days=100)
    await linked(store, "u-100", name="Robin", at=before)
    async with phoning(store) as talk:
        await talk.say("What are your opening hours?")
    (link,) = await store.phones.of_number("default", HOME)
    assert abs(link.last_seen_at - before) < timedelta(seconds=1)
    async with phoning(store, session_id="call-2") as talk:
        await talk.say("Robin here.")
        await talk.call.caller.flush(1)
    (link,) = await store.phones.of_number("default", HOME)
    assert link.last_seen_at > before + timedelta(days=99)


async def test_what_was_told_before_the_name_is_kept_and_what_was_lent_is_not_copied(store):
    scope = await robin(store)
    await store.users.set_field(scope, "preferred_language", "German")
    async with phoning(store) as talk:
        await until(lambda: talk.call.profile.preferred_language == "German")
        await talk.tool("remember_detail", memory_type="pet", content="a heron")
        await talk.say("This is Robin.")
        await until(lambda: talk.call.caller.loaded)
        assert talk.call.facts.keys() == {"pet", "favorite_color", "diagnosis"}
    assert (await store.memories.recall(scope, "pet")).content == "a heron"


async def test_an_erased_person_is_not_recognised(store):
    scope = await robin(store)
    await erase(store.db, scope, by="tests")
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        assert talk.call.scope.user_id.startswith("phone-")
        assert "teal" not in told(talk)


async def test_without_a_key_the_caller_is_a_guest_and_the_log_says_why(store, monkeypatch, caplog):
    monkeypatch.setattr(store.db.client, "erasure_key", None)
    async with phoning(store) as talk:
        await talk.say("This is Robin.")
        assert talk.call.caller.guest
    assert "LKMONGO_ERASURE_KEY" in caplog.text


def test_a_number_is_shown_nowhere():
    assert "123" not in repr(PhoneNumber("+4930123456"))
    with pytest.raises(UsageError) as raised:
        parse_number("12345678901234567890")
    assert "123456" not in str(raised.value)


async def test_what_was_lent_is_nobodys_former_value(store):
    await robin(store)
    open_to_all = Tenants(TenantPolicy(phone=TenantPhone(levels={"favorite_color": "recognised"})))
    async with phoning(store, tenants=open_to_all) as talk:
        assert (await talk.tool("recall_detail", memory_type="favorite_color"))[0] == "Your favorite color: teal."
        await talk.tool("remember_detail", memory_type="favorite_color", content="red")
        await talk.say("That's not my number.")
        assert (await talk.tool("recall_detail", memory_type="favorite_color"))[0] == "Your favorite color: red."
