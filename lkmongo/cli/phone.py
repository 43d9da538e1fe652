"""`lkmongo phone`: which telephone numbers are whose, and the PINs by which callers prove who they are.

No number is shown, in no message either: of one that is given, the last two digits are all that comes back.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, DryRun, Tenant, User, Yes, command
from lkmongo.cli.output import counted, is_terminal
from lkmongo.errors import UsageError
from lkmongo.model import DEFAULT_TENANT
from lkmongo.phone_numbers import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkmongo.phone_numbers import PhoneNumber
    from lkmongo.store.people.phone_links import KnownNumber
    from lkmongo.store.people.phones import PhoneLink
    from lkmongo.tenant_phone import TenantPhone

app = typer.Typer(
    name="phone",
    help="The numbers that people call from, and their PINs: list, look up, link and unlink them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_NUMBER_HELP = 'The telephone number, such as "+49 30 1234567"; - asks for it, or reads it from stdin.'
Number = Annotated[str, typer.Argument(metavar="NUMBER", help=_NUMBER_HELP, show_default=False)]
_LIKE_A_NUMBER = re.compile(r"(?=(?:\D*\d){7})[\d\s()+./-]+")
_MOST = 1_000
"""Bytes of a line from stdin."""


@command(app, "list", data=True, audited=True)
async def list_(
    cli: Cli,
    user: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="Only the numbers of this person.", show_default=False)
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    after: Annotated[
        str | None, typer.Option("--after", metavar="USER", help="Start after this id.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
) -> None:
    """List the numbers that are linked to people, ordered by the person's id.

    Of a number only the last two digits can be read. One that was not used for long has lapsed: whoever calls from it
    counts as new. Shows who linked it, whether the person has a PIN, and until when they are locked out after too many
    wrong ones.
    """
    from lkmongo.model import TenantScope, UserScope, check_id
    from lkmongo.store.open import open_store
    from lkmongo.store.people.phone_links import list_links, numbers_of
    from lkmongo.store.people.users import COUNTED

    if user is not None and after is not None:
        raise UsageError("all numbers of USER are shown, so --after does not go with it", hint="leave one of them out")
    _hide_ids(cli, user, after)
    start, recycled_after = None if after is None else check_id("user", after), _policy(cli, tenant).recycled_after
    person = None if user is None else UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        if person:
            found: Sequence[KnownNumber] = await numbers_of(store, person, recycled_after=recycled_after)
            total = len(found)
        else:
            page = await list_links(store, TenantScope(tenant), after=start, limit=limit, recycled_after=recycled_after)
            found, total = page.numbers, page.total
        await cli.audit(store, person or tenant, {"phones": len(found)})
    columns = ["user_id", "last_digits", "linked_at", "last_used_at", "by", "lapsed", "has_pin", "locked_until"]
    _show(cli, columns, found)
    if cli.output.is_json:
        return
    if not found:
        whose = f"to {user}" if user is not None else "to anybody"
        cli.output.note("No more" if total else f"No number is linked {whose} in tenant {tenant}")
    elif len(found) < total:
        most = f"more than {COUNTED:,}" if total > COUNTED else f"{total:,}"
        last = found[-1].link.user_id
        cli.output.note(f"showing {len(found):,} of {most}; continue with --after {last}")


@command(app, "lookup", data=True, audited=True)
async def lookup(cli: Cli, number: Number, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Show whose number it is; a shared one may be several people's.

    `level` is what the number alone makes of a caller: recognised. `can_reach` is what they can become: named, by
    saying who they are, and with a PIN verified. Both are empty when it was not used for so long that it has lapsed:
    whoever calls from it then counts as new. Exits with 5 when it is linked to nobody.
    """
    from lkmongo.errors import NotFoundError
    from lkmongo.model import TenantScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.phone_links import lookup as find

    wanted = given_number(cli, number, tenant)
    async with open_store(cli.settings) as store:
        found = await find(store, TenantScope(tenant), wanted, recycled_after=_policy(cli, tenant).recycled_after)
        # Whom a number belongs to is asked for here, and so is in the trail even if that is nobody.
        await cli.audit(store, [each.link.scope for each in found] or tenant, {"phones": 1 if found else 0})
    if not found:
        raise NotFoundError(
            f"the number {MASK}{wanted.last_digits} is linked to nobody in tenant {tenant}",
            hint="check it and --tenant, or link it: lkmongo phone link NUMBER USER",
        )
    columns = ["user_id", "last_digits", "level", "can_reach", "linked_at", "last_used_at", "by", "lapsed"]
    _show(cli, [*columns, "has_pin", "locked_until"], found)


