"""A process of its own that takes its first call: `rows_processes` runs it, once for each sample.

    python -m benchmarks.first_call lkmongo|guide URI
    python -m benchmarks.first_call count SOCKET

It says "ready" when it is what it is before a job comes, waits for a line, and prints the milliseconds until everything
is known of the caller. lkmongo is prepared by `agent.ready` before; the guide makes its client when it needs one. With
`count` it prints, of lkmongo, the round trips instead, which depend on no machine (`benchmarks.patience`).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from benchmarks.stage import CALLER, DATABASE, known, vectors_of
from lkmongo.embed.local import LocalEmbedder


def main() -> None:
    """Be one way."""
    way, uri = sys.argv[1:3]
    if way == "guide":
        asyncio.run(_theirs(uri))
    elif way == "count":
        print(_round_trips(uri))
    else:
        with tempfile.TemporaryDirectory() as home:
            _ours(uri, home)


def _ours(uri: str, home: str) -> None:
    from lkmongo.agent.beginning import begin_session
    from lkmongo.settings import Settings
    from lkmongo.worker.prewarm import Prewarm

    settings = Settings.load({"MONGODB_URI": uri, "MONGODB_DB": DATABASE, "LKMONGO_HOME": home})
    ready = Prewarm(settings)  # as a job's process is made ready: without a loop, and without waiting

    async def job() -> None:
        stack = AsyncExitStack()

        async def preload() -> None:
            store = await ready.store()
            beginning = begin_session(
                settings, store, ready.embedder, CALLER, guest=False, session_id="RM_first", room_name="first"
            )
            call = await stack.enter_async_context(beginning)
            if not await call.caller.preload():
                raise RuntimeError("the caller is not known in time")

        await _measure(preload)
        await stack.aclose()
        await ready.close()

    _wait_for_go()
    asyncio.run(job())


def _round_trips(path: str) -> int:
    from pymongo import monitoring

    from benchmarks.network import Network
    from benchmarks.patience import Loop, Patience
    from lkmongo.agent.beginning import begin_session
    from lkmongo.embed import local
    from lkmongo.settings import Settings
    from lkmongo.worker.prewarm import Prewarm

    async def job(network: Network, patience: Patience, settings: Settings, ready: Prewarm) -> int:
        store = await ready.store()
        while local._loaded is None:  # noqa: SLF001 - the last of what a process does before a job comes
            await asyncio.to_thread(time.sleep, 0.01)
        async with patience.of(network):
            await asyncio.gather(store.ping(), store.ping())  # by then both connections are there
            network.reset()
            async with begin_session(
                settings, store, ready.embedder, CALLER, guest=False, session_id="RM_first", room_name="first"
            ) as call:
                await known(call)
                trips = network.counts().round_trips
        await ready.close()
        return trips

    patience = Patience()
    monitoring.register(patience)
    with tempfile.TemporaryDirectory() as home, Network(path) as network:
        settings = Settings.load({"MONGODB_URI": network.uri, "MONGODB_DB": DATABASE, "LKMONGO_HOME": home})
        ready = Prewarm(settings)
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(job(network, patience, settings, ready))


async def _theirs(uri: str) -> None:
    from benchmarks.guide import Guide

    guide = Guide(uri, vectors_of(LocalEmbedder()))
    _wait_for_go()
    await _measure(lambda: guide.preload(CALLER.user_id))
    await guide.close()


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


async def _measure(work: Callable[[], Awaitable[object]]) -> None:
    began = time.perf_counter()
    await work()
    print((time.perf_counter() - began) * 1000, flush=True)
    sys.stdin.readline()  # the counts are read before anything is closed


if __name__ == "__main__":
    main()
