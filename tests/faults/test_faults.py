"""Calls with one fault of MongoDB each: every turn is stored once and in order. The long form: `make faults`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from bson import Binary

from lkmongo import deadlines
from lkmongo.embed.choose import create_embedder
from lkmongo.search.atlas import running
from lkmongo.settings import Settings
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.key_vault import KeyVault
from lkmongo.store.mongo.master_keys import make_key_file, master_keys
from lkmongo.store.open import Store
from tests.cli.started import Zygote
from tests.faults import killed
from tests.faults.held import _BEAT, Case, Held, Rig
from tests.faults.learned import kill_at_each_step, lose_mongodb
from tests.faults.many import hold_many
from tests.faults.rig import Mongod, hold_all, left_over, open_now, rig
from tests.patience import be_patient

SEED = 7


@pytest.fixture
async def calm(store, mongodb_uri, tmp_path):
    """The mongod of all tests, which is not restarted."""
    async with on_the_mongod_of_all(store, mongodb_uri, tmp_path, {}) as found:
        yield found


@pytest.fixture
async def encrypted_calm(store, mongodb_uri, tmp_path):
    """The same, with what people said encrypted, and the keys in the same database."""
    environ = {"LKMONGO_ENCRYPTION": "local", "LKMONGO_ENCRYPTION_KEY_FILE": str(tmp_path / "master.key")}
    settings = Settings.load(environ)
    make_key_file(settings)
    vault = KeyVault(store.db.client, store.db.name, master_keys(settings))
    Encryption(vault).use(store.db)
    async with on_the_mongod_of_all(Store.of(store.db), mongodb_uri, tmp_path, environ) as found:
        yield found
    Encryption().use(store.db)
    await vault.close()


@asynccontextmanager
async def on_the_mongod_of_all(store, mongodb_uri, tmp_path, environ):
    embedder = create_embedder("local")
    path = unquote(mongodb_uri.removeprefix("mongodb://").partition("/")[0])
    await store.ping()  # its client stays open
    yield Rig(store, path, embedder, tmp_path / "homes", lambda _: None, pause=0.1, budgets={}, environ=environ)
    await embedder.close()


def nothing_is_wrong(held: Sequence[Held | killed.Killed]) -> None:
    assert [(each, each.wrong) for each in held if each.wrong] == []


async def test_the_time_in_which_the_process_stands_still_is_no_wait(calm, monkeypatch):
    held = Held(Case(0, "slow", "tool", is_brief=True))
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr("tests.faults.held.time", clock)
    async with running(calm.pulse.beat()):
        await asyncio.sleep(0)
        began = calm.now()
        clock.now += 5
        held.took("turn", "of a machine that has other work", began, calm.pulse)
    assert held.waits["turn"] == pytest.approx(_BEAT)
    assert held.stood_still == pytest.approx(5 - _BEAT)


async def test_sessions_at_once_in_one_process_lose_nothing(store, tmp_path):
    assert await hold_many(store, tmp_path, 60) == []


async def test_a_fault_loses_nothing_in_whatever_phase(calm):
    lasting = [("refuse", "before"), ("stall", "greeting"), ("cut", "tool")]
    brief = [("refuse", "hang-up"), ("stall", "hang-up"), ("stall", "tool"), ("cut", "between"), ("slow", "greeting")]
    cases = [Case(number, *each, is_brief=each in brief) for number, each in enumerate([*lasting, *brief])]
    before = open_now()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadlines, "HANG_UP", 5.0)  # MongoDB stays away, however long it is waited for
        given_up = await hold_all(calm, None, cases[: len(lasting)], SEED, at_once=len(cases))
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch.setattr)  # else all may be given up on a machine that has other work
        waited_for = await hold_all(calm, None, cases[len(lasting) :], SEED, at_once=len(cases))
    nothing_is_wrong([*given_up, *waited_for])
    assert {each.outcome for each in given_up} == {"recovered, complete"}
    assert "stored by the call" in {each.outcome for each in waited_for}
    assert not await left_over(before)


async def test_encrypted_a_fault_loses_nothing_either(encrypted_calm):
    lasting, brief = [("refuse", "before"), ("stall", "greeting"), ("cut", "tool")], [("refuse", "hang-up")]
    cases = [Case(number, *each, is_brief=each in brief) for number, each in enumerate([*lasting, *brief])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadlines, "HANG_UP", 5.0)
        held = await hold_all(encrypted_calm, None, cases, SEED, at_once=len(cases))
    nothing_is_wrong(held)
    assert "recovered, complete" in {each.outcome for each in held}
    documents = [each async for each in encrypted_calm.store.db.turns.find()]
    assert documents
    assert {type(each["content"]) for each in documents if each.get("content")} == {Binary}


async def test_what_learns_from_a_call_can_be_killed_at_any_step_and_learns_it_once(calm, mongodb_uri):
    assert await kill_at_each_step(calm.store, mongodb_uri, calm.embedder) == []


async def test_what_learns_from_a_call_can_lose_mongodb(calm):
    assert await lose_mongodb(calm.store, calm.socket_path, calm.embedder) == []


async def test_a_restart_or_a_step_down_of_mongod_itself_loses_nothing(tmp_path):
    mongod = Mongod(tmp_path / "db")
    async with rig(tmp_path, mongod) as it:
        kinds = ("restart", "step down")
        batch = [Case(number, kinds[number % 2], "between", is_brief=False) for number in range(4)]
        nothing_is_wrong(await hold_all(replace(it, pause=0.1, budgets={}), mongod, batch, SEED, at_once=len(batch)))
    assert mongod.restarts
    assert mongod.step_downs


async def test_a_console_that_is_killed_loses_at_most_what_is_being_said(calm):
    some = [killed.Killed(0, "waiting", "refuse")]
    with Zygote(patient=False) as zygote:
        await killed.kill_all(calm, zygote, some, SEED)
    nothing_is_wrong(some)
    assert {each.outcome for each in some} == {"interrupted"}
