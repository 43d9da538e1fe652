"""`lkmongo sessions export` and `recover`: sessions to a file or stdout, and what was left on this disk."""

from __future__ import annotations

import asyncio
import os
import select
import shlex
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, DryRun, command
from lkmongo.cli.output import counted, is_terminal, unwritable, visible
from lkmongo.cli.progress import rate
from lkmongo.cli.sessions import AllTenants, Person, Status, TenantOrAll, app, session_filter, whose
from lkmongo.errors import LkmongoError, UsageError
from lkmongo.files import whole_file, write_all
from lkmongo.model import DEFAULT_TENANT, UserScope
from lkmongo.times import Since, Until

if TYPE_CHECKING:
    from lkmongo.outbox.journal import JournalContents, JournalError
    from lkmongo.outbox.recovery import Recovered
    from lkmongo.store.export.export import Exported, Sink, Writer
    from lkmongo.store.open import Store
    from lkmongo.store.sessions.listing import SessionFilter

STDOUT = Path("-")
OutputFile = Annotated[
    Path, typer.Option("--output-file", "-O", metavar="FILE", help="Write to this file; - is stdout.")
]
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}


class ExportFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    MARKDOWN = "md"


@command(app, "export", data=True, audited=True)
async def export(
    cli: Cli,
    format_: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="By default the ending of FILE, else jsonl.", show_default=False),
    ] = None,
    file: OutputFile = STDOUT,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Continue after this session: an export prints where it ended."),
    ] = None,
    with_embeddings: Annotated[bool, typer.Option("--with-embeddings", help="Include embeddings (jsonl).")] = False,
) -> None:
    """Export sessions with their turns, in the order in which they were recorded.

    jsonl holds everything, as MongoDB extended JSON: a line per session, with its turns in it. csv and parquet have a
    row per turn; md is a transcript to read. FILE is written completely or not at all. A session that is still going on
    is exported as it is so far.
    """
    from lkmongo.store.export.export import Export, Sink, parse_after
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known
    from lkmongo.store.sessions import listing

    chosen = format_ or _format_of(file)
    if with_embeddings and chosen is not ExportFormat.JSONL:
        raise UsageError(f"{chosen} has no place for embeddings", hint="use --format jsonl")
    if chosen is ExportFormat.PARQUET and file == STDOUT and is_terminal(sys.stdout):
        raise UsageError("a terminal cannot show Parquet", hint="name a file with -O, or pipe it")
    wanted = session_filter(tenant=tenant, all_tenants=all_tenants, user=user, since=since, until=until, status=status)
    start = parse_after(after) if after is not None else None
    command_line = _command_line(chosen, wanted, with_embeddings=with_embeddings)
    if file.suffix.lower() in _COMPRESSED:
        raise UsageError(
            f"{file} has the ending of a compressed file, and an export is not compressed",
            hint=f"{command_line} | gzip > {shlex.quote(str(file.with_suffix('.gz')))}",
        )
    began = time.monotonic()
    async with open_store(cli.settings) as store:
        await require_known(store.db, user_id=wanted.user_id, tenant_id=wanted.tenant_id)
        await cli.audit(store, await whose(store, wanted), {"sessions": await listing.count(store.db, wanted)})
        work = Export(store.db, wanted, after=start, with_embeddings=with_embeddings)
        try:
            with open_output(file) as write, _progress(file) as tell:
                sink = Sink(write)
                await work.run(_writer(chosen, sink), sink, tell)
        except (LkmongoError, asyncio.CancelledError):
            if file != STDOUT:
                cli.output.note(f"nothing was written to {file}")
            elif chosen is not ExportFormat.PARQUET and work.done.last_id is not None:
                last = work.done.last_id
                cli.output.note(f"stopped; the output is complete up to the session whose _id is {last}")
                cli.output.note(f"to continue from there: {command_line} --after {last}")
            raise
    done, seconds = work.done, time.monotonic() - began
    what = (
        f"exported {counted(done.sessions, 'session')} with {counted(done.turns, 'turn')} "
        f"({done.documents / seconds:,.0f} documents a second)"
    )
    later = f"\nlater sessions: {command_line} --after {done.last_id}" if done.last_id is not None else ""
    if file == STDOUT:
        cli.output.note(what + later)
        return
    cli.output.record(
        {
            "file": str(file),
            "format": chosen,
            "calls": done.sessions,
            "turns": done.turns,
            "bytes": sink.size,
            "seconds": round(seconds, 3),
            "last_id": str(done.last_id) if done.last_id is not None else None,
        },
        f"{what} to {file}{later}",
    )


