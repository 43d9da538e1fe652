"""What is installed with lkmongo: few packages, each with its reason, and nothing that is not declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lkmongo
from lkmongo.errors import ExitCode, MissingExtraError
from lkmongo.imports import extra
from tests.parsing import parse

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
EXTRAS = {
    (name, canonicalize_name(Requirement(line).name))
    for name, lines in PROJECT["optional-dependencies"].items()
    for line in lines
}
REQUESTED = {
    *("typer", "rich", "livekit-agents", "livekit-api", "livekit-plugins-silero", "livekit-plugins-turn-detector"),
    *("pymongo", "voyageai"),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of docs/dependencies.md, without its first two lines."""
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_there_are_few_base_dependencies_and_those_that_must_be_are_among_them():
    assert len(BASE) <= 20
    assert BASE >= REQUESTED
    assert ("dev", "pytest") in EXTRAS


def test_each_dependency_has_its_reason_in_one_line_and_no_line_is_left_over():
    base, extras = rows("Base"), rows("Extras")
    assert [canonicalize_name(row[0]) for row in base] == sorted(BASE)
    listed = [(row[0], canonicalize_name(row[1])) for row in extras]
    assert set(listed) == EXTRAS
    assert len(listed) == len(EXTRAS)
    for row in base:
        assert len(row) == 4
        assert all(row)
    for row in extras:
        assert len(row) == 5
        assert all(row)


def imported() -> dict[str, str]:
    """The distributions that the package imports from, each with a module that does."""
    by_module = metadata.packages_distributions()
    found: dict[str, str] = {}
    for path in (ROOT / "lkmongo").rglob("*.py"):
        for node in ast.walk(parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if (top := name.partition(".")[0]) not in sys.stdlib_module_names and top != "lkmongo":
                    found[distribution(name, by_module)] = str(path.relative_to(ROOT))
    return found


def distribution(name: str, by_module: dict[str, list[str]]) -> str:
    """Whose module it is; several packages install into `livekit` and `opentelemetry`, and their files decide."""
    parts = name.split(".")
    candidates = sorted(set(by_module.get(parts[0], [])))
    for depth in range(len(parts), 0, -1):
        start = "/".join(parts[:depth])
        for candidate in candidates:
            files = {str(file) for file in metadata.files(candidate) or ()}
            if {f"{start}.py", f"{start}/__init__.py"} & files or len(candidates) == 1:
                return canonicalize_name(candidate)
    pytest.fail(f"no installed package has {name}")


def test_what_is_imported_is_declared_or_brought_by_what_is():
    declared = BASE | {package for name, package in EXTRAS if name != "dev"}
    brought = {row[0]: row[1] for row in rows("Brought by these")}
    for name, where in imported().items():
        assert name in declared | set(brought), f"{where} imports from {name}"
    for name, by in brought.items():
        assert by in declared | set(brought)
        assert name in required(by), f"{by} does not bring {name}"


def required(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """All that a distribution requires, at any depth."""
    found: set[str] = set()
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        other = canonicalize_name(requirement.name)
        if other not in seen and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found |= {other} | required(other, seen | found | {other, name})
    return found


def test_a_missing_extra_is_named_with_the_way_to_install_it():
    with pytest.raises(MissingExtraError) as caught, extra("pdf", "PDF"):
        import there_is_no_such_module  # noqa: F401
    error = caught.value
    assert error.message == "PDF needs the extra pdf, which is not installed"
    assert error.why == "No module named 'there_is_no_such_module'"
    assert error.hint == 'pip install "lkmongo[pdf]"'
    assert error.exit_code is ExitCode.USAGE


def test_every_extra_that_an_error_names_is_there():
    names = {
        name
        for path in (ROOT / "lkmongo").rglob("*.py")
        for name in re.findall(r'\bextra\("(\w+)"|lkmongo\[(\w+)\]', path.read_text(encoding="utf-8"))
    }
    said = {one or other for one, other in names}
    assert said == set(PROJECT["optional-dependencies"]) - {"dev"}


class TestRelease:
    WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))

    def check(self, *tag: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ROOT / ".ci/check-tag", *tag], capture_output=True, text=True, check=False)

    def test_the_tag_is_the_version(self):
        assert self.check(f"v{lkmongo.__version__}").returncode == 0

    @pytest.mark.parametrize("tag", [[], ["v0.0.0"], [lkmongo.__version__], [f"v{lkmongo.__version__}.1"]])
    def test_another_tag_is_refused(self, tag):
        done = self.check(*tag)
        assert done.returncode == 2
        assert f"lkmongo.__version__ is {lkmongo.__version__}" in done.stderr

    def test_nothing_is_published_that_was_not_tested(self):
        jobs = self.WORKFLOW["jobs"]
        assert (jobs["publish"]["needs"], jobs["test"]["needs"]) == ("test", "build")
        assert any("check-tag" in step.get("run", "") for step in jobs["build"]["steps"])
        assert any("tests/wheel.sh dist/" in step.get("run", "") for step in jobs["test"]["steps"])
        supported = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
        assert jobs["test"]["strategy"]["matrix"]["python"] == supported

    def test_only_the_publisher_may_ask_for_an_identity(self):
        assert self.WORKFLOW["permissions"] == {}
        assert [name for name, job in self.WORKFLOW["jobs"].items() if "id-token" in job["permissions"]] == ["publish"]

    def test_actions_are_pinned(self):
        used = [step["uses"] for job in self.WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step]
        assert used
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used)


def test_no_link_to_somewhere_on_a_machine_is_in_the_repository():
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no checkout")
    assert [line for line in listed.stdout.splitlines() if line.startswith("120000")] == []
