"""A program that is told how each of its sessions ended."""

from __future__ import annotations

import asyncio

import lkmongo


async def report(end: lkmongo.SessionEnd) -> None:
    """Called once, when the record of the session is complete."""
    who = "a guest" if end.guest else end.scope.user_id
    print(f"{who}: {end.close_reason}, {end.turns} turns, {end.changes} changes, {end.saved}")


async def main() -> None:
    async with lkmongo.Memory() as memory:
        caller = await memory.session(user_id="u-100")
        caller.on_end(report)
        await caller.remember("favorite color", "teal")
        await caller.end("answered")


if __name__ == "__main__":
    asyncio.run(main())
