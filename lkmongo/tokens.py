"""Join tokens: they admit a client to a room, and dispatch the agent when the room is created.

LiveKit's tokens are signed, not encrypted: whoever holds one can read all of it. The limits are a server's defaults
(livekit-server, `LimitConfig`), in bytes of UTF-8.
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import SecretStr

from lkmongo.api_secret import HINT, weakness
from lkmongo.dispatch import MAX_PARTICIPANT, SEAL_LIFE, Room, plain_metadata, sealed_metadata
from lkmongo.errors import SettingsError, UsageError
from lkmongo.model import DEFAULT_TENANT, TenantScope, UserScope
from lkmongo.phone_numbers import DIALLED, NUMBER
from lkmongo.settings import Settings
from lkmongo.times import show_duration

MAX_NAME = 256
"""Bytes in the name of a room, an agent or a participant."""
MAX_METADATA = 512 * 1024
"""Bytes of a participant's metadata."""
MAX_ATTRIBUTES = 64 * 1024
"""Bytes of a participant's attributes, keys and values together."""
SHORTEST_LIFE = timedelta(seconds=60)
"""A token must live longer: LiveKit's clients treat one as expired in its last minute."""
LIFE = timedelta(minutes=15)
"""How long a token admits if nothing else is said."""
LONG_LIFE = timedelta(hours=24)
"""A token that lives longer is worth a warning, in case it is lost."""

Source = Literal["camera", "microphone", "screen_share", "screen_share_audio"]


class TokenError(UsageError):
    """No token can be made of that."""

    code = "bad_token_request"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key pair that signs tokens of a LiveKit project."""

    api_key: str
    api_secret: SecretStr

    @property
    def secret(self) -> str:
        return self.api_secret.get_secret_value()

    @classmethod
    def of(cls, settings: Settings) -> SigningKey:
        """The key pair of the settings; signing does not need LIVEKIT_URL.

        Raises:
            SettingsError: the key or the secret is not set.
        """
        pair = {"LIVEKIT_API_KEY": settings.livekit_api_key, "LIVEKIT_API_SECRET": settings.livekit_api_secret}
        missing = [name for name, value in pair.items() if not value]
        if missing or not (settings.livekit_api_key and settings.livekit_api_secret):
            raise SettingsError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
                why="tokens are signed with the key pair of the LiveKit project",
                hint="set them in .env.local or the environment",
            )
        return cls(settings.livekit_api_key, settings.livekit_api_secret)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the holder of a token may do in its room; empty `sources` means any."""

    publish: bool = True
    subscribe: bool = True
    data: bool = True
    hidden: bool = False
    sources: tuple[Source, ...] = ()
    update_metadata: bool = False
    admin: bool = False


def new_room() -> str:
    """An unguessable room name, so that strangers never meet in one."""
    return f"room-{secrets.token_hex(8)}"


def new_participant() -> str:
    """An unguessable participant identity that reveals nothing about the person."""
    return f"caller-{secrets.token_hex(8)}"


def telephone(number: str, dialled: str | None = None) -> dict[str, Any]:
    """What a `TokenRequest` holds that looks like a telephone: as livekit-sip lets a call in by a dispatch rule.

    Args:
        number: the caller's, in whatever form the network gives it; "anonymous" where it is withheld.
        dialled: the number of the trunk.
    """
    number, dialled = _bare(number), dialled and _bare(dialled)
    attributes = {
        NUMBER: number,
        DIALLED: dialled,
        "sip.callID": f"SCL_{secrets.token_hex(6)}",
        "sip.trunkID": "ST_test",
        "sip.ruleID": "SDR_test",
        "sip.callStatus": "active",
    }
    return {
        "kind": "sip",
        "participant_identity": f"sip_{number}",
        "name": f"Phone {number}",
        "attributes": {name: value for name, value in attributes.items() if value is not None},
    }


