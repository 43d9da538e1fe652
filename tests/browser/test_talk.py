"""Whole calls on the page, through a real LiveKit server, with the worker that answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from livekit import api

from tests.browser.conftest import MICROPHONE, becomes, shows, violations
from tests.browser.states import IMPATIENT, write
from tests.e2e.conftest import TEXT, VOICE
from tests.speech_gateway import calls
from tests.web_server import Server, web_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNTOUCHED = """addEventListener("load", () => {
  const button = document.getElementById("start-audio");
  new MutationObserver(() => button.hidden || console.log("the sound is off")).observe(button, {attributes: true});
  setTimeout(() => document.getElementById("start-typing").click(), 1000);
});"""
"""The call begins although nobody has touched the page; looking into it from outside would count as a touch."""


PLAYS = "[...document.querySelectorAll('#sound audio')].some(each => !each.paused && each.currentTime > 0)"
LAST = "[...document.querySelectorAll('#transcript .said:not(.mine)')].at(-1)?.textContent"


@pytest.fixture
def serve(records, client, livekit_server):
    """Start a web server that sends the agent of a name."""

    def serve(agent_name: str, url: str = livekit_server.url):
        return web_server(records, client=client, url=url, key=livekit_server.key, agent_name=agent_name)

    return serve


@pytest_asyncio.fixture(loop_scope="session")
async def to_text(serve, text_worker) -> AsyncIterator[Server]:
    async with serve(TEXT) as server:
        yield server


async def says(page, text: str) -> None:
    await shows(page, "transcript", text)


async def begin(page, button: str = "#start-typing") -> None:
    """Start, until the assistant greets."""
    await page.click(button)
    await says(page, "Assistant")


async def test_what_is_typed_is_answered_and_the_next_visit_greets_by_name(visit, to_text):
    page = await visit(to_text)
    await begin(page)
    await write(page, "My name is Robin.")
    await becomes(page, f"{LAST}.includes('Robin')")
    await write(page, "Please remember that my favorite color is teal.")
    await becomes(page, f"{LAST}.includes('teal')")
    assert await page.inner_text("#partial") == ""
    said = await page.eval_on_selector_all("#transcript .said b", "all => all.map(each => each.textContent)")
    assert said == ["Assistant", "You", "Assistant", "You", "Assistant"]
    assert await violations(page) == []
    await page.click("#show-memory")
    await shows(page, "lines", "teal")
    await shows(page, "lines", "Robin")
    assert await violations(page) == []
    await page.click("#end")
    assert await page.inner_text("#status") == "The conversation has ended"
    assert await page.evaluate("document.activeElement.id") == "start"
    await page.close()

    again = await visit(to_text, context=page.context)
    await begin(again)
    assert "Robin" in await again.inner_text("#transcript")
    await write(again, "What is my favorite color?")
    await becomes(again, f"{LAST}.includes('teal')")
    stranger = await visit(to_text)
    await begin(stranger)
    assert "Robin" not in await stranger.inner_text("#transcript")


async def test_an_agent_without_a_voice_is_no_alarm_and_the_microphone_goes_off(visit, to_text):
    page = await visit(to_text)
    await begin(page, "#start")
    await shows(page, "note", "answers in writing")
    assert await page.inner_text("#alert") == ""
    assert not await page.is_visible("#mute")
    assert await page.evaluate("document.activeElement.id") == "message"
    await page.click("#end")


async def test_a_call_aloud_is_heard_and_written_down_with_its_speakers(visit, serve, voice_worker, gateway):
    gateway.script = calls(greeting="Hello, what can I do for you?")
    gateway.texts[:] = ["what do you know about me"]
    async with serve(VOICE) as server:
        page = await visit(server)
        await begin(page, "#start")
        await becomes(page, "document.activeElement.id === 'mute'")
        await says(page, "Hello")  # the microphone may interrupt the rest
        await becomes(page, PLAYS)
        await says(page, "what do you know about me")
        speakers = await page.eval_on_selector_all("#transcript .said", "all => all.map(each => each.innerText)")
        assert "You\nwhat do you know about me" in speakers
        for pressed in ("true", "false"):
            await page.click("#mute")
            await becomes(page, f"document.getElementById('mute').getAttribute('aria-pressed') === '{pressed}'")
        assert await violations(page) == []
        await page.click("#end")
        await becomes(page, "document.querySelectorAll('#sound audio').length === 0")


async def test_what_one_has_chosen_is_kept_for_the_next_visit(visit, serve, voice_worker, gateway):
    gateway.script = calls(greeting="Hello, what can I do for you?")
    held = "document.getElementById('hold').dataset.on === '{}'"
    async with serve(VOICE) as server:
        page = await visit(server, color_scheme="light")
        await begin(page, "#start")
        await page.click("#sound-settings")
        await becomes(page, "document.querySelectorAll('#microphone option').length > 1")
        other = await page.evaluate("[...document.querySelectorAll('#microphone option')].at(-1).value")
        await page.select_option("#microphone", other)
        await page.check("#push-to-talk")
        await page.click("#sound-dialog button")
        await becomes(page, held.format("false"))
        await page.focus("#hold")
        await page.keyboard.down(" ")
        await becomes(page, held.format("true"))
        await shows(page, "spoken", "on")
        await page.keyboard.up(" ")
        await becomes(page, held.format("false"))
        await page.click("#show-memory")
        await page.click("#tab-data")
        await page.select_option("#theme", "dark")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 17)"
        await page.click("#end")
        async with page.expect_download() as coming:
            await page.click("#save")
        file = await (await coming.value).path()
        assert "Assistant: Hello" in file.read_text(encoding="utf-8")

        await page.reload()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        await begin(page, "#start")
        await becomes(page, held.format("false"))
        assert await page.is_visible("#hold")
        assert not await page.is_visible("#mute")
        await page.click("#sound-settings")
        await becomes(page, f"document.getElementById('microphone').value === {json.dumps(other)}")
        assert await page.is_checked("#push-to-talk")
        await page.click("#sound-dialog button")
        await page.click("#end")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["--use-fake-device-for-media-stream"], "not allowed"), ([], "no microphone")],
    ids=["refused", "missing"],
)
async def test_without_a_microphone_one_types(visit, serve, voice_worker, gateway, arguments, why):
    gateway.script = calls(greeting="Hello there.")
    options = {} if arguments else {"permissions": ["microphone"]}
    async with serve(VOICE) as server:
        page = await visit(server, *(arguments or ["--no-default-browser-check"]), **options)
        await page.click("#start")
        await shows(page, "alert", why)
        assert "You can type meanwhile." in await page.inner_text("#alert")
        await says(page, "Hello there.")
        assert await page.inner_text("#mute") == "Use microphone"
        assert await violations(page) == []
        await page.click("#end")


async def test_sound_that_the_browser_keeps_off_is_turned_on_by_a_button(visit, serve, voice_worker, gateway):
    gateway.script = calls(greeting="Hello there.")
    async with serve(VOICE) as server:
        page = await visit(server, *MICROPHONE, "--autoplay-policy=document-user-activation-required", script=UNTOUCHED)
        await page.wait_for_event("console", lambda message: message.text == "the sound is off")
        assert "keeps the sound off" in await page.inner_text("#alert")
        await page.click("#start-audio")
        await page.wait_for_selector("#start-audio", state="hidden")
        assert "sound" not in await page.inner_text("#alert")
        await becomes(page, PLAYS)
        await page.click("#end")


async def test_an_agent_that_does_not_come_is_told(visit, serve):
    async with serve("nobody") as server:
        page = await visit(server, script=IMPATIENT)
        await page.click("#start-typing")
        await shows(page, "status", "Waiting for the assistant")
        await shows(page, "alert", "This takes longer than usual")
        assert await violations(page) == []
        await page.click("#end")
        assert await page.inner_text("#alert") == ""


async def test_a_room_that_is_closed_ends_the_conversation(visit, to_text, livekit_server):
    page = await visit(to_text)
    await begin(page)
    key = livekit_server.key
    async with api.LiveKitAPI(livekit_server.url, key.api_key, key.secret) as server:
        for room in (await server.room.list_rooms(api.ListRoomsRequest())).rooms:
            await server.room.delete_room(api.DeleteRoomRequest(room=room.name))
    await shows(page, "alert", "You can start another")
    await begin(page)
    await page.click("#end")


async def test_an_interrupted_connection_is_told_and_comes_back(visit, serve, text_worker, livekit_server):
    """The page's connection goes through a passage that can be closed; the worker's does not."""
    passage = Passage(livekit_server.port)
    async with passage.open() as port, serve(TEXT, f"ws://127.0.0.1:{port}") as server:
        page = await visit(server)
        await begin(page)
        passage.close()
        await shows(page, "status", "interrupted")
        passage.closed = False
        await becomes(page, "document.body.dataset.call === 'on'")
        await write(page, "My name is Robin.")
        await becomes(page, f"{LAST}.includes('Robin')")
        await page.click("#end")


class Passage:
    """A TCP proxy to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.closed = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        self.close()

    def close(self) -> None:
        """Cut all connections, and take none until `closed` is False again."""
        self.closed = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)
        for each in (writer, back):
            self._writers.discard(each)
            each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
