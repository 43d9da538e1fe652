"""Whom a call is for: the metadata that a job is dispatched with, written by the minter and checked by the agent.

It is a JSON object in one of two forms. Plain: `user_id`, with `tenant_id` and `participant_identity` where they are
known; a browser that holds the token can read it. Sealed: `caller` alone, which only the holder of LIVEKIT_API_SECRET
can read or make, for one room and one participant. (Fernet: AES-128-CBC and HMAC-SHA256. It shows when it was made.)
Whatever else arrives is a guest of this call, never somebody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lkmongo.errors import InvalidIdError, LkmongoError
from lkmongo.model import DEFAULT_TENANT, TenantScope, UserScope, check_id

MAX_METADATA = 4 * 1024
"""Bytes of dispatch metadata, in UTF-8."""
MAX_PARTICIPANT = 256
"""Bytes of a participant's identity: the server's own limit."""
SEAL_LIFE = timedelta(days=1)
"""How long a seal opens. LiveKit Cloud dispatches a dead worker's call again with the same metadata, hours into it."""
LEEWAY = timedelta(seconds=60)
"""What two machines' clocks may differ by, as LiveKit's servers take tokens."""

_PLAIN = {"user_id", "tenant_id", "participant_identity", "guest_id"}
_SEALED = {"caller"}


class SealError(LkmongoError):
    """A sealed caller cannot be opened here."""

    code = "bad_seal"


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Whom the agent was dispatched for.

    `participant_identity` is the identity of the participant to serve, None where the metadata does not tell. `why` says what
    was wrong with the metadata of a guest, without a word of it, so that it can be logged.
    """

    scope: UserScope
    guest: bool
    participant_identity: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a seal holds."""

    scope: UserScope
    room: str
    participant_identity: str
    until: datetime


class _MalformedError(Exception):
    """The metadata is not what an agent is dispatched with; the text is a sentence without any of its values."""


def read_dispatch(metadata: str, *, room: str, secret: str | None, at: datetime | None = None) -> Dispatched:
    """Tell whom a job is for. Never raises: what is not well formed is a guest of this call.

    Args:
        metadata: what the job was dispatched with (`ctx.job.metadata`); empty means a guest.
        room: name of the room that the job is for.
        secret: LIVEKIT_API_SECRET, with which a sealed caller is opened.
        at: the present, for tests.
    """
    if not metadata.strip():
        return Dispatched(UserScope.guest(), guest=True, participant_identity=None, why=None)
    try:
        fields = _fields(metadata)
        if "caller" in fields:
            sealed = unseal(
                _only_text(fields, "caller"), room=room, participant_identity=None, secret=secret or "", at=at
            )
            return Dispatched(sealed.scope, guest=False, participant_identity=sealed.participant_identity, why=None)
        tenant = _id(fields, "tenant_id", DEFAULT_TENANT)
        participant_identity = (
            _participant(fields["participant_identity"]) if "participant_identity" in fields else None
        )
        if "guest_id" in fields:  # of a call that is gone on with; nobody but a server can dispatch
            return Dispatched(_guest(fields, tenant), guest=True, participant_identity=participant_identity, why=None)
        if "user_id" not in fields:
            return Dispatched(
                UserScope.guest(tenant),
                guest=True,
                participant_identity=participant_identity,
                why="the metadata has no user_id",
            )
        return Dispatched(
            UserScope(tenant_id=tenant, user_id=_id(fields, "user_id")),
            guest=False,
            participant_identity=participant_identity,
            why=None,
        )
    except SealError as error:
        why = error.message
    except _MalformedError as error:
        why = str(error)
    return Dispatched(UserScope.guest(), guest=True, participant_identity=None, why=why)


def plain_metadata(who: UserScope | TenantScope, participant_identity: str | None = None) -> str:
    """Write metadata that anybody who holds the token can read; a `Tenant` alone is a guest of that tenant."""
    fields = {"user_id": who.user_id} if isinstance(who, UserScope) else {}
    fields["tenant_id"] = who.tenant_id
    if participant_identity is not None:
        fields["participant_identity"] = participant_identity
    return _compact(fields)


