"""Join tokens: what they say, what is refused, and what a server and the agent make of them."""

from __future__ import annotations

import base64
import json
import warnings
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit import api
from pydantic import SecretStr

from lkmongo.dispatch import Room, read_dispatch
from lkmongo.errors import SettingsError, UsageError
from lkmongo.model import TenantScope, UserScope
from lkmongo.settings import Settings
from lkmongo.token_inspection import find_token, inspect, relative
from lkmongo.tokens import (
    Permissions,
    SigningKey,
    TokenError,
    TokenRequest,
    concerns,
    mint,
    parse_attributes,
    parse_metadata,
)

SECRET = "a-secret-that-is-long-enough-for-hmac-256"
KEY = SigningKey("APIkey", SecretStr(SECRET))
JORDAN = UserScope(tenant_id="acme", user_id="u-100")
SECOND = timedelta(seconds=1)


def request(**changes) -> TokenRequest:
    return TokenRequest(**({"who": JORDAN, "agent_name": "lkmongo-agent"} | changes))


def payload(wanted: TokenRequest, **options) -> dict:
    return jwt.decode(mint(KEY, wanted, **options).text, options={"verify_signature": False})


def signed(secret: str = SECRET, drop: str = "", **changes) -> str:
    """A token as anybody could have made it: a good one, changed."""
    claims = payload(request()) | changes
    claims.pop(drop, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode(claims, secret, algorithm="HS256")


def look(token: str, *, key: str | None = "APIkey", secret: str | None = SECRET, at: datetime | None = None):
    return inspect(token, api_key=key, secret=secret, agent_name="lkmongo-agent", at=at)


# ---------------------------------------------------------------------- minting


def test_livekit_takes_the_token_for_what_was_asked():
    wanted = request(
        name="Jordan",
        metadata='{"a":1}',
        attributes={"k": "v"},
        ttl=timedelta(hours=2),
        permissions=Permissions(publish=True, data=False, sources=("microphone",), hidden=True, update_metadata=True),
    )
    token = mint(KEY, wanted)
    claims = api.TokenVerifier("APIkey", SECRET).verify(token.text)
    assert (claims.identity, claims.name, claims.metadata, claims.attributes) == (
        wanted.participant_identity,
        "Jordan",
        '{"a":1}',
        {"k": "v"},
    )
    assert (claims.video.room_join, claims.video.room) == (True, wanted.room)
    assert claims.video.can_publish_sources == ["microphone"]
    assert (claims.video.can_subscribe, claims.video.can_publish_data, claims.video.hidden) == (True, False, True)
    assert claims.video.can_update_own_metadata
    assert not claims.video.room_admin
    (sent,) = claims.room_config.agents
    assert sent.agent_name == "lkmongo-agent"
    found = read_dispatch(sent.metadata, room=wanted.room, secret=SECRET)
    assert (found.scope, found.guest, found.participant_identity) == (JORDAN, False, wanted.participant_identity)
    assert abs(jwt.decode(token.text, options={"verify_signature": False})["exp"] - token.expires_at.timestamp()) <= 1


def test_it_says_nothing_beside_what_was_asked():
    claims = payload(request())
    assert set(claims) == {"video", "roomConfig", "sub", "iss", "nbf", "exp"}
    assert set(claims["video"]) == {"roomJoin", "room", "canPublish", "canSubscribe", "canPublishData"}
    assert claims["roomConfig"].keys() == {"agents"}
    assert claims["roomConfig"]["agents"][0].keys() == {"agentName", "metadata"}


def test_no_agent_is_sent_where_none_is_wanted():
    assert "roomConfig" not in payload(request(agent_name=None))
    assert "roomConfig" not in payload(request(), send=False)


def test_rooms_and_identities_are_new_each_time_and_tell_nothing():
    first, second = request(), request()
    assert len({first.room, second.room}) == len({first.participant_identity, second.participant_identity}) == 2
    assert "u-100" not in first.room + first.participant_identity


def test_a_sealed_token_does_not_show_the_person_and_the_agent_sees_them():
    wanted = request(sealed=True)
    text = json.dumps(payload(wanted))
    assert "u-100" not in text
    assert "acme" not in text
    (sent,) = payload(wanted)["roomConfig"]["agents"]
    assert read_dispatch(sent["metadata"], room=wanted.room, secret=SECRET).scope == JORDAN


@pytest.mark.parametrize("sealed", [True, False])
def test_what_a_token_says_of_the_caller_ends_with_it_but_not_in_a_room_that_began_before(sealed):
    wanted, at = request(sealed=sealed, ttl=timedelta(minutes=2)), datetime.now(UTC)
    (sent,) = payload(wanted)["roomConfig"]["agents"]
    for began, known in ((at, True), (at + timedelta(minutes=2), True), (at + timedelta(minutes=4), False)):
        room = Room(wanted.room, "RM_1", began)
        found = read_dispatch(sent["metadata"], room=room, secret=SECRET, at=at + timedelta(hours=30))
        assert found.guest is not known
        assert found.scope.tenant == JORDAN.tenant or sealed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"room": ""}, "the room is empty"),
        ({"room": "é" * 129}, "the room has 258 bytes; LiveKit's servers take 256"),
        ({"room": "a\nb"}, "control character"),
        ({"room": "a\ud800"}, "control character"),
        ({"participant_identity": " "}, "the identity is empty"),
        ({"participant_identity": "p" * 257}, "the identity has 257 bytes"),
        ({"name": "n" * 257}, "the name has 257 bytes"),
        ({"agent_name": ""}, "the agent's name is empty"),
        ({"ttl": timedelta(seconds=30)}, "a life of 30s is too short"),
        ({"ttl": timedelta(seconds=60)}, "a life of 1m is too short"),
        ({"metadata": "é" * (256 * 1024) + "!"}, "the metadata has 524,289 bytes; LiveKit's servers take 524,288"),
        ({"metadata": "\ud800"}, "not text"),
        ({"attributes": {"key": "v" * (64 * 1024 - 2)}}, "the attributes have 65,537 bytes"),
        ({"who": TenantScope("acme"), "sealed": True}, "guest cannot be sealed"),
    ],
)
def test_what_a_server_or_a_client_would_refuse_is_refused_first(change, words):
    with pytest.raises(TokenError, match=words.replace("'", ".")):
        request(**change)


