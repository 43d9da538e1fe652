"""Whatever goes wrong around a tool or a briefing, the caller hears a sentence, and nobody reads an exception."""

from __future__ import annotations

import asyncio
import json

import pytest

from lkmongo.agent import assistant, briefing
from lkmongo.errors import DatabaseError
from lkmongo.model import Identity, clean_text
from tests.fake_llm import calls
from tests.talk import talk

ROBIN = Identity("default", "u-100")
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
            (type(call.caller), ["remember", "forget", "search", "set_profile"]),
            (type(call.search), ["knowledge"]),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, how)
        for deadline in ("READ_DEADLINE", "CHANGE_DEADLINE", "SEARCH_DEADLINE"):
            monkeypatch.setattr(assistant, deadline, 0.05)

    return break_it


TOOLS = (
    ("search_knowledge", {"query": "returns"}),
    ("lookup_order", {"order_id": "4711"}),
    ("remember_detail", {"memory_type": "pet", "content": "a heron"}),
    ("forget_detail", {"memory_type": "pet"}),
    ("search_memories", {"query": "pet"}),
    ("update_profile", {"field": "name", "value": "Robin"}),
)


@pytest.mark.parametrize("how", [fail, refuse, hang])
async def test_every_tool_that_waits_has_a_deadline_and_a_sentence_for_failure(store, monkeypatch, how):
    async with talk(store, ROBIN, calls()) as call:
        in_vain(how)(call.call, monkeypatch)
        for name, arguments in TOOLS:
            output, is_error = await call.tool(name, **arguments)
            assert is_error, name
            assert output.startswith("I could not "), name
            assert output.endswith("."), name
        kept = json.dumps(call.session.history.to_dict()) + str(call.job.make_session_report(call.session).to_dict())
    assert "hunter2" not in kept
    assert "hunter2" not in str(await store.sessions.turns(ROBIN, "console-test"))


@pytest.mark.parametrize(
    "order_id",
    [
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
    ],
)
async def test_an_order_number_that_cannot_be_one_is_told_in_a_short_sentence(store, order_id):
    async with talk(store, ROBIN, calls()) as call:
        output, is_error = await call.tool("lookup_order", order_id=order_id)
    assert is_error
    assert len(output) < 300
    assert output.endswith(".")
    assert "internal error" not in output


@pytest.mark.parametrize("order_id", [{"$gt": ""}, ["1"], None, True, 4711])
async def test_an_order_number_of_another_type_reads_nobodys_order(store, order_id):
    await store.db.orders.insert_one(
        {"tenant_id": "default", "user_id": "u-200", "order_id": "4711", "items": [], "total": 1, "status": "new"}
    )
    async with talk(store, ROBIN, calls()) as call:
        output, is_error = await call.tool("lookup_order", order_id=order_id)
    assert is_error
    assert "new" not in output
    assert clean_text(output) == output


async def test_a_briefing_that_cannot_be_made_kills_no_reply(store, monkeypatch, caplog):
    async with talk(store, ROBIN, calls()) as call:

        def broken(*_):
            raise RuntimeError(SECRET)

        monkeypatch.setattr(briefing, "brief", broken)
        assert await call.say("hello") == "Nothing to do."
        monkeypatch.setattr(type(call.call.caller), "preload", fail)
        assert await call.say("hello again") == "Nothing to do."
    assert "without a briefing" in caplog.text
