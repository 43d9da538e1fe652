"""What a call left behind in MongoDB."""

from __future__ import annotations

import asyncio

from lkmongo.model import SessionRecord, SessionStatus, Turn, UserScope
from lkmongo.store.open import Store
from tests.e2e.caller import PATIENCE


async def completed(store: Store, who: UserScope, session_id: str) -> tuple[SessionRecord, list[Turn]]:
    """Wait for the record of a call to be complete, and return it with its turns."""
    async with asyncio.timeout(PATIENCE):
        while True:
            record = await store.sessions.get(who, session_id)
            if record and record.status is SessionStatus.COMPLETE:
                return record, await store.sessions.turns(who, session_id)
            await asyncio.sleep(0.05)
