"""The documents say what the program does."""

from __future__ import annotations

import itertools
import re

import pytest

from docs import generate


def test_the_generated_parts_are_up_to_date():
    text = (generate.ROOT / "README.md").read_text(encoding="utf-8")
    assert generate.fill(text) == text, "run `make docs`"
    for name in generate.PARTS:
        assert f"<!-- {name} -->" in text
    assert (generate.ROOT / ".env.example").read_text(encoding="utf-8") == generate.env_example(), "run `make docs`"


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
    for option in re.findall(r"^  (-.*?)$", text, re.MULTILINE):
        assert len(option.split()) > 1, option


def test_every_relative_link_leads_somewhere():
    for document in [generate.ROOT / "README.md", generate.ROOT / "CONTRIBUTING.md", *generate.ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


DOCUMENTS = [generate.ROOT / "README.md", *sorted(generate.ROOT.glob("docs/*.md"))]


def command_lines(text: str) -> list[list[str]]:
    """The words of every `lkmongo ...` that a document tells its reader to run, generated parts apart."""
    own = re.sub(r"<!-- commands -->.*?<!-- /commands -->", "", text, flags=re.DOTALL)
    lines = re.findall(r"`lkmongo ([^`]+)`", own) + re.findall(
        r"^\s*\$ (?:[A-Z_]+=\S+ )*lkmongo (.+)$", own, re.MULTILINE
    )
    return [re.split(r"\s[|#]\s", line)[0].split() for line in lines]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_in_a_document_can_be_run(document):
    groups = {command.rpartition(" ")[0] for command in generate.commands()}
    for words in command_lines(document.read_text(encoding="utf-8")):
        plain = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words))
        named = [
            name for n in range(len(plain), -1, -1) if (name := " ".join(plain[:n])) in {*generate.commands(), *groups}
        ]
        name, said = named[0], f"{document.name}: lkmongo {' '.join(words)}"
        assert name in generate.commands() or len(name.split()) == len(plain), said
        options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", generate.help_text(name)))
        for word in words:
            assert not word.startswith("-") or word.partition("=")[0].rstrip(",") in options | {"--version"}, said


def test_every_heading_that_is_linked_to_is_there():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        for target in re.findall(r"\]\(#([^)]+)\)", text):
            assert target in headings, f"{document.name}: #{target}"
