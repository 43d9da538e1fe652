"""`lkmongo doctor`: check everything that can be set up wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli
from lkmongo.cli.output import Format, styled, visible

if TYPE_CHECKING:
    from lkmongo.doctor import Check

_COLUMNS = ("check", "status", "ms", "detail", "try", "facts")
_COLORS = {"ok": "32", "warn": "33", "fail": "31", "skip": "2"}


def _complete_name(incomplete: str) -> list[str]:
    from lkmongo.doctor import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


async def doctor(
    cli: Cli,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Run only this check or group, such as mongodb; may be given several times.",
            autocompletion=_complete_name,
        ),
    ] = None,
    own_code: Annotated[
        bool, typer.Option("--own-code", help="Import what LKMONGO_AGENT names, which runs its code.")
    ] = False,
) -> None:
    """Check everything that can be set up wrong, and say what to do about it.

    Each check is ok, warn, fail, or skip if it does not apply. Nothing is changed. Exits with 0 if no check failed,
    with 4 if only credentials were refused, with 3 if something only needs time, else with 1.
    """
    from lkmongo.doctor import examine, worst

    live = cli.output.format in {Format.TABLE, Format.JSONL}
    checks = await examine(
        cli.settings,
        cli.wrong_settings,
        only=only or (),
        own_code=own_code,
        on_check=(lambda check: _show(cli, check)) if live else lambda _check: None,
        on_status=cli.output.note,
    )
    if not live:
        joined = {"facts": "; ".join} if cli.output.format is Format.PLAIN else {}
        cli.output.rows(_COLUMNS, (_row(check, **joined) for check in checks))
    if error := worst(checks):
        raise error
    if not cli.output.is_json:
        counts = {status: sum(check.status == status for check in checks) for status in _COLORS}
        cli.output.note(", ".join(f"{number} {status}" for status, number in counts.items() if number))


def _show(cli: Cli, check: Check) -> None:
    if cli.output.is_json:
        cli.output.event(_row(check))
        return
    color = _COLORS[check.status] if styled(sys.stdout) else ""
    start, end = (f"\x1b[{color}m", "\x1b[0m") if color else ("", "")
    line = f"  {check.name:<18} {check.seconds * 1000:>6.0f} ms  {visible(check.detail, one_line=True)}"
    cli.output.write(f"{start}{check.status.value:<4}{end}{line}\n")
    for fact in check.facts:
        cli.output.say(f"      {visible(fact, one_line=True)}")
    if check.hint:
        cli.output.say(f"      try: {visible(check.hint, one_line=True)}")


def _row(check: Check, facts: Any = list) -> dict[str, Any]:
    return {
        "check": check.name,
        "status": check.status.value,
        "ms": round(check.seconds * 1000, 1),
        "detail": check.detail,
        "try": check.hint,
        "facts": facts(check.facts),
    }
