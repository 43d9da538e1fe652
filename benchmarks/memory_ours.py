"""lkmongo as the benchmark of memories drives it: through `Memory`, its sessions and their tools.

    python -m benchmarks.memory_ours FOLDER

A line of JSON to do on standard input, a line with what came of it back, as the other systems do it. What was told in
calls of other days is stored as a call of that day would have stored it: `apply` of its operations.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import lkmongo
from lkmongo.agent.briefing import attend, brief
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.former import MOST_TOLD, by_label
from lkmongo.agent.tools import BoundTools
from lkmongo.dates import resolve
from lkmongo.local.binary import find_server
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import SessionRecord, Source, UserScope
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import Remember
from lkmongo.settings import Settings

FIRST_WORDS = "good morning"


class Ours:
    """A memory, and one session of each person who asks."""

    def __init__(self, memory: lkmongo.Memory, stack: AsyncExitStack) -> None:
        self._memory = memory
        self._stack = stack
        self._sessions: dict[str, CallerSession] = {}

    async def write(self, told: Sequence[Mapping[str, Any]]) -> int:
        """Store what was told, each with the time at which it was."""
        store = await self._memory.store()
        for each in told:
            scope = UserScope(tenant_id="default", user_id=each["person"])
            at = datetime.fromisoformat(each["at"])
            record = SessionRecord(f"{each['person']}-{each['call']}", scope, None, None, at)
            source = Source("told", record.session_id)
            said = Remember(at, each["label"], each["text"], source=source, dates=resolve(each["text"], at))
            await apply([said], Target(store, record, owner="benchmark"))
        return len(told)

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The results of a search and its time, what the tool makes of them, and what the model is told without it."""
        session, words = await self._session(question["person"]), question["text"]
        began = time.perf_counter()
        hits = await _search(session, words)
        ms = (time.perf_counter() - began) * 1000
        tool: Any = BoundTools(session).search_memories
        for said in (FIRST_WORDS, words):  # each question is the first of a call: none before it is remembered
            await attend(session.caller, said)
        briefed = brief(session.caller, words)
        return {"ms": ms, "hits": hits, "told": await tool(None, words), "briefed": briefed}

    async def _session(self, person: str) -> CallerSession:
        """A session whose caller is loaded, and whose vectors are there."""
        if person not in self._sessions:
            session = await self._stack.enter_async_context(self._memory.session(user_id=person))
            slots = session.caller._slots  # noqa: SLF001 - what a call does in the background has to be done
            async with asyncio.timeout(60):
                while len(slots._vectors) < len(slots.all):  # noqa: ASYNC110, SLF001
                    await asyncio.sleep(0.02)
            await session.caller.history_ready()
            self._sessions[person] = session
        return self._sessions[person]


async def _search(session: CallerSession, words: str) -> list[dict[str, Any]]:
    """What the tool `search_memories` tells of: each fact that is found, followed by what it was before."""
    found = await session.search_memories(words)
    matching = by_label(await session.caller.search_former(words))
    hits: list[dict[str, Any]] = []
    for fact in found:
        hits += map(_hit, [fact, *(matching.pop(fact.memory_type, None) or session.former(fact.memory_type)[:1])])
    for label, former in matching.items():
        current = session.recall(label)
        hits += map(_hit, [*([current] if current else []), *former[:MOST_TOLD]])
    return hits


def _hit(fact: Any) -> dict[str, Any]:
    since, until = (getattr(fact, name, None) for name in ("valid_from", "valid_to"))
    return {
        "text": fact.content,
        "former": until is not None,
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "days": [mention.day.isoformat() for mention in fact.dates if mention.day],
    }


async def serve(home: Path) -> None:
    """Serve standard input until it ends."""
    with EmbeddedMongod(home):
        settings = Settings.load({"LKMONGO_HOME": str(home), "LKMONGO_EMBEDDINGS": "local", "MONGODB_DB": "memory"})
        async with lkmongo.Memory(settings) as memory, AsyncExitStack() as stack:
            ours = Ours(memory, stack)
            _say({"lkmongo": lkmongo.__version__, "mongod": find_server().version})
            while line := await asyncio.to_thread(sys.stdin.readline):
                match json.loads(line):
                    case ["write", told]:
                        _say(await ours.write(told))
                    case ["ask", questions]:
                        _say([await ours.ask(each) for each in questions])


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
