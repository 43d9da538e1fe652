"""What a tool is about, in words, and when nobody is told; how it arrives is in tests/e2e/test_activity.py."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lkmongo.agent import activity
from lkmongo.agent.activity import Activity, label_of
from lkmongo.agent.tools import BoundTools
from tests.waiting import until


@pytest.mark.parametrize(
    ("tool", "arguments", "label"),
    [
        ("lookup_order", {"order_id": "1001"}, "order 1001"),
        ("lookup_order", {"order_id": " #A-1001 "}, "order A-1001"),
        ("lookup_order", {"order_id": 1001}, "order 1001"),
        ("lookup_order", {"order_id": None}, "the latest orders"),
        ("lookup_order", {}, "the latest orders"),
        ("remember_detail", {"memory_type": "favorite_color", "content": "teal"}, "favorite color"),
        ("recall_detail", {"memory_type": "Favorite Color"}, "favorite color"),
        ("forget_detail", {"memory_type": "favoriteColor"}, "favorite color"),
        ("forget_detail", {"memory_type": "!!"}, ""),
        ("update_profile", {"field": "timezone", "value": "UTC"}, "time zone"),
        ("update_profile", {"field": "email", "value": "robin@example.com"}, "e-mail address"),
        ("search_knowledge", {"query": "delivery\ntimes"}, "delivery times"),
        ("search_past_calls", {"query": "x" * 200}, "x" * 79 + "\u2026"),
        ("search_memories", {"query": "my password is hunter2-hunter2"}, ""),
        ("list_user_memories", {}, "all that is remembered"),
        ("book_table", {"query": "of a project's own: what it means is not known"}, "book table"),
        ("search_memories", [], ""),
        ("search_memories", {"query": ["x"]}, ""),
        ("search_memories", {"query": {"query": "x"}}, ""),
    ],
)
def test_what_a_tool_is_about_is_told_in_words(tool, arguments, label):
    assert label_of(tool, json.dumps(arguments)) == label


@pytest.mark.parametrize("arguments", ["", "{", "nonsense", "[" * 100_000, None, {"query": "x"}])
def test_arguments_that_are_none_are_about_nothing(arguments):
    assert label_of("search_memories", arguments) == ""


def test_the_arguments_are_those_that_the_tools_have():
    from livekit.agents.llm import find_function_tools

    tools = {tool.id: tool for tool in find_function_tools(BoundTools(None))}
    assert activity._ARGUMENTS.keys() <= tools.keys()
    for name, argument in activity._ARGUMENTS.items():
        assert argument in tools[name].__wrapped__.__annotations__


async def test_after_a_reconnection_it_is_said_again_what_the_agent_does():
    """A LiveKit server that has restarted does not know."""
    listeners, said = {}, []

    async def set_attributes(attributes):
        said.append(attributes)

    room = SimpleNamespace(on=listeners.__setitem__, local_participant=SimpleNamespace(set_attributes=set_attributes))
    session = SimpleNamespace(on=lambda *_: None, agent_state="listening")
    caller = SimpleNamespace(profile=None, outbox=SimpleNamespace(on_stored=lambda _: None))
    Activity(SimpleNamespace(caller=caller), session, room, lambda: "caller-1")
    listeners["reconnected"]()
    await until(lambda: said)
    assert said == [{"lk.agent.state": "listening"}]
