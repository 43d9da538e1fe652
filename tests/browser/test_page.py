"""The page without a call: what it shows, what it keeps, what it lets in, and how it is used by keyboard."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from lkmongo.model import LastSession, now
from lkmongo.web.brand import Brand, Logo
from lkmongo.web.page import load_words
from lkmongo.web.server import CLIENT_URL, Client
from tests.browser.conftest import CLIENT_FILE, becomes, shows, violations
from tests.web_server import AGENT, told, web_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDTHS = (320, 768, 1280)
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"


AGAIN_AT_ONCE = """(() => {
  const later = window.setTimeout;
  const soon = (time) => [1000, 2000, 4000, 8000].includes(time) ? 10 : time;
  window.setTimeout = (work, time, ...rest) => later(work, soon(time), ...rest);
})();"""
"""The page does not wait before it tries once more."""


SIZES = """(() => {
  const [page] = performance.getEntriesByType("navigation");
  const before = performance.getEntriesByType("resource").filter(({startTime}) => startTime < page.loadEventStart);
  return Object.fromEntries([page, ...before].map(({name, decodedBodySize}) =>
    [new URL(name).pathname.slice(1), decodedBodySize]));
})()"""
"""Bytes, before compression, of what was asked for before the page was loaded."""


@pytest_asyncio.fixture(loop_scope="session")
async def server(records, client):
    async with web_server(records, client=client) as running:
        yield running


async def ask(page, **options):
    """A token, by LiveKit's own client."""
    return await page.evaluate(
        """async (options) => {
            const source = LivekitClient.TokenSource.endpoint("/api/token");
            const {serverUrl, participantToken} = await source.fetch(options);
            return {server_url: serverUrl, participant_token: participantToken};
        }""",
        options,
    )


async def furnish(page, records):
    """Make the browser known, and have something remembered of its guest."""
    guest = told(await ask(page)).scope
    await records.users.set_field(guest, "name", "Robin")
    await records.users.set_last_session(guest, LastSession(now(), "Asked about a lamp"), started_at=now())
    for label, content in {"note": MARKUP, "long": "x" * 300, "favorite color": "teal"}.items():
        await records.memories.remember(guest, label, content)
    return guest


async def focused(page) -> str:
    """What has the focus: its id, else what it is called."""
    return await page.evaluate(
        """(({id, textContent}) => id || document.activeElement.getAttribute("aria-label") || textContent)
           (document.activeElement)"""
    )


async def test_the_standard_client_gets_a_token_and_a_visitor_is_known_again(visit, server, records):
    page = await visit(server)
    answer = await ask(page, agentName=AGENT)
    assert answer["server_url"] == "ws://127.0.0.1:7880"
    guest = told(answer).scope
    assert (
        await page.evaluate("document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)") == "{}{}"
    )
    again = await visit(server, context=page.context)
    assert told(await ask(again)).scope == guest
    other = await visit(server)
    assert told(await ask(other)).scope != guest
    await page.context.clear_cookies()
    assert told(await ask(page)).scope != guest
    refused = await page.evaluate(
        "LivekitClient.TokenSource.endpoint('/api/token').fetch({participantIdentity: 'u-100'}).catch(e => e.message)"
    )
    assert "403" in refused
    assert "participant_identity" in refused


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_everybody_can_use_it_at_any_width_in_both_themes(visit, server, records, theme, width, tmp_path):
    page = await visit(server, color_scheme=theme, viewport={"width": width, "height": 800})
    assert await violations(page) == []
    await furnish(page, records)
    await page.click("#show-memory")
    await page.wait_for_selector("#lines li:nth-child(5)")
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.click("#delete-all")
    assert await violations(page) == []
    small = await page.evaluate(
        """[...document.querySelectorAll("button, input")].map(each => each.getBoundingClientRect())
           .filter(box => box.width && (box.width < 24 || box.height < 24)).length"""
    )
    assert small == 0


