"""A stand-in for LiveKit Inference: LLM, STT and TTS in the wire forms of the SDK, for tests without a network.

The ears do not understand speech. They notice when somebody speaks and when not any more, by loudness, and recognise
the next text of a list. The voice is a tone as long as the text would take.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import jwt
import numpy as np
from aiohttp import WSMsgType, web

from lkmongo.agent.fence import opened_output

KEY = "inference-key"
SECRET = "inference-secret-0123456789-0123456789"

Part = str | tuple[str, dict[str, Any]]
Script = Callable[[list[dict[str, Any]]], Sequence[Part]]
"""Takes the messages of a request; gives text, word by word as it is split, and tool calls."""

LOUD = 500
"""The mean level, of 32,767, from which on it is speech."""
PAUSE = 0.4
"""Seconds of silence that end an utterance, unless a gateway waits longer."""
WORD = 0.12
"""Seconds of speech in which a word is recognised."""
SPOKEN_WORD = 0.3
"""Seconds that the voice takes for a word."""


@dataclass
class Gateway:
    """What the gateway does and has done."""

    script: Script
    texts: list[str] = field(default_factory=list)
    """What is recognised, an utterance each."""
    heard: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the language model's requests, and what each stream of speech was created with."""
    refused: set[str] = field(default_factory=set)
    """Which of "llm", "stt" and "tts" refuse everybody."""
    port: int = 0
    pause: float = PAUSE
    """Seconds of silence that end an utterance."""

    @property
    def url(self) -> str:
        """What LIVEKIT_INFERENCE_URL is to be."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead to this gateway."""
        return {
            "LIVEKIT_INFERENCE_URL": self.url,
            "LIVEKIT_INFERENCE_API_KEY": KEY,
            "LIVEKIT_INFERENCE_API_SECRET": SECRET,
        }

    def check(self, request: web.Request, part: str) -> None:
        """Refuse who is not let in."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY)
        except jwt.InvalidTokenError as error:
            raise web.HTTPUnauthorized(text="invalid token") from error
        if part in self.refused or not claims.get("inference", {}).get("perform"):
            raise web.HTTPUnauthorized(text="not allowed")

    # ------------------------------------------------------------------ the language model

    async def models(self, request: web.Request) -> web.Response:
        """Answer the warm-up."""
        return web.json_response({"object": "list", "data": []})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer as the script says, in server-sent events."""
        self.check(request, "llm")
        body = await request.json()
        self.requests.append(body)
        number = len(self.requests)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(choices: list[dict[str, Any]], **more: Any) -> None:
            chunk = {"id": f"c{number}", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
            await response.write(f"data: {json.dumps(chunk | {'choices': choices} | more)}\n\n".encode())

        def delta(**content: Any) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": {"role": "assistant"} | content, "finish_reason": None}]

        finish = "stop"
        for index, part in enumerate(self.script(body["messages"])):
            if isinstance(part, str):
                for number_of_word, word in enumerate(part.split(" ")):
                    await send(delta(content=f" {word}" if number_of_word else word))
                continue
            finish = "tool_calls"
            function = {"name": part[0], "arguments": json.dumps(part[1])}
            call = {"index": index, "id": f"call-{number}-{index}", "type": "function", "function": function}
            await send(delta(tool_calls=[call]))
        await send([{"index": 0, "delta": {}, "finish_reason": finish}])
        await send([], usage={"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8})
        await response.write(b"data: [DONE]\n\n")
        return response

    # ------------------------------------------------------------------ the ears

    async def stt(self, request: web.Request) -> web.WebSocketResponse:
        """Recognise the next text whenever somebody speaks."""
        self.check(request, "stt")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        utterance: _Utterance | None = None
        rate = 16_000
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            data = json.loads(message.data)
            if data["type"] == "session.create":
                self.requests.append(data)
                rate = int(data["settings"]["sample_rate"])
                await socket.send_json({"type": "session.created"})
            elif data["type"] == "input_audio":
                samples = np.frombuffer(base64.b64decode(data["audio"]), "<i2")
                seconds = len(samples) / rate
                if len(samples) and np.abs(samples.astype(float)).mean() > LOUD:
                    utterance = utterance or _Utterance(self.texts.pop(0) if self.texts else "What was that?")
                    if interim := utterance.speak(seconds):
                        await socket.send_json({"type": "interim_transcript", "transcript": interim, "language": "en"})
                elif utterance and utterance.pause(seconds) >= self.pause:
                    await self._final(socket, utterance)
                    utterance = None
            elif data["type"] == "session.finalize":
                if utterance:
                    await self._final(socket, utterance)
                    utterance = None
                await socket.send_json({"type": "session.finalized"})
            elif data["type"] == "session.close":
                await socket.send_json({"type": "session.closed"})
                break
        return socket

    async def _final(self, socket: web.WebSocketResponse, utterance: _Utterance) -> None:
        self.heard.append(utterance.text)
        await socket.send_json({"type": "final_transcript", "transcript": utterance.text, "language": "en"})

    # ------------------------------------------------------------------ the voice

    async def tts(self, request: web.Request) -> web.WebSocketResponse:
        """Speak in a tone, faster than it is heard."""
        self.check(request, "tts")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        rate = 24_000
        session = f"tts-{next(_numbers)}"
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            data = json.loads(message.data)
            if data["type"] == "session.create":
                self.requests.append(data)
                rate = int(data["sample_rate"])
                await socket.send_json({"type": "session.created", "session_id": session})
            elif data["type"] == "input_transcript":
                self.spoken.append(data["transcript"].strip())
                for chunk in tone(len(data["transcript"].split()) * SPOKEN_WORD, rate):
                    audio = base64.b64encode(chunk).decode()
                    await socket.send_json({"type": "output_audio", "audio": audio, "session_id": session})
            elif data["type"] == "session.flush":
                await socket.send_json({"type": "done", "session_id": session})
        return socket


class _Utterance:
    """What is being said, as far as it is recognised."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._spoken = 0.0
        self._quiet = 0.0
        self._told = 0

    def speak(self, seconds: float) -> str | None:
        """More of it; returns the interim transcript when it has grown."""
        self._spoken += seconds
        self._quiet = 0.0
        words = self.text.split()
        known = min(int(self._spoken / WORD), len(words))
        if known == self._told:
            return None
        self._told = known
        return " ".join(words[:known])

    def pause(self, seconds: float) -> float:
        """Nothing is said; returns for how long."""
        self._quiet += seconds
        return self._quiet


_numbers = count(1)


def tone(seconds: float, rate: int, pitch: float = 330.0, level: int = 6_000) -> list[bytes]:
    """A tone as 16-bit samples, in pieces of a tenth of a second."""
    samples = (level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype("<i2")
    step = rate // 10
    return [samples[start : start + step].tobytes() for start in range(0, len(samples), step)]


@asynccontextmanager
async def inference_gateway(
    script: Script, texts: Sequence[str] = (), port: int = 0, pause: float = PAUSE
) -> AsyncIterator[Gateway]:
    """Run a gateway on this machine.

    Args:
        script: what the language model answers.
        texts: what is recognised, an utterance each.
        port: where; by default a free one.
        pause: seconds of silence that end an utterance.
    """
    gateway = Gateway(script, list(texts), pause=pause)
    app = web.Application()
    app.router.add_get("/v1/models", gateway.models)
    app.router.add_post("/v1/chat/completions", gateway.chat)
    app.router.add_get("/v1/stt", gateway.stt)
    app.router.add_get("/v1/tts", gateway.tts)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    gateway.port = runner.addresses[0][1]
    try:
        yield gateway
    finally:
        await runner.cleanup()


def calls(*tools: tuple[str, dict[str, Any]], greeting: str = "Hello.") -> Script:
    """A script that greets, calls the tools in answer to whatever is said, and reads out what they return."""

    def script(messages: list[dict[str, Any]]) -> Sequence[Part]:
        since_user = []
        for message in reversed(messages):
            if message["role"] == "user":
                break
            since_user.append(message)
        else:
            return [greeting]
        outputs = [
            opened_output(str(message["content"])) for message in reversed(since_user) if message["role"] == "tool"
        ]
        return [" ".join(outputs)] if outputs else list(tools) or ["Nothing to do."]

    return script


async def _serve() -> None:
    """Run one for trying things out by hand, until it is ended; tells its address, and what it has heard and said."""
    import sys

    script = calls(
        ("search_knowledge", {"query": "how long is the guarantee"}),
        greeting=" ".join(["Hello, this is a greeting."] * 3),
    )
    async with inference_gateway(script, ["How long is the guarantee?"] * 50, int(sys.argv[1])) as gateway:
        print(*(f"{name}={value}" for name, value in gateway.environment.items()), sep="\n", flush=True)
        told = 0
        while True:
            await asyncio.sleep(0.5)
            said = [*gateway.heard, *gateway.spoken]
            if len(said) > told:
                told = len(said)
                print(f"heard {gateway.heard}\nspoken {gateway.spoken}", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
