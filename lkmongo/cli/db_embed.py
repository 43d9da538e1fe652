"""`lkmongo db embed`: make the vectors that are missing."""

from __future__ import annotations

from typing import Annotated

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.db import app
from lkmongo.cli.options import DryRun
from lkmongo.cli.progress import progress


@command(app, "embed", data=True)
async def embed(
    cli: Cli,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help="Id of a tenant; all tenants without it.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Embed the memories and the passages that have no vector, or one of another model than the settings name.

    Run it after the embedder was changed, or after its service was away. It may be interrupted: what is done stays
    done, and the next run goes on. What is written anew meanwhile is left to whoever writes it.
    """
    from dataclasses import asdict

    from lkmongo.embed.choose import embedder_for
    from lkmongo.model import Tenant
    from lkmongo.store.backfill import backfill, count_missing
    from lkmongo.store.opening import open_store

    within = Tenant(tenant) if tenant is not None else None
    embedder = embedder_for(cli.settings)
    try:
        async with open_store(cli.settings, on_status=cli.output.note) as store:
            if dry_run:
                filled = await count_missing(store.db, embedder, tenant=within, thorough=True)
            else:
                with progress("embedding") as tell:
                    filled = await backfill(
                        store.db,
                        embedder,
                        tenant=within,
                        thorough=True,
                        on_progress=tell,
                        on_wait=lambda seconds: cli.output.note(f"The embedding service asks to wait {seconds:.0f} s"),
                    )
    finally:
        await embedder.close()
    cli.output.rows(
        ["collection", "missing", "embedded", "changed", "unfit", "model"],
        ({**asdict(each), "model": embedder.model} for each in filled),
    )
    if unfit := sum(each.unfit for each in filled):
        cli.output.warn(f"{unfit} documents have no text to embed; lkmongo did not write them")