async def test_it_is_read_at_twice_the_size_of_letters(visit, server):
    page = await visit(server, viewport={"width": 640, "height": 800})
    await page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_what_is_remembered_is_text_and_is_deleted_by_keyboard(visit, server, records):
    page = await visit(server)
    guest = await furnish(page, records)
    walk = []
    for _ in range(7):
        await page.keyboard.press("Tab")
        walk.append(await focused(page))
        ring = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", "one does not see where one is"
    words = load_words()["en"]
    examples = [words[f"example_{number}"] for number in (1, 2, 3)]
    assert walk == [words["skip"], "show-memory", *examples, "start", "start-typing"]
    for _ in range(5):
        await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#lines li:nth-child(5)")
    assert await focused(page) == "memory-title"
    shown = await page.inner_text("#lines")
    assert MARKUP in shown
    assert await page.title() == words["name"]
    assert await page.inner_text("#memory-status") == "5 lines"

    # Close, the tab, its panel, then the first card's buttons; the focus goes on to the next card's.
    for name in ("hide-memory", "tab-lines", "panel-lines", "Why do you know this: Name", "Edit Name", "Delete Name"):
        await page.keyboard.press("Tab")
        assert await focused(page) == name
    await page.keyboard.press("Enter")
    await becomes(page, "document.getElementById('lines').childElementCount === 3")
    await becomes(page, "document.activeElement.getAttribute('aria-label') === 'Delete Favorite color'")
    assert "Name is deleted. The summary of the last conversation went" in await page.inner_text("#memory-status")
    assert (await records.users.get(guest)).name is None

    # All: the question can be left, and the safe answer is the first.
    await page.focus("#delete-all")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.value") == "keep"
    await page.keyboard.press("Escape")
    assert await focused(page) == "delete-all"
    assert await records.memories.count(guest) == 3
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await becomes(page, "document.getElementById('lines').childElementCount === 0")
    assert "Nothing is remembered." in await page.inner_text("#memory-status")
    assert await records.memories.count(guest) == 0
    await page.keyboard.press("Shift+Tab")
    await page.focus("#hide-memory")
    await page.keyboard.press("Enter")
    assert await focused(page) == "show-memory"
    assert await page.get_attribute("#show-memory", "aria-expanded") == "false"


async def test_a_browser_that_is_to_be_forgotten_is(visit, server, records):
    page = await visit(server)
    guest = await furnish(page, records)
    await page.click("#show-memory")
    await page.click("#tab-data")
    await page.click("#leave")
    await shows(page, "memory-status", "not known any more")
    assert await page.inner_text("#lines") == ""
    assert told(await ask(page)).scope != guest
    assert await records.memories.count(guest) == 3, "what is remembered of them was not deleted by that"


async def test_the_content_network_s_client_runs_only_as_it_was_published(launch, records):
    async def loaded(body: bytes) -> bool:
        context = await (await launch()).new_context()

        async def answer(route):
            headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
            await route.fulfill(body=body, headers=headers)

        await context.route(CLIENT_URL, answer)
        page = await context.new_page()
        await page.goto(server.url)
        there = await page.evaluate("typeof LivekitClient === 'object'")
        if not there:
            await page.click("#start")
            assert "could not be loaded" in await page.inner_text("#alert")
        await context.close()
        return there

    published = CLIENT_FILE.read_bytes()
    async with web_server(records, client=Client()) as server:
        assert await loaded(published)
        assert not await loaded(published + b" ")
        assert not await loaded(b"")


async def test_a_server_that_cannot_be_reached_is_told_and_start_comes_back(visit, records, client):
    async with web_server(records, client=client, url="ws://127.0.0.1:1") as server:
        page = await visit(server, script=AGAIN_AT_ONCE)
        await page.click("#start")
        await shows(page, "alert", "could not begin")
        assert await page.is_visible("#start")
        assert await focused(page) == "start"
    await page.click("#start-typing")
    await shows(page, "alert", "Check your connection")
    await page.click("#show-memory")
    await shows(page, "memory-status", "Check your conn")


async def test_one_who_asks_too_often_is_told_when_to_try_again(visit, server):
    page = await visit(server)
    for _ in range(21):
        await page.evaluate("fetch('/api/token', {method: 'POST'}).then(answer => answer.status)")
    await page.click("#start")
    await becomes(page, "/Try again in \\d+ seconds/.test(document.getElementById('alert').textContent)")


