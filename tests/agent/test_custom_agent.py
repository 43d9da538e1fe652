"""Custom agents: the example of the documentation works over the same scoped store."""

from __future__ import annotations

import sys

import pytest

from docs import generate
from lkmongo.agent.assistant import Assistant, create_assistant
from lkmongo.errors import SettingsError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from tests.earlier import FOLDER
from tests.fake_llm import calls
from tests.talk import talk

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
def concierge(monkeypatch):
    monkeypatch.chdir(generate.ROOT / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield create_assistant(Settings.load({"LKMONGO_AGENT": "concierge:Concierge"}))
    sys.modules.pop("concierge", None)


async def test_the_example_has_its_tool_and_ours_and_reads_only_the_callers_orders(store, concierge):
    for user, number, status in (("u-100", "1", "delivered"), ("u-100", "2", "shipped"), ("u-200", "3", "shipped")):
        await store.db.orders.insert_one(
            {"tenant_id": "default", "user_id": user, "order_id": number, "items": [], "total": 1, "status": status}
        )
    async with talk(store, ROBIN, calls(), agent=concierge) as call:
        assert await call.tool("count_orders") == ("You have 2 orders, 1 of them open.", False)
        output, _ = await call.tool("remember_detail", memory_type="pillow", content="firm")
        assert "firm" in output
        instructions = [i.text_content for i in call.llm.contexts[0].items if i.type == "message"]
    assert any("concierge of the Lantern Hotel" in text for text in instructions)
    assert (await store.memories.recall(ROBIN, "pillow")).content == "firm"


async def test_an_agent_of_the_earlier_release_works_and_is_told_the_new_names(store, monkeypatch):
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.warns(DeprecationWarning, match=r"Call is now lkmongo.agent.caller_session.CallerSession"):
        agent = create_assistant(Settings.load({"LKMONGO_AGENT": "concierge:Concierge"}))
    sys.modules.pop("concierge")
    async with talk(store, ROBIN, calls(), agent=agent) as call:
        with pytest.warns(DeprecationWarning, match=r"identity is now CallerSession.scope"):
            assert await call.tool("count_orders") == ("You have 0 orders, 0 of them open.", False)


def test_a_file_of_instructions_replaces_the_words(tmp_path):
    (tmp_path / "words.txt").write_text("You are a pirate.\n")
    agent = create_assistant(Settings.load({"LKMONGO_INSTRUCTIONS": str(tmp_path / "words.txt")}))
    assert agent.instructions == "You are a pirate."
    assert type(agent) is Assistant


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"LKMONGO_AGENT": "no_such_module:Agent"}, "there is no module no_such_module"),
        ({"LKMONGO_AGENT": "lkmongo.agent.assistant:Nobody"}, "has no Nobody"),
        ({"LKMONGO_AGENT": "lkmongo.model:UserScope"}, "not an agent"),
        ({"LKMONGO_INSTRUCTIONS": "missing.txt"}, "cannot be read"),
        ({"LKMONGO_INSTRUCTIONS": "empty.txt"}, "is empty"),
    ],
)
def test_what_cannot_be_an_agent_is_named(tmp_path, environment, words):
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(SettingsError) as caught:
        create_assistant(Settings.load(environment))
    assert words in caught.value.message


def test_a_module_that_breaks_when_imported_is_named_with_the_cause(tmp_path, monkeypatch):
    (tmp_path / "broken_agent.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SettingsError) as caught:
        create_assistant(Settings.load({"LKMONGO_AGENT": "broken_agent:Agent"}))
    assert "ZeroDivisionError" in caught.value.why
