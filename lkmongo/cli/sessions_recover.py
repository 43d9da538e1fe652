"""`lkmongo sessions recover`: what calls have left on this machine is stored, and those that nobody ended are ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.cli.command import Cli, command
from lkmongo.cli.options import DryRun
from lkmongo.cli.sessions import app
from lkmongo.cli.text import counted
from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    from lkmongo.store.recovery import Recovered
    from lkmongo.store.spool import Spooled, SpoolError

_COLUMNS = ("session_id", "tenant_id", "user_id", "outcome", "turns", "changes", "left_out")
_NOTHING = "There is nothing to recover"


@command(app, "recover", data=True)
async def recover(cli: Cli, dry_run: DryRun = False) -> None:
    """Store what calls could not, and end those that nobody has ended.

    A call keeps on this machine's disk what MongoDB does not take. This stores it: turns, and changes of what is
    remembered, unless something newer is there (left_out). Calls of any machine whose process is gone become
    interrupted. The agent does the same when it starts. It may be run at any time, and again after an interruption.
    """
    from lkmongo.store.opening import open_store
    from lkmongo.store.recovery import recover as store_all
    from lkmongo.store.spool import database_of, spool_folder

    folder = spool_folder(cli.settings.data_home)
    uri = cli.settings.mongodb_uri.get_secret_value() if cli.settings.mongodb_uri else None
    database = database_of(uri, cli.settings.mongodb_db)
    troubles: list[SpoolError] = []
    files = _look(folder, database, troubles)
    if files.foreign:
        cli.output.note(
            f"{counted(files.foreign, 'call')} in {folder} {'is' if files.foreign == 1 else 'are'} for another database: "
            "set MONGODB_URI and MONGODB_DB as they were then, and run this again"
        )
    if files.live:
        cli.output.note(f"{counted(files.live, 'call')} of this machine still {'goes' if files.live == 1 else 'go'} on")
    async with open_store(cli.settings) as store:
        if dry_run:
            rows = [_waiting(left) for left in files.left]
            known = {(row["session_id"], row["tenant_id"], row["user_id"]) for row in rows}
            for identity, session_id in await store.sessions.lost():
                if (session_id, identity.tenant_id, identity.user_id) not in known:
                    rows.append(_row(identity.tenant_id, identity.user_id, session_id, "lost"))
        else:
            troubles.clear()
            rows = [_recovered(found) for found in await store_all(store, folder, database, on_trouble=troubles.append)]
    cli.output.rows(_COLUMNS, rows, empty=_NOTHING)
    if rows and dry_run:
        cli.output.note("nothing was written")
    for error in troubles:
        cli.output.warn(f"{error.message}{f' ({error.why})' if error.why else ''}")
    if troubles:
        raise LkmongoError(
            f"{len(troubles)} {'file' if len(troubles) == 1 else 'files'} could not be stored whole",
            hint=next((error.hint for error in troubles if error.hint), None),
        )


class _Files:
    """What is in the folder."""

    def __init__(self) -> None:
        self.left: list[Spooled] = []
        self.foreign = 0
        self.live = 0


def _look(folder: Path, database: str, troubles: list[SpoolError]) -> _Files:
    """Read what is there, and change nothing."""
    from lkmongo.store import spool

    found = _Files()
    try:
        paths: Iterable[Path] = spool.files(folder)
    except spool.SpoolError as error:
        troubles.append(error)
        return found
    for path in paths:
        try:
            with spool.locked(path) as is_free:
                if not is_free:
                    found.live += path.exists()
                    continue
                left = spool.read(path)
        except spool.SpoolError as error:
            troubles.append(error)
            continue
        if left.database != database:
            found.foreign += 1
            continue
        found.left.append(left)
        if left.damaged:
            troubles.append(spool.SpoolError(f"{path} is damaged: {left.damaged} of its lines cannot be read"))
    return found


def _waiting(left: Spooled) -> dict[str, Any]:
    operations = [entry["op"] for entry in left.entries]
    identity = left.record.identity
    changes = sum(operation in {"remember", "forget", "profile"} for operation in operations)
    return _row(
        identity.tenant_id, identity.user_id, left.record.session_id, "waits", operations.count("turn"), changes
    )


def _recovered(found: Recovered) -> dict[str, Any]:
    identity = found.identity
    return _row(
        identity.tenant_id,
        identity.user_id,
        found.session_id,
        found.outcome,
        found.turns,
        found.changes,
        found.left_out,
    )


def _row(tenant: str, user: str, session: str, outcome: str, *counts: int) -> dict[str, Any]:
    return dict(zip(_COLUMNS, (session, tenant, user, outcome, *counts, 0, 0, 0), strict=False))
