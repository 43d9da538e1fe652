"""`lkmongo sessions export`: calls with their turns, to a file that is whole or not there, or to stdout."""

from __future__ import annotations

import asyncio
import os
import re
import select
import shlex
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.known import check_caller_known
from lkmongo.cli.output import is_terminal, unwritable
from lkmongo.cli.rate import rate
from lkmongo.cli.sessions import AllTenants, Person, Status, TenantOrAll, app, call_filter
from lkmongo.cli.text import counted, visible
from lkmongo.cli.times import Since, Until
from lkmongo.errors import LkmongoError, UsageError
from lkmongo.model import DEFAULT_TENANT
from lkmongo.whole_file import whole_file, write_all

if TYPE_CHECKING:
    from lkmongo.store.calls import CallFilter
    from lkmongo.store.export import Exported, Sink, Writer

_STDOUT = Path("-")
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
# What a terminal obeys and JSON leaves as it is: C1 controls, and characters that change the direction of text.
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class ExportFormat(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    MARKDOWN = "md"


@command(app, "export", data=True)
async def export(
    cli: Cli,
    format_: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="By default what the name of FILE ends with, else jsonl.", show_default=False),
    ] = None,
    file: Annotated[
        Path, typer.Option("--output-file", "-O", metavar="FILE", help="Write to this file; - is stdout.")
    ] = _STDOUT,
    user: Person = None,
    tenant: TenantOrAll = None,
    all_tenants: AllTenants = False,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID", help="Go on after this call: an export says at its end where it was."),
    ] = None,
    with_embeddings: Annotated[bool, typer.Option("--with-embeddings", help="Leave embeddings in (jsonl).")] = False,
) -> None:
    """Export calls with their turns.

    They come in the order in which they were recorded. jsonl is a call a line with its turns in it, as MongoDB extended JSON, and holds everything; csv and parquet have a
    row a turn; md is to be read. FILE is written whole or not at all. A call that goes on is exported as it is so far.
    """
    from lkmongo.store.export import Export, Sink, parse_after
    from lkmongo.store.opening import open_store

    chosen = format_ or _format_of(file)
    if with_embeddings and chosen is not ExportFormat.JSONL:
        raise UsageError(f"{chosen} has no place for embeddings", hint="use --format jsonl")
    if chosen is ExportFormat.PARQUET and file == _STDOUT and is_terminal(sys.stdout):
        raise UsageError("Parquet is not for a terminal", hint="name a file with -O, or pipe it")
    wanted = call_filter(tenant=tenant, all_tenants=all_tenants, user=user, since=since, until=until, status=status)
    start = parse_after(after) if after is not None else None
    command_line = _command_line(chosen, wanted, with_embeddings=with_embeddings)
    if file.suffix.lower() in _COMPRESSED:
        raise UsageError(
            f"{file} would look compressed, and an export is not",
            hint=f"{command_line} | gzip > {shlex.quote(str(file.with_suffix('.gz')))}",
        )
    began = time.monotonic()
    async with open_store(cli.settings) as store:
        await check_caller_known(store, wanted)
        work = Export(store.db, wanted, after=start, with_embeddings=with_embeddings)
        try:
            with _output(file) as write, _progress(file) as tell:
                sink = Sink(write)
                await work.run(_writer(chosen, sink), sink, tell)
        except (LkmongoError, asyncio.CancelledError):
            if file != _STDOUT:
                cli.output.note(f"nothing was written to {file}")
            elif chosen is not ExportFormat.PARQUET and work.done.last_id is not None:
                last = work.done.last_id
                cli.output.note(f"stopped; the output is whole up to the call whose _id is {last}")
                cli.output.note(f"to go on from there: {command_line} --after {last}")
            raise
    done, seconds = work.done, time.monotonic() - began
    what = (
        f"exported {counted(done.calls, 'call')} with {counted(done.turns, 'turn')} "
        f"({done.documents / seconds:,.0f} documents a second)"
    )
    later = f"\nwhat is recorded later: {command_line} --after {done.last_id}" if done.last_id is not None else ""
    if file == _STDOUT:
        cli.output.note(what + later)
        return
    cli.output.record(
        {
            "file": str(file),
            "format": chosen,
            "calls": done.calls,
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
    if chosen is ExportFormat.PARQUET:
        from lkmongo.store.export_parquet import ParquetWriter

        return ParquetWriter(sink)
    if chosen is ExportFormat.CSV:
        from lkmongo.store.export_csv import CsvWriter

        return CsvWriter(sink, visible)
    if chosen is ExportFormat.MARKDOWN:
        from lkmongo.store.export_markdown import MarkdownWriter

        return MarkdownWriter(sink, visible)
    from lkmongo.store.export_jsonl import JsonlWriter

    return JsonlWriter(sink)


@contextmanager
def _output(file: Path) -> Iterator[Callable[[bytes], Awaitable[None]]]:
    if file == _STDOUT:
        if sys.stdout is None:
            raise LkmongoError("standard output is closed", hint="name a file with -O")
        sys.stdout.flush()
        descriptor, terminal = sys.stdout.fileno(), is_terminal(sys.stdout)
        yield lambda data: _write_out(descriptor, _harmless(data) if terminal else data)
        return
    with whole_file(file) as write:

        async def write_file(data: bytes) -> None:
            write(data)

        yield write_file


async def _write_out(descriptor: int, data: bytes) -> None:
    """Write to standard output; while its reader has stopped reading, signals are heard."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            write_all(descriptor, data)
            return
        for start in range(0, len(data), select.PIPE_BUF):  # so much, or nothing, fits in without waiting
            if not select.select([], [descriptor], [], 0)[1]:
                await _writable(descriptor)
            write_all(descriptor, data[start : start + select.PIPE_BUF])
    except BrokenPipeError:
        raise  # the reader has enough
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


def _harmless(data: bytes) -> bytes:
    return _OBEYED.sub(_escaped, data.decode()).encode()


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[Exported], None]]:
    # On a terminal that shows the export itself it would only be in the way.
    with rate("Exporting", "documents", shown=file != _STDOUT or not is_terminal(sys.stdout)) as tell:
        yield lambda done: tell(f"{counted(done.calls, 'call')}, {counted(done.turns, 'turn')}", done.documents)


def _command_line(chosen: ExportFormat, wanted: CallFilter, *, with_embeddings: bool) -> str:
    """The command that does the same again, with times that mean the same later."""
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
