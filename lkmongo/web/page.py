"""The talk page: its files, and LiveKit's browser client, from a folder or from a content network by its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from lkmongo.errors import UsageError

CLIENT_VERSION = "2.23.0"
CLIENT_FILE = "livekit-client.umd.js"
CLIENT_URL = f"https://cdn.jsdelivr.net/npm/livekit-client@{CLIENT_VERSION}/dist/{CLIENT_FILE}"
CLIENT_INTEGRITY = "sha384-HkA7rQNo8H04l1p4zoXX1Cy+h9YoYp8LvKt4vfMFhv4KFk07UkrNwIUnyBum8Pw6"
"""Of the file as it was published: a browser runs no other."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PLACE = "<!-- livekit-client -->"


@dataclass(frozen=True, slots=True)
class Client:
    """LiveKit's browser client: its bytes, or None where the browser fetches it from the content network."""

    content: bytes | None = None

    @property
    def tag(self) -> str:
        """The element that loads it."""
        if self.content is not None:
            return f'<script src="{CLIENT_FILE}" defer></script>'
        return f'<script src="{CLIENT_URL}" integrity="{CLIENT_INTEGRITY}" crossorigin="anonymous" defer></script>'

    @property
    def source(self) -> str:
        """Where scripts come from beside this server, for the content security policy."""
        return CLIENT_URL if self.content is None else ""

    @property
    def is_pinned(self) -> bool:
        """Whether it is the version that the page was written for."""
        if self.content is None:
            return True
        found = base64.b64encode(hashlib.sha384(self.content).digest()).decode()
        return f"sha384-{found}" == CLIENT_INTEGRITY


def load_client(folder: Path | None) -> Client:
    """The client of a folder, or that of the content network.

    Raises:
        UsageError: it is not there.
    """
    if folder is None:
        return Client()
    try:
        return Client((folder.expanduser() / CLIENT_FILE).read_bytes())
    except OSError as error:
        raise UsageError(
            f"{folder / CLIENT_FILE} cannot be read",
            why=error.strerror,
            hint=f"npm pack livekit-client@{CLIENT_VERSION}, unpack it, and give its folder package/dist",
        ) from error


def routes(client: Client) -> Iterable[web.RouteDef]:
    """The paths of the page; its files are read once."""
    folder = files("lkmongo.web") / "static"
    for path, name in {"/": "talk.html", "/talk.css": "talk.css", "/talk.js": "talk.js"}.items():
        text = (folder / name).read_text(encoding="utf-8")
        if name == "talk.html":
            text = text.replace(_PLACE, client.tag)
        yield web.get(path, _file(text.encode(), _TYPES[Path(name).suffix]))
    if client.content is not None:
        yield web.get(f"/{CLIENT_FILE}", _file(client.content, _TYPES[".js"]))


def _file(content: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that answers with `content`, unless the browser has it."""
    tag = hashlib.sha256(content).hexdigest()[:32]

    async def answer(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache", "ETag": f'"{tag}"'}
        if any(each.value == tag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        response = web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)
        response.enable_compression()
        return response

    return answer
