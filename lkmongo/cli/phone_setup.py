"""`lkmongo phone setup`: make LiveKit hand the calls for our numbers to the agent, and dial by a trunk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import counted
from lkmongo.cli.phone import app
from lkmongo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from lkmongo.phone_setup import Change, Wanted
    from lkmongo.settings import LiveKitCredentials

COLUMNS = ("part", "name", "id", "action", "detail")
_FILE = "add --auth-password-file FILE"
_LONGEST = 1_000
"""Bytes of a file with a password."""


@command(app, "setup", data=True)
async def setup(
    cli: Cli,
    apply: Annotated[bool, typer.Option("--apply", help="Make and change what differs, through LiveKit's API.")] = (
        False
    ),
    check: Annotated[bool, typer.Option("--check", help="Exit with 6 if something differs.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the definitions as JSON, without connecting.")
    ] = False,
    number: Annotated[
        list[str] | None,
        typer.Option(
            "--number",
            metavar="NUMBER",
            help="A number of the trunk, such as +49 30 1234567; may be given several times. By default all numbers of "
            "the file that LKMONGO_TENANTS names.",
            show_default=False,
        ),
    ] = None,
    trunk_name: Annotated[
        str, typer.Option("--trunk-name", metavar="NAME", help="Name of the trunk and of the rule.")
    ] = "lkmongo",
    trunk: Annotated[
        str | None,
        typer.Option(
            "--trunk",
            metavar="ID",
            help="Use this inbound trunk, which is left as it is, and make the rule alone.",
            show_default=False,
        ),
    ] = None,
    allowed_address: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-address",
            metavar="CIDR",
            help="Take calls from here alone, such as 192.0.2.0/24; may be given several times.",
            show_default=False,
        ),
    ] = None,
    auth_username: Annotated[
        str | None,
        typer.Option(
            "--auth-username",
            metavar="NAME",
            help="With which the telephone provider signs in, or LiveKit there with --outbound.",
            show_default=False,
        ),
    ] = None,
    auth_password_file: Annotated[
        Path | None,
        typer.Option(
            "--auth-password-file", metavar="FILE", help="With its password, else it is asked for.", show_default=False
        ),
    ] = None,
    outbound: Annotated[
        str | None,
        typer.Option(
            "--outbound",
            metavar="ADDRESS",
            help="Set up the trunk for calls that the agent makes instead: the provider's host, or host:port.",
            show_default=False,
        ),
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option("--transport", metavar="udp|tcp|tls", help="Of --outbound; LiveKit chooses.", show_default=False),
    ] = None,
) -> None:
    """Show what LiveKit needs to hand telephone calls to the agent, and with --apply make it: a trunk and a rule.

    The rule sends the agent of LKMONGO_AGENT_NAME into a room of its own for each call. Run it as often as you like: a
    trunk and a rule of this name are compared with what is wanted, and changed where they differ; what else is set
    there is left alone, and so are all other trunks and rules. Numbers that the trunk should not have are taken off it.
    """
    from lkmongo.phone_setup import Action, definitions, plan
    from lkmongo.phone_setup import apply as apply_changes
    from lkmongo.telephony import read_telephony

    if apply + check + dry_run > 1:
        raise UsageError("--apply, --check and --dry-run exclude each other", hint="leave out all but one")
    wanted = _wanted(
        cli,
        numbers=number or [],
        name=trunk_name,
        trunk_id=trunk,
        allowed=allowed_address or [],
        username=auth_username,
        password_file=auth_password_file,
        address=outbound,
        transport=transport,
    )
    if dry_run:
        found = [{"part": each.part, "definition": each.definition} for each in definitions(wanted)]
        cli.output.say(json.dumps(found, indent=None if cli.output.is_json else 2))
        return
    credentials = _credentials(cli)
    there = await read_telephony(credentials)
    changes = plan(wanted, there)
    if apply and not any(each.action is Action.BLOCKED for each in changes):
        if _needs_password(wanted, changes[0]):
            wanted = _with_password(cli, wanted, cli.ask(f"Password of {auth_username}: ", instead=_FILE, hidden=True))
        changes = await apply_changes(credentials, wanted)
    cli.output.rows([*COLUMNS, *(["definition"] if cli.output.is_json else [])], map(_row, changes))
    _raise_if_wrong(changes, check=check)
    _note_next_steps(cli, changes, applied=apply)


def _wanted(
    cli: Cli,
    *,
    numbers: Sequence[str],
    name: str,
    trunk_id: str | None,
    allowed: Sequence[str],
    username: str | None,
    password_file: Path | None,
    address: str | None,
    transport: str | None,
) -> Wanted:
    from lkmongo.phone_setup import Wanted

    if trunk_id and (allowed or username or password_file or address):
        raise UsageError(
            "--trunk leaves that trunk as it is",
            hint="leave out --allowed-address, --auth-username, --auth-password-file and --outbound",
        )
    if address and allowed:
        raise UsageError("--allowed-address is of calls that come in", hint="leave out it, or --outbound")
    if password_file and not username:
        raise UsageError("--auth-password-file needs --auth-username", hint="add --auth-username")
    if transport and (not address or transport not in {"udp", "tcp", "tls"}):
        raise UsageError("--transport is udp, tcp or tls, and goes with --outbound", hint="add --outbound ADDRESS")
    if not name.strip():
        raise UsageError("--trunk-name is empty", hint="leave it out")
    return Wanted(
        numbers=_numbers(cli, numbers),
        agent_name=cli.settings.agent_name,
        name=name.strip(),
        trunk_id=trunk_id,
        username=username or None,
        password=_password(cli, password_file) if password_file else None,
        allowed_addresses=tuple(_network(each) for each in allowed),
        address=_address(address) if address is not None else None,
        transport=transport,
    )


def _numbers(cli: Cli, given: Sequence[str]) -> tuple[str, ...]:
    from lkmongo.phone_numbers import parse_number

    if given:
        parsed = [parse_number(each, cli.settings.phone_region).text for each in given]
        if any(";ext=" in each for each in parsed):
            raise UsageError("--number has an extension", why="a trunk has none", hint="leave it out")
        return tuple(dict.fromkeys(parsed))
    if found := cli.settings.tenant_policies().numbers:
        return tuple(found)
    raise UsageError(
        "there are no numbers",
        why="no tenant has any" if cli.settings.tenants else "LKMONGO_TENANTS is not set",
        hint="add --number +49..., or give a tenant `phone: {numbers: [...]}` in the file of LKMONGO_TENANTS",
    )


def _network(text: str) -> str:
    from ipaddress import ip_network

    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError as error:
        raise UsageError(
            f"--allowed-address {text!r} is no address", hint="give an address, or a network such as 192.0.2.0/24"
        ) from error


def _address(text: str) -> str:
    if not text or any(each in text for each in "@;/ ") or text.startswith(("sip:", "sips:")):
        raise UsageError(f"--outbound {text!r} is no host", hint="give the host alone, such as sip.example.com:5061")
    return text


def _password(cli: Cli, path: Path) -> SecretStr:
    from pydantic import SecretStr

    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--auth-password-file {path} cannot be read", why=why, hint="name another file") from error
    if not text:
        raise UsageError(f"--auth-password-file {path} is empty", hint="write the password into it")
    cli.hide(text)
    return SecretStr(text)


def _with_password(cli: Cli, wanted: Wanted, text: str) -> Wanted:
    from dataclasses import replace

    from pydantic import SecretStr

    if not text:
        raise UsageError("there is no password", hint=f"type it, or {_FILE}")
    cli.hide(text)
    return replace(wanted, password=SecretStr(text))


def _needs_password(wanted: Wanted, change: Change) -> bool:
    """Whether a user name is about to be set, and its password is not known."""
    if not wanted.username or wanted.password:
        return False
    return change.fields is None or "auth_username" in change.fields


def _credentials(cli: Cli) -> LiveKitCredentials:
    from lkmongo.errors import SettingsError

    if (found := cli.settings.livekit) is None:
        raise SettingsError(
            "LIVEKIT_URL is not set", hint="set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET of your project"
        )
    return found


def _row(change: Change) -> dict[str, Any]:
    return {
        "part": change.part,
        "name": change.name,
        "id": change.id,
        "action": change.action.value,
        "detail": change.detail,
        "definition": change.definition,
    }


def _raise_if_wrong(changes: Sequence[Change], *, check: bool) -> None:
    from lkmongo.errors import DriftError
    from lkmongo.phone_numbers import masked
    from lkmongo.phone_setup import Action

    blocked = [each for each in changes if each.action is Action.BLOCKED]
    different = blocked or [each for each in changes if check and each.action is not Action.UNCHANGED]
    if different:
        raise DriftError(
            "something is in the way; nothing was changed" if blocked else "LiveKit is not set up as it should be",
            why="; ".join(f"{each.part}: {masked(each.detail) or each.action.value}" for each in different),
            hint=different[0].hint or "lkmongo phone setup --apply",
        )


def _note_next_steps(cli: Cli, changes: Sequence[Change], *, applied: bool) -> None:
    from lkmongo.phone_setup import Action
    from lkmongo.telephony import is_open

    first = changes[0]
    different = [each for each in changes if each.action is not Action.UNCHANGED]
    if first.part == "inbound trunk" and is_open(first.info):
        cli.output.warn(
            "whoever finds the trunk's address can call, and name any number as theirs: add --allowed-address with the "
            "provider's networks, or --auth-username"
        )
    if not applied and different:
        cli.output.note(f"{counted(len(different), 'difference')}; --apply makes it so")
    elif first.part == "outbound trunk" and first.id and first.id != cli.settings.sip_trunk:
        cli.output.note(f"Set LKMONGO_SIP_TRUNK={first.id} to call by this trunk")
