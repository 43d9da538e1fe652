"""The door, `lkmongo` itself: which names are public, and that having them costs nothing."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lkmongo
from tests.parsing import parse

PUBLIC = [
    "Assistant",
    "CallerSession",
    "Collection",
    "DatabaseError",
    "Fact",
    "LkmongoError",
    "Memory",
    "MemoryAgent",
    "NotFoundError",
    "NotReadyError",
    "Passage",
    "Profile",
    "ProfileField",
    "SecretError",
    "SessionEnd",
    "SessionRecord",
    "Settings",
    "TenantScope",
    "Turn",
    "UsageError",
    "UserScope",
    "with_deadline",
]
"""To remove one or to change what it takes is a new minor version: CONTRIBUTING.md, Release."""
HEAVY = ("livekit", "pymongo", "numpy", "pydantic", "aiohttp", "voyageai", "yaml", "asyncio")


def test_these_names_are_public_and_each_explains_itself():
    assert lkmongo.__all__ == PUBLIC
    for name in PUBLIC:
        assert inspect.getdoc(getattr(lkmongo, name)), name
        assert name in dir(lkmongo)
    with pytest.raises(AttributeError, match="no attribute 'Memroy'"):
        _ = lkmongo.Memroy


def test_a_type_checker_sees_the_same_names_from_the_same_modules():
    tree = parse(Path(lkmongo.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert seen == lkmongo._HOMES
    assert sorted(name for names in seen.values() for name in names) == PUBLIC


@pytest.mark.parametrize(
    ("use", "left_alone"),
    [
        ("import lkmongo", HEAVY),
        ("from lkmongo import UserScope, Fact, LkmongoError", ("livekit", "pymongo", "numpy", "pydantic")),
        ("from lkmongo import Settings", ("livekit", "pymongo", "numpy")),
        ("from lkmongo import Memory, CallerSession; m = Memory(); m.people, m.sessions, m.knowledge", ("livekit",)),
    ],
)
def test_nothing_is_imported_before_it_is_needed(use, left_alone):
    code = f"import sys; {use}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lkmongo" in imported
    assert not {*left_alone} & {*imported}


def test_the_types_are_part_of_the_package():
    assert Path(lkmongo.__file__).with_name("py.typed").exists()
