"""Two agents in one call: the front desk hands a caller over to the returns desk, which knows them already."""

from __future__ import annotations

from livekit.agents import Agent, RunContext, function_tool

from lkmongo import Assistant, CallerSession


class FrontDesk(Assistant):
    """Answers first, and hands over what is not its own."""

    instructions_text = (
        Assistant.instructions_text + "\nYou are at the front desk. For anything about a return, call to_returns_desk."
    )

    @function_tool
    async def to_returns_desk(self) -> Agent:
        """Hand the caller over to the returns desk."""
        # What was said so far goes along. The caller, their data and the record belong to the call: nothing to pass on.
        return ReturnsDesk(chat_ctx=self.chat_ctx.copy(exclude_instructions=True))


class ReturnsDesk(Assistant):
    """Takes returns; has the assistant's tools and one of its own."""

    instructions_text = Assistant.instructions_text + "\nYou are the returns desk. Ask for the order number."
    takeover = "You are the returns desk and have just taken over this call. Say so in one sentence, and go on."

    @function_tool
    async def start_return(self, context: RunContext[CallerSession], order_id: str) -> str:
        """Start the return of one of the caller's orders.

        Args:
            order_id: the order number
        """
        session = context.userdata
        order = await session.store.orders.get(session.scope, order_id)
        return f"The return of order {order.order_id} has begun." if order else "There is no such order of yours."
