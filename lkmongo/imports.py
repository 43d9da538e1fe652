"""Imports that may fail for a reason that the user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lkmongo.errors import MissingExtraError


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Import what only the extra `name` brings; `what`, the subject of a sentence, needs it.

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
