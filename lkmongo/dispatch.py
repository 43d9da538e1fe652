"""Dispatch metadata: who the caller of a job is, written when a token is minted and validated by the agent.

It is a JSON object in one of two forms. Plain: `user_id`, optionally `tenant_id`, `participant_identity` and `until`;
whoever holds the token can read it. Sealed: only `caller`, which needs LIVEKIT_API_SECRET to make or read and is bound
to one room and one participant. (Fernet: AES-128-CBC and HMAC-SHA256, with a readable time stamp.) Anything else makes
the caller a guest.

A token outlives itself: LiveKit gives connected clients fresh ones, with the same metadata. So metadata have an end of
their own. It counts for the beginning of the room, since an agent may be sent into it again hours later. And a seal is
good for one room only, also of several that have the same name one after the other: that is the room whose id it names,
or else the first one it is used in, which `lkmongo.store.people.admission` keeps.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lkmongo.errors import InvalidIdError, LkmongoError
from lkmongo.model import DEFAULT_TENANT, TenantScope, UserScope, check_id
from lkmongo.ticket import Ticket

MAX_METADATA = 4 * 1024
"""Bytes of dispatch metadata, in UTF-8."""
MAX_PARTICIPANT = 256
"""Bytes of a participant's identity: the server's own limit."""
SEAL_LIFE = timedelta(days=1)
"""How long a seal for an existing room is valid: the call of a dead worker may be dispatched again hours later."""
LEEWAY = timedelta(seconds=60)
"""Tolerated clock difference, the same as LiveKit's servers have for tokens."""
CALLER_ATTRIBUTE = "lkmongo.caller"
"""The participant attribute in which a server passes, sealed, the identity of a guest."""
UNKNOWN_TENANT = "(unknown)"
"""The tenant of a guest whose seal does not open: theirs is sealed, too, and they get no other tenant's knowledge."""

_PLAIN = {"user_id", "tenant_id", "participant_identity", "guest_id", "until", "trust"}
_SEALED = {"caller"}


class SealError(LkmongoError):
    """A sealed caller cannot be opened here."""

    code = "bad_seal"


