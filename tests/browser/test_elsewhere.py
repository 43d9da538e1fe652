"""Pages of other origins in a real browser, with LiveKit's own token sources: who is known again, and what is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.browser.conftest import CLIENT_FILE
from tests.browser.elsewhere import page_elsewhere
from tests.waiting import until
from tests.web_server import told, web_server

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def fetched(page, server, way: str, *, times: int = 1) -> list:
    """Whom so many tokens are for, which the page asks for at once."""
    ask = f"ways[{json.dumps(way)}]({json.dumps(server.url)}).fetch({{}})"
    answers = await page.evaluate(f"Promise.all([{', '.join([ask] * times)}])")
    return [told({"participant_token": each["participantToken"]}).scope for each in answers]


@pytest.mark.parametrize(
    ("where", "way", "known"),
    [
        ("other_site", "the URL alone", False),
        ("other_site", "with credentials", False),
        ("other_site", "with visitor.js", True),
        ("same_site", "the URL alone", False),
        ("same_site", "with credentials", True),
        ("same_site", "with visitor.js", True),
    ],
)
async def test_who_is_known_again_on_a_page_of_another_origin(visit, records, where, way, known):
    async with (
        page_elsewhere(CLIENT_FILE) as elsewhere,
        web_server(records, origins=elsewhere.both) as server,
    ):
        shop = SimpleNamespace(url=getattr(elsewhere, where))
        page = await visit(shop)
        (first,) = await fetched(page, server, way)
        again = await visit(shop, context=page.context)
        assert (await fetched(again, server, way) == [first]) is known


async def test_two_requests_at_once_in_two_tabs_are_one_visitor(visit, records):
    async with (
        page_elsewhere(CLIENT_FILE) as elsewhere,
        web_server(records, origins=elsewhere.both) as server,
    ):
        shop = SimpleNamespace(url=elsewhere.other_site)
        page = await visit(shop)
        other = await visit(shop, context=page.context)
        await page.evaluate(f"import('{server.url}visitor.js')")
        found = await fetched(page, server, "with visitor.js", times=3)
        found += await fetched(other, server, "with visitor.js", times=3)
        assert len(set(found)) == 1


async def test_a_page_that_is_not_listed_shows_its_developer_why(visit, records):
    async with page_elsewhere(CLIENT_FILE) as elsewhere, web_server(records) as server:
        page = await visit(SimpleNamespace(url=elsewhere.other_site))
        why = f"pages of {elsewhere.other_site} may not use this server: add it to LKMONGO_WEB_ORIGINS"
        for way in ("the URL alone", "with visitor.js"):
            caught = f"ways[{json.dumps(way)}]('{server.url}').fetch({{}}).catch((error) => error.message)"
            assert why in await page.evaluate(caught)
        # With credentials a browser shows a page nothing, but its developer the preflight.
        network = await page.context.new_cdp_session(page)
        seen: list[str] = []
        network.on("Network.responseReceivedExtraInfo", lambda event: seen.append(str(event["headers"])))
        await network.send("Network.enable")
        caught = f"ways['with credentials']('{server.url}').fetch({{}}).catch((error) => error.message)"
        assert await page.evaluate(caught) == "Failed to fetch"
        await until(lambda: any(why in each for each in seen))