def test_what_just_fits_is_taken():
    request(
        room="r" * 256,
        participant_identity="p" * 256,
        ttl=timedelta(seconds=61),
        metadata="m" * 512 * 1024,
        attributes={"key": "v" * (64 * 1024 - 3)},
    )


def test_what_is_not_wrong_and_should_be_known():
    assert concerns(KEY, request()) == []
    assert "30d" in concerns(KEY, request(ttl=timedelta(days=30)))[0]
    assert concerns(KEY, request(ttl=timedelta(days=1))) == []
    weak = SigningKey("APIkey", SecretStr("short"))
    (told,) = concerns(weak, request())
    assert "only 5 bytes" in told
    assert mint(weak, request()).text, "no warning of PyJWT's own"
    assert (
        "the identity and the room"
        in concerns(KEY, request(sealed=True, participant_identity="u-100", room="of u-100"))[0]
    )


def test_missing_credentials_are_named_and_the_address_is_none_of_them():
    with pytest.raises(SettingsError, match="LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set"):
        SigningKey.of(Settings.load({}))
    with pytest.raises(SettingsError, match="LIVEKIT_API_SECRET is not set"):
        SigningKey.of(Settings.load({"LIVEKIT_API_KEY": "APIkey"}))
    assert SigningKey.of(Settings.load({"LIVEKIT_API_KEY": "APIkey", "LIVEKIT_API_SECRET": SECRET})).secret == SECRET
    assert SECRET not in repr(KEY)


def test_metadata_is_json_and_attributes_are_an_object_of_texts():
    assert parse_metadata(' {"a": 1}\n') == '{"a": 1}'
    assert parse_attributes('{"a": "b"}') == {"a": "b"}
    for wrong in ("{a: 1}", "", "[" * 100_000):
        with pytest.raises(TokenError):
            parse_metadata(wrong)
    for wrong in ("{", '{"a": 1}', '["a"]', "null"):
        with pytest.raises(TokenError):
            parse_attributes(wrong)


# ---------------------------------------------------------------------- taking apart


def test_a_good_token_is_taken_apart():
    wanted = request(sealed=True, name="Jordan", attributes={"k": "v"})
    found = look(mint(KEY, wanted).text)
    assert (found.problems, found.notes, found.signature) == ((), (), "valid")
    assert (found.room, found.participant_identity, found.name) == (wanted.room, wanted.participant_identity, "Jordan")
    assert found.may == ("publish", "subscribe", "send data")
    (sent,) = found.agents
    assert (sent.agent_name, sent.sealed, sent.dispatched.scope) == ("lkmongo-agent", True, JORDAN)


