"""The documents say what the program does."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import goals, report
from docs import generate
from lkmongo.settings import Settings
from tests.parsing import parse


@pytest.mark.parametrize("path", generate.DOCUMENTS)
def test_the_generated_parts_are_up_to_date(path):
    assert (generate.ROOT / path).read_text(encoding="utf-8") == generate.DOCUMENTS[path](), "run `make docs`"


def test_every_command_is_documented():
    text = (generate.ROOT / "docs/cli.md").read_text(encoding="utf-8")
    missing = [command for command in generate.commands() if f"$ lkmongo {command} --help\nUsage: " not in text]
    assert not missing, "run `make docs`"


@pytest.mark.parametrize("command", generate.commands())
def test_every_command_explains_itself(command):
    text = generate.help_text(command)
    assert text.startswith(f"Usage: lkmongo {command}")
    described = text.split("\n\n")[1].strip()
    assert len(described) > 20
    for option in re.findall(r"^  (-.*?)$", text.partition("\nOptions:")[2], re.MULTILINE):
        assert len(option.split()) > 1, option


README = generate.ROOT / "README.md"
INDEX = generate.ROOT / "docs/README.md"
DOCUMENTS = [README, *sorted(generate.ROOT.glob("docs/*.md"))]
PAGES = [*DOCUMENTS, *(generate.ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "seeds/README.md"))]


def links(page: Path) -> list[tuple[Path, str]]:
    """Each relative link of a page and each picture: the file, and the heading in it or ""."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#") for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text)]
    return [((page.parent / path).resolve() if path else page, heading) for path, _, heading in targets]


def headings(page: Path) -> set[str]:
    """What a link may name in a page, made of its headings as GitHub does."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def name(path: Path) -> str:
    return str(path.relative_to(generate.ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page):
    for target, heading in links(page):
        assert target.exists(), target
        assert not heading or heading in headings(target), f"{name(target)}#{heading}"


def test_every_page_and_picture_can_be_found_from_the_index():
    linked = {target for target, _ in links(INDEX)}
    assert {*DOCUMENTS} - {INDEX} <= linked
    assert {*(generate.ROOT / "docs/images").iterdir()} <= {target for page in DOCUMENTS for target, _ in links(page)}


def test_the_readme_can_be_read():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 250


def test_the_readme_shows_one_command_of_every_group():
    shown = {words[0] for words in command_lines(README.read_text(encoding="utf-8"))}
    assert {command.split()[0] for command in generate.commands()} <= shown


def test_the_links_of_the_readme_work_on_pypi_too():
    project = tomllib.loads((generate.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shown = README.read_text(encoding="utf-8")
    for each in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        shown = re.sub(each["pattern"], each["replacement"], shown)
    whole = re.findall(r"(!?)\[[^\]]*\]\(https://[\w.]+/lkmongo/lkmongo/(?:blob/)?main/([^)#\s]+)", shown)
    assert {(generate.ROOT / path).resolve() for _, path in whole} == {target for target, _ in links(README)}
    assert {path for picture, path in whole if picture} == set(re.findall(r"/([^/)]*docs/images/[^)]+)", shown))
    assert not re.search(r"\]\((?!https://)", shown)


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_the_code_in_a_document_is_that_of_an_example(page):
    examples = [path.read_text(encoding="utf-8") for path in sorted(generate.ROOT.glob("docs/examples/*.py"))]
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        assert any(block in text or textwrap.indent(block, "    ") in text for text in examples), block


FILES = [generate.ROOT / "compose.yaml", *sorted(generate.ROOT.glob("docs/examples/*.y*ml"))]


def command_lines(text: str) -> list[list[str]]:
    """The words of every `lkmongo ...` that a document tells its reader to run, generated parts apart."""
    own = re.sub(r"<!-- commands -->.*?<!-- /commands -->", "", text, flags=re.DOTALL)
    lines = re.findall(r"`lkmongo ([^`]+)`", own) + re.findall(
        r"^\s*\$ (?:[A-Z_]+=\S+ )*lkmongo (.+)$", own, re.MULTILINE
    )
    return [re.split(r"\s[|#]\s", line)[0].split() for line in lines]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_command_line_in_a_document_can_be_run(document):
    for words in command_lines(document.read_text(encoding="utf-8")):
        assert_can_be_run(words, document.name)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_command_line_in_an_example_can_be_run(file):
    """Shell lines that call lkmongo, and arguments that a container's entry point takes."""
    found = [
        line.split()
        for line in re.findall(r"\blkmongo ((?:db|agent|doctor|knowledge) [^&|\n\]\"]+)", "".join(strings(file)))
    ]
    found += [words for words in lists(file) if words[:1] == ["agent"]]
    assert found
    for words in found:
        assert_can_be_run(words, file.name)


