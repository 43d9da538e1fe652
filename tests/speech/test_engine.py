"""One model a process: what is done first, what is not done at all, and what a failure says."""

from __future__ import annotations

import asyncio
import threading

import pytest
from livekit.agents import APIConnectionError

from lkmongo.errors import MissingExtraError
from lkmongo.speech.engine import Engine
from tests.waiting import until


class Model:
    """Notes what was done, and can be held up."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.open = True
        self.may_go = threading.Event()
        self.may_go.set()

    def work(self, name: str):
        def do(model: Model) -> str:
            assert model.open
            model.may_go.wait()
            model.done.append(name)
            return name

        return do


@pytest.fixture
def made() -> list[Model]:
    return []


@pytest.fixture
def engine(made):
    def load() -> Model:
        made.append(Model())
        return made[-1]

    def unload(model: Model) -> None:
        model.open = False

    engine = Engine("the model", load, unload)
    yield engine
    for model in made:
        model.may_go.set()
    engine.unload()


async def held_up(engine: Engine[Model], made: list[Model]) -> asyncio.Task[str]:
    """Let the engine be busy with something that goes on until the model may."""
    engine.load()
    made[0].may_go.clear()
    busy = asyncio.create_task(engine.do(made[0].work("busy"), urgent=False))
    await until(engine._running.locked)
    return busy


async def ask(engine: Engine[Model], model: Model, name: str, *, urgent: bool = False) -> asyncio.Task[str]:
    before = engine.waiting
    task = asyncio.create_task(engine.do(model.work(name), urgent=urgent))
    await until(lambda: engine.waiting > before)
    return task


async def test_what_is_asked_for_first_is_done_first_and_what_is_urgent_before_that(engine, made):
    busy = await held_up(engine, made)
    tasks = [
        await ask(engine, made[0], name, urgent=name.startswith("urgent"))
        for name in ("one", "urgent one", "two", "urgent two")
    ]
    made[0].may_go.set()
    await asyncio.gather(busy, *tasks)
    assert made[0].done == ["busy", "urgent one", "urgent two", "one", "two"]


async def test_what_is_cancelled_before_its_turn_is_not_done(engine, made):
    busy = await held_up(engine, made)
    outdated, wanted = [await ask(engine, made[0], name) for name in ("outdated", "wanted")]
    outdated.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outdated
    made[0].may_go.set()
    assert await asyncio.gather(busy, wanted) == ["busy", "wanted"]
    assert made[0].done == ["busy", "wanted"]
    assert engine.waiting == 0


async def test_the_model_is_loaded_once_and_off_the_event_loop(made):
    threads = []

    def load() -> Model:
        threads.append(threading.current_thread())
        return Model()

    engine = Engine("the model", load, lambda _: None)
    engine.load_soon()
    await asyncio.gather(*(engine.do(lambda model: model, urgent=False) for _ in range(3)))
    engine.load()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    engine.unload()


async def test_work_after_the_end_loads_again(engine, made):
    await engine.do(lambda _: None, urgent=True)
    engine.unload()
    assert not made[0].open
    assert not engine.loaded
    assert await engine.do(lambda model: model, urgent=True) is made[1]


async def test_the_end_cancels_what_waits_and_finishes_what_is_being_done(engine, made):
    busy = await held_up(engine, made)
    waiting = await ask(engine, made[0], "waiting")
    ending = asyncio.create_task(asyncio.to_thread(engine.unload))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert made[0].open
    made[0].may_go.set()
    await ending
    assert await busy == "busy"
    assert not made[0].open


async def test_a_failure_says_where_and_nothing_of_what_was_said(engine):
    def fail(_: Model) -> None:
        raise ValueError("my card number is 4111")

    with pytest.raises(APIConnectionError) as caught:
        await engine.do(fail, urgent=True)
    assert caught.value.message.startswith("the model failed: ValueError at test_engine.py:")
    assert caught.value.retryable
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


async def test_a_model_that_is_not_installed_is_not_asked_again(made):
    def load() -> Model:
        raise MissingExtraError("it cannot be recognised", why="the extra is not installed", hint="install it")

    engine = Engine("the model", load, lambda _: None)
    with pytest.raises(APIConnectionError) as caught:
        await engine.do(lambda model: model, urgent=True)
    assert str(caught.value) == "it cannot be recognised; the extra is not installed; install it"
    assert not caught.value.retryable
    engine.unload()
