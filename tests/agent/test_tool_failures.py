"""Whatever fails in a tool or a briefing, the caller hears a sentence and never an exception."""

from __future__ import annotations

import asyncio
import json

import pytest

from lkmongo import deadlines
from lkmongo.agent import briefing
from lkmongo.agent.caller import Caller
from lkmongo.aio import Background
from lkmongo.embed.base import OverloadedError
from lkmongo.errors import DatabaseError, DatabaseUnavailableError
from lkmongo.model import UserScope, clean_text
from tests.fake_llm import calls
from tests.talk import talk
from tests.waiting import PATIENCE

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SECRET = "mongodb://admin:hunter2@db"


async def fail(*_, **__):
    raise RuntimeError(SECRET)


async def refuse(*_, **__):
    raise DatabaseError(why=SECRET)


async def hang(*_, **__):
    await asyncio.Event().wait()


def in_vain(how):
    """Every way to the data of a call that a tool may take, each failing `how` says."""

    def break_it(call, monkeypatch):
        for owner, names in (
            (type(call.store.orders), ["get"]),
            (type(call.caller), ["remember", "forget", "search", "past_calls", "set_profile"]),
            (type(call.search), ["knowledge"]),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, how)
        for deadline in ("TOOL_READ", "TOOL_CHANGE", "TOOL_SEARCH", "PAST_CALLS"):
            monkeypatch.setattr(deadlines, deadline, 0.05 if how is hang else PATIENCE)

    return break_it


TOOLS = (
    ("search_knowledge", {"query": "returns"}),
    ("lookup_order", {"order_id": "4711"}),
    ("remember_detail", {"memory_type": "pet", "content": "a heron"}),
    ("forget_detail", {"memory_type": "pet"}),
    ("search_memories", {"query": "pet"}),
    ("search_past_calls", {"query": "pet"}),
    ("update_profile", {"field": "name", "value": "Robin"}),
)


@pytest.mark.parametrize("how", [fail, refuse, hang])
async def test_every_tool_that_waits_has_a_deadline_and_a_sentence_for_failure_and_the_log_says_why(
    store, monkeypatch, caplog, how
):
    async with talk(store, ROBIN, calls()) as call:
        in_vain(how)(call.call, monkeypatch)
        for name, arguments in TOOLS:
            caplog.clear()
            output, is_error = await call.tool(name, **arguments)
            assert is_error, name
            assert output.startswith("I could not "), name
            assert output.endswith("."), name
            (line,) = [each for each in caplog.records if each.name == "lkmongo.agent.tools"]
            cause = {fail: line.exc_text, refuse: line.message, hang: line.message}[how]
            assert {fail: "RuntimeError", refuse: "MongoDB answered with an error", hang: " s"}[how] in cause, name
            assert line.levelname in {"WARNING", "ERROR"}, name
        kept = json.dumps(call.session.history.to_dict()) + str(call.job.make_session_report(call.session).to_dict())
    assert "hunter2" not in kept
    assert "hunter2" not in str(await store.sessions.turns(ROBIN, "console-test"))


async def test_an_order_number_that_cannot_be_one_is_told_in_a_short_sentence(store):
    async with talk(store, ROBIN, calls()) as call:
        for order_id in (
            "",
            "   ",
            "#",
            "x" * 129,
            "9" * 100_000,
            "a\x00b",
            "a\u2028b",
            "\ud800",
            '{"$gt": ""}',
            "'; drop",
            "..",
            "$where",
        ):
            output, is_error = await call.tool("lookup_order", order_id=order_id)
            assert is_error, order_id[:200]
            assert len(output) < 300, order_id[:200]
            assert output.endswith("."), order_id[:200]
            assert "internal error" not in output, order_id[:200]


async def test_an_order_number_of_another_type_reads_nobodys_order(store):
    await store.db.orders.insert_one(
        {"tenant_id": "default", "user_id": "u-200", "order_id": "4711", "items": [], "total": 1, "status": "new"}
    )
    async with talk(store, ROBIN, calls()) as call:
        for order_id in ({"$gt": ""}, ["1"], None, True, 4711):
            output, is_error = await call.tool("lookup_order", order_id=order_id)
            assert is_error, order_id
            assert "new" not in output, order_id
            assert clean_text(output) == output, order_id


async def test_a_failing_briefing_prevents_no_reply(store, monkeypatch, caplog):
    async with talk(store, ROBIN, calls()) as call:

        def broken(*_):
            raise RuntimeError(SECRET)

        monkeypatch.setattr(briefing, "brief", broken)
        assert await call.say("hello") == "Nothing to do."
        monkeypatch.setattr(type(call.call.caller), "preload", fail)
        assert await call.say("hello again") == "Nothing to do."
    assert "without a briefing" in caplog.text


async def test_when_memory_is_not_loaded_the_log_says_why(store, monkeypatch, caplog):
    monkeypatch.setattr(type(store.memories), "contents", refuse)
    monkeypatch.setattr(Caller.preload, "__defaults__", (0.1,))  # the greeting would wait for it, in vain
    async with talk(store, ROBIN, calls()) as call:
        for name, arguments in (
            ("recall_detail", {"memory_type": "pet"}),
            ("search_memories", {"query": "pet"}),
            ("list_user_memories", {}),
        ):
            caplog.clear()
            output, is_error = await call.tool(name, **arguments)
            assert (output.startswith("I cannot look up what I remember"), is_error) == (True, True)
            (line,) = [each for each in caplog.records if each.name == "lkmongo.agent.tools"]
            assert (line.levelname, "MongoDB answered with an error" in line.message) == ("WARNING", True)


async def test_a_change_that_could_not_be_saved_is_logged_with_the_cause(store, monkeypatch, caplog):
    for name in ("remember", "remember_if_newer"):  # the latter on a busy machine, where it is not fresh any more
        monkeypatch.setattr(type(store.memories), name, refuse)
    async with talk(store, ROBIN, calls()) as call:
        output, is_error = await call.tool("remember_detail", memory_type="pet", content="a heron")
    assert is_error
    assert output.endswith("but I could not save it for the next one.")
    lines = [each for each in caplog.records if each.name == "lkmongo.outbox.outbox" and each.levelname == "WARNING"]
    assert any("in memory only" in each.message and "MongoDB answered with" in each.message for each in lines)
    assert "heron" not in "".join(each.message for each in lines)


async def test_a_failure_beside_the_call_is_a_warning_unless_mongodb_is_only_away(caplog):
    background = Background()
    for error, level in ((OverloadedError("Voyage answered 503"), "WARNING"), (DatabaseUnavailableError(), "INFO")):
        caplog.clear()
        caplog.set_level("INFO", "lkmongo")

        async def work(error=error):
            raise error

        await background.begin(work())
        assert [(line.levelname, error.message in line.message) for line in caplog.records] == [(level, True)]


async def test_an_order_of_another_program_is_told_as_well_as_it_can_be(store, caplog):
    order = {"order_id": 4711, "items": [{"sku": "A-1", "qty": 2}], "total": "349.00 EUR"}
    await store.db.orders.insert_one(ROBIN.filter | order)
    async with talk(store, ROBIN, calls()) as call:
        caplog.clear()
        output, is_error = await call.tool("lookup_order", order_id="4711")
    assert (output, is_error) == ("Order 4711: 2 A-1, 349.00 EUR in total.", False)
    assert "an order has an unexpected shape and was read in part: status is missing" in caplog.text
