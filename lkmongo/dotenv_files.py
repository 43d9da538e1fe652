"""Loads the dotenv files of a folder into the environment; variables that are set already keep their value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lkmongo.errors import SettingsError

DOTENV_FILES = (".env.local", ".env")
"""In order of precedence."""


def load_dotenv_files(
    folder: Path, environ: dict[str, str] | None = None, *, problems: dict[str, SettingsError] | None = None
) -> dict[str, str]:
    """Fill `environ` (default `os.environ`) from the dotenv files of `folder`.

    LiveKit's worker processes read their settings from the environment.

    Args:
        folder: with the dotenv files.
        environ: filled in place.
        problems: if given, collects the errors by file instead of raising them.

    Returns:
        The file of each variable that was filled in.

    Raises:
        SettingsError: a file is unreadable, not UTF-8, or has a line that is not `NAME=value`.
    """
    target: Any = os.environ if environ is None else environ
    sources: dict[str, str] = {}
    for name in DOTENV_FILES:
        try:
            bindings = _bindings(folder / name)
        except SettingsError as error:
            if problems is None:
                raise
            problems[name] = error
            continue
        for key, value, line in bindings:
            if line:
                problem = SettingsError(
                    f"{name}:{line}: this line is not NAME=value",
                    hint="write one NAME=value a line; quote values that hold spaces or #",
                )
                if problems is None:
                    raise problem
                problems.setdefault(name, problem)
            elif key and value and not target.get(key):
                target[key] = value
                sources[key] = name
    return sources


def _bindings(path: Path) -> list[tuple[str | None, str | None, int]]:
    """Name and value of each line, and its number if it is invalid; empty if there is no such file."""
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as stream:
            return [(each.key, each.value, each.original.line if each.error else 0) for each in parse_stream(stream)]
    except (FileNotFoundError, IsADirectoryError):
        return []
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path.name} is not UTF-8 text", why=str(error.reason), hint="save it as UTF-8") from error
    except OSError as error:
        raise SettingsError(
            f"{path.name} cannot be read", why=error.strerror, hint="change its permissions, or remove it"
        ) from error
