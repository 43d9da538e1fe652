"""`lkmongo token`: mint a token that lets a client into a room and dispatches the agent; inspect a token."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, Tenant, command, own_command
from lkmongo.cli.output import Format, show_fields
from lkmongo.errors import UsageError
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.cli.command import Cli
    from lkmongo.livekit_api import Arrival
    from lkmongo.token_inspection import Inspection, SentAgent
    from lkmongo.tokens import SigningKey, Token, TokenRequest


def show_inspection(cli: Cli, token: Inspection) -> None:
    """Write what a token contains; raises RefusedTokenError if a server would refuse it."""
    from lkmongo.token_inspection import RefusedTokenError

    if cli.output.is_json:
        cli.output.record(_for_programs(token), "")
    else:
        show_fields(cli.output, _for_people(token))
        for note in token.notes:
            cli.output.note(f"note: {note}")
    if token.problems:
        raise RefusedTokenError(
            f"a server would refuse this token: {'; '.join(token.problems)}",
            hint="compare LIVEKIT_API_KEY and LIVEKIT_API_SECRET with those of the server"
            if token.signature == "wrong"
            else "mint a new one: lkmongo token",
        )


def _for_programs(token: Inspection) -> dict[str, Any]:
    return {
        "accepted": not token.problems,
        "problems": token.problems,
        "notes": token.notes,
        "signature": token.signature,
        "issuer": token.issuer,
        "room_name": token.room,
        "participant_identity": token.participant_identity,
        "participant_kind": token.kind,
        "participant_name": token.name or None,
        "participant_metadata": token.metadata or None,
        "participant_attributes": token.attributes,
        "not_before": token.not_before,
        "expires_at": token.expires_at,
        "may": token.may,
        "agents": [_agent(each) for each in token.agents],
    }


def _agent(sent: SentAgent) -> dict[str, Any]:
    """What an agent is told; null if that needs LIVEKIT_API_SECRET."""
    found = sent.dispatched
    return {
        "agent_name": sent.agent_name,
        "sealed": sent.sealed,
        "guest": found.guest if found else None,
        "user_id": found.scope.user_id if found and not found.guest else None,
        "tenant_id": found.scope.tenant_id if found else None,
        "why": found.why if found else None,
        "participant_identity": found.participant_identity if found else None,
    }


def _for_people(token: Inspection) -> dict[str, Any]:
    from lkmongo.token_inspection import relative

    at = datetime.now(UTC)
    when = {
        name: f"{moment.isoformat()}, {relative(moment, at)}" if moment else "(not set)"
        for name, moment in (("valid from", token.not_before), ("expires", token.expires_at))
    }
    fields: dict[str, Any] = {"room": token.room, "identity": token.participant_identity}
    if token.name:
        fields["name"] = token.name
    if token.metadata:
        fields["metadata"] = token.metadata if len(token.metadata) <= 200 else f"{len(token.metadata):,} characters"
    if token.attributes:
        fields["attributes"] = ", ".join(f"{key}={value}" for key, value in token.attributes.items())
    fields |= when | {"may": ", ".join(token.may) or "nothing", "issuer": token.issuer, "signature": token.signature}
    if not token.agents:
        fields["agent"] = "none is dispatched"
    for number, sent in enumerate(token.agents, 1):
        fields["agent" if number == 1 else f"agent {number}"] = _sentence(sent, token.kind)
    return fields


def _sentence(sent: SentAgent, kind: str) -> str:
    name, found = sent.agent_name or "(no name)", sent.dispatched
    if kind == "sip" and found and found.guest:
        return f"{name} knows the caller by the telephone number"
    if found is None:
        return f"{name} is told who the caller is, sealed"
    who = "a guest" if found.guest else found.scope.user_id
    why = f" ({found.why})" if found.why else " (sealed)" if sent.sealed else ""
    return f"{name} treats the caller as {who} of tenant {found.scope.tenant_id}{why}"


app = typer.Typer(
    help="Let a client into a room, and dispatch the agent there.",
    rich_markup_mode=None,
    subcommand_metavar="[COMMAND] [ARGS]...",
)


class Purpose(StrEnum):
    TALK = "talk"
    OBSERVER = "observer"
    ADMIN = "admin"


class TrackSource(StrEnum):
    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


@own_command(app, data=True)
async def token(
    cli: Cli,
    user: Annotated[
        str | None, typer.Option("--user", help="Id of the person; without it the agent treats the caller as a guest.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Hide the ids of person and tenant from whoever holds the token.")
    ] = False,
    sip: Annotated[
        str | None,
        typer.Option(
            "--sip",
            metavar="NUMBER",
            help="Look like a telephone with this number, for tests; anonymous for one that withholds it.",
        ),
    ] = None,
    dialled: Annotated[
        str | None, typer.Option("--dialled", metavar="NUMBER", help="With --sip: the number that was dialled.")
    ] = None,
    room: Annotated[str | None, typer.Option("--room", help="Name of the room; by default a new one.")] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--identity", help="The caller's identity in the room, visible to everybody there; by default a new one."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The caller's name as displayed to others in the room.")] = "",
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long the token is valid for joining: 90s, 15m, 6h, 1d.")
    ] = "15m",
    purpose: Annotated[
        Purpose,
        typer.Option(
            "--for", help="observer: listen unseen; admin: join and administer the room. Neither dispatches an agent."
        ),
    ] = Purpose.TALK,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="NAME", help="The agent to dispatch; by default LKMONGO_AGENT_NAME."),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            "--metadata", metavar="JSON|@FILE|-", help="The caller's metadata, visible to everybody in the room."
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="KEY=VALUE", help="An attribute of the caller; may be repeated."),
    ] = None,
    attribute_file: Annotated[
        Path | None,
        typer.Option(
            "--attribute-file", metavar="FILE", help="A JSON object of attributes; --attribute takes precedence."
        ),
    ] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="The caller may not publish tracks.")] = False,
    no_subscribe: Annotated[
        bool, typer.Option("--no-subscribe", help="The caller may not hear or see others.")
    ] = False,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="The caller may not send data, so cannot type either.")
    ] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Others do not see the caller.")] = False,
    update_metadata: Annotated[
        bool, typer.Option("--update-metadata", help="The caller may change their own name, metadata and attributes.")
    ] = False,
    source: Annotated[
        list[TrackSource] | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="The caller may publish only this: camera, microphone, screen_share or screen_share_audio; "
            "may be repeated.",
        ),
    ] = None,
    dispatch: Annotated[
        bool, typer.Option("--dispatch", help="Dispatch the agent now, into the existing --room.")
    ] = False,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            help="With --dispatch: how long to wait for the agent; by default 20s; 0s does not wait.",
        ),
    ] = None,
    token_only: Annotated[bool, typer.Option("--token-only", help="Write the token and nothing else.")] = False,
    env: Annotated[bool, typer.Option("--env", help="Write LIVEKIT_URL=... and LIVEKIT_TOKEN=... lines.")] = False,
) -> None:
    """Mint a token that lets one client into a room, and dispatches the agent there to talk with them.

    It is signed on this machine with LIVEKIT_API_KEY and LIVEKIT_API_SECRET, without contacting a server. The agent is
    dispatched when the room is created, as the first participant joins; for an existing room use --dispatch. Whoever
    holds the token can read it, including the ids of person and tenant unless --sealed. With --sip it stands for a
    call by telephone, so that one can be tried without a telephone network.
    """
    from lkmongo.model import TenantScope, UserScope
    from lkmongo.times import parse_duration
    from lkmongo.tokens import Permissions, SigningKey, TokenRequest, concerns, mint, parse_metadata, telephone

    sends_agent = purpose is Purpose.TALK
    asked = "--json" if cli.asked is Format.JSON else "--output"
    _refuse_contradictions(
        {
            "--token-only and --env": token_only and env,
            f"--token-only and {asked}": token_only and cli.asked,
            f"--env and {asked}": env and cli.asked,
            "--no-publish and --source": no_publish and source,
            f"--for {purpose} and --source": source and purpose is Purpose.OBSERVER,
            f"--for {purpose} and --no-subscribe": no_subscribe and purpose is Purpose.OBSERVER,
            f"--for {purpose} and --tenant": tenant != DEFAULT_TENANT and not sends_agent,
            f"--for {purpose} and --user": user is not None and not sends_agent,
            f"--for {purpose} and --sealed": sealed and not sends_agent,
            f"--for {purpose} and --agent": agent is not None and not sends_agent,
            f"--for {purpose} and --dispatch": dispatch and not sends_agent,
            f"--for {purpose} and --sip": sip is not None and not sends_agent,
            "--sip and --user": sip is not None and user is not None,
            "--sip and --tenant": sip is not None and tenant != DEFAULT_TENANT,
        }
    )
    _need(
        {
            "--sealed": ("--user", sealed and user is None),
            "--dispatch": ("--room", dispatch and room is None),
            "--wait": ("--dispatch", wait is not None and not dispatch),
            "--dialled": ("--sip", dialled is not None and sip is None),
            f"--for {purpose}": ("--room", not sends_agent and room is None),
        }
    )
    observer = purpose is Purpose.OBSERVER
    given = telephone(sip, dialled) if sip is not None else {}
    given |= {key: value for key, value in (("room", room), ("participant_identity", identity)) if value is not None}
    given["name"] = name or given.get("name", "")
    given["attributes"] = given.get("attributes", {}) | _attributes(attribute or [], attribute_file)
    wanted = TokenRequest(
        who=TenantScope(tenant) if user is None else UserScope(tenant_id=tenant, user_id=user),
        ttl=parse_duration(ttl),
        agent_name=(cli.settings.agent_name if agent is None else agent) if sends_agent else None,
        sealed=sealed,
        metadata="" if metadata is None else parse_metadata(_content(metadata)),
        permissions=Permissions(
            publish=not (no_publish or observer),
            subscribe=not no_subscribe,
            data=not (no_data or observer),
            hidden=hidden or observer,
            sources=tuple(each.value for each in source or []),
            update_metadata=update_metadata,
            admin=purpose is Purpose.ADMIN,
        ),
        **given,
    )
    key = SigningKey.of(cli.settings)
    for concern in concerns(key, wanted):
        cli.output.warn(concern)
    arrival = await _dispatch(cli, wanted, key, parse_duration(wait or "20s")) if dispatch else None
    minted = mint(key, wanted, send=not dispatch)
    url = _server_url(cli)
    _tell(cli, wanted, minted, arrival)
    if token_only:
        cli.output.say(minted.text)
    elif env:
        _write_env(cli, url, minted)
    else:
        _write(cli, url, wanted, minted, arrival)


@command(app, "inspect", data=True)
def inspect(
    cli: Cli,
    text: Annotated[
        str,
        typer.Argument(
            metavar="[TOKEN|-]",
            help="The token, or - for stdin: alone, in a token endpoint's response, or as LIVEKIT_TOKEN=...",
            show_default=False,
        ),
    ] = "-",
) -> None:
    """Show what a token contains, and whom the agent will recognise; exits with 1 if a server would refuse it.

    With LIVEKIT_API_SECRET the signature is checked, and a sealed person shown.
    """
    from lkmongo.token_inspection import find_token
    from lkmongo.token_inspection import inspect as take_apart

    secret = cli.settings.livekit_api_secret
    inspection = take_apart(
        find_token(_stdin() if text == "-" else text),
        api_key=cli.settings.livekit_api_key,
        secret=secret.get_secret_value() if secret else None,
        previous=cli.settings.former_secrets,
        agent_name=cli.settings.agent_name,
    )
    show_inspection(cli, inspection)


def _server_url(cli: Cli) -> str | None:
    """The WebSocket address for clients; None, with a warning, if none is set."""
    url = cli.settings.livekit_url
    if url is None:
        cli.output.warn("LIVEKIT_URL is not set, and clients need the server's address; set it in .env.local")
        return None
    return f"ws{url.removeprefix('http')}" if url.startswith("http") else url


def _refuse_contradictions(pairs: dict[str, Any]) -> None:
    for pair, both in pairs.items():
        if both:
            raise UsageError(f"{pair} contradict each other", hint="leave one of them out")


def _need(options: dict[str, tuple[str, bool]]) -> None:
    for option, (other, missing) in options.items():
        if missing:
            raise UsageError(f"{option} needs {other}", hint=f"add {other}")


def _stdin() -> str:
    from lkmongo.cli.output import is_terminal

    if is_terminal(sys.stdin):
        raise UsageError("there is no token", hint="pass it as an argument, or pipe it in")
    return sys.stdin.buffer.read(4 * 1024 * 1024).decode(errors="replace")


def _content(text: str) -> str:
    """An option's value: the text itself, the contents of @FILE, or stdin for -."""
    if text == "-":
        return _stdin()
    return _read(Path(text[1:])) if text.startswith("@") else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror, hint="name an existing file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", why=error.reason, hint="save it as UTF-8") from error


