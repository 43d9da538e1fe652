"""`lkmongo users`: list, show, merge and erase people."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, DryRun, Tenant, User, Yes, command
from lkmongo.cli.output import cut, show_fields, visible
from lkmongo.model import DEFAULT_TENANT
from lkmongo.phone_numbers import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lkmongo.consent import Consent
    from lkmongo.model import UserScope
    from lkmongo.store.people.erase import Erasure, Receipt
    from lkmongo.store.people.merge import Merged
    from lkmongo.store.people.phones import PhoneLink

app = typer.Typer(
    name="users",
    help="The people who are known: list, show, merge and erase them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Answer(StrEnum):
    """What a person may answer when they are asked for their consent."""

    AGREED = "agreed"
    WITHDRAWN = "withdrawn"


Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")]

_NAMES = {
    "users": ("profile", "profiles"),
    "memories": ("memory", "memories"),
    "orders": ("order", "orders"),
    "sessions": ("session", "sessions"),
    "turns": ("turn", "turns"),
    "visitors": ("browser", "browsers"),
    "phones": ("phone number", "phone numbers"),
    "pins": ("PIN", "PINs"),
    "phone_attempts": ("attempt at a PIN", "attempts at a PIN"),
    "journals": ("file of a call on this machine", "files of calls on this machine"),
}
"""What the documents of each collection are called, singular and plural, in the order in which they are listed."""


@command(app, "list", data=True, audited=True)
async def list_(
    cli: Cli,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help=f"Id of the tenant; by default {DEFAULT_TENANT}.", show_default=False),
    ] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="People of every tenant.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="USER", help="Start after this id.", show_default=False)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List the people who are known, ordered by id."""
    from lkmongo.errors import UsageError
    from lkmongo.model import TenantScope, check_id
    from lkmongo.store.open import open_store
    from lkmongo.store.people.users import COUNTED

    if all_tenants and (tenant is not None or after is not None):
        raise UsageError("--all-tenants goes with neither --tenant nor --after", hint="leave one of them out")
    scope = None if all_tenants else TenantScope(tenant_id=DEFAULT_TENANT if tenant is None else tenant)
    async with open_store(cli.settings) as store:
        found = await store.users.listing(scope, after=None if after is None else check_id("user", after), limit=limit)
        await cli.audit(store, scope.tenant_id if scope else None, {"people": len(found.people)})
    people = found.people
    cli.output.rows(
        ["user_id", "tenant_id", "name", "email", "created_at", "last_seen_at"],
        ({name: cut(cli.output, value, 200) for name, value in row.items()} for row in people),
    )
    if cli.output.is_json:
        return
    if not people:
        others = f"; there are people in these: {', '.join(found.other_tenants[:20])}" if found.other_tenants else ""
        nobody = f"Nobody is known in tenant {scope.tenant_id}{others}" if scope and not found.total else "No more"
        cli.output.note(nobody)
    elif len(people) < found.total:
        more = "" if all_tenants else f"; continue with --after {people[-1]['user_id']}"
        total = f"more than {COUNTED:,}" if found.total > COUNTED else f"{found.total:,}"
        cli.output.note(f"showing {len(people):,} of {total}{more}")


@command(app, "show", data=True, audited=True)
async def show(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Show a person's profile and how much is stored about them."""
    from lkmongo.model import PROFILE_FIELDS, UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import count_known

    cli.declare()
    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        counts = await count_known(store.db, scope)
        profile = await store.users.get(scope)
        live = await store.sessions.live(scope)
        phones, pin, locked = await store.phones.of_person(scope), await store.pins.info(scope), None
        if counts["phone_attempts"]:
            locked = await store.pins.lock(scope)
        await cli.audit(store, scope, counts)
    known = {} if profile is None else asdict(profile)
    last = known.get("last_session") or {}
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        **{name: known.get(name) for name in PROFILE_FIELDS},
        **(profile.own if profile else {}),
        "created_at": known.get("created_at"),
        "last_seen_at": known.get("last_seen_at"),
        **_consent(profile.consent if profile else None),
        "last_call_at": last.get("at"),
        "last_call": last.get("gist"),
        "memories": counts["memories"],
        "orders": counts["orders"],
        "calls": counts["sessions"],
        "turns": counts["turns"],
        "browsers": counts["visitors"],
        "phones": _phones(phones, is_json=cli.output.is_json),
        "pin_set_at": pin and pin.set_at,
        "pin_set_by": pin and pin.by,
        "pin_locked_until": locked,
        **{name: number for name, number in counts.items() if name not in _NAMES},
        "in_a_call": bool(live),
    }
    show_fields(cli.output, fields)


