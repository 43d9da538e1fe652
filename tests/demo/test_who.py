"""The demo responder in a call by telephone: it greets neutrally, asks who is speaking, and lives with the answer."""

from __future__ import annotations

import pytest

from lkmongo.demo.llm import DemoLLM
from lkmongo.demo.replies import ASK_WHO
from lkmongo.demo.who import SOMEBODY_ELSE
from lkmongo.store.mongo.erasure_key import ErasureKey
from tests.phoning import linked, phoning

THANKS = "Thank you, Robin Fletcher. What can I do for you?"
PIN = "Before I can do that, please confirm who you are with your PIN."


@pytest.fixture(autouse=True)
async def _robin(store) -> None:
    store.db.client.erasure_key = ErasureKey(b"k" * 32)
    scope = await linked(store, "u-100", name="Robin Fletcher")
    await store.memories.remember(scope, "favorite_color", "teal")


@pytest.mark.parametrize(
    "conversation",
    [
        [
            ("What is my favorite color?", "Before I can do that, please tell me your name."),
            ("This is Robin.", THANKS),
            ("What is my favorite color?", "Your favorite color: teal."),
            ("Where is my order?", PIN),
            ("I'm not Robin.", SOMEBODY_ELSE),
            ("What do you know about me?", "I know nothing about you yet."),
        ],
        [("Robin Fletcher", THANKS), ("That's not my number.", SOMEBODY_ELSE)],
        [("I'm Jo.", "Thank you, I will remember that name."), ("What is my name?", "Your name is Jo.")],
        [("I'm tired", None), ("What is my name?", "What I remember is not at hand right now; please tell me again")],
    ],
)
async def test_it_asks_who_is_speaking_and_lives_with_the_answer(store, conversation):
    async with phoning(store, model=DemoLLM()) as talk:
        greeting = talk.session.history.items[-1].text_content
        assert ASK_WHO in greeting
        assert "Robin" not in greeting
        for said, answer in conversation:
            assert (await talk.say(said)).startswith(answer or ""), said


async def test_who_says_their_first_name_is_not_renamed(store):
    async with phoning(store, model=DemoLLM()) as talk:
        await talk.say("This is Robin.")
        await talk.say("My name is Robin.")
        person = talk.call.scope
    assert (await store.users.get(person)).name == "Robin Fletcher"