def _format_of(file: Path) -> ExportFormat:
    ending = (file.with_suffix("") if file.suffix.lower() in _COMPRESSED else file).suffix.lower().lstrip(".")
    return ExportFormat(ending) if ending in set(ExportFormat) else ExportFormat.JSONL


def _writer(chosen: ExportFormat, sink: Sink) -> Writer:
    from lkmongo.store.export import writers

    match chosen:
        case ExportFormat.PARQUET:
            return writers.ParquetWriter(sink)
        case ExportFormat.CSV:
            return writers.CsvWriter(sink, visible)
        case ExportFormat.MARKDOWN:
            return writers.MarkdownWriter(sink, visible)
        case ExportFormat.JSONL:
            return writers.JsonlWriter(sink)


@contextmanager
def open_output(file: Path) -> Iterator[Callable[[bytes], Awaitable[None]]]:
    if file == STDOUT:
        if sys.stdout is None:
            raise LkmongoError("standard output is closed", hint="name a file with -O")
        sys.stdout.flush()
        descriptor = sys.stdout.fileno()
        yield lambda data: _write_out(descriptor, data)
        return
    with whole_file(file) as write:

        async def write_file(data: bytes) -> None:
            write(data)

        yield write_file


async def _write_out(descriptor: int, data: bytes) -> None:
    """Write to standard output without blocking, so that signals are handled while its reader does not read."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            write_all(descriptor, data)
            return
        for start in range(0, len(data), select.PIPE_BUF):  # this much can be written without blocking
            if not select.select([], [descriptor], [], 0)[1]:
                await _writable(descriptor)
            write_all(descriptor, data[start : start + select.PIPE_BUF])
    except BrokenPipeError:
        raise  # the reader has read enough
    except OSError as error:
        raise unwritable(error) from error


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[Exported], None]]:
    # Not on a terminal that shows the export itself.
    with rate("Exporting", "documents", shown=file != STDOUT or not is_terminal(sys.stdout)) as tell:
        yield lambda done: tell(f"{counted(done.sessions, 'session')}, {counted(done.turns, 'turn')}", done.documents)


def _command_line(chosen: ExportFormat, wanted: SessionFilter, *, with_embeddings: bool) -> str:
    """The command that repeats this export, with absolute times."""
    options: dict[str, Any] = {
        "--format": chosen,
        "--tenant": wanted.tenant_id if wanted.tenant_id != DEFAULT_TENANT else None,
        "--user": wanted.user_id,
        "--since": wanted.since and wanted.since.isoformat(),
        "--until": wanted.until and wanted.until.isoformat(),
        "--status": wanted.status,
    }
    words = ["lkmongo", "sessions", "export"]
    words += [word for option, value in options.items() if value is not None for word in (option, str(value))]
    words += ["--all-tenants"] if wanted.tenant_id is None else []
    words += ["--with-embeddings"] if with_embeddings else []
    return shlex.join(words)


_COLUMNS = ("session_id", "tenant_id", "user_id", "outcome", "turns", "changes", "left_out")
_NOTHING = "There is nothing to recover"


@command(app, "recover", data=True, audited=True)
async def recover(cli: Cli, dry_run: DryRun = False) -> None:
    """Store what sessions could not, and end sessions whose process is gone.

    A session keeps on this machine's disk what MongoDB did not accept. This stores it: turns, and changes to memories
    and profiles unless there are newer ones (left_out). Sessions of any machine whose process is gone become
    interrupted, webhooks that are due are sent, and with a language model what is to be learned from sessions is. The
    agent does the same when it starts, and while it runs. Run it at any time, and again after an interruption.
    """
    from lkmongo.outbox.journal import database_of, journal_folder
    from lkmongo.outbox.recovery import recover as store_all
    from lkmongo.outbox.webhook import Endpoint, deliver_due
    from lkmongo.store.open import open_store

    endpoint = Endpoint.of(cli.settings)
    folder = journal_folder(cli.settings.data_home)
    uri = cli.settings.mongodb_uri.get_secret_value() if cli.settings.mongodb_uri else None
    database = database_of(uri, cli.settings.mongodb_db)
    troubles: list[JournalError] = []
    files = _look(folder, database, troubles)
    if files.foreign:
        cli.output.note(
            f"{counted(files.foreign, 'session')} in {folder} {'is' if files.foreign == 1 else 'are'} for another "
            "database: set MONGODB_URI and MONGODB_DB as they were then, and run this again"
        )
    if files.live:
        cli.output.note(
            f"{counted(files.live, 'session')} of this machine {'is' if files.live == 1 else 'are'} still going on"
        )
    async with open_store(cli.settings) as store:
        # What was recorded must not be lost because the trail cannot be written: it is recovered all the same.
        await cli.audit(store, None, {"sessions": len(files.left)}, needed=False)
        if dry_run:
            rows = [_waiting(left) for left in files.left]
            waiting = {(left.record.scope, left.record.session_id) for left in files.left}
            rows += [_row(*lost, "lost") for lost in await store.sessions.lost() if lost not in waiting]
        else:
            troubles.clear()
            rows = [_recovered(found) for found in await store_all(store, folder, database, on_error=troubles.append)]
            outcomes = await deliver_due(store, endpoint) if endpoint else []
            if outcomes:
                counts = [f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)]
                cli.output.note(f"webhooks of sessions: {', '.join(counts)}")
            await _learn(cli, store)
    cli.output.rows(_COLUMNS, rows, empty=_NOTHING)
    if rows and dry_run:
        cli.output.note("nothing was written")
    for error in troubles:
        cli.output.warn(f"{error.message}{f' ({error.why})' if error.why else ''}")
    if troubles:
        raise LkmongoError(
            f"{len(troubles)} {'file' if len(troubles) == 1 else 'files'} could not be stored completely",
            hint=next((error.hint for error in troubles if error.hint), None),
        )


async def _learn(cli: Cli, store: Store) -> None:
    """Learn from the sessions that are due, if there is a language model."""
    if not (cli.settings.has_language_model and await store.learning.due(1)):
        return
    from lkmongo.agent.learning import learn_due, learner_of
    from lkmongo.agent.models import choose_model
    from lkmongo.embed.choose import embedder_for

    model, embedder = choose_model(cli.settings), embedder_for(cli.settings)
    try:
        if learner := learner_of(cli.settings, store, embedder, model):
            outcomes = await learn_due(learner)
            counts = [f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)]
            cli.output.note(f"learning from sessions: {', '.join(counts) or 'nothing to learn'}")
    finally:
        await embedder.close()
        if model:
            await model.close()


@dataclass(slots=True)
class _Files:
    left: list[JournalContents] = field(default_factory=list)
    foreign: int = 0
    live: int = 0


def _look(folder: Path, database: str, troubles: list[JournalError]) -> _Files:
    """Read the folder and change nothing."""
    from lkmongo.outbox import journal

    found = _Files()
    try:
        paths: Iterable[Path] = journal.files(folder)
    except journal.JournalError as error:
        troubles.append(error)
        return found
    for path in paths:
        try:
            with journal.locked(path) as is_free:
                if not is_free:
                    found.live += path.exists()
                    continue
                left = journal.read(path)
        except journal.JournalError as error:
            troubles.append(error)
            continue
        if left.database != database:
            found.foreign += 1
            continue
        found.left.append(left)
        if left.damaged:
            troubles.append(journal.JournalError(f"{path} is damaged: {left.damaged} of its lines cannot be read"))
    return found


def _waiting(left: JournalContents) -> dict[str, Any]:
    operations = [entry["op"] for entry in left.entries]
    changes = sum(operation in {"remember", "forget", "profile"} for operation in operations)
    return _row(left.record.scope, left.record.session_id, "waits", operations.count("turn"), changes)


def _recovered(found: Recovered) -> dict[str, Any]:
    return _row(found.scope, found.session_id, found.outcome, found.turns, found.changes, found.left_out)


def _row(scope: UserScope, session: str, outcome: str, *counts: int) -> dict[str, Any]:
    values = (session, scope.tenant_id, scope.user_id, outcome, *counts, 0, 0, 0)
    return dict(zip(_COLUMNS, values, strict=False))
