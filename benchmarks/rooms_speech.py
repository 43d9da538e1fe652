"""What stands in for LiveKit Inference in `benchmarks.rooms`, in a process of its own: its time counts apart.

    python -m benchmarks.rooms_speech

It prints the variables that lead to it, as JSON, and serves until standard input ends. It does not understand speech:
each utterance is the next wish, and its voice is a tone. The language model has each wish remembered, and says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.rooms_bare import GREETING
from benchmarks.rooms_callers import WISH
from tests.speech_gateway import Part, calls, inference_gateway

_UTTERANCES = 5_000


def script(messages: list[dict[str, Any]]) -> Sequence[Part]:
    """Greet, remember what the last wish says, and read out that it is done."""
    wish = next((str(each["content"]) for each in reversed(messages) if each["role"] == "user"), "")
    detail = {"memory_type": "favorite_color", "content": wish.partition(" is ")[2]}
    return calls(("remember_detail", detail), greeting=GREETING)(messages)


async def serve() -> None:
    """Serve until nobody needs it any more."""
    async with inference_gateway(script, [WISH.format(number) for number in range(_UTTERANCES)]) as gateway:
        print(json.dumps(gateway.environment), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
