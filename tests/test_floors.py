"""The house has floors: nothing imports from a floor above its own, and nothing imports in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lkmongo
from tests.parsing import parse

FLOORS = [
    {"", "detectors"},  # the modules directly in lkmongo: settings, errors, model, deadlines, ...
    {"embed", "local", "speech"},
    {"store"},
    {"search"},
    {"outbox"},
    {"agent"},
    {"memory"},
    {"demo"},
    {"console", "web", "worker"},
    {"doctor", "scenarios"},
    {"cli"},
    {"__main__"},
]
"""From below; the rooms of one floor know nothing of each other."""

Imports = dict[str, set[str]]


def floor_of(module: str) -> int:
    room = module.split(".")[1] if module.count(".") else ""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), 0)


def room_of(module: str) -> str:
    """The package of a module, and of the store's own rooms that one: `agent`, `store.people`."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[0] == "store" else 1]) if len(parts) > 1 else ".".join(parts)


def imports_of(folder: Path) -> Imports:
    """Which modules each module under `folder` imports, at its top, in functions, for types alone or by its name.

    Without the door itself, lkmongo/__init__.py, which imports what is asked for; tests/test_door.py is about it.
    """
    files = {name_of(path.relative_to(folder.parent)): path for path in folder.rglob("*.py")}
    del files[folder.name]
    return {name: set(imported(parse(path.read_text()), files)) - {name} for name, path in files.items()}


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner if node.module in modules)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("lkmongo."):
            yield from {node.value} & modules.keys()  # of importlib


def upwards(imports: Imports) -> list[str]:
    return sorted(
        f"{name} imports {other}"
        for name, others in imports.items()
        for other in others
        if floor_of(other) > floor_of(name)
        or (floor_of(other) == floor_of(name) > 0 and other.split(".")[1] != name.split(".")[1])
    )


def circle(imports: Imports) -> list[str]:
    """The names of one circle, or nothing."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        return next((found for other in sorted(imports.get(name, ())) if (found := follow(other, [*path, name]))), [])

    return next((found for name in sorted(imports) if (found := follow(name, []))), [])


def between_rooms(imports: Imports) -> Imports:
    rooms: Imports = {}
    for name, others in imports.items():
        rooms.setdefault(room_of(name), set()).update(room_of(other) for other in others)
    return {room: others - {room} for room, others in rooms.items()}


@pytest.fixture(scope="module")
def ours() -> Imports:
    return imports_of(Path(lkmongo.__file__).parent)


def test_nothing_imports_from_a_floor_above_or_from_a_neighbour(ours):
    assert upwards(ours) == []


def test_no_files_import_each_other_in_a_circle(ours):
    assert circle(ours) == []


def test_no_rooms_import_each_other_in_a_circle(ours):
    assert circle(between_rooms(ours)) == []


def test_a_module_is_one_subject_long():
    modules = {str(path): len(path.read_text().splitlines()) for path in Path(lkmongo.__file__).parent.rglob("*.py")}
    assert {path: lines for path, lines in modules.items() if lines > 500} == {}
    assert len(modules) < 320


def test_the_store_knows_nothing_of_livekit():
    package = Path(lkmongo.__file__).parent
    assert [
        str(path)
        for room in ("embed", "local", "store", "search", "outbox")
        for path in (package / room).rglob("*.py")
        for node in ast.walk(parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(name.split(".")[0] == "livekit" for name in [getattr(node, "module", None) or "", *_names(node)])
    ] == []


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        (
            "store/open.py",
            "from lkmongo.agent import caller_session",
            ["lkmongo.store.open imports lkmongo.agent.caller_session"],
        ),
        (
            "store/open.py",
            "    from lkmongo.agent.caller_session import CallerSession",
            ["lkmongo.store.open imports lkmongo.agent.caller_session"],
        ),
        ("errors.py", "import lkmongo.store.open", ["lkmongo.errors imports lkmongo.store.open"]),
        ("embed/base.py", "from lkmongo.local import folder", ["lkmongo.embed.base imports lkmongo.local.folder"]),
        ("errors.py", "load('lkmongo.cli.command')", ["lkmongo.errors imports lkmongo.cli.command"]),
        ("agent/caller.py", "from lkmongo.store.open import Store", []),
        ("agent/caller.py", "from lkmongo.errors import LkmongoError", []),
    ],
)
def test_an_import_upwards_or_sideways_is_found(ours, file, line, found):
    code = f"if True:\n    pass\n{'def f():' if line.startswith(' ') else ''}\n{line}\n"
    name = f"lkmongo.{file.removesuffix('.py').replace('/', '.')}"
    modules = {module: Path() for module in ours}
    assert upwards({name: set(imported(parse(code), modules))}) == found


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
