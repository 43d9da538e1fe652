"""A page of somebody else's, with LiveKit's client: of another site at localhost, of the same one at 127.0.0.1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

PAGE = """<!doctype html><meta charset="utf-8"><title>A shop</title><script src="client.js"></script><script>
const { Room, RoomEvent, TokenSource } = LivekitClient;
const ways = {
  "the URL alone": (server) => TokenSource.endpoint(`${server}api/token`),
  "with credentials": (server) => TokenSource.endpoint(`${server}api/token`, { credentials: "include" }),
  "with visitor.js": (server) => TokenSource.custom((options) =>
    import(`${server}visitor.js`).then(({ token }) => token(options))),
};
const heard = [];
let room;

async function talk(way, server) {
  const { serverUrl, participantToken } = await ways[way](server).fetch({});
  room = new Room();
  room.registerTextStreamHandler("lk.transcription", async (reader) => heard.push(await reader.readAll()));
  await room.connect(serverUrl, participantToken);
}
</script>"""


@dataclass(frozen=True)
class Elsewhere:
    """Where the page is."""

    port: int

    @property
    def other_site(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def same_site(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def both(self) -> str:
        """As LKMONGO_WEB_ORIGINS."""
        return f"{self.other_site},{self.same_site}"


@asynccontextmanager
async def page_elsewhere(client: Path) -> AsyncIterator[Elsewhere]:
    """Serve the page, with LiveKit's client from this file."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def script(_: web.Request) -> web.FileResponse:
        return web.FileResponse(client)

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/client.js", script)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Elsewhere(runner.addresses[0][1])
    await runner.cleanup()
