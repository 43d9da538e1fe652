"""`lkmongo local`: the embedded mongod, which keeps running for a while after the command that started it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.output import Format, show_fields

if TYPE_CHECKING:
    from lkmongo.local.keeper import Running

app = typer.Typer(
    help="The embedded mongod, which keeps running for the next command.", no_args_is_help=True, rich_markup_mode=None
)

_FIELDS = ("running", "in_use", "used_by", "stops_in_seconds", "version", "process", "data")


@command(app, "status", data=True)
def status(cli: Cli) -> None:
    """Show whether the embedded mongod runs, who uses it, and when it stops.

    It starts with the first command that needs it, and stops LKMONGO_LINGER after the last. It is not used with
    MONGODB_URI.
    """
    from lkmongo.local.keeper import states

    found = [_fields(each) for each in states(cli.settings.data_home)]
    if cli.output.format is Format.TABLE and found:
        for fields in found:
            show_fields(cli.output, fields | {"used_by": ", ".join(map(str, fields["used_by"]))})
        return
    cli.output.rows(_FIELDS, found, empty=f"No embedded mongod has been started in {cli.settings.data_home}")


@command(app, "stop", data=True)
def stop(cli: Cli) -> None:
    """Stop the embedded mongod now and wait until it has, for example before its folder is copied or moved.

    One that is in use is not stopped: exit code 1.
    """
    from lkmongo.local import keeper

    stopped = keeper.stop(cli.settings.data_home)
    cli.output.record(
        {"stopped": [each.process for each in stopped]},
        "Stopped" if stopped else f"No embedded mongod is running in {cli.settings.data_home}",
    )


def _fields(found: Running) -> dict[str, Any]:
    return {
        "running": found.process is not None,
        "in_use": found.in_use,
        "used_by": list(found.users),
        "stops_in_seconds": None if found.seconds_left is None else round(found.seconds_left),
        "version": found.series,
        "process": found.process,
        "data": str(found.data),
    }