def _attributes(pairs: list[str], file: Path | None) -> dict[str, str]:
    from lkmongo.tokens import parse_attributes

    attributes = parse_attributes(_read(file)) if file else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--attribute {pair!r} is not KEY=VALUE", hint="such as --attribute plan=gold")
        attributes[key] = value
    return attributes


async def _dispatch(cli: Cli, wanted: TokenRequest, key: SigningKey, wait: Any) -> Arrival:
    from lkmongo.errors import SettingsError
    from lkmongo.livekit_api import send_agent
    from lkmongo.settings import LiveKitCredentials

    if not cli.settings.livekit_url:
        raise SettingsError("LIVEKIT_URL is not set", why="--dispatch contacts the server", hint="set it in .env.local")
    credentials = LiveKitCredentials(cli.settings.livekit_url, key.api_key, key.api_secret)
    return await send_agent(
        credentials,
        room=wanted.room,
        agent_name=wanted.agent_name or "",
        metadata=lambda sid: wanted.dispatch_metadata(key, sid=sid),
        wait=wait,
    )


def _tell(cli: Cli, wanted: TokenRequest, minted: Token, arrival: Arrival | None) -> None:
    """Describe on stderr what was minted."""
    from lkmongo.model import UserScope
    from lkmongo.phone_numbers import masked
    from lkmongo.times import show_duration

    cli.output.note(f"room      {wanted.room}")
    cli.output.note(f"identity  {masked(wanted.participant_identity)}")
    cli.output.note(f"expires   {minted.expires_at.isoformat()}, in {show_duration(wanted.ttl)}")
    if wanted.agent_name is None:
        cli.output.note("agent     none is dispatched")
        return
    sent = "is in the room" if arrival and arrival.agent_identity else "is dispatched"
    who = "a guest" if not isinstance(wanted.who, UserScope) else wanted.who.user_id
    known = f"it treats the caller as {who} of tenant {wanted.who.tenant_id}"
    if wanted.kind == "sip":
        known = "it knows the caller by the number, and the tenant by the number dialled"
    cli.output.note(f"agent     {wanted.agent_name} {sent}; {known}")


def _write_env(cli: Cli, url: str | None, minted: Token) -> None:
    from shlex import quote

    if url:
        cli.output.say(f"LIVEKIT_URL={quote(url)}")
    cli.output.say(f"LIVEKIT_TOKEN={minted.text}")


def _write(cli: Cli, url: str | None, wanted: TokenRequest, minted: Token, arrival: Arrival | None) -> None:
    """Write a token endpoint's response, or for people the fields of the playground."""
    if cli.output.is_json:
        fields: dict[str, Any] = {
            "server_url": url,
            "participant_token": minted.text,
            "room_name": wanted.room,
            "participant_identity": wanted.participant_identity,
            "expires_at": minted.expires_at,
        }
        if arrival:
            fields |= {"dispatch_id": arrival.dispatch_id, "agent_identity": arrival.agent_identity}
        cli.output.record(fields, "")
        return
    show_fields(cli.output, {"URL": url or "(LIVEKIT_URL is not set)", "token": minted.text})
    cli.output.note("Paste both into the LiveKit Agents Playground (agents-playground.livekit.io, tab Manual).")
