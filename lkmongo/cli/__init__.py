"""The command line: parse, call one library function, show what came of it.

Everything heavy is imported inside the commands, so that `lkmongo --help` answers at once.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lkmongo import __version__
from lkmongo.cli import (
    agent,
    db,
    db_search,  # noqa: F401 - its commands add themselves to db.app
    doctor,
    knowledge,
    local,
    memory,
    sessions,
    sessions_export,  # noqa: F401 - likewise, to sessions.app
    token,
    users,
    web,
)
from lkmongo.cli.command import command
from lkmongo.cli.output import Format, Output, is_unicode, unwritable
from lkmongo.errors import ExitCode, UsageError

app = typer.Typer(
    name="lkmongo",
    help="A voice agent that remembers: LiveKit carries the conversation, MongoDB keeps what was said.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(agent.app, name="agent")
app.add_typer(db.app, name="db")
app.add_typer(memory.app, name="memory")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(sessions.app, name="sessions")
app.add_typer(users.app, name="users")
app.add_typer(token.app, name="token")
app.add_typer(local.app, name="local")
command(app, "web", data=True)(web.web)
command(app, "doctor", data=True, lenient=True)(doctor.doctor)
for group in app.registered_groups:
    if group.typer_instance:
        group.short_help = str(group.typer_instance.info.help)  # else Typer cuts it off where a line ends


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"lkmongo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before every command."""


@functools.cache
def program() -> Callable[..., Any]:
    """All commands with their parameters; building them takes 20 ms."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line and exit with its code."""
    _obey_named_shell(sys.argv[1:])
    _write_what_cannot_be_encoded()
    try:
        code = program()(standalone_mode=False, prog_name="lkmongo")
    except typer.TyperException as error:
        sys.exit(_usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:  # writing a help text or the version; commands explain their own
        sys.exit(_not_written(error))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _write_what_cannot_be_encoded() -> None:
    r"""Have a character that a stream's encoding does not have written as \xe1, not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_unicode(stream):
            stream.reconfigure(errors="backslashreplace")


def _not_written(error: OSError) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries once more when it ends
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK
    Output().error(unwritable(error))
    return ExitCode.FAILED


def _obey_named_shell(arguments: list[str]) -> None:
    """Let `--show-completion zsh` be about zsh: Typer takes the shell that runs, unless this variable is set."""
    if len(arguments) == 2 and arguments[0] in {"--show-completion", "--install-completion"}:
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
        program.cache_clear()  # which of the two these options are is decided when they are built


def _usage_error(error: typer.TyperException) -> int:
    """Show what Typer found wrong with the command line as any other error is shown."""
    context = getattr(error, "ctx", None)
    message = getattr(error, "format_message", lambda: str(error))()
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help is the message
        typer.echo(message, err=True)
        return ExitCode.USAGE
    as_json = "--json" in sys.argv or any(word in {"json", "jsonl"} for word in sys.argv)
    Output(Format.JSON if as_json else None).error(
        UsageError(
            message.replace("Value error, ", "").rstrip("."),  # pydantic's word for it
            hint=f"{context.command_path if context is not None else _command_path(sys.argv[1:])} --help",
        )
    )
    return ExitCode.USAGE


def _command_path(arguments: list[str]) -> str:
    """The command that is named, such as "lkmongo sessions export": an option without its value does not tell."""
    path, named = "lkmongo", program()
    for word in arguments:
        if (inner := getattr(named, "commands", {}).get(word)) is None:
            break
        path, named = f"{path} {word}", inner
    return path
