"""What holds for each and every command: help, JSON, proper failures, and no secret in any stream.

A new command fails here until it has a line in `ARGUMENTS`.
"""

from __future__ import annotations

import json

import pytest

from docs import generate
from lkmongo.errors import ExitCode
from lkmongo.settings import Settings
from tests.cli.conftest import environment, run_together

ARGUMENTS: dict[str, list[str]] = {
    "agent console": ["--user", "u-100"],
    "agent download-files": [],
    "agent run": ["--dev", "--demo"],
    "agent test": ["colour.yaml"],
    "audit export": [],
    "audit list": [],
    "audit verify": [],
    "db embed": [],
    "db encrypt": [],
    "db indexes": [],
    "db retention": ["calls", "90d", "--yes"],
    "db seed": ["--yes"],
    "db status": [],
    "db upgrade": [],
    "db wait-ready": ["--timeout", "1"],
    "doctor": ["--only", "settings", "--only", "mongodb", "--only", "voyage", "--only", "livekit"],
    "knowledge add": ["notes.md"],
    "knowledge list": [],
    "knowledge remove": ["notes.md", "--yes"],
    "knowledge search": ["how long is the guarantee"],
    "local status": [],
    "local stop": [],
    "memory accept": ["u-100", "0123456789ab"],
    "memory decline": ["u-100", "0123456789ab"],
    "memory commitments": ["u-100"],
    "memory export": ["u-100"],
    "memory forget": ["u-100", "--yes"],
    "memory history": ["u-100"],
    "memory import": ["facts.jsonl"],
    "memory list": ["u-100"],
    "memory search": ["u-100", "colour"],
    "memory set": ["u-100", "favorite_color", "teal"],
    "memory show": ["u-100", "favorite_color"],
    "memory suggestions": ["u-100"],
    "memory undo": ["u-100", "favorite_color", "--yes"],
    "phone link": ["+49 30 5550 1767", "u-100"],
    "phone list": [],
    "phone lookup": ["+49 30 5550 1767"],
    "phone pin": ["u-100", "--generate"],
    "phone unlink": ["u-100", "--yes"],
    "sessions export": [],
    "sessions list": [],
    "sessions recover": [],
    "sessions redact": ["--yes"],
    "sessions search": ["lamp"],
    "sessions show": ["call-1"],
    "sessions stats": [],
    "token": ["--user", "u-100"],
    "token inspect": ["e30.e30."],
    "users consent": ["u-100", "agreed"],
    "users erase": ["u-100", "--confirm", "u-100"],
    "users list": [],
    "users merge": ["u-100", "u-200", "--yes"],
    "users receipts": [],
    "users show": ["u-100"],
    "web": ["--host", "0.0.0.0"],
}
"""What each command is run with: enough to make it go to the database, and harmless in an empty one."""

NO_JSON: dict[str, str] = {
    "agent download-files": "it fetches files, and says so",
    "agent run": "it serves, and what it logs has a format of its own",
}
"""Commands that print no data of their own, each with the reason."""

GOES_ON = {"agent console"}
"""Commands that start without MongoDB, say so, and go on."""

NO_DATABASE = {
    "agent download-files": 1,
    "agent run": 1,
    "agent test": 2,
    "db encrypt": 2,
    "local status": 0,
    "local stop": 1,
    "token": 0,
    "token inspect": 1,
    "web": 2,
}
"""Commands that ask no database, nor anything else that is far away, each with how it ends here."""

COMMANDS = generate.commands()

CANARIES = {
    variable.name: f"canary-{number}-s3cret-0123456789-0123456789"
    for number, variable in enumerate(Settings.variables())
    if variable.secret
} | {"LKMONGO_WEBHOOK_SECRET": "whsec_canary0s3cret0012345678901234567890a"}
NOBODY = f"mongodb://app:{CANARIES['MONGODB_URI']}@127.0.0.1:1/?serverSelectionTimeoutMS=200&connectTimeoutMS=200"
SECRETS = CANARIES | {
    "MONGODB_URI": NOBODY,
    "LKMONGO_KEY_VAULT_URI": f"mongodb://app:{CANARIES['LKMONGO_KEY_VAULT_URI']}@127.0.0.1:1/",
    "LKMONGO_EMBEDDINGS": "voyage",
    "VOYAGE_BASE_URL": "http://127.0.0.1:1/v1",
    "LIVEKIT_URL": "ws://127.0.0.1:1",
    "LIVEKIT_API_KEY": "APIcanary",
    "LKMONGO_WEBHOOK_URL": f"https://127.0.0.1:1/{CANARIES['LKMONGO_WEBHOOK_URL']}",
    "HF_ENDPOINT": "http://127.0.0.1:1",
    "HF_HOME": "nowhere",
}
"""Every secret is set, and behind none of them is anybody."""


HEAVY = {"agent console", "doctor"}
"""Commands that import a lot before they say that a setting is wrong: a process that has it imported forks for them."""


NOTES = "# Notes\n\nThe guarantee is two years.\n"
"""What `knowledge add` is given."""

FACTS = '{"user_id": "u-100", "label": "city", "content": "Lisbon"}\n'
"""What `memory import` is given."""

TOGETHER = 16
"""Commands that run at the same time."""


@pytest.fixture
def fails(run, run_inside, tmp_path):
    """Run a command with what cannot work, and look at what must hold however it fails."""
    (tmp_path / "notes.md").write_text(NOTES)
    (tmp_path / "facts.jsonl").write_text(FACTS)

    def call(command, *options, env):
        start = run if command in HEAVY else run_inside
        return checked(start(*command.split(), *ARGUMENTS[command], *options, env=env), command, *options)

    return call