@command(app, "link", data=True, audited=True)
async def link(
    cli: Cli,
    number: Number,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    new: Annotated[bool, typer.Option("--new", help="Also when nothing is stored under that id yet.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Link a number to a person, who is recognised from then on when they call from it.

    A number may be several people's: a caller is then asked which of them they are. Linking it again counts as a use
    of it, so that one that has lapsed is known again. Exits with 5 when nothing is stored under that id, unless --new.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.phone_links import link_known

    _hide_ids(cli, user)
    wanted, scope = given_number(cli, number, tenant), UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        planned = await link_known(store, scope, wanted, by="staff", new=new, dry_run=True)
        others = [UserScope(tenant_id=tenant, user_id=each) for each in planned.others]
        await cli.audit(store, [scope, *others], {"phones": 1})
        done = await link_known(store, scope, wanted, by="staff", new=new, dry_run=dry_run)
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "changed": done.changed,
        "last_digits": wanted.last_digits,
        "also_of": list(done.others),
    }
    what = f"the number {MASK}{wanted.last_digits} to {user} in tenant {tenant}"
    if done.changed:
        sentence = f"{'Would link' if dry_run else 'Linked'} {what}"
    else:
        sentence = f"{user} has the number {MASK}{wanted.last_digits} in tenant {tenant} already"
    if done.others:
        sentence += f"\n  it is also linked to {', '.join(done.others)}: a caller is asked who they are"
    cli.output.record(fields, sentence)


@command(app, "unlink", data=True, audited=True)
async def unlink(
    cli: Cli,
    user: User,
    number: Annotated[str | None, typer.Argument(metavar="[NUMBER]", help=_NUMBER_HELP, show_default=False)] = None,
    digits: Annotated[
        str | None,
        typer.Option("--digits", metavar="NN", help="Those that end with these two digits, as `phone list` shows."),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Unlink a person's number, or all of them: who calls from it is not recognised as them any more.

    A call in progress goes on. What is stored about the person stays. Exits with 5 when no such number is linked to
    them.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.phone_links import unlink_known

    if number is not None and digits is not None:
        raise UsageError("--digits stands for NUMBER", hint="leave one of them out")
    _hide_ids(cli, user)
    scope = UserScope(tenant_id=tenant, user_id=user)
    wanted = None if number is None else given_number(cli, number, tenant)
    whose = f"of {user} in tenant {tenant}"
    async with open_store(cli.settings) as store:
        planned = await unlink_known(store, scope, wanted, last_digits=digits, dry_run=True)
        await cli.audit(store, scope, {"phones": len(planned)})
        done = await unlink_known(
            store,
            scope,
            wanted,
            last_digits=digits,
            dry_run=dry_run,
            confirm=lambda found: cli.confirm(f"Unlink {_in_words(found)} {whose}?", yes=yes),
        )
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "unlinked": 0 if dry_run else len(done),
        "last_digits": [each.last_digits for each in done],
    }
    cli.output.record(fields, f"{'Would unlink' if dry_run else 'Unlinked'} {_in_words(done)} {whose}")


@command(app, "pin", data=True, audited=True)
async def pin(
    cli: Cli,
    user: User,
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the PIN from stdin, as one line, instead of asking for it.")
    ] = False,
    generate: Annotated[bool, typer.Option("--generate", help="Make a new PIN, and show it once.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the PIN.")] = False,
    unlock: Annotated[
        bool, typer.Option("--unlock", help="Let them try again now, after too many wrong PINs.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Set the PIN with which a person proves on the keypad who they are: asked for twice, and not shown.

    It belongs to the person, not to a number, and replaces the one they had. Only a hash of it is stored, so that
    nobody can look it up: tell it to nobody but them. It is never an argument, as a shell keeps those. Exits with 5
    when nothing is stored under that id.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.people.phone_links import clear_pin, new_pin, set_pin, unlock_pin

    chosen = {"--stdin": from_stdin, "--generate": generate, "--clear": clear, "--unlock": unlock}
    if unlock and dry_run:
        raise UsageError("--unlock has no --dry-run", hint="see who is locked out: lkmongo phone list USER")
    if len(given := [name for name, value in chosen.items() if value]) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", hint="leave all but one out")
    _hide_ids(cli, user)
    scope, whose = UserScope(tenant_id=tenant, user_id=user), f"of {user} in tenant {tenant}"
    made: str | None = None
    async with open_store(cli.settings) as store:
        await require_known(store.db, user_id=user, tenant_id=tenant)
        await cli.audit(store, scope, {"pins": 1})
        if clear:
            changed = await clear_pin(
                store, scope, dry_run=dry_run, confirm=lambda: cli.confirm(f"Remove the PIN {whose}?", yes=yes)
            )
            sentence = (
                f"{'Would remove' if dry_run else 'Removed'} the PIN {whose}" if changed else f"{user} has no PIN"
            )
        elif unlock:
            changed = await unlock_pin(store, scope)
            sentence = f"{user} may try again now" if changed else f"No wrong PIN {whose} was tried"
        else:
            changed, text = True, new_pin() if generate else _pin(cli, from_stdin=from_stdin)
            replaced = await set_pin(store, scope, text, by="staff", dry_run=dry_run)
            made = text if generate and not dry_run else None
            sentence = (
                f"{'Would set' if dry_run else 'Set'} the PIN {whose}{', instead of another' if replaced else ''}"
            )
            sentence += f": {made}\nIt is shown this once; tell it to nobody but them" if made else ""
    fields = {"user_id": user, "tenant_id": tenant, "dry_run": dry_run, "changed": changed}
    cli.output.record(fields | ({"pin": made} if generate else {}), sentence)


def _policy(cli: Cli, tenant: str) -> TenantPhone:
    """Where numbers without a country are in the tenant, and how long they may be unused before they have lapsed."""
    return cli.settings.tenant_policies().policy(tenant).phone


def given_number(cli: Cli, text: str, tenant: str) -> PhoneNumber:
    """The number that was typed as an argument, or in answer to a question, or that is piped in.

    Raises:
        PhoneNumberError: it is none.
        MissingExtraError: the extra `phone` is not installed.
    """
    from lkmongo.phone_numbers import parse_number

    if text == "-":
        text = cli.ask("Telephone number: ", instead="pipe it in") if is_terminal(sys.stdin) else _line()
    cli.hide(text)
    number = parse_number(text, _policy(cli, tenant).region)
    cli.hide(number.text)
    return number


def _pin(cli: Cli, *, from_stdin: bool) -> str:
    """The PIN that is typed twice, or piped in."""
    if from_stdin:
        text = _line()
        cli.hide(text)
        return text
    instead = "add --stdin and pipe it in, or --generate"
    text = cli.ask("New PIN: ", instead=instead, hidden=True)
    again = cli.ask("The same once more: ", instead=instead, hidden=True)
    cli.hide(text, again)
    if text != again:
        raise UsageError("the two PINs differ; nothing was changed", hint="run it again")
    return text


def _line() -> str:
    """The first line of stdin."""
    if sys.stdin is None:
        raise UsageError("stdin is closed", hint="pipe a line in")
    return sys.stdin.buffer.readline(_MOST).decode(errors="replace").strip()


def _hide_ids(cli: Cli, *ids: str | None) -> None:
    """Keep a number that was given where an id belongs out of the message that nobody has that id."""
    cli.hide(*(each for each in ids if each and _LIKE_A_NUMBER.fullmatch(each)))


def _show(cli: Cli, columns: Sequence[str], found: Sequence[KnownNumber]) -> None:
    """Write a row for each number; programs are told the tenant as well."""
    as_json = cli.output.is_json
    cli.output.rows([*columns, "tenant_id"] if as_json else columns, map(_fields if as_json else _cells, found))


def _fields(known: KnownNumber) -> dict[str, Any]:
    return {
        "user_id": known.link.user_id,
        "tenant_id": known.link.tenant_id,
        "last_digits": known.link.last_digits,
        "linked_at": known.link.linked_at,
        "last_used_at": known.link.last_seen_at,
        "by": known.link.by,
        "level": known.level and str(known.level),
        "can_reach": known.can_reach and str(known.can_reach),
        "lapsed": known.lapsed,
        "has_pin": known.has_pin,
        "locked_until": known.locked_until,
    }


def _cells(known: KnownNumber) -> dict[str, Any]:
    words = {name: "yes" if getattr(known, name) else "no" for name in ("lapsed", "has_pin")}
    return _fields(known) | words


def _in_words(links: Sequence[PhoneLink]) -> str:
    """Such as "2 numbers (…67, …12)"."""
    return f"{counted(len(links), 'number')} ({', '.join(f'{MASK}{each.last_digits}' for each in links)})"