def now_plus(seconds: float) -> int:
    return int((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (lambda: signed(secret="another-secret-that-is-long-enough-too"), "signature was not made with this"),
        (lambda: signed(exp=now_plus(-600)), "it expired 10 minutes ago"),
        (lambda: signed(nbf=now_plus(600)), "it will be in 10 minutes"),
        (lambda: signed(iss="APIother"), "issued by the API key APIother, not by APIkey"),
        (lambda: signed(drop="iss"), "does not name the API key"),
        (lambda: signed(drop="exp"), "no expiry"),
        (lambda: signed(exp="soon"), "no expiry"),
        (lambda: signed(exp=10**30), "no expiry"),
        (lambda: signed(drop="video"), "does not permit joining"),
        (lambda: signed(video={"room": "r", "roomJoin": False}), "does not permit joining"),
        (lambda: signed(video=["roomJoin"]), "does not permit joining"),
        (lambda: signed(video={"roomJoin": True}), "names no room"),
        (lambda: signed(drop="sub"), "no participant identity"),
        (lambda: signed(sub="p" * 257), "its identity has 257 bytes"),
        (lambda: signed(metadata="m" * (512 * 1024 + 1)), "its metadata has 524,289 bytes"),
        (
            lambda: jwt.encode(payload(request()), "x" * 64, algorithm="HS512"),
            "not signed with HS256, which servers require",
        ),
        (
            lambda: jwt.encode(payload(request()), None, algorithm="none"),
            "not signed with HS256, which servers require",
        ),
    ],
)
def test_what_a_server_would_refuse_is_told(token, problem):
    problems = look(token()).problems
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_minutes_difference_of_clocks_is_overlooked_as_servers_do():
    at = datetime.now(UTC)
    assert look(signed(exp=now_plus(-50)), at=at).problems == ()
    late = look(signed(nbf=now_plus(40)), at=at)
    assert late.problems == ()
    assert "clock is" in late.notes[0]


def test_the_servers_own_check_agrees():
    for token in (signed(exp=now_plus(-50)), signed(nbf=now_plus(40)), mint(KEY, request()).text):
        api.TokenVerifier("APIkey", SECRET).verify(token)
    for token in (signed(exp=now_plus(-90)), signed(nbf=now_plus(90)), signed(drop="exp"), signed(iss="APIother")):
        assert look(token).problems
        with pytest.raises(jwt.PyJWTError):
            api.TokenVerifier("APIkey", SECRET).verify(token)


def test_without_a_secret_the_signature_is_not_checked_and_that_is_said():
    found = look(mint(KEY, request(sealed=True)).text, key=None, secret=None)
    assert (found.signature, found.problems) == ("not checked", ())
    assert any("signature was not checked" in note for note in found.notes)
    assert any("sealed" in note for note in found.notes)
    assert found.agents[0].dispatched is None


def agents(*listed: object) -> dict:
    return {"roomConfig": {"agents": list(listed)}}


def test_the_agent_is_told_of_as_it_will_see_things():
    found = look(signed(**agents({"agentName": "lkmongo-agent", "metadata": "[]"})))
    assert found.agents[0].dispatched.guest
    assert found.agents[0].dispatched.why == "the metadata is not a JSON object"
    assert any("another participant" in n for n in look(signed(sub="somebody")).notes)
    assert any("it dispatches other, but" in n for n in look(signed(**agents({"agentName": "other"}))).notes)
    assert any("without a name" in n for n in look(signed(**agents({}))).notes)
    assert any("it dispatches no agent" in n for n in look(signed(drop="roomConfig")).notes)
    for odd in (agents(None, 3, "x"), {"roomConfig": []}, {"roomConfig": {"agents": {}}}):
        assert look(signed(**odd)).agents == ()


def test_a_seal_of_another_room_is_a_guest():
    stolen = request(sealed=True).dispatch_metadata(KEY)
    found = look(signed(**agents({"agentName": "lkmongo-agent", "metadata": stolen})))
    assert found.agents[0].dispatched.guest
    assert "another room" in found.agents[0].dispatched.why


def test_a_token_is_found_in_what_carries_it():
    token = mint(KEY, request()).text
    for text in (
        token,
        f" {token}\n",
        f"Bearer {token}",
        json.dumps({"server_url": "wss://x", "participant_token": token}),
        json.dumps({"serverUrl": "wss://x", "participantToken": token}),
        f"LIVEKIT_URL=ws://x\nLIVEKIT_TOKEN={token}\n",
        f"export LIVEKIT_TOKEN='{token}'",
    ):
        assert find_token(text) == token


@pytest.mark.parametrize("text", ["", "hello", "{", '{"error": "no"}', '{"participant_token": 3}', "a.b", "[]"])
def test_where_there_is_no_token_that_is_said(text):
    with pytest.raises(UsageError):
        find_token(text)


def test_what_only_looks_like_a_token_is_none():
    with pytest.raises(UsageError, match="not a token"):
        look("abc.def.ghi")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["agents", "agentName", "metadata", "room", "roomJoin", "canPublishSources"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
NAMES = ["sub", "iss", "exp", "nbf", "name", "video", "metadata", "attributes", "roomConfig"]


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING), ANYTHING)
def test_whatever_a_token_says_it_is_taken_apart_or_called_none(claims, algorithm):
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."
    try:
        assert look(find_token(token)).problems
    except UsageError as error:
        assert error.hint or error.why  # noqa: PT017


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (899, "in 15 minutes"),
        (-1, "1 second ago"),
        (7200, "in 2 hours"),
        (-86_400 * 3, "3 days ago"),
        (0, "in 0 seconds"),
    ],
)
def test_moments_are_told_as_people_do(seconds, words):
    at = datetime(2026, 11, 23, tzinfo=UTC)
    assert relative(at + seconds * SECOND, at) == words
