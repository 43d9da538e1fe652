"""`lkmongo agent test`: what it prints in each format, its exit codes, and the JUnit file."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

PASSES = """\
name: answers
calls:
  - caller: robin
    says: [{ say: Hello, model: [Good day.], answer: Good day }]
"""
FAILS = """\
name: answers <otherwise>
calls:
  - caller: robin
    says:
      - say: Hello
        model: ["Good day."]
        answer: Good night
        tools: [lookup_order]
"""
WRONG = "name: wrong\ncalls: []\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("passes", PASSES), ("fails", FAILS), ("wrong", WRONG)):
        (tmp_path / f"{name}.yaml").write_text(text)


def test_what_passes(run, files, tmp_path):
    done = run("agent", "test", "passes.yaml", "--junit", "result.xml")
    assert (done.code, done.stderr) == (0, "1 scenario passed\n")
    assert done.stdout == (
        "result\tscenario\tfile\tline\twhere\tsaid\texpected\tcame\npassed\tanswers\tpasses.yaml\t\t\t\t\t\n"
    )
    suites = ET.parse(tmp_path / "result.xml").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("1", "0")
    (case,) = suites.iter("testcase")
    assert (case.get("name"), case.get("file"), len(case)) == ("answers", "passes.yaml", 0)


def test_what_fails_is_told_with_its_line_call_and_turn(run, files, tmp_path):
    done = run("agent", "test", "passes.yaml", "fails.yaml", "--junit", "result.xml", "--json")
    assert done.code == 1
    passed, failed = done.json
    assert (passed["passed"], passed["calls"], passed["failures"]) == (True, 1, [])
    assert (failed["scenario"], failed["file"], failed["passed"]) == ("answers <otherwise>", "fails.yaml", False)
    place = {"line": 5, "call": 1, "turn": 1, "caller": "robin", "said": "Hello"}
    assert failed["failures"] == [
        place | {"expected": 'an answer that holds "Good night"', "came": '"Good day."'},
        place | {"expected": "the tool lookup_order() is called", "came": "no tool was called"},
    ]
    assert '"1 of 2 scenarios failed"' in done.stderr
    suites = ET.parse(tmp_path / "result.xml").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("2", "1")
    first, _ = suites.iter("failure")
    assert first.get("message") == 'call 1 (robin), turn 1: an answer that holds "Good night"'
    assert first.text == (
        'fails.yaml:5\ncall 1 (robin), turn 1 "Hello"\n'
        'expected  an answer that holds "Good night"\ncame      "Good day."'
    )


def test_a_person_sees_what_failed(run, files):
    done = run("agent", "test", "fails.yaml", "-o", "table")
    head, *rest = done.stdout.splitlines()
    assert head.startswith("FAILED  answers <otherwise> (")
    assert rest == [
        '  fails.yaml:5  call 1 (robin), turn 1: "Hello"',
        '    expected  an answer that holds "Good night"',
        '    came      "Good day."',
        '  fails.yaml:5  call 1 (robin), turn 1: "Hello"',
        "    expected  the tool lookup_order() is called",
        "    came      no tool was called",
    ]
    assert done.stderr == "error: 1 of 1 scenario failed\n"


def test_a_wrong_file_is_refused_before_anything_runs(run, files, tmp_path):
    done = run("agent", "test", "fails.yaml", "wrong.yaml", "nowhere.yaml", "--junit", "result.xml")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: wrong.yaml:2: scenario.calls must be a list of calls, not an empty list",
        "  why: nowhere.yaml: cannot be read: No such file or directory",
        "  try: correct it and run this again; no scenario was run",
    ]
    assert not (tmp_path / "result.xml").exists()
    assert run("agent", "test").code == 2


def test_a_junit_file_that_cannot_be_written_is_named_before_anything_runs(run, files):
    done = run("agent", "test", "passes.yaml", "--junit", "nowhere/result.xml")
    assert (done.code, done.stdout) == (2, "")
    assert "there is no folder nowhere" in done.stderr


async def test_the_users_database_is_not_touched_and_nothing_is_left(run, files, store, shared_home, tmp_path):
    """MONGODB_URI is set, and to nobody; the home has a database, in which nothing is written."""
    away = {"MONGODB_URI": "mongodb://127.0.0.1:1/", "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    done = run("agent", "test", "passes.yaml", env=away)
    assert done.code == 0
    assert done.stderr.splitlines()[0] == (
        "MONGODB_URI is not used: scenarios run in a MongoDB that is started for them."
    )
    assert list((tmp_path / "temporary").iterdir()) == []
    assert run("agent", "test", "passes.yaml").code == 0
    assert await store.db.sessions.count_documents({}) == 0
    assert await store.db.users.count_documents({}) == 0


def test_the_model_can_be_chosen_for_all(run, files):
    assert run("agent", "test", "passes.yaml", "--model", "demo").code == 1
    refused = run("agent", "test", "passes.yaml", "--model", "configured")
    assert (refused.code, refused.stdout) == (2, "")
    assert "there is no language model" in refused.stderr
    assert run("agent", "test", "passes.yaml", "--model", "another").code == 2
