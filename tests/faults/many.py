"""Hundreds of sessions at once in one process, while MongoDB takes nothing from half of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lkmongo.agent.recorder import Recorder
from lkmongo.model import SessionStatus, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.operations import Remember
from lkmongo.outbox.recovery import recover
from lkmongo.store.open import Store
from lkmongo.store.people.memories import Memories
from lkmongo.store.sessions.sessions import Sessions
from tests.overlaps import DATABASE, away, recorder_of, say

TURNS = 3


async def hold_many(store: Store, folder: Path, sessions: int) -> list[str]:
    """Hold so many sessions at once, in a database without any; returns what is wrong with what they left."""
    users = [f"many-{number}" for number in range(sessions)]
    expected = {user: [f"{user}, turn {turn}" for turn in range(TURNS)] for user in users}
    scopes = [UserScope(tenant_id="many", user_id=user) for user in users]
    recorders = [recorder_of(store, scope, f"s-{scope.user_id}", folder=folder) for scope in scopes]

    async def hold(recorder: Recorder) -> None:
        recorder.start()
        for turn, words in enumerate(expected[recorder.record.scope.user_id]):
            say(recorder, words, 100.0 + turn)
            await recorder._outbox.write(Remember(now(), "turn", words))

    with away((Sessions, "append"), (Memories, "remember"), (Memories, "remember_if_newer")):
        await asyncio.gather(*map(hold, recorders[::2]))
    await asyncio.gather(*map(hold, recorders[1::2]))
    await asyncio.gather(*(each.close("hang-up", dict) for each in recorders))
    await asyncio.gather(*(each.lease.release() for each in recorders))
    await recover(store, folder, DATABASE)

    said: dict[str, list[str]] = {}
    async for turn in store.db.turns.find({"tenant_id": "many"}).sort("seq"):
        said.setdefault(turn["user_id"], []).append(turn["content"])
    remembered = {each["user_id"]: each["content"] async for each in store.db.memories.find({"tenant_id": "many"})}
    complete = {"tenant_id": "many", "status": SessionStatus.COMPLETE.value}
    wrong = [f"{user}: {said.get(user)} was said" for user in users if said.get(user) != expected[user]]
    wrong += [
        f"{user}: {remembered.get(user)} is known" for user in users if remembered.get(user) != expected[user][-1]
    ]
    if (count := await store.db.sessions.count_documents(complete)) != sessions:
        wrong.append(f"{count} of {sessions} sessions are complete")
    if left := journal.files(folder):
        wrong.append(f"{len(left)} journals are left")
    return wrong
