"""Loads the settings in the dotenv files of a folder into the environment; what is set already keeps its value.

A folder may come from anybody: with any other variable its files could run code (LD_PRELOAD, PYTHONPATH,
LIVEKIT_LIB_PATH) or send traffic elsewhere (HTTPS_PROXY). So only what is a setting is taken, by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from lkmongo.errors import SettingsError
from lkmongo.regular_files import open_regular
from lkmongo.setting_fields import Fields

DOTENV_FILES = (".env.local", ".env")
"""In order of precedence."""
_SETTINGS = frozenset(field.alias for field in Fields.model_fields.values())
_OURS = "LKMONGO_"
"""All of these, so that a misspelt setting is reported."""
_EXPORTER = ("OTEL_EXPORTER_OTLP_", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME")
"""How OpenTelemetry's exporter connects, and what it calls itself."""
_NAMED = 5


class Dotenv(NamedTuple):
    """What stood in the dotenv files: by variable, the file that filled it in, or in which it was ignored."""

    sources: dict[str, str]
    ignored: dict[str, str]


def load_dotenv_files(
    folder: Path, environ: dict[str, str] | None = None, *, problems: dict[str, SettingsError] | None = None
) -> Dotenv:
    """Fill `environ` (default `os.environ`) with the settings in the dotenv files of `folder`.

    LiveKit's worker processes read their settings from the environment.

    Args:
        folder: with the dotenv files.
        environ: filled in place.
        problems: if given, collects the errors by file instead of raising them.

    Raises:
        SettingsError: a file is unreadable, not UTF-8, or has a line that is not `NAME=value`.
    """
    target: Any = os.environ if environ is None else environ
    found = Dotenv({}, {})
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
                if is_taken(key):
                    target[key] = value
                    found.sources[key] = name
                else:
                    found.ignored.setdefault(key, name)
    return found


def is_taken(variable: str) -> bool:
    """Whether a dotenv file may set this variable."""
    return variable in _SETTINGS or variable.startswith((_OURS, *_EXPORTER))


def ignored_text(ignored: Mapping[str, str]) -> str:
    """A sentence about variables that were ignored, and how they reach one's own code."""
    names = sorted(ignored)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    files = " and ".join(name for name in DOTENV_FILES if name in ignored.values())
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{', '.join(names[:_NAMED])}{more} in {files} {verb} ignored, because only settings of lkmongo are read from "
        "there; export what your own code needs"
    )


def _bindings(path: Path) -> list[tuple[str | None, str | None, int]]:
    """Name and value of each line, and its number if it is invalid; empty if there is no such file."""
    from dotenv.parser import parse_stream

    try:
        with TextIOWrapper(open_regular(path, follow_links=True), encoding="utf-8") as stream:
            return [(each.key, each.value, each.original.line if each.error else 0) for each in parse_stream(stream)]
    except (FileNotFoundError, IsADirectoryError):
        return []
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path.name} is not UTF-8 text", why=str(error.reason), hint="save it as UTF-8") from error
    except OSError as error:
        raise SettingsError(
            f"{path.name} cannot be read", why=error.strerror, hint="change its permissions, or remove it"
        ) from error
