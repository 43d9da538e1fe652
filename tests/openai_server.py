"""A local server with OpenAI's API, as servers for language models, recognition and voices have it, for tests.

Run it as a process: `python -m tests.openai_server` prints its port. It greets, calls `recall_detail` when it hears
"recall", answers with the tool's output, and otherwise repeats what it heard. It hears the next of `HEARD` in
whatever it is sent, and speaks a tone for each word.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import sys
import wave
from collections.abc import Callable
from typing import Any

from aiohttp import web

from lkmongo.agent.fence import opened_output
from tests.speech_gateway import tone

Answer = Callable[[list[dict[str, Any]], list[dict[str, Any]]], dict[str, Any]]
"""Takes the messages and tools of a request; gives the message of the answer."""

REQUESTS = web.AppKey("requests", list)
ANSWER: web.AppKey[Answer] = web.AppKey("answer")
STATUS = web.AppKey("status", list)
"""The status of every answer, in a list, so that a test can change it."""
HEARD = web.AppKey("heard", list)
"""What is recognised, an utterance each; nothing once it is empty."""
RATE = 22_050
"""Of the voice, which is not that of OpenAI's."""


def _answer(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    last = next((m for m in reversed(messages) if m["role"] in {"user", "tool"}), None)
    if last is None:
        briefing = " ".join(str(m["content"]) for m in messages if "<caller_data>" in str(m["content"]))
        return {"content": f"Welcome back, Robin, says {len(tools)} tools." if "Robin" in briefing else "Welcome."}
    if last["role"] == "tool":
        return {"content": f"The tool said: {opened_output(last['content'])}"}
    if "recall" in str(last["content"]):
        function = {"name": "recall_detail", "arguments": json.dumps({"memory_type": "favorite_color"})}
        return {"tool_calls": [{"index": 0, "id": f"call_{len(messages)}", "type": "function", "function": function}]}
    return {"content": f"You said: {last['content']}"}


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    request.app[REQUESTS].append((dict(request.headers), body))
    if request.app[STATUS] != [200]:
        return web.json_response({"error": {"message": "no"}}, status=request.app[STATUS][0])
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    delta = {"role": "assistant", **request.app[ANSWER](body["messages"], body.get("tools") or [])}
    finish = "tool_calls" if "tool_calls" in delta else "stop"
    for part, reason in ((delta, None), ({}, finish)):
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "delta": part, "finish_reason": reason}],
        }
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _transcribe(request: web.Request) -> web.Response:
    form = dict((await request.post()).items())
    with wave.open(io.BytesIO(form.pop("file").file.read())) as sound:
        seconds = sound.getnframes() / sound.getframerate()
    request.app[REQUESTS].append((dict(request.headers), form | {"seconds": seconds}))
    if request.app[STATUS] != [200]:
        return web.json_response({"error": {"message": "no"}}, status=request.app[STATUS][0])
    return web.json_response({"text": request.app[HEARD].pop(0) if request.app[HEARD] else ""})


async def _speak(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    request.app[REQUESTS].append((dict(request.headers), body))
    if request.app[STATUS] != [200]:
        return web.json_response({"error": {"message": f"no: {body['input']}"}}, status=request.app[STATUS][0])
    response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
    await response.prepare(request)
    # Who does not know yet how long it will be, writes the greatest number into the header.
    form = (b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 0xFFFFFFFF)
    await response.write(b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + struct.pack("<4sIHHIIHH4sI", *form))
    for chunk in tone(0.1 * len(body["input"].split()), RATE):
        await response.write(chunk)
    return response


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": []})


def create_app(status: int = 200, answer: Answer = _answer) -> web.Application:
    """The server; `REQUESTS` of the application holds (headers, body) of each request."""
    app = web.Application()
    app[ANSWER] = answer
    app[REQUESTS] = []
    app[STATUS] = [status]
    app[HEARD] = []
    app.router.add_post("/v1/audio/transcriptions", _transcribe)
    app.router.add_post("/v1/audio/speech", _speak)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/v1/models", _models)
    return app


async def _serve(status: int) -> None:
    runner = web.AppRunner(create_app(status))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
