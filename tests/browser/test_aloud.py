"""A whole call aloud with nothing: Chromium has a WAV for a microphone, the engines on this machine hear and speak.

Nothing but this machine is asked for anything: the page's requests, what its media connection is told, and the
connections of every process that takes part are looked at all the while.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import wave
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import pytest_asyncio

from lkmongo.setting_checks import is_loopback
from tests.browser.conftest import MICROPHONE, becomes
from tests.web_server import web_server

pytest.importorskip("hibari", reason="the extra voice is not installed")
pytest.importorskip("moonshine_voice", reason="the extra voice is not installed")

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALOUD = "aloud-agent"
SAID = "My name is Robin."
BEFORE, AFTER = 4.0, 25.0
"""Seconds of silence around what is said, again and again: a caller who is not understood says it once more."""
RATE = 16_000

WATCHED = """(() => {
  const made = window.connections = [];
  const Connection = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Connection {
    constructor(options) { super(options); made.push(this); }
  };
})();"""
"""Keeps the page's media connections, to look at."""

ASKED = "connections.flatMap(each => each.getConfiguration().iceServers.flatMap(({urls}) => urls))"
REACHED = """Promise.all(connections.map(each => each.getStats())).then(all => all.flatMap(stats =>
  [...stats.values()].filter(({type}) => type === "remote-candidate").map(({address}) => address)))"""

RECORDS = """(rate) => {
  const audio = document.querySelector("#sound audio");
  const context = new AudioContext({sampleRate: rate});
  const tap = context.createScriptProcessor(4096, 1, 1);
  window.heard = [];
  tap.onaudioprocess = ({inputBuffer}) => heard.push(...inputBuffer.getChannelData(0));
  context.createMediaStreamSource(audio.srcObject).connect(tap);
  tap.connect(context.destination);
  return context.resume();
}"""
"""Takes down what the page hears of the assistant."""

LAST = "[...document.querySelectorAll('#transcript .said:not(.mine)')].at(-1)?.textContent"


@pytest.fixture(scope="session")
def microphone(tmp_path_factory) -> str:
    """A WAV in which the voice of this machine says its name."""
    from hibari import SAMPLE_RATE, Hibari

    spoken = np.asarray(Hibari()(SAID))
    samples = np.concatenate([np.zeros(int(BEFORE * SAMPLE_RATE)), spoken, np.zeros(int(AFTER * SAMPLE_RATE))])
    path = tmp_path_factory.mktemp("microphone") / "robin.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())
    return str(path)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def aloud_worker(start_worker, records):
    """A worker that has neither a language model nor a cloud."""
    async with start_worker(ALOUD, {"LKMONGO_SPEECH": "local"}, "--dev", "--demo") as running:
        yield running


class Watch:
    """The addresses outside of this machine to which the processes of a call are connected."""

    def __init__(self) -> None:
        self._own = {each.address.partition("%")[0] for card in psutil.net_if_addrs().values() for each in card}
        self.strangers: set[tuple[str, str]] = set()
        self.looked_at: set[str] = set()

    @contextlib.asynccontextmanager
    async def over(self) -> AsyncIterator[None]:
        """Look at this process and all that it has started: worker, jobs, LiveKit, MongoDB, Chromium."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(0.1)

    def _look(self) -> None:
        me = psutil.Process(os.getpid())
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                name = process.name()
                for connection in process.net_connections("inet"):
                    self.looked_at.add(name)
                    if connection.raddr and not self._is_here(connection.raddr.ip):
                        self.strangers.add((name, f"{connection.raddr.ip}:{connection.raddr.port}"))

    def _is_here(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return parsed.is_loopback or str(parsed) in self._own


def understood(samples: list[float]) -> str:
    """What the recogniser of this machine hears in a recording."""
    from moonshine_voice import ModelArch, get_model_path
    from moonshine_voice.transcriber import Transcriber

    ears = Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options={"identify_speakers": "false"})
    try:
        lines = ears.transcribe_without_streaming(samples, RATE).lines
        return " ".join(line.text.strip() for line in lines)
    finally:
        ears.close()


async def begin(visit, server, microphone, button, context=None):
    """Open the page, and begin; from the first sound on, what is heard is taken down."""
    arguments = (*MICROPHONE, f"--use-file-for-fake-audio-capture={microphone}")
    page = await visit(server, *arguments, context=context, script=WATCHED)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    await page.click(button)
    await becomes(page, "Boolean(document.querySelector('#sound audio')?.srcObject)")
    await page.evaluate(RECORDS, RATE)
    return page, asked


@pytest.mark.timeout(900)
async def test_a_call_without_any_service_is_held_aloud_and_the_next_one_greets_by_name(
    visit, records, client, livekit_server, aloud_worker, microphone
):
    watch = Watch()
    serving = web_server(records, client=client, url=livekit_server.url, key=livekit_server.key, agent_name=ALOUD)
    async with watch.over(), serving as server:
        page, asked = await begin(visit, server, microphone, "#start")
        await becomes(page, f"{LAST}.includes('Robin')")
        await becomes(
            page, "[...document.querySelectorAll('#transcript .mine')].some(e => e.textContent.includes('Robin'))"
        )
        assert await page.evaluate(ASKED) == [], "a stranger is asked for the address"
        assert all(map(is_loopback, await page.evaluate(REACHED)))
        # The answer is sound as well, and says what is written.
        await becomes(page, "document.body.dataset.agent === 'listening'")
        assert "robin" in understood(await page.evaluate("heard")).lower()
        await page.click("#end")
        await page.close()

        # Nobody speaks this time: the greeting is heard whole, however long the agent takes to come.
        again, asked_again = await begin(visit, server, microphone, "#start-typing", page.context)
        await becomes(again, "document.querySelector('#transcript .said')?.textContent.includes('Robin')")
        await becomes(again, "document.body.dataset.agent === 'listening'")
        assert "robin" in understood(await again.evaluate("heard")).lower()
        await again.click("#end")
    hosts = {urlsplit(url).hostname for url in [*asked, *asked_again]}
    assert hosts == {"127.0.0.1"}
    assert watch.strangers == set()
    for program in ("livekit", "chrom", "python"):
        assert any(program in name for name in watch.looked_at), program
