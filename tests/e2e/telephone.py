"""Calls by telephone: a model that tells all it is told and calls whatever it is asked to, and the tenants called.

Only livekit-sip and a telephone network are missing: what it would let into the room is let in with a token.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from lkmongo.agent.fence import opened_output
from tests.e2e.caller import Caller
from tests.openai_server import REQUESTS, create_app

SHOP, HOTEL = "+4930900100", "+4930900200"
"""The numbers dialled: the shop has the default tenant's, and the hotel one of its own."""
TENANTS = f"""\
tenants:
  shop:
    phone: {{numbers: ["{SHOP}"]}}
  hotel:
    phone: {{numbers: ["{HOTEL}"]}}
"""
ERASURE_KEY = "the-key-of-the-tests-that-is-long-enough"
_DATA = re.compile(r"<caller_data>\n(\{.*\})\n</caller_data>")


def new_number() -> str:
    """A number that nobody has called from."""
    return f"+4930{secrets.randbelow(10**8):08}"


@dataclass(frozen=True)
class Model:
    """A language model's server, and what it was asked."""

    url: str
    app: web.Application

    @property
    def asked(self) -> str:
        """All that it was told in calls so far, as text."""
        return json.dumps([body for _, body in self.app[REQUESTS] if body.get("tools")], ensure_ascii=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead lkmongo here."""
        return {"LKMONGO_LLM_BASE_URL": self.url, "LKMONGO_LLM": "tells-all", "LKMONGO_LEARN": "off"}

    def forget(self) -> None:
        """Let `asked` begin anew."""
        self.app[REQUESTS].clear()


@asynccontextmanager
async def model() -> AsyncIterator[Model]:
    """Run one on this machine."""
    app = create_app(answer=tells_all)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Model(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", app)
    finally:
        await runner.cleanup()


def tells_all(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst a model can do: it says everything of its briefing whenever it says something, and obeys the caller."""
    if not tools:  # it sums a call up
        return {"content": json.dumps({"summary": "A call."})}
    last = next((each for each in reversed(messages) if each["role"] in {"user", "tool"}), None)
    if last and last["role"] == "tool":
        return {"content": f"The tool said: {opened_output(str(last['content']))}"}
    if last and (wanted := _wanted(str(last["content"]))):
        function = {"name": wanted[0], "arguments": json.dumps(wanted[1])}
        return {"tool_calls": [{"index": 0, "id": f"call_{len(messages)}", "type": "function", "function": function}]}
    found = [data[1] for each in messages for data in _DATA.finditer(str(each.get("content")))]
    known = ", ".join(_leaves(json.loads(found[-1]))) if found else "nothing"
    return {"content": f"{'You are back' if last else 'Welcome'}. I know {known}."}


def _wanted(said: str) -> tuple[str, dict[str, str]] | None:
    """The tool that a caller wants used: by what they tell, or "use TOOL" and its arguments, `key=value; key=value`."""
    if name := re.fullmatch(r"My name is (.+)\.", said):
        return "update_profile", {"field": "name", "value": name[1]}
    if told := re.fullmatch(r"My (favorite \w+) is (.+)\.", said):
        return "remember_detail", {"memory_type": told[1], "content": told[2]}
    if not (use := re.fullmatch(r"use (\w+) ?(.*)", said)):
        return None
    pairs = (pair.split("=", 1) for pair in use[2].split("; ") if pair)
    return use[1], dict(pairs)


def _leaves(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield f"{key}: {', '.join(_leaves(value))}"
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)
    else:
        yield str(data)


async def answer(caller: Caller, text: str) -> str:
    """Type something, and return what is said until the agent listens again."""
    before = len(caller.said())
    await caller.type(text)
    await caller.until(lambda: len(caller.said()) > before and caller.agent_state == "listening")
    return " ".join(caller.said()[before:])
