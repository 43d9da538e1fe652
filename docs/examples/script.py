"""A script without LiveKit: what your shop knows of a customer becomes what the agent knows of a caller.

python script.py returns.md
"""

from __future__ import annotations

import asyncio
import sys

import lkmongo


async def main(*documents: str) -> None:
    """Remember, look at it as the agent will, and add what the agent may quote."""
    async with lkmongo.Memory(mongodb_db="shop") as memory:
        async with memory.session(user_id="u-100") as caller:
            await caller.update_profile("name", "Robin")
            await caller.remember("favorite color", "teal")
            print(caller.briefing())
        for session in await memory.sessions.list(user_id="u-100"):
            print(session.started_at, session.close_reason)
        if documents:
            added = await memory.knowledge.add(*documents)
            print(sum(document.added for document in added.rows), "new passages")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