@dataclass(frozen=True, slots=True)
class Room:
    """The room that metadata are used in, or made for: its name and, if known, LiveKit's id and its beginning."""

    name: str
    sid: str | None = None
    began: datetime | None = None

    @classmethod
    def of(cls, room: Any) -> Room:
        """That of LiveKit's protocol."""
        began = room.creation_time_ms or 1_000 * room.creation_time
        return cls(room.name, room.sid or None, datetime.fromtimestamp(began / 1_000, UTC) if began else None)


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The caller that an agent was dispatched for.

    `participant_identity` is the participant to serve, None if the metadata does not say. `why` is what was wrong with
    a guest's metadata; it quotes nothing of it, so that it can be logged. `ticket` is that of a seal.
    `trust` is how sure it is that they are the one, in a call by telephone that is resumed: see `SessionRecord`.
    """

    scope: UserScope
    guest: bool
    participant_identity: str | None
    why: str | None
    ticket: Ticket | None = field(default=None, compare=False)
    trust: str | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    scope: UserScope
    room: Room
    participant_identity: str
    ticket: Ticket


class _MalformedError(Exception):
    """The metadata is malformed; the message contains none of its values."""


def read_dispatch(
    metadata: str,
    *,
    room: Room | str,
    secret: str | Sequence[str] | None,
    tenant_id: str | None = None,
    at: datetime | None = None,
) -> Dispatched:
    """Return the caller of a job. Never raises: malformed metadata makes a guest.

    Args:
        metadata: of the job (`ctx.job.metadata`); empty means a guest.
        room: the job's room, or only its name.
        secret: LIVEKIT_API_SECRET, to open a sealed caller; or several, the earlier ones as well.
        tenant_id: of callers of whom the metadata does not say it: by default the default one, and of those whose seal
            does not open, `UNKNOWN_TENANT`.
        at: the current time, for tests.
    """
    unnamed = tenant_id or DEFAULT_TENANT
    if not metadata.strip():
        return Dispatched(UserScope.guest(unnamed), guest=True, participant_identity=None, why=None)
    try:
        fields = _fields(metadata)
        if "caller" in fields:
            sealed = unseal(_seal_of(fields), room=room, participant_identity=None, secret=secret or "", at=at)
            who = sealed.participant_identity
            return Dispatched(sealed.scope, guest=False, participant_identity=who, why=None, ticket=sealed.ticket)
        tenant = _id(fields, "tenant_id", unnamed)
        participant = _participant(fields["participant_identity"]) if "participant_identity" in fields else None
        if "guest_id" in fields:  # of a resumed call; only a server can dispatch
            return Dispatched(_guest(fields, tenant), guest=True, participant_identity=participant, why=None)
        is_over = "until" in fields and _began(room, at) > _until(fields) + LEEWAY
        if is_over or "user_id" not in fields:
            why = "the metadata is older than this room" if is_over else "the metadata has no user_id"
            return Dispatched(UserScope.guest(tenant), guest=True, participant_identity=participant, why=why)
        scope = UserScope(tenant_id=tenant, user_id=_id(fields, "user_id"))
        trust = _only_text(fields, "trust") if "trust" in fields else None
        return Dispatched(scope, guest=False, participant_identity=participant, why=None, trust=trust)
    except SealError as error:
        unnamed, why = tenant_id or UNKNOWN_TENANT, error.message
    except _MalformedError as error:
        why = str(error)
    return Dispatched(UserScope.guest(unnamed), guest=True, participant_identity=None, why=why)


def plain_metadata(
    who: UserScope | TenantScope,
    participant_identity: str | None = None,
    *,
    until: datetime | None = None,
    trust: str | None = None,
) -> str:
    """Make metadata that the holder of the token can read; a `TenantScope` means a guest of that tenant.

    `until` is the end of the token that carries it; what a server dispatches needs none. `trust` is that of a call by
    telephone that is resumed.
    """
    fields: dict[str, Any] = {"user_id": who.user_id} if isinstance(who, UserScope) else {}
    fields["tenant_id"] = who.tenant_id
    if participant_identity is not None:
        fields["participant_identity"] = participant_identity
    if until is not None:
        fields["until"] = int(until.timestamp())
    if trust is not None:
        fields["trust"] = trust
    return _compact(fields)


def resuming_metadata(guest: UserScope, participant_identity: str | None = None) -> str:
    fields = {"guest_id": guest.user_id, "tenant_id": guest.tenant_id}
    if participant_identity is not None:
        fields["participant_identity"] = participant_identity
    return _compact(fields)


def sealed_metadata(
    scope: UserScope,
    *,
    room: Room | str,
    participant_identity: str,
    secret: str,
    life: timedelta = SEAL_LIFE,
    visitor: str | None = None,
    made_at: datetime | None = None,
    at: datetime | None = None,
) -> str:
    """Make metadata that only the holder of `secret` can read, valid in one room; see `seal`."""
    sealed = seal(
        scope,
        room=room,
        participant_identity=participant_identity,
        secret=secret,
        life=life,
        visitor=visitor,
        made_at=made_at,
        at=at,
    )
    return _compact({"caller": sealed})


def seal(
    scope: UserScope,
    *,
    room: Room | str,
    participant_identity: str,
    secret: str,
    life: timedelta = SEAL_LIFE,
    visitor: str | None = None,
    made_at: datetime | None = None,
    at: datetime | None = None,
) -> str:
    """Encrypt who a participant is, for one room.

    Args:
        scope: the person.
        room: the room with its id; or the name of one that is yet to begin: the seal is then valid in the first room of
            that name that begins within its life and uses it.
        participant_identity: visible to others, so it must not reveal who the person is.
        secret: LIVEKIT_API_SECRET.
        life: how long it is valid: as long as the token that carries it.
        visitor: the browser or the login that it is for, whose logout ends it.
        made_at: since when that visitor is known to be there, by default now; an earlier logout ends it.
        at: the current time, for tests.

    Returns:
        URL-safe base64, about 400 characters for ids of usual length.
    """
    made, where = at or datetime.now(UTC), _room(room)
    content = {
        "user_id": scope.user_id,
        "tenant_id": scope.tenant_id,
        "room": where.name,
        "participant": participant_identity,
        "until": int((made + life).timestamp()),
        "made": int((made_at or made).timestamp() * 1_000),
    }
    content |= {name: value for name, value in (("sid", where.sid), ("visitor", visitor)) if value}
    return str(_fernet(secret).encrypt_at_time(_compact(content).encode(), int(made.timestamp())).decode())


def unseal(
    text: str,
    *,
    room: Room | str,
    participant_identity: str | None = None,
    secret: str | Sequence[str],
    at: datetime | None = None,
) -> Sealed:
    """Open what `seal` made.

    Whether it was used in another room of that name before, and whether its visitor has logged out, only MongoDB knows:
    that is what its ticket is for.

    Args:
        text: the seal.
        room: the room that it is presented in, or only its name.
        participant_identity: of the participant it is presented for; None to accept the one in the seal.
        secret: LIVEKIT_API_SECRET, or several of which one has made it.
        at: the current time, for tests.

    Raises:
        SealError: it is invalid, made with another secret, for another room or participant, or has expired. The
            message contains nothing of the seal.
    """
    where = _room(room)
    sealed = _opened(text, where, [secret] if isinstance(secret, str) else secret)
    if sealed.room.name != where.name or sealed.room.sid not in {None, where.sid}:
        raise SealError("the sealed caller is for another room")
    if participant_identity not in {None, sealed.participant_identity}:
        raise SealError("the sealed caller is for another participant")
    used = at or datetime.now(UTC)
    began = used if sealed.room.sid else where.began or used
    if began > sealed.ticket.until + LEEWAY:
        raise SealError("the sealed caller is too old")
    if sealed.room.sid is None and began < sealed.ticket.made_at - LEEWAY:
        raise SealError("the sealed caller is for a room that begins later")
    return sealed


def _opened(text: str, where: Room, secrets: Sequence[str]) -> Sealed:
    if not any(secrets):
        raise SealError("there is no LIVEKIT_API_SECRET to open the sealed caller with")
    try:
        data, made = _decrypted(text, secrets)
        content = json.loads(data)
        sid, visitor = content.get("sid"), content.get("visitor")
        if not all(isinstance(each, str | None) for each in (sid, visitor)):
            raise TypeError
        made = content.get("made", 1_000 * made)  # an earlier release writes none
        # The text itself can be written in several ways.
        name = None if sid else hashlib.sha256(data).hexdigest()
        ticket = Ticket(where.sid or "", name, visitor, _time(made), _time(1_000 * content["until"]))
        scope = UserScope(tenant_id=content["tenant_id"], user_id=content["user_id"])
        return Sealed(scope, Room(content["room"], sid), content["participant"], ticket)
    except (InvalidIdError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise SealError("the sealed caller is damaged, or was sealed with another LIVEKIT_API_SECRET") from error


def _decrypted(text: str, secrets: Sequence[str]) -> tuple[bytes, int]:
    """The content, and when it was encrypted in seconds since the epoch; raises ValueError."""
    from cryptography.fernet import InvalidToken

    for secret in filter(None, secrets):
        try:
            data: bytes = _fernet(secret).decrypt(text.encode())
        except InvalidToken:
            continue
        return data, int.from_bytes(base64.urlsafe_b64decode(text)[1:9], "big")
    raise ValueError("none of the secrets has made it")


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


def _room(room: Room | str) -> Room:
    return Room(room) if isinstance(room, str) else room


def _began(room: Room | str, at: datetime | None) -> datetime:
    return _room(room).began or at or datetime.now(UTC)


def _fields(metadata: str) -> dict[str, Any]:
    """Parse the metadata, and check that its keys are those of one form."""
    if (size := len(metadata.encode("utf-8", "surrogatepass"))) > MAX_METADATA:
        raise _MalformedError(f"the metadata has {size} bytes; {MAX_METADATA} are allowed")
    try:
        value = json.loads(metadata, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _MalformedError("the metadata is not JSON") from error
    if not isinstance(value, dict):
        raise _MalformedError("the metadata is not a JSON object")
    if not value:
        raise _MalformedError("the metadata has no user_id")
    if "caller" in value and value.keys() - _SEALED:
        raise SealError("the metadata has both a sealed caller and other keys")
    if (
        value.keys() - _PLAIN - _SEALED
    ):  # never ignored: with "tenant" instead of "tenant_id" it would be another person
        raise _MalformedError(
            "the metadata has keys other than user_id, tenant_id, participant_identity, until and caller"
        )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _MalformedError("the metadata has a key twice")
    return fields


def _seal_of(fields: dict[str, Any]) -> str:
    if not isinstance(fields["caller"], str):
        raise SealError("the metadata's caller is not text")
    return fields["caller"]


def _only_text(fields: dict[str, Any], key: str) -> str:
    if not isinstance(fields[key], str):
        raise _MalformedError(f"the metadata's {key} is not text")
    return str(fields[key])


def _id(fields: dict[str, Any], key: str, default: str | None = None) -> str:
    if key not in fields and default is not None:
        return default
    _only_text(fields, key)
    try:
        return check_id(key.removesuffix("_id"), fields[key])
    except InvalidIdError as error:  # its message shows the value
        raise _MalformedError(f"the metadata's {key} cannot be an id: 1 to 128 printable characters") from error


def _guest(fields: dict[str, Any], tenant: str) -> UserScope:
    guest = UserScope(tenant_id=tenant, user_id=_id(fields, "guest_id"))
    if not guest.is_guest or "user_id" in fields:
        raise _MalformedError("the metadata's guest_id is not a guest's")
    return guest


def _until(fields: dict[str, Any]) -> datetime:
    value = fields["until"]
    try:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise _MalformedError("the metadata's until is not a time in seconds since 1970") from error


def _participant(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value.encode("utf-8", "surrogatepass")) > MAX_PARTICIPANT:
        raise _MalformedError(f"the metadata's participant_identity is not text of 1 to {MAX_PARTICIPANT} bytes")
    return value


def _compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _fernet(secret: str) -> Any:
    """A cipher with a derived key, so that seals reveal nothing about the secret that signs tokens."""
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lkmongo sealed caller 1").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
