"""What a call left behind in MongoDB."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from docs.endings import ENDINGS, note
from lkmongo.model import SessionRecord, SessionStatus, Turn, UserScope, now
from lkmongo.store.open import Store
from tests.e2e.caller import PATIENCE

logger = logging.getLogger("e2e")


async def completed(store: Store, who: UserScope, session_id: str) -> tuple[SessionRecord, list[Turn]]:
    """Wait for the record of a call to be complete, and return it with its turns."""
    async with asyncio.timeout(PATIENCE):
        while True:
            record = await store.sessions.get(who, session_id)
            if record and record.status is SessionStatus.COMPLETE:
                return record, await store.sessions.turns(who, session_id)
            await asyncio.sleep(0.05)


async def ended_as(records: Store, begun: SessionRecord, how: str, went: float | None) -> SessionRecord:
    """Wait until the record says that the call is over, and compare it with the row of the documents.

    Args:
        records: the database.
        begun: the session.
        how: the row.
        went: when it happened, by the monotonic clock; None for when the record says that it did.
    """
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            record = await records.sessions.get(begun.scope, begun.session_id)
            if record and record.status != SessionStatus.ACTIVE:
                break
            await asyncio.sleep(0.05)
    seconds = max(0.0, time.monotonic() - went if went else (now() - record.ended_at).total_seconds())
    logger.info("%s: %s, %s, after %.1f s", how, record.status, record.close_reason, seconds)
    assert (record.status, record.close_reason) == (ENDINGS[how].status, ENDINGS[how].reason)
    if os.environ.get("LKMONGO_TEST_ENDINGS"):
        note(how, seconds)
    return record