@command(app, "merge", data=True, audited=True)
async def merge(
    cli: Cli,
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="Id that disappears.", show_default=False)],
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="Id that stays.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Merge two people into one: everything of GUEST becomes LOGIN's.

    Memories of both are kept; if both have one with the same label, LOGIN's stays. What GUEST has in its place, and
    what reads as an instruction to the assistant, waits until LOGIN accepts it: see memory suggestions. Sessions,
    orders, telephone numbers and documents of declared collections move; of two documents with one key the later is
    kept. LOGIN's profile stays, and its gaps are filled from GUEST's; so is a PIN. Running it again does nothing.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.merge import merge_known

    def confirm(counts: Mapping[str, int], is_login_known: bool) -> None:
        question = f"Merge {_in_words(counts)} of {guest} into {login} in tenant {tenant}?"
        cli.confirm(question if is_login_known else f"Nobody is known as {login} yet. {question}", yes=yes)

    cli.declare()
    one, other = UserScope(tenant_id=tenant, user_id=guest), UserScope(tenant_id=tenant, user_id=login)
    async with open_store(cli.settings) as store:
        planned = await merge_known(store.db, one, other, dry_run=True)
        await cli.audit(store, [one, other], planned.moved)
        merged = await merge_known(store.db, one, other, dry_run=dry_run, confirm=confirm)
    fields = {
        "guest": guest,
        "login": login,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "merged": not merged.is_empty and not dry_run,
    }
    cli.output.record(fields | asdict(merged), _merge_sentence(guest, login, merged, dry_run=dry_run))


@command(app, "consent", data=True, audited=True)
async def consent(
    cli: Cli,
    user: User,
    answer: Annotated[
        Answer, typer.Argument(metavar="ANSWER", help="agreed, or withdrawn (also declined).", show_default=False)
    ],
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Record that a person agreed that something of them is kept, or withdrew that.

    It counts where the tenant asks (`consent: ask`, see docs/privacy.md), also for a call in progress, within two
    seconds. After a withdrawal nothing more is stored or learned of them; what is stored stays: to delete it, erase
    them. `users show` shows the answer, who recorded it and when.
    """
    from lkmongo.consent import WITHDRAWN
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.consent import agree, refuse
    from lkmongo.store.people.person import require_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        if answer is Answer.WITHDRAWN:
            await require_known(store.db, user_id=user, tenant_id=tenant)
        await cli.audit(store, scope, {"users": 1})
        noted = await (agree if answer is Answer.AGREED else refuse)(store, scope, "staff")
    fields = {"user_id": user, "tenant_id": tenant, **({} if noted is None else noted.fields)}
    hint = "" if answer is Answer.AGREED else f". {WITHDRAWN} It is made by: lkmongo users erase {user}"
    cli.output.record(fields, f"{user} {noted.state if noted else 'has no profile'}{hint}")


@command(app, "erase", data=True, audited=True)
async def erase(
    cli: Cli,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    orders: Annotated[bool, typer.Option("--orders", help="Delete their orders, too.")] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Who does it, for the receipt; by default your login.", show_default=False),
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="USER", help="The id once more, instead of the question.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Erase a person for good: profile, memories, sessions and their transcripts, and what is declared to be erased.

    Orders stay without --orders.

    A session in progress stops writing within six seconds and continues as a guest's; what a worker could not store
    yet is never stored. If it is interrupted, or exits with 3 because a session is still in progress, run it again to
    complete it. It leaves a receipt, which `users receipts` shows.

    It covers the collections of lkmongo and those that were declared in this database or by the module of
    LKMONGO_AGENT, and lists them; what else another program stores about the person stays.
    """
    from lkmongo.model import UserScope, now
    from lkmongo.outbox.erasing import Elsewhere
    from lkmongo.store.open import open_store
    from lkmongo.store.people.erase import erase_known

    cli.declare()
    scope, whose = UserScope(tenant_id=tenant, user_id=user), f"of {user} in tenant {tenant}"
    began = now()

    async def ask(planned: Erasure) -> None:
        nonlocal began
        await cli.audit(store, scope, planned.found)
        what = f"{_in_words({**planned.found, 'journals': planned.journals})} {whose}.{_what_stays(planned)}"
        cli.confirm_id(f"This erases {what} It cannot be undone.", user, confirm)
        began = now()

    async with open_store(cli.settings) as store:
        done = await erase_known(
            store.db,
            scope,
            by=_operator(cli, scope) if by is None else by,
            reason=cli.reason,
            orders=orders,
            dry_run=dry_run,
            confirm=ask,
            on_wait=lambda sessions: cli.output.note(
                f"{user} is in a session ({', '.join(sessions)}): waiting until it has stopped writing ..."
            ),
            elsewhere=Elsewhere(cli.settings, store.db, scope),
        )
        await cli.audit(store, scope, done.found)
    receipt = done.receipt
    counts = dict(receipt.counts) if receipt and done.erased else dict(done.found) if done.is_needed else {}
    journals = receipt.journals if receipt and done.erased else done.journals
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "collections": list(done.found),
        "erased": counts,
        "orders_kept": receipt.orders_kept if receipt and done.erased else done.orders_kept,
        "kept": dict(receipt.kept if receipt and done.erased else done.kept),
        "erased_at": receipt.erased_at if receipt else None,
        "receipt": str(receipt.erase_id) if receipt else None,
        "key": receipt.key if receipt else None,
        "journals": journals,
        "other_machines": list(receipt.hosts) if receipt else [],
        "oplog_since": receipt.oplog_since if receipt else None,
    }
    if done.erased:
        fields["seconds"] = round((now() - began).total_seconds(), 1)
    cli.output.record(fields, _erase_sentence(whose, done, {**counts, "journals": journals}))


