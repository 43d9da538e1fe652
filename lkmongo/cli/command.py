"""What all commands share: settings, output, errors, signals, exit codes, common options.

Typer would exit with 0 for coroutine functions and for return values; `command` runs the former and refuses the latter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.aio import handling
from lkmongo.cli.output import Format, Output, is_terminal, visible
from lkmongo.errors import DeclinedError, ExitCode, LkmongoError, SettingsError, UsageError
from lkmongo.redact import RedactingFormatter

if TYPE_CHECKING:
    from lkmongo.model import UserScope
    from lkmongo.store.open import Store

User = Annotated[str, typer.Argument(metavar="USER", help="Id of the person.", show_default=False)]
Tenant = Annotated[str, typer.Option("--tenant", help="Id of the tenant.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without changing anything.")]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Follow symbolic links, to files and folders elsewhere as well.")
]


Function = Callable[..., Any]


class Cli:
    """The first argument of every command function: settings and output."""

    def __init__(self, output: Output, *, debug: bool = False) -> None:
        from lkmongo.settings import Settings

        self.output = output
        self.asked: Format | None = None
        """The format given as an option; None if the settings or the terminal decide."""
        self.debug = debug
        self.action = ""
        """The command as the audit trail names it, such as "memory list"."""
        self.reason: str | None = None
        """Why it is run, as `--reason` says."""
        self.settings = Settings.load({})
        self.wrong_settings: dict[str, SettingsError] = {}
        self.hidden: list[str] = []
        """What somebody typed that no message and no log may repeat, see `hide`."""

    def load(self, *, leniently: bool = False) -> None:
        """Read the dotenv files and the environment. Raises SettingsError.

        Leniently, invalid settings are ignored and kept in `wrong_settings`, by variable or file.
        """
        from lkmongo.dotenv_files import load_dotenv_files
        from lkmongo.settings import Settings

        if leniently:
            found = load_dotenv_files(Path.cwd(), problems=self.wrong_settings)
            self.settings, wrong = Settings.load_what_fits(None, *found)
            self.wrong_settings |= wrong
        else:
            self.settings = Settings.load(None, *load_dotenv_files(Path.cwd()))
            for name, meant in self.settings.unknown:
                self.output.warn(f"{name} is not a setting" + (f"; did you mean {meant}?" if meant else ""))
        self.debug = self.debug or self.settings.debug
        if is_terminal(sys.stderr) and os.getpid() != 1:  # as the first process of a container, everything ends with it
            self.settings = self.settings.at_terminal()

    def note_ignored(self) -> None:
        """Say which variables of dotenv files the code in LKMONGO_AGENT or LKMONGO_WEB_AUTH will miss."""
        from lkmongo.dotenv_files import ignored_text

        if self.settings.ignored and (self.settings.agent or self.settings.web_auth):
            self.output.note(ignored_text(self.settings.ignored))

    def declare(self) -> None:
        """Declare what the module of LKMONGO_AGENT does. Raises SettingsError if it cannot be imported."""
        from lkmongo.declarations import declare_agent

        declare_agent(self.settings.agent)

    @property
    def operator(self) -> str:
        """Who runs the command: LKMONGO_OPERATOR, else the login. Raises UsageError."""
        if self.settings.operator:
            return self.settings.operator
        import getpass

        try:
            return getpass.getuser()
        except (OSError, KeyError) as error:
            raise UsageError("your login name cannot be determined", hint="set LKMONGO_OPERATOR") from error

    async def audit(
        self,
        store: Store,
        whose: UserScope | Sequence[UserScope] | str | None,
        counts: Mapping[str, int],
        *,
        needed: bool = True,
    ) -> None:
        """Write to the audit trail what this command is about to show or to change; only then it may show anything.

        Args:
            store: the database.
            whose: the person or several; else the id of the tenant, None for all of them.
            counts: how many documents, by kind.
            needed: whether the command fails if it cannot be written, instead of warning.

        Raises:
            LkmongoError: it cannot be written.
        """
        from lkmongo.model import UserScope
        from lkmongo.store.people.audit import Audit

        if self.settings.audit == "off" or not self.output.is_held:
            self.output.is_held = False
            return
        people: list[UserScope | None] = [None]
        if whose is not None and not isinstance(whose, str):
            people = [whose] if isinstance(whose, UserScope) else [*whose]
        tenant = whose if isinstance(whose, str) else None
        try:
            for scope in people:
                await Audit(store.db).write(
                    operator=self.operator,
                    action=self.action,
                    tenant_id=scope.tenant_id if scope else tenant,
                    scope=scope,
                    reason=self.reason,
                    counts={kind: number for kind, number in counts.items() if number},
                )
        except UsageError:
            raise
        except LkmongoError as error:
            if needed:
                error.message = f"the audit trail cannot be written, so nothing is shown or changed: {error.message}"
                raise
            self.output.warn(f"the audit trail cannot be written: {error.message}")
        self.output.is_held = False

    def hide(self, *texts: str) -> None:
        """Show these in no message and no log from now on: a telephone number, a PIN. What is asked for is shown."""
        self.hidden += texts
        self.output.hide(*texts)
        _configure_logging(self)

    def ask(self, question: str, *, instead: str, hidden: bool = False) -> str:
        """Ask for a line of text, which is not shown while it is typed if it is `hidden`.

        Raises:
            UsageError: there is no terminal; `instead` says what to do then.
        """
        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            raise UsageError("there is no terminal to ask on", hint=instead)
        return _answer(question, hidden=hidden).strip()

    def confirm(self, question: str, *, yes: bool, flag: str = "--yes") -> None:
        """Ask before an irreversible change.

        Raises:
            DeclinedError: the answer was no.
            UsageError: there is no terminal, and `flag` was not given.
        """
        if yes:
            return
        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            raise UsageError(f"{question} There is no terminal to ask on", hint=f"add {flag}")
        if _answer(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
            raise DeclinedError

    def confirm_id(self, warning: str, wanted: str, given: str | None, *, flag: str = "--confirm") -> None:
        """Require the id of what is about to be deleted, typed or as `given` with the option `flag`.

        Raises:
            DeclinedError: something else was typed.
            UsageError: the option has another id, or there is neither the option nor a terminal.
        """
        if given is not None:
            if given != wanted:
                raise UsageError(
                    f"{flag} is {given!r}, not {wanted!r}; nothing was changed",
                    hint=f"add {flag} {shlex.quote(wanted)}",
                )
            return
        if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
            raise UsageError(
                f"{warning} There is no terminal to ask on", hint=f"add {flag} {shlex.quote(wanted)}, the id once more"
            )
        if _answer(f"{visible(warning)}\nType {visible(wanted)} to continue: ").rstrip("\n") != wanted:
            raise DeclinedError


def _answer(question: str, *, hidden: bool = False) -> str:
    """Read a line from the terminal, without showing it if it is `hidden`.

    Signals end this at once: the blocked loop could not cancel the task.
    """

    def terminate(_number: int, _frame: object) -> None:
        raise typer.Exit(ExitCode.TERMINATED)

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate, signal.SIGHUP: terminate}
    with handling(handlers):
        try:
            if _is_cancelled():  # by a signal before these handlers were installed
                raise asyncio.CancelledError
            if hidden:
                import getpass

                return getpass.getpass(question, sys.stderr)
            sys.stderr.write(question)
            sys.stderr.flush()
            return sys.stdin.readline()
        except KeyboardInterrupt:
            sys.stderr.write("\n")  # after the question
            raise
        except EOFError:  # as `readline` says it
            return ""


def _is_cancelled() -> bool:
    with contextlib.suppress(RuntimeError):  # not a coroutine command
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return False


def command(
    app: typer.Typer, name: str, *, data: bool = False, lenient: bool = False, audited: bool = False
) -> Callable[[Function], Function]:
    """Register a function, which may be a coroutine function, as `app`'s command `name`.

    Its first parameter is a `Cli`; it returns None. It gets the option `--debug`, with `data` also `--output` and
    `--json`; one that knows a further format has a parameter `output` of its own. A `lenient` command runs even with
    invalid settings. An `audited` one gets `--reason` too, and can show nothing before `Cli.audit`.
    """

    def register(function: Function) -> Function:
        # Without it Typer truncates the first sentence at a line break.
        app.command(name, short_help=_first_sentence(function))(
            _runner(function, data=data, lenient=lenient, action=f"{app.info.name} {name}" if audited else "")
        )
        return function

    return register


def own_command(app: typer.Typer, *, data: bool = False) -> Callable[[Function], Function]:
    """Register a function, as `command` does, for the group `app` itself, without a subcommand."""

    def register(function: Function) -> Function:
        run = _runner(function, data=data)

        @functools.wraps(run)
        def run_unless_another(context: typer.Context, **arguments: Any) -> None:
            if context.invoked_subcommand is None:
                run(**arguments)
                return
            source = context.get_parameter_source
            if given := [
                p for p in context.command.params if p.name and getattr(source(p.name), "name", "") == "COMMANDLINE"
            ]:
                context.fail(f"{given[0].opts[0]} is not an option of {context.info_name} {context.invoked_subcommand}")

        signature = inspect.signature(run)
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        everything = signature.replace(parameters=[first, *signature.parameters.values()])
        run_unless_another.__signature__ = everything  # type: ignore[attr-defined]
        app.callback(invoke_without_command=True, help=inspect.cleandoc(function.__doc__ or ""))(run_unless_another)
        return function

    return register


def _runner(function: Function, *, data: bool, lenient: bool = False, action: str = "") -> Function:
    """Wrap a command function for Typer: adds the common options, loads settings, and handles errors."""

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        debug = arguments.pop("debug", False)
        given = arguments["output"] if has_own_output else arguments.pop("output", None)
        shared = Format(given) if given in set(Format) else None
        fmt = Format.JSON if arguments.pop("json_", False) else shared
        reason = arguments.pop("reason", None) if action else None
        _run(function, arguments, fmt, debug=debug, lenient=lenient, action=action, reason=reason)

    signature = inspect.signature(function, eval_str=True)
    has_own_output = "output" in signature.parameters
    own = [parameter for key, parameter in signature.parameters.items() if key != "cli"]
    parameters = [
        *own,
        *(each for each in _common(data=data, audited=bool(action)) if each.name not in signature.parameters),
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}  # else Typer evaluates all of them again
    return run


def _first_sentence(function: Function) -> str:
    paragraph = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".") + "."


def _common(*, data: bool, audited: bool) -> Iterator[inspect.Parameter]:
    def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    if audited:
        why = "Why, for the audit trail: a ticket, no name."
        yield option("reason", Annotated[str | None, typer.Option("--reason", metavar="TEXT", help=why)], None)
    if data:
        yield option(
            "output",
            Annotated[
                Format | None,
                typer.Option("--output", "-o", help="Format of the data; table on a terminal, else plain."),
            ],
            None,
        )
        yield option("json_", Annotated[bool, typer.Option("--json", help="The same as --output json.")], False)
    yield option("debug", Annotated[bool, typer.Option("--debug", help="Show tracebacks and logs.")], False)


def _run(
    function: Function,
    arguments: dict[str, Any],
    fmt: Format | None,
    *,
    debug: bool,
    lenient: bool,
    action: str,
    reason: str | None,
) -> None:
    output = Output(fmt)
    cli = Cli(output, debug=debug)
    cli.asked = fmt
    try:
        _configure_logging(cli)
        cli.load(leniently=lenient)
        cli.output = output = Output(
            fmt or (Format(cli.settings.output) if cli.settings.output else None), cli.settings.secrets
        )
        _configure_logging(cli)
        output.is_held = bool(action)
        cli.action = f"{action} --dry-run" if action and arguments.get("dry_run") else action
        cli.reason = _checked_reason(reason, needed=bool(action) and cli.settings.audit == "reason")
        _call(function, cli, arguments)
    except LkmongoError as error:
        if cli.debug:
            logging.getLogger(__name__).exception("%s failed", function.__name__)
        output.error(error)
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        output.note("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader, such as `head`, is done. Keep Python from warning when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if cli.debug:
            logging.getLogger(__name__).exception(
                "%s failed", function.__name__
            )  # not raised, as that would redact nothing
        output.error(
            LkmongoError(
                f"unexpected error: {type(error).__name__}",
                why=str(error)[:300] or None,
                hint=f"{'' if cli.debug else 'run it again with --debug and '}report the output",
            )
        )
        raise typer.Exit(ExitCode.FAILED) from None


def _call(function: Function, cli: Cli, arguments: dict[str, Any]) -> None:
    result = function(cli, **arguments)
    if inspect.iscoroutine(result):
        result = _run_coroutine(result)
    if result is not None:
        raise RuntimeError(f"{function.__name__} returned {result!r}; a command must return None")
    if cli.output.is_held:
        raise RuntimeError(f"{function.__name__} did not write to the audit trail")


def _checked_reason(reason: str | None, *, needed: bool) -> str | None:
    if reason is not None:
        from lkmongo.store.people.person_hash import check_note

        return check_note("reason", reason)
    if needed:
        raise UsageError("a reason is needed, as LKMONGO_AUDIT is reason", hint="add --reason, such as a ticket")
    return None


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; SIGTERM and SIGHUP cancel it, so that it can clean up, and exit with 143."""
    received: list[int] = []

    async def main() -> Any:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def stop(number: int, _frame: object) -> None:
            # Not with loop.add_signal_handler, which does not run while a question blocks the loop.
            received.append(number)
            if task:
                task.cancel()
            with contextlib.suppress(RuntimeError):  # closed
                loop.call_soon_threadsafe(lambda: None)  # wakes it

        handlers.enter_context(handling(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), stop)))
        return await coroutine

    with contextlib.ExitStack() as handlers:
        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            if received:
                raise typer.Exit(ExitCode.TERMINATED) from None
            raise


def _is_shown(record: logging.LogRecord) -> bool:
    """Whether to show a record without --debug: of the SDK's, only that a tool failed, as nothing else reports that."""
    return not record.name.startswith("livekit") or hasattr(record, "function")  # the name of a tool


def _configure_logging(cli: Cli) -> None:
    """Log our warnings to stderr, and those of libraries only with --debug; secrets are redacted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        RedactingFormatter("%(levelname)s %(name)s: %(message)s", secrets=[*cli.settings.secrets, *cli.hidden])
    )
    if not cli.debug:
        handler.addFilter(_is_shown)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if cli.debug else logging.CRITICAL)
    logging.getLogger("lkmongo").setLevel(logging.DEBUG if cli.debug else logging.WARNING)
    logging.getLogger("livekit").setLevel(logging.NOTSET if cli.debug else logging.ERROR)
    logging.getLogger("pymongo").setLevel(logging.WARNING)  # its debug records contain documents
