"""A local stand-in for LiveKit Inference, for tests: language model, speech recognition and voice, in its wire forms.

The language model is that of `tests.openai_server`. Recognition understands nothing: it takes a stretch of sound that
is followed by silence for the next line of a script. The voice is a tone, as long as the text has words.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from livekit import api

from tests import openai_server
from tests.livekit_api import KEY, SECRET

_LOUD = 500
_PAUSE = 0.3
_WORD = 0.06


@dataclass
class Gateway:
    """What the gateway will hear, and what was asked of it."""

    script: list[str] = field(default_factory=list)
    sessions: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    def create_app(self) -> web.Application:
        """The server: base address is its own with /v1."""
        app = openai_server.create_app()
        self.requests = app[openai_server.REQUESTS]
        app.router.add_get("/v1/stt", self._stt)
        app.router.add_get("/v1/tts", self._tts)
        return app

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        claims = api.TokenVerifier(KEY, SECRET).verify(request.headers["Authorization"].removeprefix("Bearer "))
        assert claims.inference
        assert claims.inference.perform
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket

    async def _stt(self, request: web.Request) -> web.WebSocketResponse:
        socket = await self._accept(request)
        rate, silence, heard = 16_000, 0.0, False
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            data = json.loads(message.data)
            if data["type"] == "session.create":
                self.sessions.append(("stt", data))
                rate = int(data["settings"]["sample_rate"])
                await socket.send_json({"type": "session.created"})
            elif data["type"] == "input_audio":
                sound = np.frombuffer(base64.b64decode(data["audio"]), np.int16)
                loud = bool(len(sound)) and np.abs(sound.astype(np.int32)).max() > _LOUD
                if loud and not heard:
                    await socket.send_json({"type": "start_of_speech"})
                    await socket.send_json(_transcript("interim", self.script[0].split()[0]))
                heard, silence = heard or loud, 0.0 if loud else silence + len(sound) / rate
                if heard and silence >= _PAUSE:
                    heard = False
                    await socket.send_json(_transcript("final", self.script.pop(0)))
            elif data["type"] == "session.finalize":
                await socket.send_json({"type": "session.finalized"})
            elif data["type"] == "session.close":
                await socket.send_json({"type": "session.closed"})
        return socket

    async def _tts(self, request: web.Request) -> web.WebSocketResponse:
        socket = await self._accept(request)
        rate, text = 24_000, ""
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            data = json.loads(message.data)
            if data["type"] == "session.create":
                self.sessions.append(("tts", data))
                rate = int(data["sample_rate"])
                await socket.send_json({"type": "session.created", "session_id": "s-1"})
            elif data["type"] == "input_transcript":
                text += data["transcript"]
            elif data["type"] == "session.flush":
                self.spoken.append(text.strip())
                times = np.arange(int(max(1, len(text.split())) * _WORD * rate)) / rate
                sound = (8_000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16).tobytes()
                await socket.send_json(
                    {"type": "output_audio", "session_id": "s-1", "audio": base64.b64encode(sound).decode()}
                )
                await socket.send_json({"type": "done", "session_id": "s-1"})
                text = ""
        return socket


def _transcript(kind: str, text: str) -> dict[str, Any]:
    return {"type": f"{kind}_transcript", "transcript": text, "language": "en", "confidence": 0.98, "words": []}
