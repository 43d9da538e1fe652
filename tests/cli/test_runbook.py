"""What docs/phone.md tells staff to do about telephone numbers can be done, in the order in which it stands there."""

from __future__ import annotations

import re
import shlex

import pytest

from docs import generate

PAGE = (generate.ROOT / "docs/phone.md").read_text(encoding="utf-8")
RUNBOOK = PAGE.partition("\n## Runbook\n")[2]
OLD, NEW = "+49 30 7654321", "+49 30 9876543"
BEFORE = {
    "A caller says we mixed them up": [OLD],
    "Somebody has a new number": [OLD],
    "Somebody is locked out": [OLD],
    "The number belongs to somebody else now": [NEW],
}
"""The numbers that are linked to the person before what a section is about."""


def commands(title: str) -> list[list[str]]:
    """The words of the commands in a section of the runbook."""
    section = RUNBOOK.partition(f"### {title}\n")[2].partition("\n### ")[0]
    return [shlex.split(line) for line in re.findall(r"^\s*\$ lkmongo (.+)$", section, re.MULTILINE)]


def test_every_section_with_commands_is_run_here():
    titles = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)
    assert [title for title in titles if commands(title)] == list(BEFORE)


@pytest.mark.parametrize("title", BEFORE)
def test_what_the_runbook_says_can_be_done(run, title):
    assert run("db", "seed", "--yes").code == 0
    assert run("memory", "set", "u-100", "favorite_color", "teal").code == 0
    for number in BEFORE[title]:
        assert run("phone", "link", number, "u-100").code == 0
    assert run("phone", "pin", "u-100", "--stdin", input="482913\n").code == 0
    for words in commands(title):
        done = run(*words)
        assert done.code == 0, f"lkmongo {shlex.join(words)}: {done.stderr}"
        assert not {"7654321", "9876543"} & set(re.findall(r"\d{7}", done.stdout + done.stderr)), "a number is shown"
    linked = [each["last_digits"] for each in run("phone", "list", "u-100", "--json").json]
    assert linked == {"Somebody has a new number": ["43"], "Somebody is locked out": ["21"]}.get(title, [])
    trail = run("audit", "list", "--user", "u-100", "--json").json
    assert re.search(r"--reason (\S+)", RUNBOOK.partition(f"### {title}\n")[2])[1] in {each["reason"] for each in trail}