def strings(file: Path) -> Iterator[str]:
    """Every text in a YAML file, comments apart."""
    waiting = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each + "\n"
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def lists(file: Path) -> Iterator[list[str]]:
    """Every list of texts in a YAML file."""
    waiting = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
            if all(isinstance(one, str) for one in each):
                yield each


def test_the_variables_of_the_examples_are_settings():
    known = {variable.name for variable in Settings.variables()}
    known |= {"MONGODB_ATLAS_CLIENT_ID", "MONGODB_ATLAS_CLIENT_SECRET"}  # of Terraform and the Atlas CLI
    known |= {"LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS"}  # of LiveKit's SDK
    text = "".join(file.read_text(encoding="utf-8") for file in [*FILES, generate.ROOT / "docs/deploy.md"])
    assert set(re.findall(r"\b(?:LKMONGO|LIVEKIT|MONGODB|VOYAGE)_[A-Z_]+\b", text)) <= known


def assert_can_be_run(words: list[str], where: str) -> None:
    """Fail when there is no such command, or it has no such option."""
    groups = {command.rpartition(" ")[0] for command in generate.commands()}
    plain = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words))
    named = [
        name for n in range(len(plain), -1, -1) if (name := " ".join(plain[:n])) in {*generate.commands(), *groups}
    ]
    name, said = named[0], f"{where}: lkmongo {' '.join(words)}"
    assert name in generate.commands() or len(name.split()) == len(plain), said
    options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", generate.help_text(name)))
    for word in words:
        assert not word.startswith("-") or word.partition("=")[0].rstrip(",") in options | {"--version"}, said


def test_what_a_change_has_to_pass_is_told():
    targets = re.findall(r"^make (\S+)$", (generate.ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"check", "bench-quick", "test"} <= set(targets)
    told = (generate.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("`.ci/run` is")[2]
    named = re.findall(r"`make (\S+)`", told.partition("\n- ")[0])
    assert named == [target for target in targets if target != "setup"]


def test_every_goal_is_measured():
    _, results = report.load()
    shown = goals.table(results).splitlines()[2:]
    assert len(shown) == len(goals.GOALS)


def test_a_goal_that_is_missed_is_shown_as_missed():
    _, results = report.load()
    worse = [replace(each, median=each.median * 100) if each.work == "recall" else each for each in results]
    missed = [line for line in goals.table(worse).splitlines() if "not reached" in line]
    assert any(line.startswith("| recall |") for line in missed)


_STEP = re.compile(r"`(\w+(?:\.\w+)?)` \(`([\w/]+\.py)`\)")


def test_the_ways_through_the_house_name_what_is_there():
    text = (generate.ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    steps = _STEP.findall(text)
    assert len(steps) > 20
    for name, file in steps:
        names = set()
        for node in parse((generate.ROOT / "lkmongo" / file).read_text(encoding="utf-8")).body:
            names.add(getattr(node, "name", None))
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{getattr(each, 'name', None)}" for each in node.body}
        assert name in names, f"{file} has no {name}"
    ways = re.findall(r"(?:^\d+\. .*\n)+", text, re.MULTILINE)
    assert len(ways) == 6
    assert all(way.count("\n") <= 8 for way in ways)


def test_the_tree_names_every_room_and_no_other():
    tree = (generate.ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    named = set(re.findall(r"^  ([\w/]+)/ ", tree, re.MULTILINE))
    package = generate.ROOT / "lkmongo"
    rooms = {str(path.parent.relative_to(package)) for path in package.rglob("__init__.py")} - {".", "store"}
    assert named == rooms


def test_every_test_that_the_threat_model_names_is_there():
    text = (generate.ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for file, test in named:
        found = (generate.ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in found if test else "def test_" in found, f"{file}::{test}"
