"""The documents say what the program does."""

from __future__ import annotations

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
