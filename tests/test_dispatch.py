"""Whom a job is for: whatever metadata arrives, never somebody unless it is well formed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.dispatch import (
    LEEWAY,
    MAX_METADATA,
    SEAL_LIFE,
    UNKNOWN_TENANT,
    Dispatched,
    Room,
    SealError,
    plain_metadata,
    read_dispatch,
    seal,
    sealed_metadata,
    unseal,
)
from lkmongo.model import TenantScope, UserScope
from lkmongo.sealed_text import fernet
from lkmongo.ticket import Ticket

SECRET = "a-secret-that-is-long-enough-for-hmac-256"
ROOM = "room-1"
JORDAN = UserScope(tenant_id="acme", user_id="u-100")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(metadata: object, *, room: str = ROOM, secret: str | None = SECRET, at: datetime | None = NOON) -> Dispatched:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    return read_dispatch(text, room=room, secret=secret, at=at)


def sealed(**changes) -> str:
    return sealed_metadata(
        JORDAN, **({"room": ROOM, "participant_identity": "p-1", "secret": SECRET, "at": NOON} | changes)
    )


# ---------------------------------------------------------------------- who it is


def test_plain_metadata_names_a_person_of_a_tenant():
    assert read({"user_id": "u-100", "tenant_id": "acme"}) == Dispatched(JORDAN, False, None, None)


def test_without_a_tenant_it_is_the_default_one():
    assert read({"user_id": "u-100"}).scope == UserScope(tenant_id="default", user_id="u-100")


def test_plain_metadata_may_name_the_participant():
    assert read(plain_metadata(JORDAN, "p-1")) == Dispatched(JORDAN, False, "p-1", None)


def test_a_sealed_caller_is_a_person_and_a_participant():
    assert read(sealed()) == Dispatched(JORDAN, False, "p-1", None)


def test_no_metadata_is_a_guest_and_nothing_is_wrong_with_it():
    for nothing in ("", "  \n"):
        found = read(nothing)
        assert (found.guest, found.participant_identity, found.why) == (True, None, None)
        assert found.scope.user_id.startswith("guest-")


def test_a_tenant_alone_is_a_guest_of_that_tenant_in_that_participants_place():
    found = read(plain_metadata(TenantScope("acme"), "p-1"))
    assert (found.guest, found.scope.tenant_id, found.participant_identity) == (True, "acme", "p-1")
    assert found.why == "the metadata has no user_id"


def test_two_guests_are_not_one():
    assert read("").scope != read("").scope


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("42", "not a JSON object"),
        ('"u-100"', "not a JSON object"),
        ("{}", "no user_id"),
        ("u-100", "not JSON"),
        ("{'user_id': 'u-100'}", "not JSON"),
        ("[" * 4_000, "not JSON"),
        ('{"user_id":"u-100","user_id":"u-200"}', "a key twice"),
        ({"user_id": None}, "user_id is not text"),
        ({"user_id": 42}, "user_id is not text"),
        ({"user_id": {"$ne": None}}, "user_id is not text"),
        ({"user_id": {"$gt": ""}, "tenant_id": "acme"}, "user_id is not text"),
        ({"user_id": ["u-100"]}, "user_id is not text"),
        ({"user_id": ""}, "user_id cannot be an id"),
        ({"user_id": " u-100"}, "user_id cannot be an id"),
        ({"user_id": "u-100\n"}, "user_id cannot be an id"),
        ({"user_id": "u" * 129}, "user_id cannot be an id"),
        ({"user_id": "\ud800"}, "user_id cannot be an id"),
        ({"user_id": "u-100", "tenant_id": {"$ne": None}}, "tenant_id is not text"),
        ({"user_id": "u-100", "tenant_id": None}, "tenant_id is not text"),
        ({"user_id": "u-100", "tenant_id": ""}, "tenant_id cannot be an id"),
        ({"user_id": "u-100", "tenant": "acme"}, "has keys other than"),
        ({"user_id": "u-100", "participant_identity": None}, "participant_identity is not text"),
        ({"user_id": "u-100", "participant_identity": ""}, "participant_identity is not text"),
        ({"user_id": "u-100", "participant_identity": "é" * 129}, "participant_identity is not text"),
        ({"user_id": "u-100", "participant_identity": "p" * MAX_METADATA}, "bytes; 4096 are allowed"),
        ({"user_id": "u-100", "until": "tomorrow"}, "until is not a time"),
        ({"user_id": "u-100", "until": True}, "until is not a time"),
        ({"user_id": "u-100", "until": 1e300}, "until is not a time"),
        ({"user_id": "u-100", "until": None}, "until is not a time"),
        ({"caller": None}, "caller is not text"),
        ({"caller": {"user_id": "u-100"}}, "caller is not text"),
        ({"caller": "u-100"}, "damaged"),
        ({"caller": "\ud800"}, "damaged"),
        (json.dumps(json.loads(sealed()) | {"user_id": "u-100"}), "both a sealed caller and other keys"),
        (json.dumps(json.loads(sealed()) | {"tenant_id": "acme"}), "both a sealed caller and other keys"),
    ],
)
def test_what_is_not_well_formed_is_a_guest_of_this_call(metadata, why):
    found = read(metadata)
    assert found.guest
    assert found.scope.user_id.startswith("guest-")
    is_sealed = "caller" in (metadata if isinstance(metadata, dict | str) else ())
    assert found.scope.tenant_id == (UNKNOWN_TENANT if is_sealed else "default")
    assert found.participant_identity is None
    assert why in found.why
    assert "u-100" not in found.why, "an id in a log"


# ---------------------------------------------------------------------- the seal


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"room": "room-2"}, "for another room"),
        ({"secret": SECRET + "!"}, "another LIVEKIT_API_SECRET"),
        ({"secret": None}, "no LIVEKIT_API_SECRET"),
        ({"at": NOON + SEAL_LIFE + LEEWAY + timedelta(seconds=1)}, "too old"),
    ],
)
def test_a_seal_is_good_in_one_room_for_a_time_under_one_secret(change, why):
    found = read(sealed(), **change)
    assert found.guest
    assert why in found.why
    assert found.scope.tenant_id == UNKNOWN_TENANT, "and no other tenant's knowledge"


def test_a_server_may_name_the_tenant_of_callers_of_whom_nothing_else_does():
    for metadata in (sealed(room="room-2"), "", '{"plan": "gold"}', '{"user_id": "u-100"}'):
        assert read_dispatch(metadata, room=ROOM, secret=SECRET, tenant_id="shop", at=NOON).scope.tenant_id == "shop"
    for metadata in (sealed(), plain_metadata(JORDAN)):
        assert read_dispatch(metadata, room=ROOM, secret=SECRET, tenant_id="shop", at=NOON).scope == JORDAN


def test_a_seal_opens_until_its_life_is_over():
    assert not read(sealed(), at=NOON + SEAL_LIFE + LEEWAY).guest
    week = sealed(life=timedelta(days=7))
    assert not read(week, at=NOON + timedelta(days=6)).guest
    assert read(week, at=NOON + timedelta(days=8)).guest


def test_a_seal_is_for_a_room_that_begins_within_its_life():
    text = sealed(life=timedelta(minutes=15))
    late = NOON + timedelta(hours=40)  # another agent is sent into the room
    for began, known in (
        (NOON - LEEWAY, True),
        (NOON - LEEWAY - timedelta(seconds=1), False),
        (NOON + timedelta(minutes=15) + LEEWAY, True),
        (NOON + timedelta(minutes=15) + LEEWAY + timedelta(seconds=1), False),
    ):
        found = read(text, room=Room(ROOM, "RM_1", began), at=late)
        assert found.guest is not known
        assert known or "too old" in found.why or "begins later" in found.why


def test_a_seal_that_names_its_room_is_for_no_other_of_that_name():
    text = sealed(room=Room(ROOM, "RM_1"))
    old = NOON - timedelta(hours=9)
    assert read(text, room=Room(ROOM, "RM_1", old)).ticket.seal is None
    for room in (Room(ROOM, "RM_2", old), Room(ROOM), ROOM):
        assert "another room" in read(text, room=room).why
    assert "too old" in read(text, room=Room(ROOM, "RM_1", old), at=NOON + SEAL_LIFE + 2 * LEEWAY).why


def test_a_seal_says_what_mongodb_is_asked_about_it():
    text = sealed(visitor="kim's browser", life=timedelta(minutes=15))
    ticket = read(text, room=Room(ROOM, "RM_1", NOON)).ticket
    assert ticket == Ticket("RM_1", ticket.seal, "kim's browser", NOON, NOON + timedelta(minutes=15))
    # The same seal in another spelling, as what decodes base64 skips what does not belong there.
    same = "!" + json.loads(text)["caller"]
    assert read({"caller": same}, room=Room(ROOM, "RM_2", NOON)).ticket.seal == ticket.seal
    assert read(sealed(at=NOON + timedelta(milliseconds=1)), at=NOON).ticket.seal != ticket.seal
    resumed = sealed(room=Room(ROOM, "RM_1"), made_at=NOON - timedelta(hours=2))
    assert read(resumed, room=Room(ROOM, "RM_1", NOON)).ticket.made_at == NOON - timedelta(hours=2)


def test_a_seal_of_an_earlier_release_is_read():
    content = {"user_id": "u-100", "tenant_id": "acme", "room": ROOM, "participant": "p-1", "until": 4_000_000_000}
    text = fernet(SECRET).encrypt_at_time(json.dumps(content).encode(), int(NOON.timestamp())).decode()
    found = read({"caller": text}, room=Room(ROOM, "RM_1", NOON))
    assert (found.scope, found.ticket.made_at, found.ticket.visitor) == (JORDAN, NOON, None)
    assert found.ticket.seal


def test_secrets_are_rotated_without_losing_anybody():
    new = "another-secret-that-is-long-enough-too"
    before, after = sealed(), sealed(secret=new)
    for secrets, known in (([SECRET], [True, False]), ([new, SECRET], [True, True]), ([new], [False, True])):
        assert [not read(text, secret=secrets).guest for text in (before, after)] == known
    assert read(before, secret=[]).why == "there is no LIVEKIT_API_SECRET to open the sealed caller with"


def test_plain_metadata_ends_when_it_says_so_and_not_in_a_room_that_began_before():
    text = plain_metadata(JORDAN, "p-1", until=NOON)
    assert read(text, room=Room(ROOM, "RM_1", NOON), at=NOON + timedelta(days=2)).scope == JORDAN
    late = read(text, at=NOON + LEEWAY + timedelta(seconds=1))
    assert (late.guest, late.scope.tenant_id, late.participant_identity) == (True, "acme", "p-1")
    assert late.why == "the metadata is older than this room"
    assert read(plain_metadata(JORDAN), at=NOON + timedelta(days=400)).scope == JORDAN, "what a server sends has no end"


def test_a_seal_is_for_one_participant():
    text = seal(JORDAN, room=ROOM, participant_identity="p-1", secret=SECRET, at=NOON)
    assert unseal(text, room=ROOM, participant_identity="p-1", secret=SECRET, at=NOON).scope == JORDAN
    with pytest.raises(SealError, match="another participant"):
        unseal(text, room=ROOM, participant_identity="p-2", secret=SECRET, at=NOON)


def test_a_seal_shows_neither_who_nor_where():
    import base64

    text = sealed()
    inside = base64.urlsafe_b64decode(json.loads(text)["caller"])
    for word in (b"u-100", b"acme", b"room-1", b"p-1"):
        assert word not in inside
        assert word.decode() not in text


def test_a_changed_seal_does_not_open():
    text = seal(JORDAN, room=ROOM, participant_identity="p-1", secret=SECRET, at=NOON)
    for at in range(0, len(text) - 2, 7):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(SealError):
            unseal(changed, room=ROOM, participant_identity=None, secret=SECRET, at=NOON)


def test_what_our_own_key_sealed_but_is_no_caller_does_not_open():
    good = {"user_id": "u-100", "tenant_id": "acme", "room": ROOM, "participant": "p-1", "until": 4_000_000_000}
    for change in (
        {"user_id": {"$gt": ""}},
        {"until": "x"},
        {"until": 1e300},
        {"until": None},
        {"tenant_id": ""},
        {"visitor": {"$gt": ""}},
        {"sid": 7},
        {"made": None},
        {"made": 1e300},
    ):
        text = fernet(SECRET).encrypt(json.dumps(good | change).encode()).decode()
        with pytest.raises(SealError):
            unseal(text, room=ROOM, participant_identity=None, secret=SECRET)
    for odd in (b"[]", b"null", b"\xff", b"{}"):
        with pytest.raises(SealError):
            unseal(fernet(SECRET).encrypt(odd).decode(), room=ROOM, participant_identity=None, secret=SECRET)


def test_the_largest_ids_fit_into_the_metadata():
    largest = UserScope(tenant_id="😀" * 128, user_id="😀" * 128)
    for text in (
        sealed_metadata(largest, room="r" * 256, participant_identity="p" * 256, secret=SECRET, at=NOON),
        plain_metadata(largest, "p" * 256),
    ):
        assert len(text.encode()) <= MAX_METADATA
        assert read(text, room="r" * 256).scope == largest


# ---------------------------------------------------------------------- whatever arrives

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["user_id", "tenant_id", "participant_identity", "caller", "$ne", "$gt"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


def well_formed(value: object) -> bool:
    """The rule once more, in other words."""
    if not isinstance(value, dict) or not {"user_id"} <= value.keys() <= {
        "user_id",
        "tenant_id",
        "participant_identity",
    }:
        return False
    return all(isinstance(item, str) and item.strip() for item in value.values())


@settings(max_examples=150)
@given(JSON)
def test_whatever_json_arrives_it_is_nobody_unless_well_formed(value):
    found = read(json.dumps(value))
    if not found.guest:
        assert well_formed(value)
        assert found.scope == UserScope(tenant_id=value.get("tenant_id", "default"), user_id=value["user_id"])
        assert found.why is None
    else:
        assert found.scope.user_id.startswith("guest-")
        assert found.why


@settings(max_examples=150)
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_whatever_text_arrives_it_is_nobody(text):
    assert read(text).guest


@settings(max_examples=60)
@given(st.text(max_size=300) | st.binary(max_size=120).map(lambda raw: raw.decode("latin-1")))
def test_whatever_calls_itself_sealed_is_nobody(text):
    assert read({"caller": text}).guest


IDS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=128)
SHORT = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40)


@settings(max_examples=60)
@given(IDS, IDS, SHORT, SHORT)
def test_what_was_written_is_read_again(tenant, user, room, participant):
    scope = UserScope(tenant_id=tenant, user_id=user)
    for text in (
        plain_metadata(scope, participant),
        sealed_metadata(scope, room=room, participant_identity=participant, secret=SECRET, at=NOON),
    ):
        assert read(text, room=room) == Dispatched(scope, False, participant, None)
