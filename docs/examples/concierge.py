"""An agent of one's own: other instructions, another greeting, and a tool over the caller's own data."""

from __future__ import annotations

from livekit.agents import RunContext, function_tool

from lkmongo import Assistant, CallerSession
from lkmongo.trust import Level


class Concierge(Assistant):
    """Looks after the guests of a hotel; everything the assistant can do, it can do too."""

    instructions_text = Assistant.instructions_text + "\nYou are the concierge of the Lantern Hotel. Be brief and warm."
    greeting = "Greet the caller as the concierge of the Lantern Hotel, by name when it is known."

    @function_tool
    async def count_orders(self, context: RunContext[CallerSession]) -> str:
        """Tell how many orders the caller has, and how many are still open."""
        session = context.userdata
        session.require(Level.VERIFIED)  # which everybody is, except on the telephone
        # The scope is the call's, never an argument: a model cannot ask for somebody else's.
        orders = await session.store.orders.all(session.scope)
        open_orders = [order for order in orders if order.status not in {"delivered", "cancelled"}]
        return f"You have {len(orders)} orders, {len(open_orders)} of them open."
