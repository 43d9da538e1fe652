"""`lkmongo users`: the people who are known; make one of two, and erase one for good."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import DEFAULT_TENANT, Cli, DryRun, Tenant, User, Yes, command
from lkmongo.cli.known import ELSEWHERE, unknown
from lkmongo.cli.output import cut, show_fields, visible

if TYPE_CHECKING:
    from lkmongo.model import UserScope
    from lkmongo.store.people.erase import Receipt
    from lkmongo.store.people.merge import Merged

app = typer.Typer(
    help="The people who are known: list and show them, make one of two, erase one for good.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")]

_NAMES = {
    "users": ("profile", "profiles"),
    "memories": ("memory", "memories"),
    "orders": ("order", "orders"),
    "sessions": ("call", "calls"),
    "turns": ("turn", "turns"),
    "visitors": ("browser", "browsers"),
}
"""What a person calls the documents of each collection, in the order in which they are told."""


@command(app, "list", data=True)
async def list_(
    cli: Cli,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help=f"Id of the tenant; by default {DEFAULT_TENANT}.", show_default=False),
    ] = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Of every tenant.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="USER", help="Begin after this id.", show_default=False)
    ] = None,
    limit: Limit = 50,
) -> None:
    """List the people who are known, in the order of their ids."""
    from lkmongo.errors import UsageError
    from lkmongo.model import TenantScope, check_id
    from lkmongo.store.open import open_store
    from lkmongo.store.people.users import COUNTED

    if all_tenants and (tenant is not None or after is not None):
        raise UsageError("--all-tenants goes with neither --tenant nor --after", hint="leave one of them out")
    scope = None if all_tenants else TenantScope(tenant_id=DEFAULT_TENANT if tenant is None else tenant)
    async with open_store(cli.settings) as store:
        found = await store.users.page(scope, after=None if after is None else check_id("user", after), limit=limit)
        number = await store.users.count(scope) if len(found) == limit or not found else len(found)
        elsewhere = await store.users.tenants() if scope and not number else []
    cli.output.rows(
        ["user_id", "tenant_id", "name", "email", "created_at", "last_seen_at"],
        ({name: cut(cli.output, value, 200) for name, value in row.items()} for row in found),
    )
    if cli.output.is_json:
        return
    if not found:
        where = f"; there are people in these: {', '.join(elsewhere[:20])}" if elsewhere else ""
        cli.output.note(f"Nobody is known in tenant {scope.tenant_id}{where}" if scope and not number else "No more")
    elif len(found) < number:
        more = "" if all_tenants else f"; go on with --after {found[-1]['user_id']}"
        total = f"more than {COUNTED:,}" if number > COUNTED else f"{number:,}"
        cli.output.note(f"showing {len(found):,} of {total}{more}")


@command(app, "show", data=True)
async def show(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Show who a person is and how much is kept of them."""
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import count

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        counts = await count(store.db, scope)
        if not any(counts.values()):
            raise await unknown(store, scope)
        profile = await store.users.get(scope)
        live = await store.sessions.live(scope)
    known = {} if profile is None else asdict(profile)
    last = known.get("last_session") or {}
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        **{name: known.get(name) for name in ("name", "email", "preferred_language", "timezone")},
        "created_at": known.get("created_at"),
        "last_seen_at": known.get("last_seen_at"),
        "last_call_at": last.get("at"),
        "last_call": last.get("gist"),
        "memories": counts["memories"],
        "orders": counts["orders"],
        "calls": counts["sessions"],
        "turns": counts["turns"],
        "browsers": counts["visitors"],
        "in_a_call": bool(live),
    }
    show_fields(cli.output, fields)


