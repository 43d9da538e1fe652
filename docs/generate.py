"""Write the parts of the documents that the program itself knows: help texts, variables, exit codes.

`python -m docs.generate` rewrites README.md and .env.example; a test fails when they are not what it would write.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

ROOT = Path(__file__).resolve().parent.parent


def commands(group: typer.Typer | None = None, prefix: str = "") -> list[str]:
    """Every command of the program, such as "memory list", in the order of the help."""
    if group is None:
        from lkmongo.cli import app as group
    names = [f"{prefix}{command.name}" for command in group.registered_commands]
    for sub in group.registered_groups:
        if sub.typer_instance is not None:
            callback = sub.typer_instance.registered_callback
            names += [f"{prefix}{sub.name}"] if callback and callback.invoke_without_command else []
            names += commands(sub.typer_instance, f"{prefix}{sub.name} ")
    return names


def help_text(command: str) -> str:
    """What `lkmongo COMMAND --help` prints, at 80 columns."""
    os.environ |= {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
    from typer.testing import CliRunner

    from lkmongo.cli import app

    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="lkmongo")
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def command_reference() -> str:
    """Every command with its help."""
    return "\n\n".join(
        f"```console\n$ lkmongo {command}{' ' if command else ''}--help\n{help_text(command)}\n```"
        for command in ["", *commands()]
    )


def variables() -> str:
    """The table of settings."""
    from lkmongo.settings import Settings

    rows = [f"| `{v.name}` | {v.meaning} | {v.default} |" for v in Settings.variables()]
    return "\n".join(["| variable | meaning | without it |", "|---|---|---|", *rows])


def exit_codes() -> str:
    """The table of exit codes."""
    from lkmongo.errors import ExitCode

    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code.value} | {code.meaning} |" for code in ExitCode)])


def env_example() -> str:
    """A file that documents every variable and sets none."""
    from lkmongo.settings import Settings

    head = (
        "# Copy this to .env.local and fill in what you have; every line is optional.\n"
        "# The environment wins over .env.local, .env.local over .env; an empty value means unset.\n"
    )
    plain = lambda text: text.replace("`", "")  # noqa: E731
    return head + "".join(
        f"\n# {plain(v.meaning)}\n# without it: {plain(v.default)}\n{v.name}=\n" for v in Settings.variables()
    )


PARTS = {"commands": command_reference, "variables": variables, "exit-codes": exit_codes}


def fill(text: str) -> str:
    """`text` with each marked part written anew."""
    for name, make in PARTS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{make()}\n\n{end}{after}" if rest else text
    return text


def main() -> None:
    """Rewrite the documents in place."""
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / ".env.example").write_text(env_example(), encoding="utf-8")


if __name__ == "__main__":
    main()
