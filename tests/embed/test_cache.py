"""The cache for questions: asked once, answered as often as needed, never a failure kept."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from lkmongo.embed.base import EmbeddingTimeoutError, OverloadedError
from lkmongo.embed.choose import CachedEmbedder
from lkmongo.embed.local import LocalEmbedder


class Counting(LocalEmbedder):
    """The local model, which also counts, and can be held up or made to fail."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.closed = False

    async def embed(self, texts, *, kind, deadline=None):
        self.calls.append((kind, list(texts)))
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise OverloadedError
        return await super().embed(texts, kind=kind, deadline=deadline)

    async def close(self):
        self.closed = True


@pytest.fixture
async def inner():
    return Counting()


@pytest.fixture
async def cached(inner):
    embedder = CachedEmbedder(inner, size=3)
    yield embedder
    await embedder.close()


async def ask(embedder, text, deadline=None):
    return await embedder.embed([text], kind="query", deadline=deadline)


async def test_a_question_is_embedded_once_however_it_is_written(inner, cached):
    first = await ask(cached, "What is my favorite color?")
    for again in ("what is my  favorite color", " What is my favorite color. ", "WHAT IS MY FAVORITE COLOR"):
        assert await ask(cached, again) is first
    np.testing.assert_array_equal(first, await ask(inner, "What is my favorite color?"))
    assert len(inner.calls) == 2  # the second by the line above


async def test_what_is_shared_cannot_be_written_to(cached):
    vector = await ask(cached, "color")
    with pytest.raises(ValueError, match="read-only"):
        vector[0, 0] = 1


async def test_other_questions_and_documents_are_not_mixed_up(inner, cached):
    await ask(cached, "color")
    await ask(cached, "colour")
    await cached.embed(["color"], kind="document")
    await cached.embed(["color"], kind="document")
    assert (await cached.embed(["color", "dog"], kind="query")).shape == (2, 256)
    assert len(inner.calls) == 5


async def test_the_question_not_asked_for_longest_is_dropped_first(inner, cached):
    for text in ("one", "two", "three", "one", "four"):
        await ask(cached, text)
    inner.calls.clear()
    for text in ("one", "three", "four"):
        await ask(cached, text)
    assert inner.calls == []
    await ask(cached, "two")
    assert inner.calls == [("query", ["two"])]


async def test_the_same_question_at_the_same_time_is_sent_once(inner, cached):
    answers = await asyncio.gather(*(ask(cached, text) for text in ("color", "Color?", "color")))
    assert len(inner.calls) == 1
    assert all(answer is answers[0] for answer in answers)


async def test_one_who_gives_up_does_not_take_the_answer_from_another(inner, cached):
    inner.gate.clear()
    first = asyncio.create_task(ask(cached, "color"))
    second = asyncio.create_task(ask(cached, "color"))
    await asyncio.sleep(0)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    inner.gate.set()
    assert (await second).shape == (1, 256)
    assert len(inner.calls) == 1


async def test_each_keeps_to_its_own_deadline(inner, cached):
    inner.gate.clear()
    patient = asyncio.create_task(ask(cached, "color"))
    await asyncio.sleep(0)
    with pytest.raises(EmbeddingTimeoutError):
        await ask(cached, "color", deadline=0.01)
    inner.gate.set()
    assert (await patient).shape == (1, 256)


async def test_a_failure_reaches_everybody_and_is_not_kept(inner, cached):
    inner.failures = 1
    answers = await asyncio.gather(*(ask(cached, "color") for _ in range(2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OverloadedError, OverloadedError]
    assert (await ask(cached, "color")).shape == (1, 256)


async def test_closing_ends_what_is_underway(inner, cached):
    inner.gate.clear()
    waiting = asyncio.create_task(ask(cached, "color"))
    await asyncio.sleep(0)
    await cached.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert inner.closed


async def test_everything_else_is_the_wrapped_embedders(inner, cached):
    assert (cached.model, cached.dimensions, cached.weights, cached.floor) == (
        inner.model,
        inner.dimensions,
        inner.weights,
        inner.floor,
    )
    await cached.warm()
    assert [len(part) async for part in cached.embed_many(["a", "b"])] == [2]
