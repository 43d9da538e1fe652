"""`lkmongo db`: make a database ready for the agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.options import Yes
from lkmongo.cli.progress import progress

_NAMED = 20
"""People that one warning names."""

app = typer.Typer(help="Make a database ready for the agent.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "seed", data=True)
async def seed(
    cli: Cli,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="A folder of your own instead of the sample data.", show_default=False)
    ] = None,
    erased: Annotated[
        bool, typer.Option("--erased", help="Load also people who were erased from this database, as new ones.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Load users, orders and knowledge from a folder; run it as often as you like.

    What is there already is kept: an existing profile is never overwritten, and nothing is deleted that an
    earlier seed did not write. People who were erased (`users erase`) are left out with their orders, and named.
    A database on another machine needs --yes.
    """
    from lkmongo.embed.choose import embedder_for
    from lkmongo.store import provision
    from lkmongo.store.client import is_local
    from lkmongo.store.opening import open_store
    from lkmongo.store.seeding import seed as write_seeds
    from lkmongo.store.seeds import default_seed_folder, load_seeds

    data = load_seeds(folder or default_seed_folder())
    uri = cli.settings.mongodb_uri
    if uri and not is_local(uri.get_secret_value()):
        cli.confirm(f"Load {folder or 'the sample data'} into a database on another machine?", yes=yes)
    embedder = embedder_for(cli.settings)
    try:
        async with open_store(cli.settings, on_status=cli.output.note) as store:
            await provision.apply(store.db)
            with progress("seeding") as tell:
                counts = await write_seeds(
                    store.db,
                    data,
                    embedder,
                    on_progress=tell,
                    on_wait=lambda seconds: cli.output.note(f"The embedding service asks to wait {seconds:.0f} s"),
                    erased_too=erased,
                )
    finally:
        await embedder.close()
    columns = ["collection", "inserted", "updated", "unchanged", "kept", "removed", "left_out"]
    cli.output.rows(columns, counts.rows())
    if counts.erased:
        names = sorted(f"{each.user_id} in tenant {each.tenant_id}" for each in counts.erased)
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        cli.output.warn(
            f"erased from this database, so left out: {', '.join(names[:_NAMED])}{more}; --erased loads them as new"
        )
