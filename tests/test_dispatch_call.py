"""The order of a call that the agent is to make: what it holds, who can read it, and what it is good for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from lkmongo.dispatch import (
    CALL_LIFE,
    LEEWAY,
    Outbound,
    Room,
    SealError,
    call_metadata,
    read_dispatch,
    seal,
    unseal,
)
from lkmongo.model import UserScope
from lkmongo.phone_numbers import PhoneNumber

SECRET = "a-secret-that-is-long-enough-for-hmac-256"
ROBIN = UserScope(tenant_id="acme", user_id="u-100")
ROOM = Room("call-1", "RM_1")
CALL = Outbound(ROBIN, PhoneNumber("+49301234567"), "ST_main", timedelta(seconds=20))
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def order(**changes) -> str:
    return call_metadata(
        CALL, **({"room": ROOM, "participant_identity": "callee-1", "secret": SECRET, "at": NOON} | changes)
    )


def read(metadata: str, **changes):
    return read_dispatch(metadata, **({"room": ROOM, "secret": SECRET, "at": NOON} | changes))


def test_the_agent_learns_whom_to_call_and_whoever_answers_is_a_guest():
    found = read(order())
    assert (found.outbound, found.participant_identity, found.why) == (CALL, "callee-1", None)
    assert (found.guest, found.is_outbound, found.ticket) == (True, True, None)
    assert found.scope.is_guest
    assert found.scope.tenant_id == "acme"


def test_neither_number_nor_person_can_be_read_in_it():
    assert set(json.loads(order())) == {"call"}
    for told in ("1234567", "u-100", "acme", "ST_main"):
        assert told not in order()
    assert "1234567" not in repr(CALL)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"room": Room("call-1", "RM_2")}, "for another room"),
        ({"room": Room("call-2", "RM_1")}, "for another room"),
        ({"secret": "another secret, as long as they should be"}, "damaged, or was sealed with another"),
        ({"secret": None}, "no LIVEKIT_API_SECRET"),
        ({"at": NOON + CALL_LIFE + LEEWAY + timedelta(seconds=1)}, "too old to be dialled"),
    ],
)
def test_what_is_not_good_here_and_now_is_dialled_by_nobody(changes, why):
    found = read(order(), **changes)
    assert (found.outbound, found.is_outbound, found.guest) == (None, True, True)
    assert why in found.why
    assert "u-100" not in found.why


def test_it_is_good_until_its_end_and_with_an_earlier_secret():
    assert read(order(), at=NOON + CALL_LIFE).outbound == CALL
    assert read(order(), secret=["a new secret, as long as they should be", SECRET]).outbound == CALL


@pytest.mark.parametrize("more", [{"user_id": "u-200"}, {"caller": "x"}, {"number": "+49301234567"}])
def test_nothing_may_stand_beside_it(more):
    found = read(json.dumps(json.loads(order()) | more))
    assert (found.outbound, found.guest) == (None, True)
    assert "other keys" in found.why


@pytest.mark.parametrize("call", [7, None, {"number": "+49301234567", "trunk": "ST_main"}, "", "+49301234567"])
def test_what_is_not_sealed_is_no_order(call):
    found = read(json.dumps({"call": call, "user_id": "u-100"} if call == 7 else {"call": call}))
    assert found.outbound is None
    assert found.guest


def test_an_order_proves_nobodys_identity_and_an_identity_orders_nothing():
    sealed = json.loads(order())["call"]
    with pytest.raises(SealError):
        unseal(sealed, room=ROOM, secret=SECRET, at=NOON)
    assert read(json.dumps({"caller": sealed})).guest
    caller = seal(ROBIN, room=ROOM, participant_identity="callee-1", secret=SECRET, at=NOON)
    assert read(json.dumps({"call": caller})).outbound is None
    assert not read(json.dumps({"caller": caller})).guest, "what the line above would read"
