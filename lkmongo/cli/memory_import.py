"""`lkmongo memory import`: facts from a file, of lkmongo or of elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkmongo.cli.command import Cli, DryRun, Tenant, command
from lkmongo.cli.memory import app
from lkmongo.cli.output import counted
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.store.people.import_memories import Imported

_LISTED = 20


@command(app, "import", data=True, audited=True)
async def import_(
    cli: Cli,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file with the facts.", show_default=False)],
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Whose facts they are; by default whose the file says.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    dry_run: DryRun = False,
) -> None:
    """Import facts from a file, once each, however often it is run.

    FILE is an export of `memory export`; JSON lines with user_id, label and content, and if you like valid_from,
    valid_to and updated_at; or an export of mem0 or Zep. The content tells which. A newer value stays; an older one of
    the file that is no longer true goes into the history. What is refused, such as a secret, is listed with its line,
    and the exit code is 1; everything else is imported.
    """
    from lkmongo.cli.progress import rate
    from lkmongo.errors import LkmongoError
    from lkmongo.model import UserScope
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.open import open_store
    from lkmongo.store.people.import_formats import read
    from lkmongo.store.people.import_memories import import_facts

    number = sum(1 for _ in read(file)[1])  # the audit trail is told first
    form, entries = read(file)
    whose = tenant if user is None else UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings, on_status=cli.output.note) as store:
        await cli.audit(store, whose, {"facts": number})
        if not dry_run:
            await database_indexes.apply(store.db)
        with rate("importing", "facts") as tell:
            done = await import_facts(
                store,
                entries,
                tenant_id=tenant,
                user_id=user,
                dry_run=dry_run,
                on_progress=lambda done: tell(f"{done.read:,} facts", done.read),
            )
    cli.output.record(_fields(done, file, form, tenant, dry_run=dry_run), _sentence(done, file, dry_run=dry_run))
    if done.refused:
        listed = [f"line {each.line}: {each.why}" for each in done.problems[:_LISTED]]
        more = done.refused - len(listed)
        raise LkmongoError(
            f"{done.refused:,} of {done.read:,} facts of {file} were refused",
            why="\n".join([*listed, *([f"and {more:,} more"] if more else [])]),
            hint="correct these lines and import the file again: what is stored already stays as it is",
        )


def _fields(done: Imported, file: Path, form: str, tenant: str, *, dry_run: bool) -> dict[str, object]:
    return {
        "file": str(file),
        "format": form,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "people": len(done.people),
        "stored": done.stored,
        "former": done.former,
        "unchanged": done.unchanged,
        "older": done.older,
        "refused": done.refused,
        "problems": [{"line": each.line, "why": each.why} for each in done.problems],
    }


def _sentence(done: Imported, file: Path, *, dry_run: bool) -> str:
    verb = "Would import" if dry_run else "Imported"
    people = counted(len(done.people), "person", "people")
    parts = [f"{done.stored:,} that are true", f"{done.former:,} that were"]
    parts += [f"{done.unchanged:,} were stored already"] if done.unchanged else []
    parts += [f"{done.older:,} are older than what is stored or forgotten"] if done.older else []
    return f"{verb} facts of {people} from {file}: {', '.join(parts)}"
