"""Write the parts of the documents that come from the program and its benchmarks: help, settings, figures, recordings.

`python -m docs.generate` rewrites them; tests fail when they are not what it would write.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from docs import endings, recording, roles

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


@functools.cache
def help_text(command: str) -> str:
    """What `lkmongo COMMAND --help` prints, at 80 columns."""
    os.environ |= {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
    from typer.testing import CliRunner

    from lkmongo.cli import app

    # The runner lets help fill all the columns; on a terminal it leaves two free.
    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="lkmongo", terminal_width=78)
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def command_reference() -> str:
    """Every command with its help, under a heading of its own that can be linked to."""
    return "\n\n".join(
        f"### {f'lkmongo {command}'.strip()}\n\n"
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
        "# Only settings are read from here: what your own code needs belongs in the environment.\n"
    )
    plain = lambda text: text.replace("`", "")  # noqa: E731
    return head + "".join(
        f"\n# {plain(v.meaning)}\n# without it: {plain(v.default)}\n{v.name}=\n" for v in Settings.variables()
    )


def cli() -> str:
    """docs/cli.md, with the help of every command and the exit codes."""
    return fill("docs/cli.md", {"commands": command_reference(), "exit-codes": exit_codes()})


def settings() -> str:
    """docs/settings.md, with the table of settings."""
    return fill("docs/settings.md", {"variables": variables()})


def embedders() -> str:
    """docs/atlas.md, with the embedding models whose conventions are known."""
    from lkmongo.embed.openai import FAMILIES

    alike: dict[tuple[str, str], list[str]] = {}
    for family in FAMILIES:
        number = f" ({family.dimensions})" if family.dimensions else ""
        alike.setdefault((family.query, family.document), []).append(f"`{family.name}`{number}")
    quoted = lambda text: "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`" if text else "nothing"  # noqa: E731
    rows = [f"| {', '.join(names)} | {quoted(before[0])} | {quoted(before[1])} |" for before, names in alike.items()]
    head = ["| part of the model's name (numbers a vector) | before a query | before a document |", "|---|---|---|"]
    return fill("docs/atlas.md", {"models": "\n".join([*head, *rows])})


def performance() -> str:
    """docs/performance.md, with the figures of the last run of the benchmarks."""
    from benchmarks import report, voice_report

    return fill("docs/performance.md", report.performance() | voice_report.blocks(voice_report.results()))


def scale() -> str:
    """docs/scale.md, with what the last run of the benchmarks has stored, calls in rooms, and the last soak."""
    from benchmarks import report, rooms_report, soak_report

    rooms = rooms_report.blocks(rooms_report.results())
    return fill("docs/scale.md", report.sizes() | rooms | soak_report.block())


def readme() -> str:
    """README.md, with how many calls were carried when that was measured last."""
    from benchmarks import rooms_report

    return fill("README.md", rooms_report.sentence(rooms_report.results()))


def chart() -> str:
    """The chart of docs/performance.md."""
    from benchmarks import report

    return report.chart()


def recorded() -> dict[str, str]:
    """README.md with its conversation, and the picture of a second one: both are held on a database of their own."""
    block, text = recording.record()
    return {
        "README.md": fill("README.md", {"conversation": block}),
        "docs/images/second-call.svg": recording.picture(text),
    }


def memory() -> str:
    """docs/memory.md, with the figures of the last run of the benchmark of memories."""
    from benchmarks import memory_report

    return fill("docs/memory.md", memory_report.document())


def privacy() -> str:
    """docs/privacy.md, with what the benchmark of redaction measured last."""
    from benchmarks import redaction

    return fill("docs/privacy.md", {"redaction": redaction.table(redaction.results())})


def operations() -> str:
    """docs/operations.md, with how calls ended when that was tried last."""
    return fill("docs/operations.md", {"endings": endings.table()})


def memory_chart() -> str:
    """The chart of docs/memory.md."""
    from benchmarks import memory_report

    return memory_report.chart()


def fill(path: str, parts: Mapping[str, str]) -> str:
    """A document with each marked part written anew.

    Raises:
        ValueError: it has no place for one of them.
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    for name, part in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{path} has no place for {name!r}")
        text = f"{before}{start}\n{part}\n\n{end}{after}"
    return text


DOCUMENTS = {
    "README.md": readme,
    ".env.example": env_example,
    "docs/cli.md": cli,
    "docs/settings.md": settings,
    "docs/atlas.md": embedders,
    "docs/examples/roles.js": roles.commands,
    "docs/performance.md": performance,
    "docs/scale.md": scale,
    "docs/images/performance.svg": chart,
    "docs/memory.md": memory,
    "docs/images/memory.svg": memory_chart,
    "docs/privacy.md": privacy,
    "docs/operations.md": operations,
}
"""What is written here without a database, and what makes its text."""
OF_MEMORY = ("docs/memory.md", "docs/images/memory.svg")
"""Those of them that `make bench-memory` writes anew."""


def main() -> None:
    """Rewrite the documents in place."""
    for path, make in DOCUMENTS.items():
        (ROOT / path).write_text(make(), encoding="utf-8")
    for path, text in recorded().items():  # README.md once more
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
