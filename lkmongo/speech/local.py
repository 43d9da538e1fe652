"""Whether speech runs on this machine: the extra `voice` is installed, with the models in its packages."""

from __future__ import annotations

import functools
from importlib.util import find_spec

ENGINES = ("moonshine_voice", "hibari")
HOW_TO_INSTALL = 'pip install "lkmongo[voice]"'


def why_not_local() -> str | None:
    """Why speech does not run on this machine, in words; None if it does. Imports nothing."""
    return _why_not()


@functools.cache
def _why_not() -> str | None:
    if all(find_spec(name) for name in ENGINES):
        return None
    return "the extra voice, which hears and speaks on this machine, is not installed"
