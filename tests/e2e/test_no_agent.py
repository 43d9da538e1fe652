"""Callers to whom no agent comes, through a real LiveKit server and the web server that gave them their tokens."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.store.sessions.own_calls import past_calls
from tests.conftest import clean_environment
from tests.e2e.caller import inside
from tests.e2e.conftest import DATABASE
from tests.e2e.records import completed, ended_as

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start_web(livekit_server, mongodb_uri, tmp_path) -> Callable[[str], AbstractAsyncContextManager[str]]:
    """Start `lkmongo web` for the agent of a name; gives its address, and kills it at the end."""

    @asynccontextmanager
    async def start(agent: str) -> AsyncIterator[str]:
        settings = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": DATABASE, "LKMONGO_AGENT_NAME": agent}
        home = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lkmongo", "web", "--port", "0"),
            env=clean_environment() | livekit_server.environment | settings | home,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield (await process.stdout.readline()).decode().removeprefix("Talk on ").strip()
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()

    return start


class Browser:
    """A visitor with a cookie."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def token(self) -> str:
        async with self._http.post(f"{self._url}api/token", json={}) as answer:
            return (await answer.json())["participant_token"]

    async def calls(self) -> list[dict]:
        async with self._http.get(f"{self._url}api/sessions") as answer:
            return (await answer.json())["sessions"]


async def of_room(records, session_id: str) -> UserScope:
    """Wait for a record of a room, and return whose it is."""
    async with asyncio.timeout(60):
        while not (found := await records.db.sessions.find_one({"session_id": session_id})):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return UserScope(tenant_id=found["tenant_id"], user_id=found["user_id"])


async def test_who_leaves_before_any_agent_comes_is_recorded_also_if_the_web_server_was_killed_meanwhile(
    start_web, records, livekit_server
):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http, AsyncExitStack() as stack:
        began = now()
        async with start_web("nobody") as url:
            unused, used = [await Browser(http, url).token() for _ in range(2)]
            caller = await stack.enter_async_context(inside(livekit_server.url, used))
            session_id = await caller.room.sid
        async with start_web("nobody") as url:  # on another port
            browser = Browser(http, url)
            await asyncio.sleep(1)
            went = time.monotonic()
            await caller.hang_up()
            who = await of_room(records, session_id)
            record = await ended_as(records, SessionRecord(session_id, who, None, None, None), "is not answered", went)
            assert began <= record.started_at < record.ended_at <= now()
            assert (record.room_name, record.agent) == (caller.room.name, "nobody")
            assert await records.sessions.turns(who, session_id) == []
            assert await browser.calls() == []
            assert await past_calls(records.db, who, limit=9) == ([], None)
        assert await records.db.sessions.count_documents({"user_id": who.user_id}) == 1, "the other token was not used"
        assert unused != used


async def test_who_is_answered_late_has_a_session_like_any_other(start_web, start_worker, records, livekit_server):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http, start_web("latecomer") as url:
        browser = Browser(http, url)
        async with inside(livekit_server.url, await browser.token()) as caller:
            session_id = await caller.room.sid
            await asyncio.sleep(5)  # the web server has looked, and nobody was there
            assert await records.db.sessions.count_documents({"session_id": session_id}) == 0
            async with start_worker("latecomer", {}, "--demo"):
                await caller.reads("Hello", "Hi")
                await caller.hang_up()
                who = await of_room(records, session_id)
                record, turns = await completed(records, who, session_id)
        assert (record.status, record.close_reason) == (SessionStatus.COMPLETE, "hang-up")
        assert turns
        assert [each["id"] for each in await browser.calls()] == [session_id]
        assert await records.db.sessions.count_documents({"session_id": session_id}) == 1
