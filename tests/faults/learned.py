"""Kill what learns from a call at each step, or take MongoDB from it: the next process learns the same, once."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

from livekit.agents import llm

from lkmongo.agent.learning import Learner, learn_due
from lkmongo.embed.base import Embedder
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.store.open import Store
from tests.fake_llm import ScriptedLLM
from tests.fault_proxy import FaultProxy
from tests.people import killed_at

FACTS = {"favorite_color": "teal", "home_city": "Lisbon", "hobby": "sails"}
BEFORE = {"home_city": "Boston", "job": "baker"}
LEARNED = FACTS
"""What is known afterwards: the city changed, and the job ended."""


def answer() -> str:
    """What the model makes of the call."""
    new = [
        {"kind": "new", "label": label, "content": content, "quote": "c1", "confidence": 0.9}
        for label, content in FACTS.items()
    ]
    ended = {"kind": "ended", "label": "job", "content": "baker", "quote": "c1", "confidence": 0.9}
    commitment = {"text": "send the label", "by": "assistant", "due": None, "quote": "a2"}
    told = {"summary": "About teal.", "topics": ["teal"], "commitments": [commitment], "facts": [*new, ended]}
    return json.dumps(told)


class Counting(ScriptedLLM):
    """A model that changes its mind each time it is asked: what is stored must be its first answer."""

    def __init__(self) -> None:
        super().__init__(self._script)

    def _script(self, _: llm.ChatContext) -> list[str]:
        return [answer() if len(self.contexts) == 1 else answer().replace("teal", "crimson")]


async def call_over(store: Store, scope: UserScope) -> None:
    """Let a call be over, from which something is to be learned."""
    began = now() - timedelta(minutes=5)
    await store.users.seen(scope)
    for label, content in BEFORE.items():
        await store.memories.remember(scope, label, content, at=began - timedelta(days=1))
    said = "My favorite color is teal, I moved to Lisbon, I sail and I am no baker any more."
    turns = [
        Turn(0, "i-0", TurnKind.MESSAGE, began, role="user", content=said),
        Turn(1, "i-1", TurnKind.MESSAGE, began, role="assistant", content="I will send the label."),
    ]
    await store.sessions.append(scope, "call", turns)
    record = SessionRecord("call", scope, "room", SessionStatus.COMPLETE, began, now(), "hang-up")
    await store.sessions.save(record, learn=True)


async def kill_at_each_step(store: Store, uri: str, embedder: Embedder, first: int = 1) -> list[str]:
    """Kill learning at its first command, its second, ..., and learn again each time; returns what is wrong."""
    wrong: list[str] = []
    for number in range(first, 60):
        scope = UserScope(tenant_id="learned", user_id=f"killed-{number}")
        await call_over(store, scope)
        model = Counting()

        async def work(client: Any, scope: UserScope = scope, model: Counting = model) -> None:
            await Learner(Store.of(client[store.db.name]), embedder, model, "on").learn(scope, "call")

        was_killed = await killed_at(number, uri, work)
        learning = (await _record(store, scope)).learning
        has_answer = learning is not None and learning.asked_at is not None
        await again(store, scope, embedder, model)
        found = await judge(store, scope, model)
        if has_answer and len(model.contexts) > 1:
            found.append("the model was asked again, though its answer was stored")
        wrong += [f"killed at command {number}: {each}" for each in found]
        if not was_killed:
            return wrong
    return [*wrong, "it was killed each time"]


async def lose_mongodb(store: Store, socket_path: str, embedder: Embedder) -> list[str]:
    """Take MongoDB away while the model answers, and give it back; returns what is wrong."""
    from lkmongo.store.mongo.client import create_client

    scope, proxy, model = UserScope(tenant_id="learned", user_id="lost"), FaultProxy(socket_path), Counting()
    await call_over(store, scope)
    await proxy.listen()
    uri = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&serverSelectionTimeoutMS=500"
    try:
        async with create_client(uri) as client:
            learner = Learner(Store.of(client[store.db.name]), embedder, model, "on")
            script = model.script

            def go_away(context: llm.ChatContext) -> Any:
                proxy.begin("refuse")
                return script(context)

            model.script = go_away
            with suppress(LkmongoError):
                await learner.learn(scope, "call")
            await proxy.end()
    finally:
        await proxy.end()
        await proxy.close()
    wrong = [] if await store.learning.answer(await _record(store, scope)) == {} else ["the answer was stored"]
    model.contexts.clear()  # its first answer was lost with MongoDB
    model.script = script
    await again(store, scope, embedder, model)
    return [f"MongoDB was away: {each}" for each in [*wrong, *await judge(store, scope, model)]]


async def again(store: Store, scope: UserScope, embedder: Embedder, model: Counting) -> None:
    """Learn as any other process does when it is time."""
    selector = scope.filter | {"learning.due_at": {"$exists": True}}
    change = {"learning.due_at": now() - timedelta(seconds=1), "lease.until": now() - timedelta(seconds=1)}
    await store.db.sessions.update_one(selector, {"$set": change})
    await learn_due(Learner(store, embedder, model, "on"))


async def judge(store: Store, scope: UserScope, model: Counting) -> list[str]:
    """What is not as it would be had nothing happened."""
    wrong = []
    record = await _record(store, scope)
    slots = {slot.memory_type: slot.content for slot in await store.memories.slots(scope)}
    asked = len(model.contexts)
    expected = LEARNED if asked == 1 else {**LEARNED, "favorite_color": "crimson"}
    if slots != expected:
        wrong.append(f"remembered: {slots} instead of {expected}")
    former = [(each.memory_type, each.content) for each in await store.history.former(scope)]
    if sorted(former) != [("home_city", "Boston"), ("job", "baker")]:
        wrong.append(f"former values: {former}")
    if record.learning is None or record.learning.state != "learned" or record.learning.counts != {"stored": 4}:
        wrong.append(f"the session says {record.learning}")
    if record.summary is None or record.summary.by != "model":
        wrong.append(f"the summary is {record.summary}")
    if len(await store.summaries.open(scope)) != 1:
        wrong.append(f"open: {await store.summaries.open(scope)}")
    return wrong


async def _record(store: Store, scope: UserScope) -> SessionRecord:
    record = await store.sessions.get(scope, "call")
    assert record is not None
    return record
