"""The command line: each command parses its arguments, calls one library function, and shows the result.

Heavy imports are inside the commands, so that `lkmongo --help` is fast.
"""

from __future__ import annotations

import functools
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lkmongo import __version__
from lkmongo.cli import (
    agent,
    agent_test,  # noqa: F401 - registers its command with agent.app
    audit,
    db,
    db_search,  # noqa: F401 - registers its commands with db.app
    doctor,
    knowledge,
    local,
    memory,
    memory_import,  # noqa: F401 - registers its command with memory.app
    phone,
    sessions,
    sessions_export,  # noqa: F401 - likewise, with sessions.app
    sessions_redact,  # noqa: F401 - likewise
    suggestions,  # noqa: F401 - likewise, with memory.app
    token,
    users,
    web,
)
from lkmongo.cli.command import command
from lkmongo.cli.output import Format, Output, is_unicode, unwritable
from lkmongo.errors import ExitCode, UsageError

_DIGITS_BEFORE_THE_LAST_TWO = re.compile(r"\d(?=\D*\d\D*\d)")

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
app.add_typer(phone.app, name="phone")
app.add_typer(audit.app, name="audit")
app.add_typer(token.app, name="token")
app.add_typer(local.app, name="local")
command(app, "web", data=True)(web.web)
command(app, "doctor", data=True, lenient=True)(doctor.doctor)
for group in app.registered_groups:
    if group.typer_instance:
        group.short_help = str(group.typer_instance.info.help)  # else Typer truncates it at a line break


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
    """Parse the global options."""


@functools.cache
def program() -> Callable[..., Any]:
    """The Click command; building it takes 20 ms."""
    return typer.main.get_command(app)


def main() -> None:
    _use_named_shell(sys.argv[1:])
    _escape_unencodable()
    try:
        code = program()(standalone_mode=False, prog_name="lkmongo")
    except typer.TyperException as error:
        sys.exit(_usage_error(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(ExitCode.INTERRUPTED)
    except OSError as error:  # from writing a help text or the version; commands handle their own
        sys.exit(_output_failed(error))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _escape_unencodable() -> None:
    r"""Write characters that a stream cannot encode as \xe1, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_unicode(stream):
            stream.reconfigure(errors="backslashreplace")


def _output_failed(error: OSError) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries to write again when it ends
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK
    Output().error(unwritable(error))
    return ExitCode.FAILED


def _use_named_shell(arguments: list[str]) -> None:
    """Make `--show-completion zsh` work: without this variable, Typer uses the detected shell instead."""
    if len(arguments) == 2 and arguments[0] in {"--show-completion", "--install-completion"}:
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
        program.cache_clear()  # Typer reads the variable when it builds the options


def _usage_error(error: typer.TyperException) -> int:
    """Show Typer's usage errors in the format of ours."""
    context = getattr(error, "ctx", None)
    message = getattr(error, "format_message", lambda: str(error))()
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: the message is its help
        typer.echo(message, err=True)
        return ExitCode.USAGE
    path = context.command_path if context is not None else _command_path(sys.argv[1:])
    if path.split()[1:2] in (["phone"], ["call"]) and message.startswith(("Got unexpected", "No such")):
        # What is in the wrong place may be a telephone number, or the end of one that was not in quotes.
        message = _DIGITS_BEFORE_THE_LAST_TWO.sub("*", message)
    as_json = "--json" in sys.argv or any(word in {"json", "jsonl"} for word in sys.argv)
    Output(Format.JSON if as_json else None).error(
        UsageError(
            # Without pydantic's prefix, and a list of choices in one line.
            " ".join(message.replace("Value error, ", "").split()).rstrip("."),
            hint=f"{path} --help",
        )
    )
    return ExitCode.USAGE


def _command_path(arguments: list[str]) -> str:
    """The command in the arguments, such as "lkmongo sessions export"; some of Typer's errors lack it."""
    path, named = "lkmongo", program()
    for word in arguments:
        if (inner := getattr(named, "commands", {}).get(word)) is None:
            break
        path, named = f"{path} {word}", inner
    return path
