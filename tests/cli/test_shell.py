"""The command line among other programs: completion in shells, NO_COLOR, and the name it goes by."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

import pytest

from docs import generate
from lkmongo.cli.output import styled
from tests.cli.conftest import LKMONGO


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_the_shell_that_is_named(run, shell):
    """Whatever shell runs: in a container there is none to be found."""
    result = run("--show-completion", shell)
    assert (result.code, result.stderr) == (0, "")
    assert f"_LKMONGO_COMPLETE=complete_{shell}" in result.stdout
    assert "lkmongo" in result.stdout


def test_a_shell_that_is_not_known_is_2(run):
    result = run("--show-completion", "csh")
    assert result.code == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in result.stderr


def test_completion_is_installed_where_the_shell_looks(run, tmp_path):
    assert run("--install-completion", "fish").code == 0
    assert "lkmongo" in (tmp_path / ".config/fish/completions/lkmongo.fish").read_text()


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("mem", ["memory"]),
        ("memory f", ["forget"]),
        ("memory list --ten", ["--tenant"]),
        ("memory list -o j", ["json", "jsonl"]),
        ("doctor --only mongodb.c", ["mongodb.clock"]),
    ],
)
def test_words_are_completed(run, words, completions):
    typed = f"lkmongo {words}"
    env = {"_LKMONGO_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = run(env=env)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.split() == completions


def test_every_command_can_be_completed(run_inside):
    for command in generate.commands():
        *group, name = command.split()
        typed = " ".join(["lkmongo", *group, name[:2]])
        env = {"_LKMONGO_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(group) + 1)}
        assert name in run_inside(env=env).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_works_in_bash(tmp_path):
    script = (
        'source <("$0" --show-completion bash)\n'
        "COMP_WORDS=(lkmongo users mer) COMP_CWORD=2\n"
        '_lkmongo_completion "$0"\n'
        'echo "${COMPREPLY[@]}"\n'
        "complete -p lkmongo\n"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, LKMONGO],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["merge", "complete -o default -F _lkmongo_completion lkmongo"]


def test_it_goes_by_one_name_however_it_is_started(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lkmongo", "memory", "nonsense"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "try: lkmongo memory --help" in done.stderr


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "env", "expected"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (None, {"TERM": "xterm"}, False),
    ],
)
def test_styles_are_for_terminals_unless_they_are_not_wanted(monkeypatch, stream, env, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert styled(stream) is expected


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
def test_a_table_obeys_no_color(at_terminal, env):
    child = at_terminal("db", "retention", env=env)
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "subject" in shown
    assert "\x1b" not in shown if env else "\x1b[1m" in shown