@command(app, "merge", data=True)
async def merge(
    cli: Cli,
    guest: Annotated[str, typer.Argument(metavar="GUEST", help="Id that goes away.", show_default=False)],
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="Id that stays.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Make one person out of two: everything of GUEST becomes LOGIN's.

    Memories of both are kept; where both have one of the same label the newer is, and the other is told. Calls and
    orders move. LOGIN's profile stays, and GUEST's fills its gaps. Running it again does nothing.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.merge import merge as merge_people
    from lkmongo.store.people.person import count, is_known

    one, other = UserScope(tenant_id=tenant, user_id=guest), UserScope(tenant_id=tenant, user_id=login)
    async with open_store(cli.settings) as store:
        merged = await merge_people(store.db, one, other, dry_run=True)
        if merged.is_empty and not await is_known(store.db, other):  # else it may have been done before
            raise await unknown(store, one)
        if not (dry_run or merged.is_empty):
            known = any((await count(store.db, other)).values())
            question = f"Merge {_told(await count(store.db, one))} of {guest} into {login} in tenant {tenant}?"
            cli.confirm(question if known else f"Nobody is known as {login} yet. {question}", yes=yes)
            merged = await merge_people(store.db, one, other)
    fields = {
        "guest": guest,
        "login": login,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "merged": not merged.is_empty and not dry_run,
    }
    cli.output.record(fields | asdict(merged), _merge_sentence(guest, login, merged, dry_run=dry_run))


@command(app, "erase", data=True)
async def erase(
    cli: Cli,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    orders: Annotated[bool, typer.Option("--orders", help="Delete their orders, too.")] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Who does it, for the receipt; by default your login.", show_default=False),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why, for the receipt: a ticket, no name.", show_default=False)
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="USER", help="The id once more, instead of the question.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Erase a person for good: profile, memories, calls and their transcripts. Orders stay without --orders.

    A call that goes on stops writing within six seconds and goes on as a guest's; what a worker could not store yet
    is never stored. When it is interrupted, or exits with 3 because a call still goes on, run it again: it completes
    what was begun. It leaves a receipt, which `users receipts` shows.

    It looks at the collections of lkmongo, and says at which; what another program keeps of the person is not among it.
    """
    from lkmongo.model import UserScope, now
    from lkmongo.store.open import open_store
    from lkmongo.store.people.erase import check_note
    from lkmongo.store.people.erase import erase as erase_person
    from lkmongo.store.people.erase import receipts as find_receipts
    from lkmongo.store.people.person import count
    from lkmongo.store.people.tombstones import Tombstones

    scope = UserScope(tenant_id=tenant, user_id=user)
    if reason is not None:
        check_note("reason", reason, scope)
    who = _operator(scope) if by is None else check_note("name of who does it", by, scope)
    async with open_store(cli.settings) as store:
        counts = await count(store.db, scope)
        kept = 0 if orders else counts.pop("orders")
        tombstones = Tombstones(store.db)
        before = await tombstones.get(scope)
        fields = {"user_id": user, "tenant_id": tenant, "dry_run": dry_run, "collections": list(counts)}
        looked = f"Looked at {', '.join(counts)}"
        if not any(counts.values()) and (before is None or before.done):
            if not dry_run:
                await tombstones.bar(scope)  # of a call that is noted on a disk, nothing shall be stored
            given = await find_receipts(store.db, scope.tenant, scope=scope, limit=1)
            if not (given or kept):
                raise await unknown(store, scope, why=None if dry_run else ELSEWHERE)
            erased_at, receipt_id = (given[0].erased_at, str(given[0].erase_id)) if given else (None, None)
            whose = f"of {user} in tenant {tenant}"
            cli.output.record(
                fields | {"erased": {}, "orders_kept": kept, "erased_at": erased_at, "receipt": receipt_id},
                f"Nothing more is found {whose}: erased at {erased_at.isoformat(sep=' ', timespec='seconds')}. {looked}."
                f"{_orders_stay(kept)} Receipt {receipt_id}"
                if erased_at
                else f"Nothing but orders is found {whose}. {looked}.{_orders_stay(kept)}",
            )
            return
        told = f"{_told(counts)} of {user} in tenant {tenant}"
        if dry_run:
            cli.output.record(
                fields | {"erased": counts, "orders_kept": kept, "erased_at": None, "receipt": None},
                f"Would erase {told}. {looked}.{_orders_stay(kept)}",
            )
            return
        cli.confirm_id(f"This erases {told}.{_orders_stay(kept)} It cannot be undone.", user, confirm)
        began = now()
        receipt = await erase_person(
            store.db,
            scope,
            by=who,
            reason=reason,
            orders=orders,
            on_wait=lambda calls: cli.output.note(
                f"{user} is in a call ({', '.join(calls)}): waiting until it has stopped writing ..."
            ),
        )
    cli.output.record(
        fields
        | {
            "erased": dict(receipt.counts),
            "orders_kept": receipt.orders_kept,
            "erased_at": receipt.erased_at,
            "receipt": str(receipt.erase_id),
            "seconds": round((now() - began).total_seconds(), 1),
        },
        f"Erased {_told(receipt.counts)} of {user} in tenant {tenant}. {looked}; nothing is left there."
        f"{_orders_stay(kept)} Receipt {receipt.erase_id}",
    )


@command(app, "receipts", data=True)
async def receipts(
    cli: Cli,
    user: Annotated[
        str | None, typer.Option("--user", help="Only of this id: whether somebody was erased.", show_default=False)
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    limit: Limit = 50,
) -> None:
    """List who was erased, newest first: when, by whom, why, how much, from where; of the id only a keyed hash."""
    from lkmongo.model import TenantScope, UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.erase import receipts as find

    person = UserScope(tenant_id=tenant, user_id=user) if user is not None else None
    async with open_store(cli.settings) as store:
        found = await find(store.db, TenantScope(tenant), scope=person, limit=limit)
    fields = _receipt_fields if cli.output.is_json else _receipt_cells
    what = ["counts", "orders_kept", "began_at", "tenant_id"] if cli.output.is_json else ["erased"]
    columns = ["receipt", "erased_at", "by", "reason", *what, "collections", "hash"]
    nobody = "Nobody was" if user is None else f"{user} was not"
    cli.output.rows(columns, map(fields, found), empty=f"{nobody} erased in tenant {tenant}")


def _operator(scope: UserScope) -> str:
    """The operating system's name for whoever runs this; in the console a person is known by just that name."""
    import getpass

    from lkmongo.errors import InvalidTextError, UsageError
    from lkmongo.store.people.erase import check_note

    try:
        return check_note("login", getpass.getuser(), scope)
    except InvalidTextError:
        return "themselves"
    except (OSError, KeyError) as error:
        raise UsageError("this system does not tell who you are", hint="add --by NAME") from error


def _told(counts: Any) -> str:
    """The counts in words, such as "1 profile, 3 memories"."""
    parts = [f"{counts[name]:,} {words[counts[name] != 1]}" for name, words in _NAMES.items() if counts.get(name)]
    return ", ".join(parts) or "nothing"


def _orders_stay(number: int) -> str:
    if not number:
        return ""
    return f" {number:,} {'order stays' if number == 1 else 'orders stay'}, as records of the business (see --orders)."


def _merge_sentence(guest: str, login: str, merged: Merged, *, dry_run: bool) -> str:
    if merged.is_empty:
        return f"Nothing to merge: nothing is kept of {guest}"
    lines = [f"{'Would merge' if dry_run else 'Merged'} {_told(merged.moved)} of {guest} into {login}"]
    lines += [
        f'  {each.memory_type}: kept "{_short(each.kept)}" of {each.kept_of}, dropped "{_short(each.dropped)}"'
        for each in merged.conflicts
    ]
    if merged.filled:
        lines.append(f"  added to the profile: {', '.join(merged.filled)}")
    lines += [f"  the call {old} of {guest} is now {new}" for old, new in merged.renamed.items()]
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
        "began_at": receipt.began_at,
        "tenant_id": receipt.tenant_id,
        "hash": receipt.hash,
    }


def _receipt_cells(receipt: Receipt) -> dict[str, Any]:
    return _receipt_fields(receipt) | {"erased": _told(receipt.counts), "collections": ", ".join(receipt.counts)}