@command(app, "receipts", data=True, audited=True)
async def receipts(
    cli: Cli,
    user: Annotated[str | None, typer.Option("--user", help="Only those of this id.", show_default=False)] = None,
    tenant: Tenant = DEFAULT_TENANT,
    limit: Limit = 50,
) -> None:
    """List erasures, newest first: when, by whom, why, how much, from where; of the id only a keyed hash."""
    from lkmongo.model import TenantScope, UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.erase import receipts as find

    person = UserScope(tenant_id=tenant, user_id=user) if user is not None else None
    async with open_store(cli.settings) as store:
        found = await find(store.db, TenantScope(tenant), scope=person, limit=limit)
        await cli.audit(store, person or tenant, {"receipts": len(found)})
    fields = _receipt_fields if cli.output.is_json else _receipt_cells
    what = (
        ["counts", "orders_kept", "kept", "journals", "other_machines", "oplog_since", "began_at", "tenant_id"]
        if cli.output.is_json
        else ["erased"]
    )
    columns = ["receipt", "erased_at", "by", "reason", *what, "collections", "hash"]
    nobody = "Nobody was" if user is None else f"{user} was not"
    cli.output.rows(columns, map(fields, found), empty=f"{nobody} erased in tenant {tenant}")


def _consent(consent: Consent | None) -> dict[str, Any]:
    names = {"consent": "state", "consent_at": "at", "consent_by": "by", "consent_wording": "wording"}
    return {name: getattr(consent, field) if consent else None for name, field in names.items()}


def _phones(links: Sequence[PhoneLink], *, is_json: bool) -> Any:
    """The numbers of a person, of which nobody can read more than the last digits."""
    if is_json:
        return [
            {
                "last_digits": each.last_digits,
                "linked_at": each.linked_at,
                "last_used_at": each.last_seen_at,
                "by": each.by,
            }
            for each in links
        ]
    days = [(each.last_digits, each.linked_at.astimezone(), each.last_seen_at.astimezone()) for each in links]
    return ", ".join(f"{MASK}{digits} (since {since:%Y-%m-%d}, used {used:%Y-%m-%d})" for digits, since, used in days)


def _operator(cli: Cli, scope: UserScope) -> str:
    """Who runs the command, or "themselves" for somebody who erases the data of their own console."""
    from lkmongo.errors import InvalidTextError
    from lkmongo.store.people.audit import THEMSELVES
    from lkmongo.store.people.person_hash import check_note

    try:
        return check_note("name of who does it", cli.operator, scope)
    except InvalidTextError:
        return THEMSELVES


