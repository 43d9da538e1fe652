"""Dispatch metadata: who the caller of a job is, written when a token is minted and validated by the agent.

It is a JSON object in one of two forms. Plain: `user_id`, optionally `tenant_id` and `participant_identity`; whoever
holds the token can read it. Sealed: only `caller`, which needs LIVEKIT_API_SECRET to make or read and is bound to one
room and one participant. (Fernet: AES-128-CBC and HMAC-SHA256, with a readable time stamp.) Anything else makes the
caller a guest.
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
"""How long a seal is valid: LiveKit Cloud may dispatch the call of a dead worker again hours later."""
LEEWAY = timedelta(seconds=60)
"""Tolerated clock difference, the same as LiveKit's servers have for tokens."""
CALLER_ATTRIBUTE = "lkmongo.caller"
"""The participant attribute in which a server passes, sealed, the identity of a guest."""

_PLAIN = {"user_id", "tenant_id", "participant_identity", "guest_id"}
_SEALED = {"caller"}


class SealError(LkmongoError):
    """A sealed caller cannot be opened here."""

    code = "bad_seal"


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The caller that an agent was dispatched for.

    `participant_identity` is the participant to serve, None if the metadata does not say. `why` is what was wrong with
    a guest's metadata; it quotes nothing of it, so that it can be logged.
    """

    scope: UserScope
    guest: bool
    participant_identity: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Sealed:
    scope: UserScope
    room: str
    participant_identity: str
    until: datetime


class _MalformedError(Exception):
    """The metadata is malformed; the message contains none of its values."""


def read_dispatch(metadata: str, *, room: str, secret: str | None, at: datetime | None = None) -> Dispatched:
    """Return the caller of a job. Never raises: malformed metadata makes a guest.

    Args:
        metadata: of the job (`ctx.job.metadata`); empty means a guest.
        room: name of the job's room.
        secret: LIVEKIT_API_SECRET, to open a sealed caller.
        at: the current time, for tests.
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
        participant = _participant(fields["participant_identity"]) if "participant_identity" in fields else None
        if "guest_id" in fields:  # of a resumed call; only a server can dispatch
            return Dispatched(_guest(fields, tenant), guest=True, participant_identity=participant, why=None)
        if "user_id" not in fields:
            why = "the metadata has no user_id"
            return Dispatched(UserScope.guest(tenant), guest=True, participant_identity=participant, why=why)
        scope = UserScope(tenant_id=tenant, user_id=_id(fields, "user_id"))
        return Dispatched(scope, guest=False, participant_identity=participant, why=None)
    except SealError as error:
        why = error.message
    except _MalformedError as error:
        why = str(error)
    return Dispatched(UserScope.guest(), guest=True, participant_identity=None, why=why)


def plain_metadata(who: UserScope | TenantScope, participant_identity: str | None = None) -> str:
    """Make metadata that the holder of the token can read; a `TenantScope` means a guest of that tenant."""
    fields = {"user_id": who.user_id} if isinstance(who, UserScope) else {}
    fields["tenant_id"] = who.tenant_id
    if participant_identity is not None:
        fields["participant_identity"] = participant_identity
    return _compact(fields)


def resuming_metadata(guest: UserScope, participant_identity: str | None = None) -> str:
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
    """Make metadata that only the holder of `secret` can read, valid in one room."""
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
    """Encrypt who a participant is, for one room.

    Args:
        scope: the person.
        room: name of the only room where it is valid.
        participant_identity: visible to others, so it must not reveal who the person is.
        secret: LIVEKIT_API_SECRET.
        life: how long it is valid: the life of the token plus the longest call.
        at: the current time, for tests.

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
        participant_identity: of the participant it is presented for; None to accept the one in the seal.
        secret: LIVEKIT_API_SECRET.
        at: the current time, for tests.

    Raises:
        SealError: it is invalid, made with another secret, for another room or participant, or has expired. The
            message contains nothing of the seal.
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
        raise _MalformedError("the metadata has both a sealed caller and other keys")
    if (
        value.keys() - _PLAIN - _SEALED
    ):  # never ignored: with "tenant" instead of "tenant_id" it would be another person
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
    """A cipher with a derived key, so that seals reveal nothing about the secret that signs tokens."""
    import base64

    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lkmongo sealed caller 1").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
