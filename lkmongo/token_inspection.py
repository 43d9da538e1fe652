"""Inspects a join token: its content, whether a server would accept it, and who the agent would take the caller for.

No server is contacted: the rules are those of livekit-server (its `auth` package, and `initJoin` for a join).
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lkmongo.dispatch import LEEWAY, MAX_PARTICIPANT, Dispatched, read_dispatch
from lkmongo.errors import LkmongoError, UsageError
from lkmongo.tokens import MAX_ATTRIBUTES, MAX_METADATA, MAX_NAME, SHORTEST_LIFE

_KEYS = ("participant_token", "participantToken", "access_token", "accessToken", "token")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*")


class RefusedTokenError(LkmongoError):
    """A server would refuse this token."""

    code = "token_refused"


@dataclass(frozen=True, slots=True)
class SentAgent:
    """An agent that the token dispatches, and its caller.

    `dispatched` is None if the caller is sealed and there is no secret to open it.
    """

    agent_name: str
    sealed: bool
    dispatched: Dispatched | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The content of a token and what is wrong with it.

    Attributes:
        kind: of the participant: "standard", or "sip" for a telephone.
        signature: "not checked" without a secret.
        may: the holder's permissions, in words.
        agents: those it dispatches.
        problems: why a server would refuse it, a sentence each.
        notes: what else is worth knowing.
    """

    issuer: str
    room: str
    participant_identity: str
    kind: str
    name: str
    metadata: str
    attributes: dict[str, str]
    not_before: datetime | None
    expires_at: datetime | None
    signature: Literal["valid", "wrong", "not checked"]
    may: tuple[str, ...]
    agents: tuple[SentAgent, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def find_token(text: str) -> str:
    """Extract the token from a text: a token, a token endpoint's answer, or a line such as LIVEKIT_TOKEN=...

    Raises:
        UsageError: there is none.
    """
    text = text.strip()
    if text.startswith("{"):
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                "that is not JSON", why=str(error), hint="give a token, or what lkmongo token --json prints"
            ) from error
        found = next((answer[key] for key in _KEYS if isinstance(answer.get(key), str)), "")
        text = str(found).strip()
    elif named := re.search(r"^(?:export )?LIVEKIT_TOKEN=['\"]?([^'\"\s]*)", text, re.MULTILINE):
        text = named.group(1)
    text = re.sub(r"(?i)^bearer\s+", "", text)
    if not _JWT.fullmatch(text):
        raise UsageError(
            "there is no token in that",
            hint="give the token itself, or the output of `lkmongo token --json` or of a token endpoint",
        )
    return text


