"""The page in eight states, one after the other: they are checked (test_states.py) and pictured (pictures.py)."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from lkmongo.dispatch import read_dispatch
from lkmongo.model import LastSession, UserScope, now
from tests.browser.conftest import MICROPHONE, becomes, shows
from tests.e2e.conftest import VOICE
from tests.speech_gateway import Part
from tests.web_server import web_server

STATES = ("start", "connecting", "listening", "memory", "failed", "speaking", "ended", "nobody")

NAME = "Robin"
QUESTION = "Where is my order 1001?"
WISH = "Please remember that I am home after five."
LONG = "And how do you deliver?"
ANSWERS = {
    QUESTION: [("lookup_order", {"order_id": "1001"})],
    WISH: [("remember_detail", {"memory_type": "delivery_time", "content": "home after five"})],
}
AFTER_TOOL = {
    QUESTION: "Your desk lamp is on its way. It should be with you on Friday.",
    WISH: "Gladly. I will tell the driver to come after five.",
}
DELIVERY = (
    "We deliver on weekdays between eight and eight, and you can choose two hours that suit you. "
    "The driver rings a quarter of an hour before. If nobody is home, your parcel goes to the neighbour you "
    "named, or to the shop at the corner, where it stays for a week. "
)
GREETING = f"Welcome back, {NAME}. What can I do for you?"

IMPATIENT = """(() => {
  const later = window.setTimeout;
  window.setTimeout = (work, time, ...rest) => later(work, time === 6000 ? 500 : time, ...rest);
})();"""
"""The agent should be there after half a second."""

FAILS = """(() => {
  const {prototype} = LivekitClient.LocalParticipant;
  window.sends = prototype.sendText;
  prototype.sendText = () => Promise.reject(new Error("away"));
})()"""
SENDS = "void (LivekitClient.LocalParticipant.prototype.sendText = window.sends)"
LAST = "[...document.querySelectorAll('.said:not(.mine)')].at(-1)?.textContent"


class State(NamedTuple):
    """A state of the page: stays as it is while it is looked at."""

    name: str
    page: Any


def answers(messages: list[dict[str, Any]]) -> Sequence[Part]:
    """What the language model of the pictures says."""
    asked = next((str(each["content"]) for each in reversed(messages) if each["role"] == "user"), None)
    if asked is None:
        return [GREETING]
    asked = next((known for known in (*ANSWERS, LONG) if known in asked), LONG)
    if asked == LONG:
        return [DELIVERY * 12]  # it goes on for as long as one looks
    since = [each["role"] for each in messages]
    has_looked = "tool" in since[len(since) - since[::-1].index("user") :]
    return [AFTER_TOOL[asked]] if has_looked else ANSWERS[asked]


def silence(folder: Path) -> str:
    """A WAV in which nobody speaks."""
    path = folder / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(64_000))
    return str(path)


async def furnish(records: Any, guest: UserScope) -> None:
    """What is known of a visitor who has been here before."""
    await records.users.set_field(guest, "name", NAME)
    before = now() - timedelta(days=3)
    await records.users.set_last_session(guest, LastSession(before, "Ordered a desk lamp"), started_at=before)
    for label, content in {
        "favorite color": "teal",
        "address": "the yellow house at the end of Mill Lane",
        "doorbell": "rings at the neighbour's",
    }.items():
        await records.memories.remember(guest, label, content)
    await records.db.orders.insert_one(
        {
            "user_id": guest.user_id,
            "tenant_id": guest.tenant_id,
            "order_id": "1001",
            "items": [{"name": "desk lamp", "quantity": 1}],
            "total": 39.9,
            "status": "shipped",
        }
    )


class Rig(NamedTuple):
    """What the states need."""

    records: Any
    client: Any
    livekit: Any
    gateway: Any
    silence: str
    """A WAV for a microphone: whoever looks at the page does not interrupt the assistant."""

    def guest_of(self, answer: dict[str, Any]) -> UserScope:
        """Whom a token is for."""
        claims = jwt.decode(answer["participant_token"], options={"verify_signature": False})
        sealed, room = claims["roomConfig"]["agents"][0]["metadata"], claims["video"]["room"]
        return read_dispatch(sealed, room=room, secret=self.livekit.key.secret).scope


async def states(visit: Any, rig: Rig, *, wanted: Sequence[str] = STATES, **options: Any) -> AsyncIterator[State]:
    """The wanted states, in this order; the first of a call leads to the next ones of the same call."""
    async with AsyncExitStack() as stack:

        async def serve(agent: str) -> Any:
            serving = web_server(
                rig.records, client=rig.client, url=rig.livekit.url, key=rig.livekit.key, agent_name=agent
            )
            return await stack.enter_async_context(serving)

        arguments = (*MICROPHONE, f"--use-file-for-fake-audio-capture={rig.silence}")
        server = await serve(VOICE)
        page = await visit(server, *arguments, **options)
        if "start" in wanted:
            await becomes(page, "document.querySelectorAll('#examples button').length > 0")
            yield State("start", page)
        if "connecting" in wanted:
            waits = await visit(server, *arguments, **options)
            await waits.route("**/api/token", lambda route: None)
            await waits.click("#start")
            await becomes(waits, "document.body.dataset.call === 'connecting'")
            yield State("connecting", waits)
            await waits.close()
        if {"listening", "speaking", "memory", "failed", "ended"} & {*wanted}:
            async for state in _call(rig, page):
                if state.name in wanted:
                    yield state
        await page.close()
        if "nobody" in wanted:
            alone = await visit(await serve("nobody"), *arguments, script=IMPATIENT, **options)
            await alone.click("#start")
            await becomes(alone, "document.getElementById('alert').textContent !== ''")
            yield State("nobody", alone)
            await alone.click("#end")
            await alone.close()


async def _call(rig: Rig, page: Any) -> AsyncIterator[State]:
    """A whole call of a visitor who is known."""
    rig.gateway.script = answers
    guest = await page.evaluate("fetch('api/token', {method: 'POST'}).then(answer => answer.json())")
    await furnish(rig.records, rig.guest_of(guest))
    await page.click("#start")
    await becomes(page, f"{LAST}?.includes({GREETING!r})")
    for question in (QUESTION, WISH):
        await quiet(page)
        await write(page, question)
        await becomes(page, f"{LAST}.includes({AFTER_TOOL[question]!r})")
    await quiet(page)
    yield State("listening", page)
    await page.click("#show-memory")
    await shows(page, "lines", "teal")
    yield State("memory", page)
    await page.click("#hide-memory")
    await page.evaluate(FAILS)
    await write(page, LONG)
    await becomes(page, "document.querySelector('.said[data-state=failed]')")
    yield State("failed", page)
    await page.evaluate(SENDS)
    await page.click(".said[data-state=failed] button")
    await becomes(page, "document.body.dataset.agent === 'speaking' && document.querySelector('#partial .said')")
    await becomes(page, "document.querySelector('#partial .said').textContent.length > 120")
    yield State("speaking", page)
    await page.click("#end")
    await becomes(page, "document.body.dataset.view === 'ended'")
    yield State("ended", page)


async def quiet(page: Any) -> None:
    """Wait until nobody says anything."""
    await becomes(page, "document.body.dataset.agent === 'listening' && !document.querySelector('#partial .said')")


async def write(page: Any, text: str) -> None:
    """Type a message."""
    await page.fill("#message", text)
    await page.keyboard.press("Enter")
