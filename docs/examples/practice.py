"""An agent with a tool for callers who have proven who they are: by their PIN, or by a code that was sent to them."""

from __future__ import annotations

import hmac
import secrets

from livekit.agents import RunContext, ToolError, function_tool

from lkmongo import Assistant, CallerSession
from lkmongo.model import UserScope
from lkmongo.trust import Level


class Practice(Assistant):
    """Answers for a doctor's practice."""

    code = ""

    @function_tool
    async def read_results(self, context: RunContext[CallerSession]) -> str:
        """Read the caller's latest results out."""
        context.userdata.require(Level.VERIFIED)
        return await results_of(context.userdata.scope)

    @function_tool
    async def send_code(self, context: RunContext[CallerSession]) -> str:
        """Send the caller a code with which they can confirm who they are, if they have no PIN."""
        context.userdata.require(Level.NAMED)
        self.code = f"{secrets.randbelow(10**6):06}"
        await send_message(context.userdata.scope, f"Your code is {self.code}.")
        return "A code is on its way: please type it on the keypad."

    @function_tool
    async def check_code(self, context: RunContext[CallerSession]) -> str:
        """Check the code that was sent; the caller types it on the keypad."""
        code, self.code = self.code, ""  # for one attempt
        typed = await context.userdata.keypad_digits(len(code))
        if not (code and hmac.compare_digest(typed, code) and await context.userdata.verify()):
            raise ToolError("That is not the code.")
        return "Thank you. It is confirmed now who you are."


async def results_of(scope: UserScope) -> str:
    """What the practice's own system has of a person."""
    return f"The results of {scope.user_id} are fine."


async def send_message(scope: UserScope, text: str) -> None:
    """Send a text to the address that is on file, never to one that the caller has named."""
    raise NotImplementedError
