"""A LiveKit server that is restarted in the middle of calls: one agent for each caller, and no call stays open."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from lkmongo.model import UserScope
from lkmongo.tokens import TokenRequest, mint
from lkmongo.worker.capacity import POLL_INTERVAL, SETTLING
from tests.e2e.caller import PATIENCE, inside
from tests.e2e.looking import WISH
from tests.e2e.records import completed
from tests.e2e.test_endings import _CLIENT
from tests.livekit_server import LiveKitProcess
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = "restarted-agent"


@pytest.fixture
def livekit(tmp_path):
    """A server of the test's own."""
    process = LiveKitProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.stop()


async def test_who_comes_back_has_one_agent_and_who_does_not_is_missed(start_worker, records, livekit):
    server = livekit.server
    stays, leaves = (UserScope(tenant_id="restarts", user_id=user) for user in ("stays", "leaves"))
    async with start_worker(AGENT, server.environment, "--demo") as worker:
        wanted = [TokenRequest(who=who, agent_name=AGENT) for who in (stays, leaves)]
        tokens = [mint(server.key, each).text for each in wanted]
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, server.url, tokens[1])
        async with inside(server.url, tokens[0]) as caller:
            await caller.reads("Hello", "Hi")
            await until(lambda: records.db.turns.count_documents({"user_id": "leaves"}))
            reconnected = asyncio.Event()
            caller.room.on("reconnected", reconnected.set)
            worker.signal(signal.SIGSTOP, group=True)
            await asyncio.to_thread(livekit.stop)
            client.kill()
            await client.wait()
            await asyncio.to_thread(livekit.start)
            # The caller comes first, so that the room is made anew with its dispatch. No worker is there to take it: it
            # is looked for some seconds later.
            await asyncio.wait_for(reconnected.wait(), PATIENCE)
            worker.signal(signal.SIGCONT, group=True)
            await until(lambda: worker.log.count("registered worker") == 2)
            await asyncio.sleep(SETTLING + 2 * POLL_INTERVAL)
            await caller.until(lambda: caller.agent and caller.agent_state == "listening")
            before = len(caller.said())
            await caller.type(WISH)
            await caller.until(lambda: any("favorite color: teal" in text for text in caller.said()[before:]))
            await asyncio.sleep(2)
            assert sum("favorite color: teal" in text for text in caller.said()) == 1, "two agents answer"
            await caller.hang_up()
        for who in (stays, leaves):
            for record in await records.sessions.recent(who):
                await completed(records, who, record.session_id)
    assert await records.db.turns.count_documents({"user_id": "stays", "content": WISH}) == 1
