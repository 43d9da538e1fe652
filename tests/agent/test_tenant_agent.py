"""How the agent of a tenant speaks: its greeting, its language and its instructions, with every model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from lkmongo.agent.assistant import GREETING, Assistant, create_assistant
from lkmongo.agent.briefing import brief
from lkmongo.consent import QUESTION
from lkmongo.console.lines import Line, Listener
from lkmongo.console.text import converse
from lkmongo.demo.llm import DemoLLM
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.tenants import TenantPolicy, Tenants
from tests.agent.test_assistant import texts
from tests.fake_llm import calls
from tests.talk import calling, talk

ROBIN = UserScope(tenant_id="shop", user_id="u-100")
ELSEWHERE = UserScope(tenant_id="clinic", user_id="u-100")
WORDS = 'Guten Tag, hier ist der "Laden".'
TENANTS = Tenants(named={"shop": TenantPolicy(greeting=WORDS, language="de-AT")})


async def test_a_model_is_told_the_words_of_the_greeting_and_the_language(store):
    async with talk(store, ROBIN, calls(), tenants=TENANTS) as call:
        told = "\n".join(texts(call.llm.contexts[0], "system"))
        assert f"with exactly these words, and add only what you are told to ask: {WORDS}" in told
        assert "Speak German (de-AT), unless the caller speaks or prefers another language." in told
        assert GREETING not in told
        assert call.call.tenant_policy.greeting == WORDS
    async with talk(store, ELSEWHERE, calls(), tenants=TENANTS) as call:
        told = "\n".join(texts(call.llm.contexts[0], "system"))
        assert GREETING in told
        assert "Speak " not in told


async def test_an_agent_class_of_ones_own_greets_in_the_tenants_words_as_well(store):
    class Own(Assistant):
        greeting = "Greet like a pirate."

    async with talk(store, ROBIN, calls(), tenants=TENANTS, agent=Own()) as call:
        assert WORDS in "\n".join(texts(call.llm.contexts[0], "system"))
    async with talk(store, ELSEWHERE, calls(), tenants=TENANTS, agent=Own()) as call:
        assert "Greet like a pirate." in "\n".join(texts(call.llm.contexts[0], "system"))


async def test_the_demo_responder_says_the_words_and_asks_for_consent_behind_them(store):
    async with talk(store, ROBIN, calls(), tenants=TENANTS, model=DemoLLM()) as call:
        assert call.call.said[0].content == WORDS
    asking = Tenants(named={"shop": TENANTS.named["shop"].model_copy(update={"consent": "ask"})})
    async with talk(store, ROBIN, calls(), tenants=asking, model=DemoLLM(), session_id="asking") as call:
        assert call.call.said[0].content == f"{WORDS} {QUESTION}"


async def test_a_language_without_a_name_is_told_by_its_tag(store):
    async with calling(store, ROBIN, tenants=Tenants(TenantPolicy(language="gsw"))) as call:
        assert "Speak the language with the tag gsw," in brief(call.caller)


def test_the_tenants_instructions_come_before_those_of_the_settings(tmp_path: Path):
    (tmp_path / "all.txt").write_text("You sell everything.")
    settings = Settings.load({"LKMONGO_INSTRUCTIONS": str(tmp_path / "all.txt")})
    assert create_assistant(settings, TenantPolicy(instructions="You sell hats.")).instructions == "You sell hats."
    assert create_assistant(settings, TenantPolicy()).instructions == "You sell everything."


async def test_the_console_speaks_as_the_tenant_as_well(store, mongodb_uri, database_name, tmp_path: Path):
    (tmp_path / "tenants.yaml").write_text("tenants: {shop: {greeting: Willkommen., instructions: shop.txt}}")
    (tmp_path / "shop.txt").write_text("You sell hats.")
    settings = Settings.load(
        {
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DB": database_name,
            "LKMONGO_TENANTS": str(tmp_path / "tenants.yaml"),
            "LKMONGO_HOME": str(tmp_path),
        }
    )
    said, instructions = [], []

    async def nothing() -> AsyncIterator[Line]:
        for line in ():
            yield line

    async def look(_: object, assistant: Assistant) -> None:
        instructions.append(assistant.instructions)

    listener = Listener(said.append, lambda _: None, lambda _: None, lambda _: None)
    await converse(settings, ROBIN, nothing(), listener, before=look)
    assert [each["text"] for each in said if each.get("role") == "assistant"] == ["Willkommen."]
    assert instructions == ["You sell hats."]
