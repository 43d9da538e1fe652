"""`lkmongo db retention`: how long calls, memories and profiles are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.db import app
from lkmongo.cli.options import DryRun, Yes
from lkmongo.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from lkmongo.store.retention import Retention


@command(app, "retention", data=True)
async def retention(
    cli: Cli,
    subject: Annotated[
        str | None, typer.Argument(metavar="calls|memories|profiles", help="What to limit.", show_default=False)
    ] = None,
    keep: Annotated[
        str | None,
        typer.Argument(metavar="TIME|forever", help="How long to keep it: 90d, 26w, or forever.", show_default=False),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Show or set how long data is kept.

    Calls count from their end, memories from their last change, profiles from the last call. MongoDB deletes what is
    older, within a minute or so. A shorter time asks first and says how much would go.
    """
    from lkmongo.durations import parse_duration
    from lkmongo.errors import UsageError
    from lkmongo.store import retention as store_retention
    from lkmongo.store.opening import open_store

    if subject is None:
        async with open_store(cli.settings) as store:
            rows = kept(await store_retention.current(store.db))
        cli.output.rows(["subject", "keep"], rows)
        return
    store_retention.check_subject(subject)
    if keep is None:
        raise UsageError("how long?", hint=f"lkmongo db retention {subject} 90d, or forever")
    limit = None if keep.lower() == "forever" else parse_duration(keep)
    if limit is not None and limit.total_seconds() < 3_600:
        raise UsageError(
            f"{keep} is shorter than an hour", why="a call could be deleted while it goes on", hint="1h or more"
        )
    async with open_store(cli.settings) as store:
        before = next(row.keep for row in await store_retention.current(store.db) if row.subject == subject)
        shorter = limit is not None and (before is None or limit < before)
        going = await store_retention.older(store.db, subject, limit) if limit is not None and shorter else 0
        if not dry_run:
            if shorter:
                cli.confirm(
                    f"Keep {subject} for {keep} instead of {_shown(before)}? {counted(going, 'document')} would go for good.",
                    yes=yes,
                )
            await store_retention.keep_for(store.db, subject, limit)
    fields: dict[str, Any] = {
        "subject": subject,
        "before": _shown(before),
        "keep": _shown(limit),
        "would_go": going,
        "dry_run": dry_run,
    }
    verb = "Would keep" if dry_run else "Keeping"
    cli.output.record(fields, f"{verb} {subject} for {_shown(limit)}; older than that: {counted(going, 'document')}")


def kept(limits: Sequence[Retention]) -> list[dict[str, str]]:
    """A row for each subject, as `db status` shows them, too."""
    return [{"subject": limit.subject, "keep": _shown(limit.keep)} for limit in limits]


def _shown(keep: timedelta | None) -> str:
    from lkmongo.durations import show_duration

    return "forever" if keep is None else show_duration(keep)