def _in_words(counts: Mapping[str, int]) -> str:
    """The counts in words, such as "1 profile, 3 memories"."""
    parts = [f"{counts[name]:,} {words[counts[name] != 1]}" for name, words in _NAMES.items() if counts.get(name)]
    parts += [f"{number:,} in {name}" for name, number in counts.items() if number and name not in _NAMES]
    return ", ".join(parts) or "nothing"


def _erase_sentence(whose: str, done: Erasure, counts: Mapping[str, int]) -> str:
    looked, stay, receipt = f"Looked at {', '.join(done.found)}", _what_stays(done), done.receipt
    if receipt is None:
        what = (
            f"Would erase {_in_words(counts)}"
            if done.is_needed
            else f"Nothing but {'orders' if done.orders_kept else 'what stays'} is found"
        )
        return f"{what} {whose}. {looked}.{stay}"
    if done.erased:
        what = f"Erased {_in_words(counts)} {whose}. {looked}; nothing is left there."
        return f"{what}{_elsewhere(receipt)}{_of_key(receipt)}{stay} Receipt {receipt.erase_id}"
    at = receipt.erased_at.isoformat(sep=" ", timespec="seconds")
    return f"Nothing more is found {whose}: erased at {at}. {looked}.{stay} Receipt {receipt.erase_id}"


def _of_key(receipt: Receipt) -> str:
    """What a backup from before could still open."""
    if receipt.key is None:
        return ""
    if receipt.key == "destroyed apart":
        where = "only a copy of the key vault from before could open them, with the master key"
    else:
        where = "but one that includes the key vault, or the oplog since they came, opens them with the master key"
    return f" Their key is destroyed: backups of the data alone are unreadable; {where}."


def _elsewhere(receipt: Receipt) -> str:
    """What an erasure did outside of the database's collections, and where it does not reach."""
    hosts, since = ", ".join(receipt.hosts), receipt.oplog_since
    parts = (
        [f"What {hosts} may have on disk is never stored: run sessions recover there to delete it."] if hosts else []
    )
    held = f"what was written since {since:%Y-%m-%d %H:%M} UTC" if since else "for a while what was written"
    parts.append(
        f"MongoDB's operation log still holds {held}, until it is overwritten; so do backups, until they expire."
    )
    return "".join(f" {part}" for part in parts)


def _what_stays(done: Erasure) -> str:
    number = done.orders_kept
    orders = f" {number:,} {'order stays' if number == 1 else 'orders stay'}, as business records (see --orders)."
    own = "".join(f" {each:,} in {name} stay, as is declared." for name, each in done.kept.items() if each)
    return (orders if number else "") + own


def _merge_sentence(guest: str, login: str, merged: Merged, *, dry_run: bool) -> str:
    if merged.is_empty:
        return f"Nothing to merge: nothing is stored about {guest}"
    lines = [f"{'Would merge' if dry_run else 'Merged'} {_in_words(merged.moved)} of {guest} into {login}"]
    for each in merged.offered:
        instead = f'kept "{_short(each.kept)}" of {login}, ' if each.kept is not None else "reads as an instruction, "
        lines.append(f'  {each.label}: {instead}offered "{_short(each.content)}"')
    if merged.offered:
        lines.append(f"  {login} decides what of it to keep, on the talk page; see memory suggestions {login}")
    if merged.filled:
        lines.append(f"  added to the profile: {', '.join(merged.filled)}")
    lines += [f"  {name}: {number:,} dropped, as both had one of that key" for name, number in merged.doubles.items()]
    lines += [f"  session {old} of {guest} is now {new}" for old, new in merged.renamed.items()]
    return "\n".join(visible(line, one_line=True) for line in lines)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _receipt_fields(receipt: Receipt) -> dict[str, Any]:
    return {
        "receipt": str(receipt.erase_id),
        "erased_at": receipt.erased_at,
        "by": receipt.by,
        "reason": receipt.reason,
        "counts": dict(receipt.counts),
        "collections": list(receipt.counts),
        "orders_kept": receipt.orders_kept,
        "kept": dict(receipt.kept),
        "journals": receipt.journals,
        "other_machines": list(receipt.hosts),
        "oplog_since": receipt.oplog_since,
        "began_at": receipt.began_at,
        "tenant_id": receipt.tenant_id,
        "hash": receipt.hash,
    }


def _receipt_cells(receipt: Receipt) -> dict[str, Any]:
    erased = _in_words({**receipt.counts, "journals": receipt.journals})
    return _receipt_fields(receipt) | {"erased": erased, "collections": ", ".join(receipt.counts)}
