"""`lkmongo knowledge`: what the agent may quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lkmongo.cli.command import DEFAULT_TENANT, Cli, DryRun, Tenant, Yes, command
from lkmongo.cli.output import counted
from lkmongo.cli.progress import ReportProgress, progress
from lkmongo.cli.search_view import Limit, Query

if TYPE_CHECKING:
    from lkmongo.store.knowledge.ingest import IngestResult, Library
    from lkmongo.store.knowledge.knowledge import Document

app = typer.Typer(help="What the agent may quote.", no_args_is_help=True, rich_markup_mode=None)

_LISTED = 20
"""Notes on files that were passed over, before the rest is only counted."""

Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE", help="Names as knowledge list shows them.", show_default=False)
]


@command(app, "add", data=True)
async def add(
    cli: Cli,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Files (.md, .txt, .html, .pdf), folders of them, or - for stdin.",
            show_default=False,
        ),
    ],
    tenant: Tenant = DEFAULT_TENANT,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="What to call stdin, such as notes.md.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Add documents, or bring those that were added before up to date.

    They are split by headings and size. Only passages that changed are written and embedded; those that vanished
    from their document are removed, and so are documents that vanished from a folder that is added again. Files of
    more than 20 MB are refused; in folders, hidden files and links to folders are passed over.
    """
    from lkmongo.embed.choose import embedder_for
    from lkmongo.model import TenantScope
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.knowledge.ingest import add_documents
    from lkmongo.store.open import open_store

    scope = TenantScope(tenant)
    embedder = embedder_for(cli.settings)
    with progress("adding") as tell:
        library = await _read(paths, source, tell)
        _warn_about_skipped(library, cli)
        try:
            async with open_store(cli.settings, on_status=cli.output.note) as store:
                if not dry_run:
                    await database_indexes.apply(store.db)
                added = await add_documents(
                    store.db,
                    scope,
                    library,
                    embedder,
                    dry_run=dry_run,
                    on_progress=tell,
                    on_wait=lambda seconds: cli.output.note(f"The embedding service asks to wait {seconds:.0f} s"),
                )
        finally:
            await embedder.close()
    _show(added, cli, dry_run=dry_run)
    _raise_if_incomplete(added, library, dry_run=dry_run)


async def _read(paths: Sequence[str], source: str | None, tell: ReportProgress) -> Library:
    """Read what was named, standard input last."""
    import asyncio
    from pathlib import Path

    from lkmongo.errors import UsageError
    from lkmongo.store.knowledge.ingest import STDIN, Library, find_documents, read_documents

    named = [Path(path) for path in paths if path != STDIN]
    if "" in paths:  # which Path takes for the current folder; a variable that is not set, mostly
        raise UsageError("a path is empty", hint="name a file or a folder; the current folder is .")
    if STDIN not in paths:
        if source is not None:
            raise UsageError("--source names what comes from stdin", hint="name - too, or leave --source out")
    elif source is None:
        raise UsageError("what comes from stdin needs a name", hint="add --source NAME, such as --source notes.md")
    library = await read_documents(find_documents(named), tell) if named else Library()
    if source is not None:
        library.documents.append(await asyncio.to_thread(_read_stdin, source, library.present))
    return library


def _read_stdin(source: str, present: set[str]) -> Document:
    import sys

    from lkmongo.errors import UsageError
    from lkmongo.store.knowledge.ingest import read_stream

    if sys.stdin is None:
        raise UsageError("stdin is closed", hint="pipe a document in")
    if source in present:
        raise UsageError(f"a file and stdin would both be {source}", hint="choose another --source")
    return read_stream(sys.stdin.buffer, source)


def _warn_about_skipped(library: Library, cli: Cli) -> None:
    for note in library.notes[:_LISTED]:
        cli.output.note(note)
    if (more := len(library.notes) - _LISTED) > 0:
        cli.output.note(f"and {more} more")
    for problem in library.problems:
        cli.output.warn(problem)


def _show(added: IngestResult, cli: Cli, *, dry_run: bool) -> None:
    from lkmongo.store.knowledge.ingest import totals

    columns = ["source", "passages", "added", "replaced", "unchanged", "removed"]
    cli.output.rows(columns, ({name: getattr(row, name) for name in columns} for row in added.rows))
    for row in added.rows:
        if row.moved_from:
            cli.output.warn(f"{row.source} was added from {row.moved_from} before; it is this one now")
    total = totals(added.rows)
    cli.output.note(
        f"{counted(total.passages, 'passage')}: {total.added} added, {total.replaced} replaced, {total.unchanged} unchanged, "
        f"{total.removed} removed" + ("; this was a dry run, nothing is changed" if dry_run else "")
    )


