"""Where a tenant asks, nothing of a caller is kept until they agree: neither in the database nor on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lkmongo import deadlines
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.consent import AGREED, DECLINED
from lkmongo.agent.ending import end_session, tell_end
from lkmongo.agent.recorder import Recorder
from lkmongo.consent import QUESTION, WITHDRAWN, WORDING, Consent
from lkmongo.demo.llm import DemoLLM
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import ConsentError
from lkmongo.model import UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.recovery import recover
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.people.consent import agree, refuse
from lkmongo.store.people.erase import erase
from lkmongo.store.people.person import count
from lkmongo.tenants import TenantPolicy, Tenants
from tests.fake_llm import ScriptedLLM, calls
from tests.overlaps import DATABASE, outbox_of
from tests.people import anywhere, furnish
from tests.talk import Talk, talking
from tests.waiting import until

NEW = UserScope(tenant_id="default", user_id="u-new")
GUEST = UserScope.guest("default")
CLINIC = UserScope(tenant_id="clinic", user_id="u-new")
TOLD = "my secret garden is in Lisbon"


@asynccontextmanager
async def asked(
    store, folder, scope=NEW, *, model=None, guest=False, session_id="call-1", asks=True
) -> AsyncIterator[tuple[CallerSession, Talk]]:
    """A call of a tenant that asks, greeting included, which is hung up at the end."""
    embedder = create_embedder("local")
    outbox = outbox_of(store, scope, session_id, "room-of-555-0100", folder=folder)
    policy = TenantPolicy(consent="ask" if asks else "assumed")
    tenants = Tenants(policy, {"clinic": TenantPolicy(consent="ask")})
    caller = Caller(store, embedder, outbox, guest=guest, tenants=tenants)
    call = CallerSession(session_id, "room", caller, store, ExactStrategy(store.db, embedder), Recorder(outbox))
    await caller.preload()
    async with talking(call, model or ScriptedLLM(calls()), Assistant()) as begun:
        yield call, begun
    at = now()
    await tell_end(call, "hang-up", at, stored=await end_session(call, "hang-up", dict, ended_at=at))
    await call.recorder.lease.release()
    await embedder.close()


async def nothing_is_kept(store, folder) -> bool:
    on_disk = b"".join(path.read_bytes() for path in journal.files(folder))
    return not on_disk and await anywhere(store, "Lisbon", "u-new", "garden") == []


@pytest.mark.parametrize("answer", ["decline_consent", None])
@pytest.mark.parametrize("guest", [False, True])
async def test_without_an_agreement_a_call_leaves_only_that_there_was_one(store, tmp_path, answer, guest):
    ends = []
    async with asked(store, tmp_path, GUEST if guest else NEW, guest=guest) as (call, begun):
        call.on_end(ends.append)
        await begun.tool("remember_detail", memory_type="garden", content="in Lisbon")
        await begun.tool("update_profile", field="name", value="Lisbon Robin")
        if answer:
            assert await begun.tool(answer) == (DECLINED, False)
        await begun.say(TOLD)
        with pytest.raises(ConsentError):
            async with call.recorder.writing():  # as documents of declared collections are written
                pass
        assert await nothing_is_kept(store, tmp_path)
        assert await store.db.sessions.count_documents({}) == 0
    assert await nothing_is_kept(store, tmp_path)
    assert not any((await count(store.db, NEW)).values())
    (record,) = await store.db.sessions.find({}).to_list()
    assert record["user_id"].startswith("guest-")
    assert record["user_id"] != GUEST.user_id
    assert record["report"] == {"consent": {"state": "declined" if answer else "unanswered"}, "turns": len(call.said)}
    assert record["close_reason"] == "hang-up"
    assert not {"summary", "learning", "webhook", "participant", "lease"} & record.keys()
    assert record["room_name"] is None, "it might be made of the caller's number"
    assert (ends[0].saved, ends[0].changes) == ("not agreed", 0 if guest else ends[0].changes)
    await recover(store, tmp_path, DATABASE)
    assert await nothing_is_kept(store, tmp_path)


async def test_who_agrees_in_mid_call_is_stored_with_what_was_said_before(store, tmp_path):
    async with asked(store, tmp_path) as (call, begun):
        await begun.say(TOLD)
        kept, _ = await begun.tool("remember_detail", memory_type="garden", content="in Lisbon")
        assert kept == "For this call I will remember your garden: in Lisbon."
        assert await begun.tool("give_consent") == (AGREED, False)
        await begun.say("it has a fig tree")
        assert call.caller.consent.state == "agreed"
        consent = await store.users.consent(NEW)
        assert (consent.state, consent.by, consent.wording) == ("agreed", "voice", WORDING)
        kept, _ = await begun.tool("remember_detail", memory_type="tree", content="a fig")
        assert kept == "I will remember your tree: a fig."
    said = [turn.content for turn in await store.sessions.turns(NEW, "call-1") if turn.role == "user"]
    assert said[0] == TOLD
    assert "it has a fig tree" in said
    slots = {slot.memory_type: slot.content for slot in await store.memories.slots(NEW)}
    assert slots == {"garden": "in Lisbon", "tree": "a fig"}
    record = await store.sessions.get(NEW, "call-1")
    assert record.summary is not None
    assert record.report["consent"]["state"] == "agreed"
    assert journal.files(tmp_path) == []


async def test_who_agreed_before_is_not_asked_again_and_whoever_withdrew_is_not_stored(store, tmp_path):
    await agree(store, NEW, "page")
    async with asked(store, tmp_path, session_id="call-1") as (call, begun):
        assert QUESTION not in call.briefing()
        await begun.say("I like figs")
    assert len(await store.sessions.turns(NEW, "call-1")) == 3
    await refuse(store, NEW, "staff")
    async with asked(store, tmp_path, session_id="call-2") as (call, begun):
        assert QUESTION not in call.briefing()
        await begun.say(TOLD)
    assert await anywhere(store, "garden") == []
    assert await store.sessions.get(NEW, "call-2") is None


async def test_a_withdrawal_stops_what_is_stored_from_then_on_and_says_that_erasing_is_separate(store, tmp_path):
    await agree(store, NEW, "page")
    async with asked(store, tmp_path) as (call, begun):
        await begun.say("I like figs")
        await until(lambda: not call.recorder._outbox.pending("turns"))
        assert await begun.tool("withdraw_consent") == (WITHDRAWN, False)
        assert "erased" in WITHDRAWN
        await begun.tool("remember_detail", memory_type="garden", content="in Lisbon")
        await begun.say(TOLD)
    assert await anywhere(store, "Lisbon", "garden") == []
    assert "I like figs" in [turn.content for turn in await store.sessions.turns(NEW, "call-1")]
    record = await store.sessions.get(NEW, "call-1")
    assert (record.status, record.summary, record.learning) == ("complete", None, None)
    assert record.report["consent"]["state"] == "withdrawn"
    assert (await store.users.consent(NEW)).state == "withdrawn"
    assert (await store.users.get(NEW)).last_session is None


async def test_an_answer_on_the_page_reaches_the_call(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "CONSENT_NEWS", 0.02)
    async with asked(store, tmp_path) as (call, begun):
        await begun.say(TOLD)
        await agree(store, NEW, "page")
        await until(lambda: call.caller.consent.state == "agreed")
        await begun.say("I like figs")
        await until(lambda: not call.recorder._outbox.pending("turns"))
        await refuse(store, NEW, "page")
        await until(lambda: call.caller.consent.state == "refused")
        await begun.say("I hate Lisbon")
    said = [turn.content for turn in await store.sessions.turns(NEW, "call-1") if turn.role == "user"]
    assert said == [TOLD, "I like figs"]


async def test_a_visitor_who_logs_out_is_noticed_while_nothing_is_stored_either(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "CONSENT_NEWS", 0.02)
    looked = []
    async with asked(store, tmp_path) as (call, _):

        async def look():
            looked.append("whether the seal holds")

        monkeypatch.setattr(call.recorder.lease, "confirm", look)
        await until(lambda: len(looked) > 1)


async def test_after_a_no_a_yes_stores_what_is_said_from_then_on_only(store, tmp_path):
    async with asked(store, tmp_path) as (_, begun):
        await begun.tool("decline_consent")
        await begun.say(TOLD)
        await begun.tool("give_consent")
        await begun.say("I like figs")
    assert await anywhere(store, "garden") == []
    assert "I like figs" in [turn.content for turn in await store.sessions.turns(NEW, "call-1")]


async def test_a_guest_who_agreed_is_the_person_who_agreed(store, tmp_path):
    async with asked(store, tmp_path, GUEST, guest=True) as (call, begun):
        await begun.say("I like figs")
        await begun.tool("give_consent")
        assert await call.identify(NEW)
    assert (await store.users.consent(NEW)).state == "agreed"
    assert "I like figs" in [turn.content for turn in await store.sessions.turns(NEW, "call-1")]
    assert await store.sessions.get(GUEST, "call-1") is None


async def test_a_guest_who_said_nothing_is_asked_as_the_person_and_takes_nothing_of_a_no_along(store, tmp_path):
    async with asked(store, tmp_path, GUEST, guest=True) as (call, begun):
        await begun.say(TOLD)
        await begun.tool("decline_consent")
        assert await call.identify(NEW)
        await begun.say(TOLD)
    assert await nothing_is_kept(store, tmp_path)
    await agree(store, NEW, "page")
    async with asked(store, tmp_path, GUEST, guest=True, session_id="call-2") as (call, begun):
        await begun.say("I like figs")
        assert await call.identify(NEW)
        await until(lambda: call.caller.consent.state == "agreed")
    assert "I like figs" in [turn.content for turn in await store.sessions.turns(NEW, "call-2")]


@pytest.mark.parametrize("answer", ["give_consent", "decline_consent", None])
async def test_who_is_identified_as_somebody_of_a_tenant_that_asks_is_asked(store, tmp_path, answer):
    async with asked(store, tmp_path, GUEST, guest=True, asks=False) as (call, begun):
        await begun.say("I like figs")
        assert await call.identify(CLINIC)
        await until(lambda: call.caller.consent.state == "asked")
        assert QUESTION in call.briefing()
        await begun.say(TOLD)
        await begun.tool("remember_detail", memory_type="garden", content="in Lisbon")
        await asyncio.sleep(3 * deadlines.TURN_ORDER)
        assert await anywhere(store, "Lisbon", "u-new") == []
        assert not any(b"Lisbon" in path.read_bytes() for path in journal.files(tmp_path))
        if answer:
            await begun.tool(answer)
    if answer == "give_consent":
        said = [turn.content for turn in await store.sessions.turns(CLINIC, "call-1")]
        assert {"I like figs", TOLD} <= {*said}
        assert [slot.memory_type for slot in await store.memories.slots(CLINIC)] == ["garden"]
        assert await store.sessions.get(GUEST, "call-1") is None
    else:
        assert await nothing_is_kept(store, tmp_path)
        assert not any((await count(store.db, CLINIC)).values())


async def test_somebody_known_from_before_is_asked_too_and_can_forget_without_agreeing(store, tmp_path):
    await furnish(store, NEW, slots=["city", "color"], calls=[])
    async with asked(store, tmp_path) as (call, begun):
        assert QUESTION in call.briefing()
        assert "city" in call.briefing(), "what is known of them is"
        assert (await begun.tool("forget_detail", memory_type="city"))[1] is False
        await begun.say(TOLD)
        await begun.tool("decline_consent")
    assert [slot.memory_type for slot in await store.memories.slots(NEW)] == ["color"]
    assert (await store.users.consent(NEW)).state == "declined"
    assert await anywhere(store, "garden") == []


async def test_what_a_dead_process_left_is_not_stored_once_they_withdrew(store, tmp_path):
    await agree(store, NEW, "page")
    async with asked(store, tmp_path) as (call, begun):
        await begun.say(TOLD)
        await begun.tool("remember_detail", memory_type="garden", content="in Lisbon")
        record = call.recorder.record
    await erase(store.db, NEW, by="Sam")
    left = journal.Journal.create(tmp_path, record, owner="host/boot/1", database=DATABASE)
    from lkmongo.outbox.operations import NoteConsent, Remember

    left.append([Remember(now(), "garden", "in Lisbon").entry, NoteConsent(Consent("withdrawn", now(), "voice")).entry])
    left.close(delete=False)
    await store.db.tombstones.delete_many({})
    await recover(store, tmp_path, DATABASE)
    assert await anywhere(store, "Lisbon") == []
    assert journal.files(tmp_path) == []


async def test_the_tools_are_offered_only_while_they_fit_and_the_demo_responder_understands_the_answer(store, tmp_path):
    async with asked(store, tmp_path, model=DemoLLM()) as (call, begun):
        greeting = " ".join(turn.content or "" for turn in call.said)
        assert greeting.endswith(QUESTION)
        assert await begun.say("yes") == AGREED
        assert await begun.say("no") != DECLINED, "nothing is asked any more"
        assert await begun.say("I withdraw my consent") == WITHDRAWN
        assert await begun.say("you may remember me") == AGREED
    assert (await store.users.consent(NEW)).state == "agreed"
    async with asked(store, tmp_path, UserScope(tenant_id="default", user_id="u-2"), model=DemoLLM()) as (_, begun):
        assert await begun.say("No, thanks.") == DECLINED
    assert not any((await count(store.db, UserScope(tenant_id="default", user_id="u-2"))).values())


async def test_a_tool_that_is_not_offered_refuses(store, tmp_path):
    async with asked(store, tmp_path) as (call, begun):
        assert await begun.tool("withdraw_consent") == ("That is not asked at the moment.", True)
        await asyncio.sleep(0)
        assert call.caller.consent.state == "asked"
