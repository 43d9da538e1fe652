"""Calls with a fault of MongoDB each: every turn is there afterwards, once and in order. The long form: `make faults`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

import pytest

from lkmongo.embed.choose import create_embedder
from tests.faults import killed
from tests.faults.held import Case, Held, Rig
from tests.faults.rig import Mongod, hold_all, left_over, open_now, rig

SEED = 7


@pytest.fixture
async def calm(store, mongodb_uri, tmp_path):
    """The mongod of all tests, which is not restarted."""
    embedder = create_embedder("local")
    path = unquote(mongodb_uri.removeprefix("mongodb://").partition("/")[0])
    yield Rig(store, path, embedder, tmp_path / "homes", lambda: None, pause=0.1)
    await embedder.close()


def nothing_is_wrong(held: Sequence[Held | killed.Killed]) -> None:
    assert [(each, each.wrong) for each in held if each.wrong] == []


async def test_a_fault_loses_nothing_in_whatever_phase(calm):
    lasting = [("refuse", "before"), ("stall", "greeting"), ("cut", "tool")]
    brief = [("refuse", "hang-up"), ("stall", "hang-up"), ("stall", "tool"), ("cut", "between"), ("slow", "greeting")]
    batch = [Case(number, *each, is_brief=each in brief) for number, each in enumerate([*lasting, *brief])]
    before = open_now()
    held = await hold_all(calm, None, batch, SEED, at_once=len(batch))
    nothing_is_wrong(held)
    assert {each.outcome for each in held} == {"stored by the call", "recovered, complete"}
    assert not await left_over(before)


async def test_a_restart_of_mongod_itself_loses_nothing(tmp_path):
    mongod = Mongod(tmp_path / "db")
    async with rig(tmp_path, mongod) as it:
        batch = [Case(number, "restart", "between", is_brief=False) for number in range(4)]
        nothing_is_wrong(await hold_all(replace(it, pause=0.1), mongod, batch, SEED, at_once=len(batch)))
    assert mongod.restarts


async def test_a_console_that_is_killed_loses_at_most_what_is_being_said(calm):
    some = [killed.Killed(0, "waiting", "refuse")]
    with killed.forking() as zygote:
        await killed.kill_all(calm, zygote, some, SEED)
    nothing_is_wrong(some)
    assert {each.outcome for each in some} == {"interrupted"}
