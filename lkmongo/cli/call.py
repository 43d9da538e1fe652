"""`lkmongo call`: have the agent telephone somebody, and say what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, DryRun, Tenant
from lkmongo.errors import LkmongoError, NotReadyError
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.dispatch import Outbound
    from lkmongo.outbound import Answer
    from lkmongo.settings import LiveKitCredentials


class NotReachedError(NotReadyError):
    """Nobody was reached, who may be another time."""

    code = "not_reached"


class CallFailedError(LkmongoError):
    """The call was refused, or failed: it would be another time, too."""

    code = "call_failed"


async def call(
    cli: Cli,
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="Whom to call, such as +49301234567.", show_default=False)
    ],
    user: Annotated[str, typer.Option("--user", help="Id of the person who is to be reached.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
    trunk: Annotated[
        str | None,
        typer.Option("--trunk", metavar="ID", help="LiveKit's outbound trunk; by default LKMONGO_SIP_TRUNK."),
    ] = None,
    ringing: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long it may ring, 5s to 80s.")] = "30s",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until somebody has answered, or nobody will.")
    ] = True,
    dry_run: DryRun = False,
) -> None:
    """Have the agent telephone a person, and say what became of it.

    The agent joins a room of its own, dials, and finds out whether a person or a machine answers; a machine is told
    nothing personal. The call goes on if this command is stopped. That the number is answered does not prove by whom:
    the agent knows whom it is to reach, and treats whoever answers as a guest until they say who they are.

    It exits with 0 when a person talks with the agent, with 3 when nobody was reached (busy, no answer, voicemail), and
    with 1 when the call was refused or failed. Each attempt is in lkmongo sessions list --user.
    """
    from lkmongo.outbound import check_trunk, place_call
    from lkmongo.store.open import open_store

    wanted = _wanted(cli, number, user, tenant, trunk, ringing)
    async with open_store(cli.settings) as store:
        credentials = _credentials(cli)
        known = await store.users.get(wanted.scope)
        await cli.audit(store, wanted.scope, {} if dry_run else {"calls": 1})
    if known is None:
        cli.output.warn(f"nothing is known of {user} in tenant {tenant}")
    agent = cli.settings.agent_name
    shown: dict[str, Any] = {
        "user_id": user,
        "tenant_id": tenant,
        "last_digits": wanted.number.last_digits,
        "trunk": wanted.trunk,
        "agent_name": agent,
        "dry_run": dry_run,
    }
    if dry_run:
        await check_trunk(credentials, wanted.trunk)
        cli.output.record(
            shown | {"room_name": None, "session_id": None, "outcome": None, "sip_status": None},
            f"{agent} would call {user} on the number that ends in {wanted.number.last_digits}, by {wanted.trunk}",
        )
        return
    placed = await place_call(credentials, wanted, agent_name=agent, wait=wait, on_status=cli.output.note)
    answer = placed.answer
    shown |= {
        "room_name": placed.room,
        "session_id": placed.session_id,
        "outcome": answer.outcome.value if answer else None,
        "sip_status": answer.sip_status if answer else None,
    }
    cli.output.record(shown, f"{user}: {answer.outcome.value if answer else 'the call is ordered'}")
    if answer:
        _raise_unless_answered(answer, user)


def _wanted(cli: Cli, number: str, user: str, tenant: str, trunk: str | None, ringing: str) -> Outbound:
    """Check what was asked for, before anything is contacted."""
    from lkmongo.dispatch import Outbound
    from lkmongo.errors import SettingsError, UsageError
    from lkmongo.model import UserScope
    from lkmongo.outbound import LONGEST_RINGING, SHORTEST_RINGING
    from lkmongo.phone_numbers import PhoneNumberError, parse_number
    from lkmongo.setting_checks import sip_trunk
    from lkmongo.times import parse_duration, show_duration

    scope = UserScope(tenant_id=tenant, user_id=user)
    found = parse_number(number, cli.settings.tenant_policies().policy(tenant).phone.region)
    if ";" in found.text:
        raise PhoneNumberError("a number with an extension cannot be called", hint="leave the extension out")
    length = parse_duration(ringing)
    if not SHORTEST_RINGING <= length <= LONGEST_RINGING:
        raise UsageError(
            f"a telephone cannot ring for {ringing}",
            hint=f"--timeout takes {show_duration(SHORTEST_RINGING)} to {show_duration(LONGEST_RINGING)}",
        )
    if (by := trunk or cli.settings.sip_trunk) is None:
        raise SettingsError(
            "there is no trunk to call by",
            why="neither --trunk nor LKMONGO_SIP_TRUNK is set",
            hint="lkmongo phone setup --outbound ADDRESS --apply makes one; set LKMONGO_SIP_TRUNK to its id",
        )
    try:
        return Outbound(scope, found, sip_trunk(by), length)
    except ValueError as error:
        raise UsageError(f"--trunk {by!r} is not the id of a trunk", why=f"it {error}") from None


def _credentials(cli: Cli) -> LiveKitCredentials:
    from lkmongo.errors import SettingsError

    if (found := cli.settings.livekit) is None:
        raise SettingsError(
            "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
            why="LiveKit makes the call, and sends the agent",
            hint="set all three in .env.local",
        )
    return found


def _raise_unless_answered(answer: Answer, user: str) -> None:
    from lkmongo.outbound import Outcome

    match answer.outcome:
        case Outcome.ANSWERED:
            return
        case Outcome.BUSY | Outcome.NO_ANSWER | Outcome.VOICEMAIL:
            raise NotReachedError(f"{user} was not reached: {answer.outcome}", why=answer.why, hint="try again later")
    status = f"the telephone network answered {answer.sip_status}" if answer.sip_status else None
    why = "; ".join(filter(None, (status, answer.why))) or None
    raise CallFailedError(f"the call to {user} {_ENDED[answer.outcome]}", why=why, hint="check the worker's log")


_ENDED = {"refused": "was refused", "failed": "failed"}