async def test_a_line_is_edited_explained_and_put_back_by_keyboard(visit, server, records):
    page = await visit(server)
    guest = await furnish(page, records)
    await page.click("#show-memory")
    await page.wait_for_selector("#lines li:nth-child(5)")
    await page.focus("[aria-label='Edit Favorite color']")
    await page.keyboard.press("Enter")
    assert await focused(page) == "Favorite color"
    await page.keyboard.type("red")
    await page.keyboard.press("Enter")
    await shows(page, "memory-status", "Favorite color is changed.")
    assert (await records.memories.recall(guest, "favorite color")).content == "red"
    await page.focus("[aria-label='Why do you know this: Favorite color']")
    await page.keyboard.press("Enter")
    await becomes(page, "document.querySelector('.why')?.textContent.includes('You wrote it on this page')")
    assert await violations(page) == []
    await page.focus("#undo")
    await page.keyboard.press("Enter")
    await shows(page, "lines", "teal")
    await page.focus("#tab-lines")
    await page.keyboard.press("ArrowRight")
    assert await focused(page) == "tab-calls"
    await shows(page, "memory-status", "no past calls")
    assert await violations(page) == []
    await page.keyboard.press("Escape")
    assert await focused(page) == "show-memory"


async def test_it_speaks_the_language_of_the_browser(visit, server):
    page = await visit(server, locale="de-AT")
    words = load_words()["de"]
    assert await page.get_attribute("html", "lang") == "de"
    assert await page.title() == words["name"]
    shown = await page.inner_text("body")
    for key in (
        "name",
        "greeting",
        "start",
        "start_typing",
        "memory_title",
        "example_1",
        "example_2",
        "example_3",
        "fine",
    ):
        assert words[key] in shown
    assert [text for text in load_words()["en"].values() if len(text) > 12 and text in shown] == []
    await page.click("#show-memory")
    await shows(page, "memory-status", words["nothing"])
    assert await violations(page) == []


@pytest.mark.parametrize("color", ["#7a1fa2", "#ffe600", "#101010", "#f5f5f5"])
async def test_name_color_logo_greeting_and_examples_are_one_s_own(visit, records, client, color):
    logo = Logo(
        b'<svg xmlns="http://www.w3.org/2000/svg" width="80" height="24"><circle r="9"/></svg>', "image/svg+xml"
    )
    brand = Brand("The house of lamps", color, logo, "What may we light?", ("Where is my lamp?",))
    async with web_server(records, client=client, brand=brand) as server:
        page = await visit(server)
        assert await page.title() == await page.inner_text("h1") == "The house of lamps"
        assert await page.inner_text("#greeting") == "What may we light?"
        assert await page.eval_on_selector_all("#examples li", "all => all.map(e => e.textContent)") == [
            "Where is my lamp?"
        ]
        assert await page.evaluate("document.getElementById('logo').naturalWidth") == 80
        shown = await page.evaluate("getComputedStyle(document.getElementById('start')).backgroundColor")
        assert shown == f"rgb({', '.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))})"
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme=theme)
            assert await violations(page) == []


async def test_who_wants_less_motion_gets_none(visit, server):
    page = await visit(server)
    frame = "document.getElementById('visual').toDataURL()"
    still = await page.evaluate(frame)
    await becomes(page, f"{frame} !== {json.dumps(still)}")
    await page.emulate_media(reduced_motion="reduce")
    await page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    still = await page.evaluate(frame)
    for _ in range(10):
        await page.evaluate("new Promise(done => requestAnimationFrame(done))")
        assert await page.evaluate(frame) == still
    await page.click("#show-memory")
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_the_first_paint_needs_less_than_a_hundred_kilobytes_of_ours(launch, server):
    context = await (await launch()).new_context()
    page = await context.new_page()
    await page.goto(server.url, wait_until="load")
    sizes = await page.evaluate(SIZES)
    ours = {name: size for name, size in sizes.items() if name != CLIENT_FILE.name}
    assert {"", "talk.css", "talk.js", "call.js"} <= ours.keys()
    assert sum(ours.values()) < 100_000, ours
    await context.close()
