"""The example with a collection of its own: its tools reach the caller's documents, and those go where they go."""

from __future__ import annotations

import sys

import pytest

from docs import generate
from lkmongo.agent.assistant import Assistant, create_assistant
from lkmongo.agent.briefing import brief
from lkmongo.declarations import ProfileField, declare, declare_agent
from lkmongo.errors import NotFoundError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.people.erase import erase
from tests.fake_llm import calls
from tests.talk import talk
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")
AGENT = "own_collection:Salon"


@pytest.fixture
async def salon(store, monkeypatch):
    monkeypatch.chdir(generate.ROOT / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    declare_agent(AGENT)
    await database_indexes.apply(store.db)
    yield create_assistant(Settings.load({"LKMONGO_AGENT": AGENT}))
    sys.modules.pop("own_collection", None)


async def stored(store, scope):
    return [each async for each in store.db.appointments.find(scope.filter).sort("at")]


async def test_a_caller_books_lists_and_cancels_their_own(store, salon):
    await store.db.appointments.insert_one(KIM.filter | {"appointment_id": "kims", "status": "booked"})
    async with talk(store, ROBIN, calls(), agent=salon) as call:
        said, failed = await call.tool("book_appointment", service="haircut", at="2026-12-01T10:00")
        assert (said.startswith("Booked: haircut"), failed) == (True, False)
        (made,) = await stored(store, ROBIN)
        number = made["appointment_id"]
        said, _ = await call.tool("list_appointments")
        assert said == f"You have 1: haircut on December 01 at 10:00, number {number}."
        assert await call.tool("cancel_appointment", appointment_id="kims") == ("You have no appointment kims.", True)
        assert await call.tool("cancel_appointment", appointment_id=number) == (
            f"Appointment {number} is cancelled.",
            False,
        )
        assert await call.tool("list_appointments") == ("You have no appointments.", False)
        said, failed = await call.tool("book_appointment", service="haircut", at="soon")
        assert failed
        assert said.startswith("Appointments.at must be a valid datetime")
    assert [each["status"] for each in await stored(store, ROBIN) + await stored(store, KIM)] == ["cancelled", "booked"]


@pytest.mark.parametrize("tenant", ["default", "clinic"])
async def test_a_guests_documents_become_those_of_the_person_they_turn_out_to_be(store, salon, tenant):
    guest, person = UserScope.guest(), UserScope(tenant_id=tenant, user_id=ROBIN.user_id)
    async with talk(store, guest, calls(), agent=salon, guest=True) as call:
        await call.tool("book_appointment", service="haircut", at="2026-12-01T10:00")
        assert len(await stored(store, guest)) == 1
        assert await call.call.identify(person)
        await call.tool("book_appointment", service="colour", at="2026-12-02T10:00")
    assert [each["service"] for each in await stored(store, person)] == ["haircut", "colour"]
    assert await stored(store, guest) == []
    assert await store.db.appointments.count_documents({}) == 2, "nobody else has one"


async def test_nothing_is_written_for_somebody_who_was_erased_in_the_session(store, salon):
    async with talk(store, ROBIN, calls(), agent=salon) as call:
        await call.tool("book_appointment", service="haircut", at="2026-12-01T10:00")
        receipt = await erase(store.db, ROBIN, by="Sam")
        assert receipt.counts["appointments"] == 1
        await until(lambda: call.call.recorder.erased)
        said, failed = await call.tool("book_appointment", service="colour", at="2026-12-02T10:00")
        assert (said, failed) == ("I could not book that just now.", True)
        assert await call.tool("list_appointments") == ("You have no appointments.", False)
    assert await store.db.appointments.count_documents({}) == 0


async def test_a_session_reaches_only_what_is_declared(store, salon):
    async with talk(store, ROBIN, calls(), agent=salon) as call:
        with pytest.raises(NotFoundError, match="no collection invoices is declared"):
            call.call.collection("invoices")
        await store.db.orders.insert_one(ROBIN.filter | {"order_id": "1", "status": "shipped"})
        assert await call.call.collection("orders").find() == [{"order_id": "1", "status": "shipped"}]


async def test_a_declared_profile_field_is_offered_set_briefed_and_listed(store, salon):
    async with talk(store, ROBIN, calls(), agent=salon) as call:
        said, failed = await call.tool("update_profile", field="loyalty_tier", value="Gold")
        assert (said, failed) == ("Saved. Your loyalty tier is gold.", False)
        said, failed = await call.tool("update_profile", field="loyalty_tier", value="tin")
        assert (said, failed) == ("The loyalty tier is one of bronze, silver, gold, not tin.", True)
        assert await call.tool("list_user_memories") == ("Your loyalty tier is gold.", False)
        assert '"profile": {"loyalty_tier": "gold"}' in brief(call.call.caller)
    assert (await store.users.get(ROBIN)).values == {"loyalty_tier": "gold"}
    async with talk(store, ROBIN, calls(), agent=Assistant()) as call:
        assert call.call.caller.profile.values == {"loyalty_tier": "gold"}


async def test_a_guests_declared_field_is_kept_when_they_are_identified(store, salon):
    async with talk(store, UserScope.guest(), calls(), agent=salon, guest=True) as call:
        await call.tool("update_profile", field="loyalty_tier", value="gold")
        assert await call.call.identify(ROBIN)
        await until(lambda: call.call.caller.loaded)
        assert call.call.caller.profile.values == {"loyalty_tier": "gold"}
    assert (await store.users.get(ROBIN)).values == {"loyalty_tier": "gold"}


def schema(agent):
    from livekit.agents.llm.utils import build_legacy_openai_schema

    (tool,) = [each for each in agent.tools if each.info.name == "update_profile"]
    return build_legacy_openai_schema(tool)["function"]


def test_the_tool_is_described_with_the_declared_fields():
    declare(ProfileField("loyalty_tier", choices=("gold", "silver")), ProfileField("shoe", words="shoe size"))
    described = schema(Assistant())
    fields = "name, e-mail address, preferred language, time zone, loyalty tier (gold, silver), shoe size"
    assert described["description"].startswith(f"Store the caller's {fields}.")
    field = described["parameters"]["properties"]["field"]
    assert field["description"] == "one of name, email, preferred_language, timezone, loyalty_tier, shoe"
    assert set(described["parameters"]["properties"]) == {"field", "value"}


def test_without_declarations_the_tool_is_the_classs():
    assert schema(Assistant())["parameters"]["properties"]["field"]["description"] == (
        "one of name, email, preferred_language, timezone"
    )
