"""`lkmongo audit`: who read or changed people's data with these commands, and whether that record is whole."""

from __future__ import annotations

import contextlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import counted, to_json, visible
from lkmongo.cli.progress import rate
from lkmongo.cli.sessions import AllTenants, Limit, Person, TenantOrAll
from lkmongo.cli.sessions_export import STDOUT, OutputFile, open_output
from lkmongo.model import DEFAULT_TENANT
from lkmongo.times import Since, Until, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lkmongo.store.people.audit import AuditFilter, Entry
    from lkmongo.store.people.audit_chain import Verified

app = typer.Typer(
    name="audit",
    help="Which operator read or changed whose data: list, export and verify the trail of these commands.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Operator = Annotated[str | None, typer.Option("--operator", metavar="NAME", help="Only what this operator did.")]
_FIELDS = (
    *("number", "at", "operator", "action", "tenant_id", "subject"),
    *("reason", "counts", "key", "previous_hash", "hash"),
)
_BYTES = 64 * 2**10


class AuditFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


def _wanted(
    tenant: str | None,
    user: str | None,
    operator: str | None,
    since: str | None,
    until: str | None,
    *,
    all_tenants: bool,
) -> AuditFilter:
    from lkmongo.errors import UsageError
    from lkmongo.model import UserScope, check_id
    from lkmongo.store.people.audit import AuditFilter

    if all_tenants and (tenant is not None or user is not None):
        raise UsageError("--all-tenants goes with neither --tenant nor --user", hint="leave one of them out")
    start, end = span(since, until)
    tenant_id = None if all_tenants else check_id("tenant", DEFAULT_TENANT if tenant is None else tenant)
    scope = UserScope(tenant_id=tenant_id, user_id=user) if user is not None and tenant_id is not None else None
    return AuditFilter(tenant_id, scope, operator, start, end)


@command(app, "list", data=True)
async def list_(
    cli: Cli,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    operator: Operator = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
) -> None:
    """List which operator read or changed whose data, with which command, when and why, newest first.

    The trail holds a keyed hash of a person's id; people who are still known are shown by their id. A command that was
    about many people at once has one entry, which --user does not find.
    """
    from lkmongo.errors import AuthenticationError
    from lkmongo.store.open import open_store
    from lkmongo.store.people.audit import Audit

    wanted = _wanted(tenant, user, operator, since, until, all_tenants=all_tenants)
    async with open_store(cli.settings) as store:
        audit = Audit(store.db)
        found = await audit.newest(wanted, limit=limit)
        names = {}
        with contextlib.suppress(AuthenticationError):  # who may read the trail alone sees the hashes
            names = await audit.names(found)
    columns = ["number", "at", "operator", "action", *(["tenant_id"] if all_tenants else []), "user_id", "reason"]
    columns += ["counts", "subject", "key", "hash"] if cli.output.is_json else ["counts"]
    cli.output.rows(
        columns, (_row(each, names, as_json=cli.output.is_json) for each in found), empty="There are no such entries"
    )
    if len(found) == limit and not cli.output.is_json:
        cli.output.note(f"showing the newest {limit:,}; see others with --limit, --since and --until")


@command(app, "export", data=True)
async def export(
    cli: Cli,
    format_: Annotated[
        AuditFormat | None,
        typer.Option("--format", help="By default the ending of FILE, else jsonl.", show_default=False),
    ] = None,
    file: OutputFile = STDOUT,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    operator: Operator = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Export the audit trail as it is, oldest first: JSON lines, or CSV with a row per entry.

    People are in it by the keyed hash of their id, so that the file names nobody who is erased later. FILE is written
    completely or not at all.
    """
    from lkmongo.store.export.export import Sink
    from lkmongo.store.export.writers import csv_lines
    from lkmongo.store.open import open_store
    from lkmongo.store.people.audit import Audit

    chosen = format_ or (AuditFormat.CSV if file.suffix.lower() == ".csv" else AuditFormat.JSONL)
    wanted = _wanted(tenant, user, operator, since, until, all_tenants=all_tenants)
    number = 0
    async with open_store(cli.settings) as store:
        with open_output(file) as write:
            sink = Sink(write)
            if chosen is AuditFormat.CSV:
                sink.write(csv_lines([_FIELDS], visible))
            async for entry in Audit(store.db).all(wanted):
                number += 1
                sink.write(_line(_fields(entry), chosen))
                if sink.held > _BYTES:
                    await sink.flush()
            await sink.flush()
    what = f"exported {_counted(number)}"
    if file == STDOUT:
        cli.output.note(what)
        return
    cli.output.record({"file": str(file), "format": chosen, "entries": number, "bytes": sink.size}, f"{what} to {file}")


@command(app, "verify", data=True)
async def verify(
    cli: Cli,
    holds: Annotated[
        str | None,
        typer.Option(
            "--holds",
            metavar="NUMBER:SEAL",
            help="An entry that was the last one, as this command showed it: were any deleted since?",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Verify that no entry of the audit trail is missing, was changed, or was written by something else.

    Exits with 6 if one is. Nothing within a database tells that its newest entries are missing: note what this shows as
    the last one elsewhere, and give it with --holds the next time.
    """
    from lkmongo.errors import DriftError
    from lkmongo.store.open import open_store
    from lkmongo.store.people.audit_chain import verify as verify_all

    noted = _noted(holds) if holds is not None else None
    async with open_store(cli.settings) as store:
        with rate("Verifying", "entries") as tell:
            seen = await verify_all(store.db, holds=noted, on_progress=lambda done: tell(_counted(done), done))
    fields = {
        "entries": seen.entries,
        "last": f"{seen.last[0]}:{seen.last[1]}",
        "deleted_up_to": seen.checkpoint.number if seen.checkpoint else None,
        "problems_of_deleted": seen.checkpoint.problems if seen.checkpoint else 0,
        "sealed_in_database": seen.in_database,
        "problems": seen.problems,
    }
    cli.output.record(fields, _sentence(seen))
    if seen.in_database:
        cli.output.warn(
            f"{_counted(seen.in_database)} could have been written by whoever may write to the database: set "
            "LKMONGO_ERASURE_KEY, then run lkmongo db upgrade"
        )
    if seen.count:
        more = seen.count - len(seen.problems)
        raise DriftError(
            f"the audit trail is not as it was written: {counted(seen.count, 'problem')}",
            why="\n".join([*seen.problems, *([f"and {more:,} more"] if more else [])]),
            hint="compare it with a backup, or with an export",
        )


def _counted(entries: int) -> str:
    return counted(entries, "entry", "entries")


def _noted(text: str) -> tuple[int, str]:
    from lkmongo.errors import UsageError

    if not (match := re.fullmatch(r"([0-9]{1,15}):([0-9a-f]{64})", text)):
        raise UsageError("--holds takes NUMBER:SEAL", hint="copy what lkmongo audit verify showed as the last one")
    return int(match[1]), match[2]


def _sentence(seen: Verified) -> str:
    deleted = f", after {seen.checkpoint.number:,} that were deleted" if seen.checkpoint else ""
    if seen.checkpoint and seen.checkpoint.problems:
        deleted += f" with {counted(seen.checkpoint.problems, 'problem')}"
    state = "not all as they were written" if seen.count else "none changed or missing"
    return f"{_counted(seen.entries)}{deleted}: {state}. The last is {seen.last[0]}:{seen.last[1]}"


def _row(entry: Entry, names: Mapping[str, str], *, as_json: bool) -> dict[str, Any]:
    known = names.get(entry.subject) if entry.subject else None
    fields = _fields(entry)
    if as_json:
        return fields | {"user_id": known}
    counts = ", ".join(f"{number:,} {name}" for name, number in entry.counts.items())
    return fields | {"counts": counts, "user_id": known or (f"({entry.subject[-12:]})" if entry.subject else "")}


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FIELDS}


def _line(fields: Mapping[str, Any], form: AuditFormat) -> bytes:
    from lkmongo.store.export.writers import csv_lines

    if form is AuditFormat.JSONL:
        return f"{to_json(fields)}\n".encode()
    return csv_lines([[to_json(value) if isinstance(value, dict) else value for value in fields.values()]], visible)