def resuming_metadata(guest: UserScope, participant_identity: str | None = None) -> str:
    """Write metadata for an agent that goes on with the call of this guest."""
    fields = {"guest_id": guest.user_id, "tenant_id": guest.tenant_id}
    if participant_identity is not None:
        fields["participant_identity"] = participant_identity
    return _compact(fields)


def sealed_metadata(
    scope: UserScope,
    *,
    room: str,
    participant_identity: str,
    secret: str,
    life: timedelta = SEAL_LIFE,
    at: datetime | None = None,
) -> str:
    """Write metadata that only the holder of `secret` can read, and that is good in one room alone."""
    return _compact(
        {"caller": seal(scope, room=room, participant_identity=participant_identity, secret=secret, life=life, at=at)}
    )


def seal(
    scope: UserScope,
    *,
    room: str,
    participant_identity: str,
    secret: str,
    life: timedelta = SEAL_LIFE,
    at: datetime | None = None,
) -> str:
    """Seal who a participant of a room is.

    Args:
        scope: the person.
        room: name of the room that it is good for.
        participant_identity: the participant's identity, which must not tell who the person is.
        secret: LIVEKIT_API_SECRET.
        life: how long it opens: the token's life, and as long as the call may then last.
        at: the present, for tests.

    Returns:
        URL-safe base64, about 300 characters for ids of usual length.
    """
    made = at or datetime.now(UTC)
    content = {
        "user_id": scope.user_id,
        "tenant_id": scope.tenant_id,
        "room": room,
        "participant": participant_identity,
        "until": int((made + life).timestamp()),
    }
    return str(_fernet(secret).encrypt_at_time(_compact(content).encode(), int(made.timestamp())).decode())


def unseal(
    text: str, *, room: str, participant_identity: str | None = None, secret: str, at: datetime | None = None
) -> Sealed:
    """Open what `seal` made.

    Args:
        text: the seal.
        room: name of the room it is presented in.
        participant_identity: identity of the participant it is presented for; None where it is the seal that tells.
        secret: LIVEKIT_API_SECRET.
        at: the present, for tests.

    Raises:
        SealError: it is none, was made with another secret, for another room or participant, or is too old.
            The message holds nothing of the seal.
    """
    from cryptography.fernet import InvalidToken

    if not secret:
        raise SealError("there is no LIVEKIT_API_SECRET to open the sealed caller with")
    try:
        content = json.loads(_fernet(secret).decrypt(text.encode()))
        until = datetime.fromtimestamp(content["until"], UTC)
        sealed = Sealed(
            UserScope(tenant_id=content["tenant_id"], user_id=content["user_id"]),
            content["room"],
            content["participant"],
            until,
        )
    except (InvalidToken, InvalidIdError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise SealError("the sealed caller is damaged, or was sealed with another LIVEKIT_API_SECRET") from error
    if sealed.room != room:
        raise SealError("the sealed caller is for another room")
    if participant_identity not in {None, sealed.participant_identity}:
        raise SealError("the sealed caller is for another participant")
    if (at or datetime.now(UTC)) > until + LEEWAY:
        raise SealError("the sealed caller is too old")
    return sealed


# ---------------------------------------------------------------------- inside


def _fields(metadata: str) -> dict[str, Any]:
    """The metadata as an object that has the keys of one of the two forms."""
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
        raise _MalformedError("the metadata has both a sealed caller and other keys")
    if value.keys() - _PLAIN - _SEALED:  # not ignored: with "tenant" for "tenant_id" it would be somebody else
        raise _MalformedError("the metadata has keys other than user_id, tenant_id, participant_identity and caller")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _MalformedError("the metadata has a key twice")
    return fields


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


def _participant(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value.encode("utf-8", "surrogatepass")) > MAX_PARTICIPANT:
        raise _MalformedError(f"the metadata's participant_identity is not text of 1 to {MAX_PARTICIPANT} bytes")
    return value


def _compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _fernet(secret: str) -> Any:
    """The cipher of this secret: a key of its own, so that what is sealed tells nothing about what signs tokens."""
    import base64

    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lkmongo sealed caller 1").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
