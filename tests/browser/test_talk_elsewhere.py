"""Whole calls from a page of another site, through a real LiveKit server: who comes back is greeted by name, or not."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.browser.conftest import CLIENT_FILE, becomes
from tests.browser.elsewhere import page_elsewhere
from tests.e2e.conftest import TEXT
from tests.waiting import until
from tests.web_server import web_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEARD = "heard.join(' ').includes({})"


async def test_by_visitor_js_who_comes_back_to_another_site_is_greeted_by_name_and_without_it_is_not(
    visit, records, client, livekit_server, text_worker
):
    keys = {"client": client, "url": livekit_server.url, "key": livekit_server.key, "agent_name": TEXT}
    async with (
        page_elsewhere(CLIENT_FILE) as elsewhere,
        web_server(records, origins=elsewhere.both, **keys) as server,
    ):
        shop = SimpleNamespace(url=elsewhere.other_site)

        async def talk(way: str, context=None):
            page = await visit(shop, context=context)
            await page.evaluate(f"talk({json.dumps(way)}, {json.dumps(server.url)})")
            await becomes(page, "heard.length > 0")
            return page

        async def introduce(page) -> None:
            await page.evaluate("room.localParticipant.sendText('My name is Robin.', { topic: 'lk.chat' })")
            await becomes(page, HEARD.format("'Your name is Robin'"))
            await page.evaluate("room.disconnect()")

        before = await records.db.visitors.count_documents({})
        for way, known in (("with visitor.js", True), ("the URL alone", False)):
            first = await talk(way)
            await introduce(first)
            again = await talk(way, first.context)
            if known:
                await becomes(again, HEARD.format("'Robin'"))
            assert await again.evaluate(HEARD.format("'Robin'")) is known
            await again.evaluate("room.disconnect()")
        # One who came twice, and two who came once; nobody for a token that was not used.

        async def are_three() -> bool:
            return await records.db.visitors.count_documents({}) == before + 3

        await until(are_three)