def checked(result, command, *options):
    """The result, which shows no secret, no traceback that nobody asked for, and no code that means nothing."""
    for stream in (result.stdout, result.stderr):
        for name, canary in CANARIES.items():
            assert canary not in stream, f"{command} shows {name}"
    assert "--debug" in options or "Traceback" not in result.stderr
    assert result.code in set(ExitCode)
    assert "should not" not in result.stderr, result.stderr
    return result


def test_every_command_is_here():
    assert sorted(COMMANDS) == sorted(ARGUMENTS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete_plain_and_needs_nothing(run_inside, command):
    result = run_inside(*command.split(), "--help", env={"MONGODB_URI": "nonsense", "LKMONGO_OUTPUT": "xml"})
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: lkmongo {command} ")
    assert result.stdout == run_inside(*command.split(), "-h").stdout
    assert "--debug" in result.stdout
    assert ("--json" in result.stdout) is (command not in NO_JSON)
    assert "\x1b" not in result.stdout
    assert not set("─│╭╮╰╯") & set(result.stdout), "boxes"


GROUPS = {command.rpartition(" ")[0] for command in COMMANDS}


@pytest.mark.parametrize("group", sorted(GROUPS - set(COMMANDS)))
def test_a_group_lists_its_commands_in_whole_sentences(run_inside, group):
    result = run_inside(*group.split(), "--help")
    assert result.code == 0
    listed = result.stdout.partition("Commands:\n")[2]
    for command in COMMANDS:
        prefix, _, name = command.rpartition(" ")
        assert prefix != group or f"\n  {name} " in f"\n{listed}"
    assert "..." not in listed
    alone = run_inside(*group.split())
    assert alone.code == 2
    assert alone.stderr.startswith("Usage: lkmongo")
    assert alone.stdout == ""


@pytest.fixture(scope="module")
def without_database(zygote, shared_home, tmp_path_factory):
    """What each command does where nobody is behind any address: for people, and as JSON with tracebacks.

    Each waits half a second for MongoDB, so many of them wait at the same time.
    """
    folder = tmp_path_factory.mktemp("without a database")
    (folder / "notes.md").write_text(NOTES)
    (folder / "facts.jsonl").write_text(FACTS)
    env = environment(shared_home, "nobody", folder) | SECRETS
    lines = [
        [*command.split(), *arguments, *options]
        for command, arguments in ARGUMENTS.items()
        for options in ([], ["--debug"] if command in NO_JSON else ["--json", "--debug"])
    ]
    results = []
    for start in range(0, len(lines), TOGETHER):
        results += run_together(zygote, lines[start : start + TOGETHER], folder=folder, env=env, input="hello\n")
    return dict(zip(ARGUMENTS, zip(results[::2], results[1::2], strict=True), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_it_fails_properly_without_a_database(without_database, command):
    plain, told = without_database[command]
    checked(plain, command)
    checked(told, command, "--debug")
    if command not in NO_JSON:
        for line in told.stdout.splitlines():
            json.loads(line)
    if command in NO_DATABASE:
        assert (plain.code, told.code) == (NO_DATABASE[command], NO_DATABASE[command])
        return
    assert ("Traceback" in told.stderr) is (command not in GOES_ON)
    if command in GOES_ON:
        assert (plain.code, told.code) == (0, 0)
        assert "warning: MongoDB cannot be reached" in plain.stderr
        return
    assert (plain.code, told.code) == (1, 1)
    error, *rest = plain.stderr.partition("error: ")[2].splitlines()
    assert "MongoDB cannot be reached" in error if command != "doctor" else "mongodb, voyage, livekit" in error
    assert [line[:7] for line in rest] == ["  why: ", "  try: "]
    if command not in NO_JSON:
        as_json = json.loads(told.stderr.splitlines()[-1])["error"]
        assert set(as_json) == {"code", "message", "why", "hint"}
        assert as_json["message"] == error
        assert as_json["hint"]


def test_tracebacks_come_before_an_error_for_people_too_and_can_be_set_for_good(run):
    asked = run("memory", "list", "u-100", "--debug", env=SECRETS)
    always = run("memory", "list", "u-100", env=SECRETS | {"LKMONGO_DEBUG": "on"})
    for result in (asked, always):
        checked(result, "memory list", "--debug")
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("  try: ")


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


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in NO_DATABASE])
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


def test_terraform_is_a_format_of_one_command_alone(fails):
    for command in COMMANDS:
        if command not in NO_JSON and command != "db indexes":
            result = fails(command, "--output", "terraform", env={})
            assert result.code == 2, command
            assert "'table', 'plain', 'json', 'jsonl'" in " ".join(result.stderr.split()), result.stderr
    set_for_all = fails("db indexes", env={"LKMONGO_OUTPUT": "terraform"})
    assert set_for_all.code == 2
    assert "LKMONGO_OUTPUT must be table, plain, json or jsonl" in set_for_all.stderr.replace("'", "")


def test_all_this_holds_for_processes_of_their_own_too(run, fails, tmp_path):
    """The tests above run most commands in the process of the tests."""
    assert run("memory", "list", "-h").stdout == run("memory", "list", "--help").stdout
    assert run("memory", "list", "--nonsense").code == 2
    assert run("memory").stderr.startswith("Usage: lkmongo memory ")
    for env, code in (({"MONGODB_URI": "nonsense"}, 2), ({"LKMONGO_HOME": str(tmp_path / "notes.md")}, 1)):
        inside = fails("memory list", env=env)
        assert inside == run("memory", "list", "u-100", env=env)
        assert inside.code == code