def inspect(
    token: str,
    *,
    api_key: str | None,
    secret: str | None,
    agent_name: str,
    previous: Sequence[str] = (),
    at: datetime | None = None,
) -> Inspection:
    """Inspect a token.

    Args:
        token: the token alone; see `find_token`.
        api_key: LIVEKIT_API_KEY, the expected issuer.
        secret: LIVEKIT_API_SECRET, to check the signature and to open a sealed caller.
        agent_name: the agent expected to be dispatched.
        previous: earlier secrets, which may have sealed a caller.
        at: the current time, for tests.

    Raises:
        UsageError: it is not a token of any kind.
    """
    at = at or datetime.now(UTC)
    header, claims, _ = _parts(token)
    algorithm = str(header.get("alg"))
    video = _object(claims, "video")
    room = _text(video, "room")
    signature = _signature(token, secret)
    expires_at, not_before = _moment(claims, "exp"), _moment(claims, "nbf")
    agents = tuple(_agents(claims, room, [secret, *previous] if secret else None, at))
    sent = Inspection(
        issuer=_text(claims, "iss"),
        room=room,
        participant_identity=_text(claims, "sub"),
        kind=_text(claims, "kind") or "standard",
        name=_text(claims, "name"),
        metadata=_text(claims, "metadata"),
        attributes={key: str(value) for key, value in _object(claims, "attributes").items()},
        not_before=not_before,
        expires_at=expires_at,
        signature=signature,
        may=tuple(_may(video)),
        agents=agents,
        problems=(),
        notes=(),
    )
    problems = [
        *_signing_problems(sent, algorithm, api_key),
        *_time_problems(sent, at),
        *_content_problems(sent, video),
    ]
    notes = list(_notes(sent, agent_name, at))
    return replace(sent, problems=tuple(problems), notes=tuple(notes))


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header, claims and the signature, unchecked."""
    try:
        header, claims, signature = (urlsafe_b64decode(f"{part}===") for part in token.split("."))
        objects = json.loads(header), json.loads(claims)
    except (ValueError, RecursionError) as error:
        raise _no_token(str(error)) from error
    if not all(isinstance(each, dict) for each in objects):
        raise _no_token("its parts are not JSON objects")
    return *objects, signature


def _no_token(why: str) -> UsageError:
    return UsageError("that is not a token", why=why, hint="give all of it: three parts separated by dots")


# ---------------------------------------------------------------------- what a server refuses


def _signature(token: str, secret: str | None) -> Literal["valid", "wrong", "not checked"]:
    """Whether it was signed with the secret and HS256, the only algorithm that servers accept."""
    if not secret:
        return "not checked"
    header, _, signature = _parts(token)
    expected = hmac.digest(secret.encode(), token.rpartition(".")[0].encode(), "sha256")
    return "valid" if header.get("alg") == "HS256" and hmac.compare_digest(signature, expected) else "wrong"


def _signing_problems(token: Inspection, algorithm: str, api_key: str | None) -> Iterator[str]:
    if algorithm != "HS256":
        yield "it is not signed with HS256, which servers require"
    elif token.signature == "wrong":
        yield "its signature was not made with this LIVEKIT_API_SECRET"
    if not token.issuer:
        yield "it does not name the API key that issued it (iss)"
    elif api_key and token.issuer != api_key:
        yield f"it was issued by the API key {token.issuer}, not by {api_key}"


def _time_problems(token: Inspection, at: datetime) -> Iterator[str]:
    if token.expires_at is None:
        yield "it has no expiry (exp)"
    elif at > token.expires_at + LEEWAY:
        yield f"it expired {relative(token.expires_at, at)}"
    if token.not_before and token.not_before > at + LEEWAY:
        yield f"it is not valid yet; by this machine's clock it will be {relative(token.not_before, at)}"


def _content_problems(token: Inspection, video: Mapping[str, Any]) -> Iterator[str]:
    if video.get("roomJoin") is not True:
        yield "it does not permit joining a room (video.roomJoin)"
    elif not token.room:
        yield "it names no room (video.room)"
    if not token.participant_identity:
        yield "it has no participant identity (sub)"
    for what, size, limit in (
        ("room", _size(token.room), MAX_NAME),
        ("identity", _size(token.participant_identity), MAX_PARTICIPANT),
        ("metadata", _size(token.metadata), MAX_METADATA),
        ("attributes", sum(_size(k) + _size(v) for k, v in token.attributes.items()), MAX_ATTRIBUTES),
    ):
        if size > limit:
            yield f"its {what} {'have' if what == 'attributes' else 'has'} {size:,} bytes; servers accept {limit:,}"


def _notes(token: Inspection, agent_name: str, at: datetime) -> Iterator[str]:
    if token.signature == "not checked":
        yield "the signature was not checked: LIVEKIT_API_SECRET is not set"
    if token.expires_at and at <= token.expires_at + LEEWAY and token.expires_at - at <= SHORTEST_LIFE:
        yield "it is in its last minute: LiveKit's clients already treat it as expired"
    if token.not_before and at < token.not_before <= at + LEEWAY:
        seconds = (token.not_before - at).total_seconds()
        yield f"this machine's clock is {seconds:.0f} s behind the clock that made it; servers tolerate 60 s"
    if not token.agents:
        yield "it dispatches no agent: one must be in the room already, or be dispatched there"
    for sent in token.agents:
        if not sent.agent_name:
            yield "it dispatches an agent without a name: no worker with a name will join"
        elif sent.agent_name != agent_name:
            yield f"it dispatches {sent.agent_name}, but the agent configured here is {agent_name}"
        if sent.dispatched and sent.dispatched.participant_identity not in {None, token.participant_identity}:
            yield "the agent is dispatched for another participant than this token's"
        if not sent.dispatched:
            yield "the caller is sealed: it takes LIVEKIT_API_SECRET to open"


# ---------------------------------------------------------------------- what it says


def _agents(claims: Mapping[str, Any], room: str, secrets: Sequence[str] | None, at: datetime) -> Iterator[SentAgent]:
    listed = _object(claims, "roomConfig").get("agents")
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict):
            continue
        metadata = _text(each, "metadata")
        sealed = metadata.lstrip().startswith('{"caller"')
        yield SentAgent(
            agent_name=_text(each, "agentName") or _text(each, "agent_name"),
            sealed=sealed,
            dispatched=read_dispatch(metadata, room=room, secret=secrets, at=at) if secrets or not sealed else None,
        )


def _may(video: Mapping[str, Any]) -> Iterator[str]:
    """The grants in words; a server permits these by default."""
    sources = video.get("canPublishSources")
    if isinstance(sources, list) and sources:
        yield f"publish {', '.join(str(source) for source in sources)}"
    elif video.get("canPublish", True):
        yield "publish"
    for key, word in (("canSubscribe", "subscribe"), ("canPublishData", "send data")):
        if video.get(key, True):
            yield word
    for key, word in (
        ("hidden", "stay hidden"),
        ("canUpdateOwnMetadata", "change its own metadata"),
        ("roomAdmin", "administer the room"),
        ("roomCreate", "create rooms"),
        ("roomList", "list rooms"),
        ("roomRecord", "record rooms"),
        ("ingressAdmin", "administer ingresses"),
        ("agent", "register as an agent's worker"),
    ):
        if video.get(key):
            yield word


def relative(moment: datetime, at: datetime) -> str:
    """A moment relative to `at`, in words: "in 15 minutes", "2 days ago"."""
    seconds = round((moment - at).total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if abs(seconds) >= 2 * size or size == 1:
            count = round(abs(seconds) / size)
            words = f"{count} {unit}{'' if count == 1 else 's'}"
            break
    return f"in {words}" if seconds >= 0 else f"{words} ago"


def _object(claims: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = claims.get(key)
    return value if isinstance(value, dict) else {}


def _text(claims: Mapping[str, Any], key: str) -> str:
    value = claims.get(key)
    return value if isinstance(value, str) else ""


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _moment(claims: Mapping[str, Any], key: str) -> datetime | None:
    value = claims.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None
