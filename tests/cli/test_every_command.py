"""What holds for each and every command: help, JSON, proper failures, and no secret in any stream.

A new command fails here until it has a line in `ARGUMENTS`.
"""

from __future__ import annotations

import json

import pytest

from docs import generate
from lkmongo.errors import ExitCode
from lkmongo.settings import Settings

ARGUMENTS: dict[str, list[str]] = {
    "agent console": ["--user", "u-100"],
    "db embed": [],
    "db indexes": [],
    "db retention": ["calls", "90d", "--yes"],
    "db seed": ["--yes"],
    "db status": [],
    "db wait-ready": ["--timeout", "1"],
    "doctor": ["--only", "settings", "--only", "mongodb", "--only", "voyage", "--only", "livekit"],
    "knowledge add": ["notes.md"],
    "knowledge list": [],
    "knowledge remove": ["notes.md", "--yes"],
    "knowledge search": ["how long is the guarantee"],
    "memory export": ["u-100"],
    "memory forget": ["u-100", "--yes"],
    "memory list": ["u-100"],
    "memory search": ["u-100", "colour"],
    "memory show": ["u-100", "favorite_color"],
    "sessions export": [],
    "sessions list": [],
    "sessions search": ["lamp"],
    "sessions show": ["call-1"],
    "sessions stats": [],
    "users erase": ["u-100", "--confirm", "u-100"],
    "users list": [],
    "users merge": ["u-100", "u-200", "--yes"],
    "users receipts": [],
    "users show": ["u-100"],
}
"""What each command is run with: enough to make it go to the database, and harmless in an empty one."""

NO_JSON: dict[str, str] = {}
"""Commands that print no data of their own, each with the reason."""

GOES_ON = {"agent console"}
"""Commands that start without MongoDB, say so, and go on."""

COMMANDS = generate.commands()

CANARIES = {
    variable.name: f"canary-{number}-s3cret-0123456789-0123456789"
    for number, variable in enumerate(Settings.variables())
    if variable.secret
}
NOBODY = f"mongodb://app:{CANARIES['MONGODB_URI']}@127.0.0.1:1/?serverSelectionTimeoutMS=200&connectTimeoutMS=200"
SECRETS = CANARIES | {
    "MONGODB_URI": NOBODY,
    "VOYAGE_BASE_URL": "http://127.0.0.1:1/v1",
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": "APIcanary",
}
"""Every secret is set, and behind none of them is anybody."""


@pytest.fixture
def fails(run, tmp_path):
    """Run a command where it cannot work, and look at what must hold however it fails."""
    (tmp_path / "notes.md").write_text("# Notes\n\nThe guarantee is two years.\n")

    def call(command, *options, env):
        result = run(*command.split(), *ARGUMENTS[command], *options, env=env, input="hello\n")
        for stream in (result.stdout, result.stderr):
            for name, canary in CANARIES.items():
                assert canary not in stream, f"{command} shows {name}"
        assert "--debug" in options or "LKMONGO_DEBUG" in env or "Traceback" not in result.stderr
        assert result.code in set(ExitCode)
        assert "should not" not in result.stderr, result.stderr
        return result

    return call


def test_every_command_is_here():
    assert sorted(COMMANDS) == sorted(ARGUMENTS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete_plain_and_needs_nothing(run, command):
    result = run(*command.split(), "--help", env={"MONGODB_URI": "nonsense", "LKMONGO_OUTPUT": "xml"})
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: lkmongo {command} ")
    assert result.stdout == run(*command.split(), "-h").stdout
    assert "--debug" in result.stdout
    assert ("--json" in result.stdout) is (command not in NO_JSON)
    assert "\x1b" not in result.stdout
    assert not set("─│╭╮╰╯") & set(result.stdout), "boxes"


@pytest.mark.parametrize("group", sorted({command.rpartition(" ")[0] for command in COMMANDS}))
def test_a_group_lists_its_commands_in_whole_sentences(run, group):
    result = run(*group.split(), "--help")
    assert result.code == 0
    listed = result.stdout.partition("Commands:\n")[2]
    for command in COMMANDS:
        prefix, _, name = command.rpartition(" ")
        assert prefix != group or f"\n  {name} " in f"\n{listed}"
    assert "..." not in listed
    alone = run(*group.split())
    assert alone.code == 2
    assert alone.stderr.startswith("Usage: lkmongo")
    assert alone.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_it_fails_properly_without_a_database(fails, command):
    result = fails(command, env=SECRETS)
    if command in GOES_ON:
        assert result.code == 0
        assert "warning: MongoDB cannot be reached" in result.stderr
        return
    assert result.code == 1
    error, *rest = result.stderr.partition("error: ")[2].splitlines()
    assert "MongoDB cannot be reached" in error if command != "doctor" else "mongodb, voyage, livekit" in error
    assert [line[:7] for line in rest] == ["  why: ", "  try: "]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in NO_JSON])
def test_its_failure_is_json_where_json_is_asked_for(fails, command):
    result = fails(command, "--json", env=SECRETS)
    assert result.code == (0 if command in GOES_ON else 1)
    for line in result.stdout.splitlines():
        json.loads(line)
    if command not in GOES_ON:
        error = json.loads(result.stderr.splitlines()[-1])["error"]
        assert set(error) == {"code", "message", "why", "hint"}
        assert error["hint"]


@pytest.mark.parametrize("command", COMMANDS)
def test_tracebacks_come_with_debug_and_without_secrets(fails, command):
    result = fails(command, "--debug", env=SECRETS)
    assert ("Traceback" in result.stderr) is (command not in GOES_ON)


def test_debug_can_be_set_for_good(fails):
    assert "Traceback" in fails("memory list", env=SECRETS | {"LKMONGO_DEBUG": "on"}).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_setting_is_named(fails, command):
    result = fails(command, env=SECRETS | {"MONGODB_URI": CANARIES["MONGODB_URI"], "LKMONGO_SEARCH": "perhaps"})
    assert result.code == (1 if command == "doctor" else 2)
    assert "MONGODB_URI must begin with mongodb://" in result.stderr
    assert "  try: correct MONGODB_URI, or unset it" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_of_a_dotenv_file_that_is_none_is_named_and_not_shown(fails, command, tmp_path):
    (tmp_path / ".env.local").write_text(f"LKMONGO_LLM=m\nthe key is {CANARIES['VOYAGE_API_KEY']}\n")
    result = fails(command, env={"MONGODB_URI": NOBODY})
    assert result.code == (1 if command == "doctor" else 2)
    assert ".env.local:2: this line is not NAME=value" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_that_is_a_file_is_named(fails, command, tmp_path):
    (tmp_path / "file").write_text("")
    result = fails(command, env={"LKMONGO_HOME": str(tmp_path / "file")})
    assert result.code == 1
    assert f"{tmp_path / 'file'}" in result.stderr
    assert "set LKMONGO_HOME to" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_there_is_not_is_2(fails, command):
    result = fails(command, "--nonsense", env={})
    assert result.code == 2
    assert "--nonsense" in result.stderr
    assert f"try: lkmongo {command} --help" in result.stderr
