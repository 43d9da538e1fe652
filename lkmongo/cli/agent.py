"""`lkmongo agent`: talk to the agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lkmongo.cli.command import Cli, command
from lkmongo.cli.options import DEFAULT_TENANT, Tenant
from lkmongo.cli.output import is_terminal, styled

app = typer.Typer(help="Talk to the agent.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "console", data=True)
async def console(
    cli: Cli,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Id of the person who talks; by default your login.", show_default=False),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    guest: Annotated[bool, typer.Option("--guest", help="Talk as nobody: what you say is not remembered.")] = False,
    script: Annotated[
        Path | None, typer.Option("--script", help="Say the lines of this file, then hang up.", show_default=False)
    ] = None,
) -> None:
    """Talk to the agent in text, here in the terminal.

    It is the agent that callers talk to, with the same tools and the same memory. End with Ctrl-D. Lines can be piped
    in; with --json each message, tool call and tool output is a JSON object on a line of its own.
    """
    from lkmongo.agent import lines
    from lkmongo.agent.console import Listener, converse
    from lkmongo.errors import ExitCode, LkmongoError, UsageError
    from lkmongo.model import Identity

    if guest and user is not None:
        raise UsageError("--guest and --user exclude each other", hint="a guest has no id; leave one of them out")
    identity = Identity.guest(tenant) if guest else Identity(tenant, _login() if user is None else user)
    interactive = script is None and is_terminal(sys.stdin) and is_terminal(sys.stdout) and not cli.output.is_json
    if script is not None:
        said = lines.script(script)
    elif interactive:
        said = lines.typed("you> ")
    elif sys.stdin is None:
        said = lines.nothing()  # closed: by now descriptor 0 may be anything
    else:
        said = lines.piped(0)
    listener = Listener(
        event=cli.output.event if cli.output.is_json else _Transcript(cli, echo=not interactive),
        note=cli.output.note,
        warn=cli.output.warn,
        refuse=cli.output.error,
    )
    if interactive:
        cli.output.note("Type what you would say; Ctrl-D ends the call.")
    outcome = await converse(cli.settings, identity, said, listener, guest=guest)
    if outcome.failure:
        raise outcome.failure
    if outcome.unanswered and not interactive:
        raise LkmongoError(
            f"{outcome.unanswered} times the language model did not answer",
            hint="check LKMONGO_LLM_BASE_URL, LKMONGO_LLM and their key",
        )
    if outcome.refused and not interactive:
        raise typer.Exit(ExitCode.USAGE)


def _login() -> str:
    """The operating system's name for whoever runs this, so that a stranger who comes back is known."""
    import getpass

    from lkmongo.errors import UsageError

    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise UsageError("this system does not tell who you are", hint="add --user ID, or --guest") from error


class _Transcript:
    """Shows the conversation to a person: who said what, and tool calls in passing."""

    def __init__(self, cli: Cli, *, echo: bool) -> None:
        self._output = cli.output
        self._echo = echo
        self._dim = ("\x1b[2m", "\x1b[0m") if styled(sys.stdout) else ("", "")

    def __call__(self, event: dict[str, Any]) -> None:
        if event["type"] == "message":
            if event["role"] == "assistant":
                self._output.say(f"agent> {event['text']}")
            elif self._echo:
                self._output.say(f"you> {event['text']}")
        elif event["type"] == "tool_call":
            from lkmongo.cli.text import visible

            arguments = ", ".join(f"{key}={value!r}" for key, value in event["arguments"].items())
            text = visible(f"  [{event['name']}({arguments})]", one_line=True)
            sys.stdout.write(f"{self._dim[0]}{text}{self._dim[1]}\n")
            sys.stdout.flush()
