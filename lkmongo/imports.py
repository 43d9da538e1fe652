"""Imports that fail with a hint: of optional dependencies, and of what a setting names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lkmongo.errors import MissingExtraError, SettingsError


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Import what the extra `name` installs; `what` needs it and is the subject of the message.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the extra {name}, which is not installed",
            why=str(error),
            hint=f'pip install "lkmongo[{name}]"',
        ) from error


def import_string(variable: str, path: str, what: str) -> Any:
    """Import the object that a setting names, from the current folder or the installed packages.

    Args:
        variable: the setting, such as LKMONGO_AGENT.
        path: its value, such as `concierge:Concierge`.
        what: the kind of object after the colon, such as Class.

    Raises:
        SettingsError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; a console script does not
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{variable} names {path}, and there is no module {error.name}",
            hint=f"give it as package.module:{what}, importable from the current folder or installed",
        ) from error
    except AttributeError as error:
        raise SettingsError(
            f"{variable} names {path}, and {module} has no {name}", hint="correct the name after the colon"
        ) from error
    except Exception as error:
        raise SettingsError(
            f"{variable} names {path}, and importing it failed", why=f"{type(error).__name__}: {error}"
        ) from error
