"""How a caller's waits grow: with what is known of them, the length of the call, and the number of people."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import numpy as np
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from livekit import rtc
from livekit.agents import ConversationItemAddedEvent
from livekit.agents.llm import ChatMessage

from benchmarks.growth_bench import Bench, Reading, once, timed, times_for
from benchmarks.growth_data import person, sentence, write_people, write_slots
from lkmongo.agent.briefing import BUDGET, brief
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.ending import end_session
from lkmongo.model import Turn, TurnKind, UserScope, now
from lkmongo.store.people.erase import erase
from lkmongo.store.sessions import listing
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.worker.resume import chat_context

_numbers = itertools.count()


async def slots(bench: Bench, n: int) -> list[Reading]:
    """One person has n memory slots."""
    scope = UserScope(tenant_id="default", user_id=f"slots-{n}")
    await write_slots(bench.database, scope, n, bench.embedder)
    times = times_for(n)
    starts = await _starts(bench, scope, times, known=n)
    async with bench.call(scope, f"call-{next(_numbers)}") as call:
        caller = call.caller
        await caller.preload(deadline=10)
        call.recorder.start()
        await _vectors_there(call)

        async def search() -> None:
            await call.search_memories(f"where is the parcel of topic {next(_numbers)}")

        async def change(pause: float = 0.05) -> float:
            began = time.perf_counter()
            await caller.remember("topic_00000", f"the parcel arrives on day {next(_numbers)}")
            took = (time.perf_counter() - began) * 1000
            await asyncio.sleep(pause)  # its vector
            return took

        remembered, with_briefing, found = [], [], []
        for _ in range(times):
            remembered.append(await change())
            with_briefing += once(lambda: brief(caller, "where is my parcel"), 1)
            await change()
            found += await timed(search, 1, warm_up=0)
        again = once(lambda: brief(caller, "where is my parcel"), times)
        searched = await timed(search, times)
        text = brief(caller, "where is my parcel")
        await call.recorder.close("done", dict)
    shown = {"_id": 0, "memory_type": 1, "content": 1, "created_at": 1, "updated_at": 1}
    raw = bench.database.get_collection("memories", CodecOptions(RawBSONDocument))
    bare = once(lambda: list(raw.find(scope.filter, shown, batch_size=10_000)), times)
    matrix = np.random.default_rng(1).standard_normal((n, bench.embedder.dimensions), dtype=np.float32)
    compared = once(lambda: np.argpartition(matrix @ matrix[0], -1), times)
    return [
        Reading("session start", starts),
        Reading("session start", bare, way="limit", note="the same documents read by a bare cursor, not decoded"),
        Reading("remember", remembered),
        Reading("briefing of a turn", again),
        Reading("briefing after a change", with_briefing),
        Reading("briefing", [float(len(text))], "characters", note=f"at most {BUDGET:,}"),
        Reading("search of what is loaded", searched),
        Reading("search of what is loaded", compared, way="limit", note="a bare NumPy product and partition"),
        Reading("search after a change", found),
    ]


async def turns(bench: Bench, n: int) -> list[Reading]:
    """A call has n turns."""
    scope = UserScope(tenant_id="default", user_id=f"turns-{n}")
    sessions = bench.store.sessions
    ended = []
    for _ in range(times_for(n, most=10, least=3, work=5_000)):
        name = f"call-{next(_numbers)}"
        async with bench.call(scope, name) as call:
            session: Any = rtc.EventEmitter()
            call.attach(session)
            for number in range(n):
                _say(session, number)
                if number % 500 == 499:
                    await asyncio.sleep(0.01)
            await _stored(bench, name, n)
            _say(session, n)
            began = time.perf_counter()
            await call.caller.preload()
            assert await end_session(call, "hang-up", dict, ended_at=now())
            ended.append((time.perf_counter() - began) * 1000)
    bench.database.sessions.update_one({"session_id": name}, {"$set": {"status": "interrupted"}})
    seqs = itertools.count(n + 1)

    async def append() -> None:
        seq = next(seqs)
        turn = Turn(seq, f"{name}-{seq}", TurnKind.MESSAGE, now(), role="user", content="where is my parcel")
        await sessions.append(scope, name, [turn])

    async def resume() -> None:
        chat_context(await sessions.left_off(scope, name))

    async def show() -> None:
        record = await listing.find(bench.store.db, SessionFilter(user_id=scope.user_id), name)
        await sessions.turns(record.scope, record.session_id)

    times = times_for(n)
    appended = await timed(append, 30)
    resumed = await timed(resume, times)
    shown = await timed(show, times)
    raw = bench.database.get_collection("turns", CodecOptions(RawBSONDocument))
    bare = once(lambda: list(raw.find({**scope.filter, "session_id": name}).sort("seq", 1)), times)
    for collection in ("turns", "sessions"):
        bench.database[collection].delete_many(scope.filter)
    return [
        Reading("store one turn", appended),
        Reading("hang-up", ended, note="one turn is not stored yet; with the note for the next call"),
        Reading("resume after a worker's death", resumed, note="read the turns, and tell the model"),
        Reading("load a transcript", shown, note="what `sessions show` reads"),
        Reading("load a transcript", bare, way="limit", note="the same documents read by a bare cursor, not decoded"),
    ]


async def people(bench: Bench, n: int) -> list[Reading]:
    """There are n people, each with three slots, a call and two turns; they are left for the next size."""
    there = bench.database.users.count_documents({"user_id": {"$regex": "^person-"}})
    write_people(bench.database, range(there, n), bench.embedder.model, bench.embedder.dimensions)
    scope = UserScope(tenant_id="default", user_id=person(n // 2))
    starts = await _starts(bench, scope, 30, known=3)
    async with bench.call(scope, f"call-{next(_numbers)}") as call:
        await call.caller.preload()
        call.recorder.start()

        async def remember() -> None:
            await call.caller.remember("topic_0", f"the parcel arrives on day {next(_numbers)}")

        remembered = await timed(remember, 30, pause=0.03)
        await call.recorder.close("done", dict)
    tenant, db = scope.tenant, bench.store.db

    async def page() -> None:
        found = await bench.store.users.page(tenant, limit=50)
        if len(found) == 50:
            await bench.store.users.count(tenant)  # as the command does, to say how many there are

    async def newest() -> None:
        wanted = SessionFilter()
        await listing.newest(db, wanted, limit=50)
        await listing.count(db, wanted)

    listed, called, erased = await timed(page, 10), await timed(newest, 10), []
    for number in range(min(5, n)):
        gone = UserScope(tenant_id="default", user_id=person(n - 1 - number))
        began = time.perf_counter()
        await erase(bench.store.db, gone, by="a benchmark")
        erased.append((time.perf_counter() - began) * 1000)
    write_people(bench.database, range(n - min(5, n), n), bench.embedder.model, bench.embedder.dimensions)
    return [
        Reading("session start", starts),
        Reading("remember", remembered),
        Reading("users list, first page", listed),
        Reading("sessions list, first page", called),
        Reading("users erase", erased),
    ]


async def _starts(bench: Bench, scope: UserScope, times: int, *, known: int) -> list[float]:
    """Milliseconds from the beginning of a call to when the caller is known."""
    took = []
    for number in range(-2, times):
        began = time.perf_counter()
        async with bench.call(scope, f"call-{next(_numbers)}") as call:
            await call.caller.preload(deadline=10)
            end = time.perf_counter()
            assert len(call.caller.slots) == known
            await call.caller.flush(10)
        if number >= 0:
            took.append((end - began) * 1000)
    return took


async def _vectors_there(call: CallerSession) -> None:
    """Wait until a search of what is loaded goes by meaning, too: none of these words is in any slot."""
    async with asyncio.timeout(60):
        while not await call.search_memories("packages and shipments"):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)


def _say(session: rtc.EventEmitter[Any], number: int) -> None:
    message = ChatMessage(role="user" if number % 2 else "assistant", content=[_SENTENCES[number % len(_SENTENCES)]])
    session.emit("conversation_item_added", ConversationItemAddedEvent(item=message))


async def _stored(bench: Bench, name: str, n: int) -> None:
    async with asyncio.timeout(120):
        while bench.database.turns.count_documents({"tenant_id": "default", "session_id": name}) < n:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _sentences() -> list[str]:
    import random

    rng = random.Random(1)
    return [sentence(rng, 8, 20) for _ in range(200)]


_SENTENCES = _sentences()
