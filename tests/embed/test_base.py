"""The next vectors are made while the last ones are stored, one batch ahead and no more."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from lkmongo.embed.base import prefetch


class Batches:
    def __init__(self, count, error=None):
        self.made = []
        self.count = count
        self.error = error
        self.stopped = False

    async def __call__(self):
        try:
            for number in range(self.count):
                await asyncio.sleep(0)
                self.made.append(number)
                yield number
            if self.error:
                raise self.error
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.stopped = True
            raise


async def test_one_batch_is_made_while_another_is_dealt_with():
    batches = Batches(4)
    seen = []
    async with aclosing(prefetch(batches())) as each:
        async for number in each:
            for _ in range(10):
                await asyncio.sleep(0)
            seen.append((number, list(batches.made)))
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3]), (3, [0, 1, 2, 3])]


async def take(batches, seen, *, leave=None):
    async with aclosing(prefetch(batches())) as each:
        async for number in each:
            await asyncio.sleep(0)  # the next one is begun
            seen.append(number)
            if leave:
                raise leave


async def test_an_error_comes_after_everything_before_it():
    seen = []
    with pytest.raises(RuntimeError, match="no more"):
        await take(Batches(2, RuntimeError("no more")), seen)
    assert seen == [0, 1]


async def test_left_early_it_makes_no_more():
    batches, seen = Batches(100), []
    with pytest.raises(KeyError):
        await take(batches, seen, leave=KeyError())
    for _ in range(10):
        await asyncio.sleep(0)
    assert (seen, batches.made, batches.stopped) == ([0], [0], True)