def _bare(number: str) -> str:
    """A number with its country without what makes it readable, as networks give it."""
    return re.sub(r"[ ()-]", "", number) if number.startswith("+") else number


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The content of a token to mint.

    Attributes:
        kind: "sip" for what looks like a telephone, see `telephone`: it says nothing of who is calling.
        who: the caller; a tenant alone means a guest.
        room: name of the room.
        participant_identity: the caller's identity in the room, visible to everybody there.
        name: the caller's display name.
        ttl: how long the token admits; a participant who has joined may stay.
        agent_name: the agent to dispatch when the room is created, or None.
        sealed: hide `who` from the holder of the token.
        visitor: the browser or the login of `who`, whose logout ends what is sealed.
        metadata: of the participant, JSON or any other text.
        attributes: of the participant.
        permissions: of the holder.

    Raises:
        TokenError: something is empty, too large for a server, or not text.
    """

    kind: Literal["standard", "sip"] = "standard"
    who: UserScope | TenantScope = field(default_factory=lambda: TenantScope(DEFAULT_TENANT))
    room: str = field(default_factory=new_room)
    participant_identity: str = field(default_factory=new_participant)
    name: str = ""
    ttl: timedelta = LIFE
    agent_name: str | None = None
    sealed: bool = False
    visitor: str | None = None
    metadata: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    permissions: Permissions = field(default_factory=Permissions)

    def __post_init__(self) -> None:
        _check_name("room", self.room, MAX_NAME)
        _check_name("identity", self.participant_identity, MAX_PARTICIPANT)
        if self.name:
            _check_name("name", self.name, MAX_NAME)
        if self.agent_name is not None:
            _check_name("agent's name", self.agent_name, MAX_NAME)
        if self.ttl <= SHORTEST_LIFE:
            raise TokenError(
                f"a life of {show_duration(self.ttl)} is too short",
                why="LiveKit's clients take a token for expired in its last 60 seconds",
                hint="make it longer than 60s, such as 15m",
            )
        _check_size("metadata", _bytes(self.metadata), MAX_METADATA)
        size = sum(_bytes(key) + _bytes(value) for key, value in self.attributes.items())
        _check_size("attributes", size, MAX_ATTRIBUTES)
        if self.sealed and not isinstance(self.who, UserScope):
            raise TokenError("a guest cannot be sealed", hint="name the person")
        if self.kind == "sip" and isinstance(self.who, UserScope):
            raise TokenError("a telephone does not say who is calling", hint="leave the person out")

    def dispatch_metadata(self, key: SigningKey, at: datetime | None = None, *, sid: str | None = None) -> str:
        """The dispatch metadata, for `lkmongo.dispatch.read_dispatch`; `sid` is the id of a room that is there."""
        if self.kind == "sip":
            return ""  # as a dispatch rule sends the agent: the tenant is that of the number dialled
        if not (self.sealed and isinstance(self.who, UserScope)):
            until = (at or datetime.now(UTC)) + self.ttl if isinstance(self.who, UserScope) else None
            return plain_metadata(self.who, self.participant_identity, until=until)
        return sealed_metadata(
            self.who,
            room=Room(self.room, sid),
            participant_identity=self.participant_identity,
            secret=key.secret,
            life=SEAL_LIFE if sid else self.ttl,
            visitor=self.visitor,
            at=at,
        )


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    expires_at: datetime


def mint(key: SigningKey, wanted: TokenRequest, *, send: bool = True) -> Token:
    """Make and sign a token; `send=False` leaves out the dispatch of the agent."""
    from livekit import api

    may = wanted.permissions
    grants = api.VideoGrants(
        room_join=True,
        room=wanted.room,
        can_publish=may.publish,
        can_subscribe=may.subscribe,
        can_publish_data=may.data,
        can_publish_sources=list(may.sources) or None,
        can_update_own_metadata=may.update_metadata or None,
        hidden=may.hidden or None,
        room_admin=may.admin or None,
    )
    token = (
        api.AccessToken(key.api_key, key.secret)
        .with_identity(wanted.participant_identity)
        .with_name(wanted.name)
        .with_ttl(wanted.ttl)
        .with_grants(grants)
    )
    if wanted.kind == "sip":
        token = token.with_kind("sip")
    if wanted.metadata:
        token = token.with_metadata(wanted.metadata)
    if wanted.attributes:
        token = token.with_attributes(dict(wanted.attributes))
    if send and wanted.agent_name is not None:
        sent = api.RoomAgentDispatch(agent_name=wanted.agent_name, metadata=wanted.dispatch_metadata(key))
        token = token.with_room_config(api.RoomConfiguration(agents=[sent]))
    expires_at = datetime.now(UTC).replace(microsecond=0) + wanted.ttl
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret: `concerns` reports that
        return Token(token.to_jwt(), expires_at)


def concerns(key: SigningKey, wanted: TokenRequest) -> list[str]:
    found = []
    if why := weakness(key.secret):
        found.append(f"LIVEKIT_API_SECRET {why}; {HINT}")
    if wanted.ttl > LONG_LIFE:
        found.append(f"whoever finds this token can use it for {show_duration(wanted.ttl)}; it cannot be revoked")
    if wanted.sealed and isinstance(wanted.who, UserScope):
        shown = {"identity": wanted.participant_identity, "name": wanted.name, "room": wanted.room}
        if telling := [what for what, text in shown.items() if wanted.who.user_id in text]:
            found.append(f"the {' and the '.join(telling)} can be read in the token and hold the sealed user id")
    return found


def parse_metadata(text: str) -> str:
    """Return a participant's metadata unchanged if it is JSON. Raises TokenError."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenError(
            "the metadata is not JSON", why=str(error), hint="quote it for the shell, or put it in a file"
        ) from error
    return text.strip()


def parse_attributes(text: str) -> dict[str, str]:
    """Parse a JSON object whose values are strings. Raises TokenError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenError("the attributes are not JSON", why=str(error)) from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise TokenError("the attributes are not one JSON object of texts", hint='write them as {"key": "value"}')
    return value


def _check_name(what: str, value: str, limit: int) -> None:
    if not value.strip():
        raise TokenError(f"the {what} is empty", hint="name it, or leave the option out")
    if value != value.strip() or any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in value):
        raise TokenError(f"the {what} holds a control character, or a space at an end: {value!r}")
    _check_size(what, _bytes(value), limit)


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        verb = "have" if what == "attributes" else "has"
        raise TokenError(f"the {what} {verb} {size:,} bytes; LiveKit's servers take {limit:,}")


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise TokenError("that is not text: it cannot be written as UTF-8", why=error.reason) from error
