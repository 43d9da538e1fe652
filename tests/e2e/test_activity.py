"""What the caller's client is told while the agent works, through a real LiveKit server: theirs alone, and in time."""

from __future__ import annotations

import pytest

from lkmongo.agent.activity import ACTIVITY, MEMORY
from lkmongo.model import UserScope
from lkmongo.tokens import new_room
from tests.e2e.conftest import TEXT
from tests.e2e.records import completed

pytestmark = pytest.mark.asyncio(loop_scope="session")


def of(caller, topic):
    return [told for found, told in caller.told if found == topic]


async def test_a_caller_s_client_sees_tools_at_work_and_what_is_learned_and_nobody_else_does(
    text_worker, records, call
):
    who, room = UserScope(tenant_id="activity", user_id="u-100"), new_room()
    await records.users.set_field(who, "name", "Rob")
    await records.db.orders.insert_one(
        who.filter | {"order_id": "1001", "items": [{"name": "Lamp"}], "total": 4.5, "status": "shipped"}
    )
    async with call(room=room, who=who, sealed=True, agent_name=TEXT) as caller, call(room=room) as bystander:
        await caller.reads("Hello", "Hi")
        await caller.type("please remember that my favorite color is teal")
        await caller.until(lambda: of(caller, MEMORY))
        steps = [told | {"tool": "remember_detail"} for told in ({"state": "started"}, {"state": "done"})]
        await caller.until(lambda: len(of(caller, ACTIVITY)) == 2)
        assert of(caller, ACTIVITY) == [step | {"label": "favorite color"} for step in steps]
        (learned,) = of(caller, MEMORY)
        stored = await records.memories.recall(who, "favorite_color")
        assert learned == {
            "kind": "memory",
            "name": "favorite_color",
            "label": "Favorite color",
            "content": "teal",
            "at": learned["at"],
            "change": "learned",
        }
        assert learned["at"][:23] == stored.updated_at.isoformat()[:23], "it is stored when they are told"

        await caller.type("please remember that my favorite color is green")
        await caller.until(lambda: len(of(caller, MEMORY)) == 2)
        assert (of(caller, MEMORY)[1]["content"], of(caller, MEMORY)[1]["change"]) == ("green", "changed")
        await caller.type("My name is Robin.")
        await caller.until(lambda: len(of(caller, MEMORY)) == 3)
        name = of(caller, MEMORY)[2]
        assert (name["kind"], name["name"], name["content"], name["change"]) == ("profile", "name", "Robin", "changed")

        # What is stored may be told before the tool is done.
        await caller.until(lambda: [told["state"] for told in of(caller, ACTIVITY)].count("done") == 3)
        caller.told.clear()
        await caller.type("Where is order 1001?")
        await caller.until(lambda: any(told["state"] == "done" for told in of(caller, ACTIVITY)))
        order = {"tool": "lookup_order", "label": "order 1001"}
        assert of(caller, ACTIVITY) == [order | {"state": "started"}, order | {"state": "done"}]
        caller.told.clear()
        await caller.type("Where is order 4711?")
        await caller.until(lambda: any(told["state"] == "failed" for told in of(caller, ACTIVITY)))

        caller.told.clear()
        await caller.type("forget my favorite color")
        await caller.until(lambda: of(caller, MEMORY))
        gone = of(caller, MEMORY)[0]
        assert (gone["name"], gone["content"], gone["change"]) == ("favorite_color", None, "forgotten")
        assert bystander.told == []
        session_id = await caller.room.sid
        await caller.hang_up()
    await completed(records, who, session_id)


async def test_of_a_guest_nothing_is_learned(text_worker, records, call):
    async with call(who=UserScope(tenant_id="activity", user_id="u-7").tenant, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        await caller.type("please remember that my favorite color is teal")
        await caller.until(lambda: len(of(caller, ACTIVITY)) == 2)
        await caller.reads("For this call")
        assert of(caller, MEMORY) == []
        await caller.hang_up()