def _raise_if_incomplete(added: IngestResult, library: Library, *, dry_run: bool) -> None:
    """Fail when something is not as it was meant to be, though all the rest was done."""
    from lkmongo.errors import LkmongoError

    if added.failure:
        raise LkmongoError(
            f"{added.without_vector} passages have no vector yet and are found by their words alone",
            why=added.failure.message,
            hint=f"{added.failure.hint or 'try again'}; then run lkmongo db embed, or this again",
        )
    if library.problems:
        raise LkmongoError(
            f"{len(library.problems)} files or folders could not be read"
            + ("" if dry_run else "; all others were added"),
            why="; ".join(library.problems[:_LISTED]),
            hint="correct or remove them, and run this again",
        )


@command(app, "list", data=True)
async def list_(
    cli: Cli,
    tenant: Tenant = DEFAULT_TENANT,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
) -> None:
    """List the documents of a tenant, by name, and how many of their passages have a vector of the model in use."""
    from lkmongo.embed.choose import embedder_for
    from lkmongo.model import TenantScope
    from lkmongo.store.knowledge.knowledge import Knowledge
    from lkmongo.store.open import open_store

    scope = TenantScope(tenant)
    embedder = embedder_for(cli.settings)
    async with open_store(cli.settings) as store:
        sources = await Knowledge(store.db).sources(scope, embedder.model)
    columns = ["source", "passages", "embedded", "origin", "root", "updated_at"]
    cli.output.rows(
        columns,
        ({name: getattr(source, name) for name in columns} for source in sources[:limit]),
        empty=f"Tenant {tenant} has no knowledge; add some with lkmongo knowledge add",
    )
    if len(sources) > limit:
        cli.output.note(f"showing {limit:,} of {len(sources):,}; see more with --limit")
    if missing := sum(source.passages - source.embedded for source in sources):
        cli.output.note(f"{missing} passages have no vector of {embedder.model}; run lkmongo db embed")


@command(app, "search", data=True)
async def search(cli: Cli, query: Query, tenant: Tenant = DEFAULT_TENANT, limit: Limit = 5) -> None:
    """Search a tenant's knowledge as the agent does, and show the ranks of both branches."""
    from lkmongo.cli.search_view import asked_for, searching, show_passages
    from lkmongo.model import TenantScope

    scope, text = TenantScope(tenant), asked_for(query)
    async with searching(cli) as (_, strategy):
        result = await strategy.knowledge(scope, text, limit)
    show_passages(cli, result, empty=f"Nothing about that was found in tenant {tenant}")


@command(app, "remove", data=True)
async def remove(
    cli: Cli, sources: Sources, tenant: Tenant = DEFAULT_TENANT, yes: Yes = False, dry_run: DryRun = False
) -> None:
    """Remove documents, whoever wrote them.

    What db seed wrote comes back with the next db seed, and a file that is still in its folder when that is added.
    """
    from difflib import get_close_matches

    from lkmongo.errors import NotFoundError
    from lkmongo.model import TenantScope
    from lkmongo.store.knowledge.knowledge import Knowledge
    from lkmongo.store.open import open_store

    scope = TenantScope(tenant)
    chosen = list(dict.fromkeys(sources))
    async with open_store(cli.settings) as store:
        knowledge = Knowledge(store.db)
        there = {source.source: source.passages for source in await knowledge.sources(scope, "")}
        if missing := [source for source in chosen if source not in there]:
            near = get_close_matches(missing[0], there, n=1)
            other = "" if tenant == DEFAULT_TENANT else f" --tenant {tenant}"
            raise NotFoundError(
                f"tenant {tenant} has no source {', '.join(missing)}",
                hint=f"did you mean {near[0]}?" if near else f"lkmongo knowledge list{other}",
            )
        passages = sum(there[source] for source in chosen)
        what = f"{counted(passages, 'passage')} of {', '.join(chosen)} in tenant {tenant}"
        removed = 0
        if not dry_run:
            cli.confirm(f"Remove {what}?", yes=yes)
            removed = await knowledge.remove(scope, chosen)
    fields = {"tenant_id": tenant, "sources": chosen, "dry_run": dry_run, "passages": passages, "removed": removed}
    cli.output.record(fields, f"{'Would remove' if dry_run else 'Removed'} {what}")
