"""The number that was dialled: whose caller somebody is. It is waited for a moment, and not told in the log."""

from __future__ import annotations

import asyncio
import logging
from unittest.mock import create_autospec

import pytest
from livekit import rtc
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.rtc import ParticipantKind

from lkmongo import deadlines
from lkmongo.agent.dialled import tenant_dialled, tenant_of_call
from lkmongo.phone_numbers import DIALLED
from lkmongo.tenant_phone import TenantPhone
from lkmongo.tenants import TenantPolicy, Tenants

SHOP, CLINIC, NOBODYS = "+49301234567", "+43112345678", "+12015550123"
TENANTS = Tenants(
    named={
        "shop": TenantPolicy(phone=TenantPhone(numbers=(SHOP,))),
        "clinic": TenantPolicy(phone=TenantPhone(numbers=(CLINIC,))),
    }
)


def participant(sid: str, kind: str = "SIP", **attributes: str) -> rtc.RemoteParticipant:
    found = create_autospec(rtc.RemoteParticipant, instance=True)
    found.sid = found.identity = sid
    found.kind = getattr(ParticipantKind, f"PARTICIPANT_KIND_{kind}")
    found.attributes = {f"sip.{name}": value for name, value in attributes.items()}
    return found


@pytest.fixture
def room():
    """LiveKit's mock room, with nobody in it yet, and with events."""
    found = create_mock_room.__wrapped__()
    found.remote_participants = {}
    events = rtc.EventEmitter[str]()
    found.on.side_effect, found.off.side_effect, found.emit = events.on, events.off, events.emit
    found.events = events
    return found


def enter(room, *people: rtc.RemoteParticipant) -> None:
    for each in people:
        room.remote_participants[each.identity] = each
        room.emit("participant_connected", each)


@pytest.mark.parametrize(
    ("dialled", "tenant"), [(SHOP, "shop"), ("004930 1234567", None), ("43112345678", "clinic"), (NOBODYS, None)]
)
def test_the_tenant_is_that_of_the_number(dialled, tenant):
    assert tenant_dialled(participant("a", trunkPhoneNumber=dialled), TENANTS) == tenant


def test_a_number_without_its_country_is_read_with_that_of_the_default():
    dialled = participant("b", trunkPhoneNumber="030 1234567")
    assert tenant_dialled(dialled, TENANTS) is None
    german = Tenants(TenantPolicy(phone=TenantPhone(region="DE")), TENANTS.named)
    assert tenant_dialled(dialled, german) == "shop"


def test_an_unknown_number_is_told_once_a_call_by_its_last_digits(caplog):
    for sid in ("call-1", "call-1", "call-2"):
        assert tenant_dialled(participant(sid, trunkPhoneNumber=NOBODYS), TENANTS) is None
    assert [each.getMessage() for each in caplog.records] == [
        "unknown number dialled: the default tenant (it ends in 23)"
    ] * 2


def test_what_is_not_said_yet_is_no_unknown_number(caplog):
    assert tenant_dialled(participant("c"), TENANTS) is None
    assert tenant_dialled(participant("d", trunkPhoneNumber=NOBODYS), Tenants()) is None
    assert caplog.records == []


async def test_whoever_is_on_the_telephone_is_waited_for_and_so_is_the_number(room):
    enter(room, participant("agent", "AGENT"))
    found = asyncio.create_task(tenant_of_call(room, TENANTS))
    await asyncio.sleep(0)
    caller = participant("caller", phoneNumber="+4930999")
    enter(room, caller)
    await asyncio.sleep(0.01)
    assert not found.done()
    caller.attributes[DIALLED] = CLINIC
    room.emit("participant_attributes_changed", {DIALLED: CLINIC}, caller)
    assert await found == "clinic"
    assert not any(room.events._events.values())


async def test_a_browser_is_not_asked_for_a_number_unless_somebody_calls_as_well(room):
    enter(room, participant("browser", "STANDARD"))
    assert await tenant_of_call(room, TENANTS) is None
    enter(room, participant("caller", trunkPhoneNumber=SHOP))
    assert await tenant_of_call(room, TENANTS) == "shop"


async def test_the_agent_does_not_wait_for_ever(room, monkeypatch, caplog):
    monkeypatch.setattr(deadlines, "DIALLED", 0.01)
    with caplog.at_level(logging.INFO):
        assert await tenant_of_call(room, TENANTS) is None
    assert "the default tenant" in caplog.text
    assert not any(room.events._events.values())
