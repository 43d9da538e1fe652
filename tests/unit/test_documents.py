"""The documents say what the program does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import goals, report
from docs import generate
from lkmongo.settings import Settings


@pytest.mark.parametrize("path", generate.DOCUMENTS)
def test_the_generated_parts_are_up_to_date(path):
    assert (generate.ROOT / path).read_text(encoding="utf-8") == generate.DOCUMENTS[path](), "run `make docs`"


def test_every_command_is_documented():
    text = (generate.ROOT / "README.md").read_text(encoding="utf-8")
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


def test_every_relative_link_leads_somewhere():
    for document in [generate.ROOT / "README.md", generate.ROOT / "CONTRIBUTING.md", *generate.ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


DOCUMENTS = [generate.ROOT / "README.md", *sorted(generate.ROOT.glob("docs/*.md"))]
FILES = [generate.ROOT / "compose.yaml", *sorted(generate.ROOT.glob("docs/examples/*.y*ml"))]


def command_lines(text: str) -> list[list[str]]:
    """The words of every `lkmongo ...` that a document tells its reader to run, generated parts apart."""
    own = re.sub(r"<!-- commands -->.*?<!-- /commands -->", "", text, flags=re.DOTALL)
    lines = re.findall(r"`lkmongo ([^`]+)`", own) + re.findall(
        r"^\s*\$ (?:[A-Z_]+=\S+ )*lkmongo (.+)$", own, re.MULTILINE
    )
    return [re.split(r"\s[|#]\s", line)[0].split() for line in lines]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
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


def test_every_heading_that_is_linked_to_is_there():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        for target in re.findall(r"\]\(#([^)]+)\)", text):
            assert target in headings, f"{document.name}: #{target}"


def test_every_goal_is_measured():
    _, results = report.load()
    shown = goals.table(results).splitlines()[2:]
    assert len(shown) == len(goals.GOALS)


def test_a_goal_that_is_missed_is_shown_as_missed():
    _, results = report.load()
    worse = [replace(each, median=each.median * 100) if each.work == "recall" else each for each in results]
    missed = [line for line in goals.table(worse).splitlines() if "not reached" in line]
    assert any(line.startswith("| recall |") for line in missed)
