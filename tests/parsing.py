"""Parsing Python's own code in tests."""

from __future__ import annotations

import ast
import gc


def parse(code: str) -> ast.Module:
    """Parse code without a garbage collection meanwhile.

    What a collection destroys may log a traceback, which parses, too: Python 3.11 then raises SystemError
    (github.com/python/cpython/issues/106905).
    """
    gc.disable()
    try:
        return ast.parse(code)
    finally:
        gc.enable()
