"""`lkmongo knowledge`: what the agent may quote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lkmongo.cli.command import Cli, DryRun, FollowLinks, Tenant, Yes, command
from lkmongo.cli.output import counted
from lkmongo.cli.progress import ReportProgress, progress
from lkmongo.cli.search_view import Limit, Query
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.store.knowledge.ingest import IngestResult, Library
    from lkmongo.store.knowledge.knowledge import Document
    from lkmongo.store.knowledge.reader import Reader

app = typer.Typer(help="What the agent may quote.", no_args_is_help=True, rich_markup_mode=None)

_LISTED = 20
"""Notes on skipped files to show."""

Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE", help="Names as shown by knowledge list.", show_default=False)
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
        typer.Option(
            "--source", metavar="NAME", help="Name for the document from stdin, such as notes.md.", show_default=False
        ),
    ] = None,
    follow_links: FollowLinks = False,
    dry_run: DryRun = False,
) -> None:
    """Add documents, or update those that were added before.

    They are split by headings and size. Only changed passages are written and embedded; passages that vanished from
    their document are removed, and so are documents that vanished from an added folder. Files of more than 20 MB are
    refused, and those that take more than 20 s or 512 MB to read; in folders, hidden files and symbolic links are
    skipped.
    """
    from lkmongo.embed.choose import open_embedder
    from lkmongo.model import TenantScope
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.knowledge.ingest import add_documents
    from lkmongo.store.open import open_store

    scope = TenantScope(tenant)
    async with open_embedder(cli.settings) as embedder:
        with progress("adding") as report:
            library = await _read(paths, source, report, follow_links=follow_links)
            _warn_about_skipped(library, cli)
            async with open_store(cli.settings, on_status=cli.output.note) as store:
                if not dry_run:
                    await database_indexes.apply(store.db)
                added = await add_documents(
                    store.db,
                    scope,
                    library,
                    embedder,
                    dry_run=dry_run,
                    on_progress=report,
                    on_wait=cli.output.note_wait,
                )
    _show(added, cli, dry_run=dry_run)
    _raise_if_incomplete(added, library, dry_run=dry_run)


async def _read(paths: Sequence[str], source: str | None, tell: ReportProgress, *, follow_links: bool) -> Library:
    import asyncio
    from pathlib import Path

    from lkmongo.errors import UsageError
    from lkmongo.store.knowledge.ingest import STDIN, Library, find_documents, read_documents
    from lkmongo.store.knowledge.reader import Reader

    named = [Path(path) for path in paths if path != STDIN]
    if "" in paths:  # Path takes it for the current folder; usually an unset variable
        raise UsageError("a path is empty", hint="name a file or a folder; the current folder is .")
    if STDIN not in paths:
        if source is not None:
            raise UsageError("--source names the document from stdin", hint="add -, or leave --source out")
    elif source is None:
        raise UsageError("a document from stdin needs a name", hint="add --source NAME, such as --source notes.md")
    with Reader() as reader:
        reader.start()
        found = find_documents(named, follow_links=follow_links)
        library = await read_documents(found, reader, tell) if named else Library()
        if source is not None:
            library.documents.append(await asyncio.to_thread(_read_stdin, source, library.present, reader))
    return library


def _read_stdin(source: str, present: set[str], reader: Reader) -> Document:
    import sys

    from lkmongo.errors import UsageError
    from lkmongo.store.knowledge.ingest import read_stream

    if sys.stdin is None:
        raise UsageError("stdin is closed", hint="pipe a document in")
    if source in present:
        raise UsageError(f"a file and stdin would both be {source}", hint="choose another --source")
    return read_stream(sys.stdin.buffer, source, reader)


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
            cli.output.warn(f"{row.source} was previously added from {row.moved_from}; this one replaces it")
    total = totals(added.rows)
    cli.output.note(
        f"{counted(total.passages, 'passage')}: {total.added} added, {total.replaced} replaced, "
        f"{total.unchanged} unchanged, {total.removed} removed"
        + ("; this was a dry run, nothing was changed" if dry_run else "")
    )


def _raise_if_incomplete(added: IngestResult, library: Library, *, dry_run: bool) -> None:
    """Raise if some documents could not be read or embedded, after all others were added."""
    from lkmongo.errors import LkmongoError

    if added.failure:
        raise LkmongoError(
            f"{added.without_vector} passages have no vector yet and are found by their words alone",
            why=added.failure.message,
            hint=f"{added.failure.hint or 'try again'}; then run lkmongo db embed, or repeat this",
        )
    if library.problems:
        raise LkmongoError(
            f"{len(library.problems)} files or folders could not be read"
            + ("" if dry_run else "; all others were added"),
            why="; ".join(library.problems[:_LISTED]),
            hint="correct or remove them, and repeat this",
        )


@command(app, "list", data=True)
async def list_(
    cli: Cli,
    tenant: Tenant = DEFAULT_TENANT,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Maximum number.")] = 50,
) -> None:
    """List the documents of a tenant, with the numbers of passages and of vectors of the current model."""
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
        cli.output.note(f"showing {limit:,} of {len(sources):,}; raise --limit for more")
    if missing := sum(source.passages - source.embedded for source in sources):
        cli.output.note(f"{missing} passages have no vector of {embedder.model}; run lkmongo db embed")


@command(app, "search", data=True)
async def search(cli: Cli, query: Query, tenant: Tenant = DEFAULT_TENANT, limit: Limit = 5) -> None:
    """Search a tenant's knowledge like the agent, and show the ranks of both branches."""
    from lkmongo.cli.search_view import searching, show_passages
    from lkmongo.model import TenantScope, clean_query

    scope, text = TenantScope(tenant), clean_query(query)
    async with searching(cli) as (_, strategy):
        result = await strategy.knowledge(scope, text, limit)
    show_passages(cli, result, empty=f"Nothing about that was found in tenant {tenant}")


@command(app, "remove", data=True)
async def remove(
    cli: Cli, sources: Sources, tenant: Tenant = DEFAULT_TENANT, yes: Yes = False, dry_run: DryRun = False
) -> None:
    """Remove documents, whoever wrote them.

    Documents of db seed come back with the next db seed, and files that are still in their folder when it is added.
    """
    from lkmongo.model import TenantScope
    from lkmongo.store.knowledge.knowledge import Knowledge
    from lkmongo.store.open import open_store

    scope = TenantScope(tenant)
    chosen = list(dict.fromkeys(sources))
    async with open_store(cli.settings) as store:
        knowledge = Knowledge(store.db)
        passages = await knowledge.require(scope, chosen)
        what = f"{counted(passages, 'passage')} of {', '.join(chosen)} in tenant {tenant}"
        removed = 0
        if not dry_run:
            cli.confirm(f"Remove {what}?", yes=yes)
            removed = await knowledge.remove(scope, chosen)
    fields = {"tenant_id": tenant, "sources": chosen, "dry_run": dry_run, "passages": passages, "removed": removed}
    cli.output.record(fields, f"{'Would remove' if dry_run else 'Removed'} {what}")
