"""Bad input gets a clear error with its own exit code, and nothing is lost."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from lkmongo.model import UserScope
from tests.cli.conftest import LKMONGO

CANARY = "canary-s3cret-98765"


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["memory", "list", ""], {}, "the user id is empty"),
        (["agent", "console", "--user", ""], {}, "the user id is empty"),
        (["agent", "console", "--user", "u", "--tenant", " "], {}, "the tenant id is empty"),
        (["agent", "console", "--user", "u", "--guest"], {}, "exclude each other"),
        (["agent", "console", "--user", "u", "--script", "missing.txt"], {}, "missing.txt cannot be read"),
        (["memory", "list", "x" * 129], {}, "128 are allowed"),
        (["memory", "list", "u"], {"LKMONGO_EMBEDDINGS": "foo"}, "must be voyage, openai, local or atlas"),
        (["memory", "list", "u"], {"MONGODB_URI": f"nonsense-{CANARY}"}, "MONGODB_URI must begin with mongodb://"),
        (["agent", "console"], {"LKMONGO_EMBEDDINGS": "voyage"}, "VOYAGE_API_KEY is not set"),
        (["agent", "console"], {"LKMONGO_EMBEDDINGS": "atlas"}, "MONGODB_URI is not set"),
        (["agent", "console"], {"LIVEKIT_URL": "wss://x.livekit.cloud"}, "LIVEKIT_API_SECRET are not set"),
        (["agent", "console"], {"LKMONGO_AGENT": "nowhere:Agent"}, "there is no module nowhere"),
        (["memory", "list", "u"], {"MONGODB_URI": "mongodb://"}, "MONGODB_URI must name a host"),
        (["memory", "search", "u", " "], {}, "the query is empty"),
        (["knowledge", "search", ""], {}, "the query is empty"),
        (["sessions", "export", "-O", ""], {}, ". is a folder"),
        (["db", "seed", "--dir", "README.md"], {}, "there is no folder README.md"),
        (["memory", "forget", "u", "--type", "!!"], {}, "no letters or digits"),
        (["memory", "lst"], {}, "No such command 'lst'"),
        (["memory", "list"], {}, "Missing argument 'USER'"),
        (["users", "consent", "u"], {}, "Missing argument 'ANSWER'. Choose from: agreed, withdrawn"),
        (["memory", "list", "u", "-o", "xml"], {}, "xml"),
        (["db", "seed", "--dir", "missing"], {}, "missing"),
    ],
)
def test_it_is_named_and_exits_with_2(run, arguments, env, message):
    result = run(*arguments, env=env)
    assert result.code == 2, result.stderr
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert message in error
    assert "Traceback" not in result.stderr
    assert CANARY not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["sessions", "export", "--since"], "lkmongo sessions export"),  # Typer itself does not tell the command
        (["users", "erase", "u", "--confirm"], "lkmongo users erase"),
        (["memory", "list"], "lkmongo memory list"),
        (["memory", "--nonsense"], "lkmongo memory"),
        (["--nonsense"], "lkmongo"),
    ],
)
def test_a_usage_error_points_to_the_help_of_the_command(run, arguments, path):
    assert run(*arguments).stderr.endswith(f"  try: {path} --help\n")


def test_an_error_is_json_where_json_is_asked_for(run):
    result = run("memory", "list", "", "--json")
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["message"]) == ("invalid_id", "the user id is empty")
    usage = run("memory", "list", "--json")
    assert json.loads(usage.stderr)["error"]["code"] == "usage"


def test_a_seed_file_with_a_wrong_field_is_named_by_line(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "orders.yaml").write_text(
        "- tenant_id: default\n  user_id: u-1\n  order_id: '1'\n  items: [Lamp]\n  totl: 3\n  status: open\n"
    )
    result = run("db", "seed", "--dir", "mine")
    assert result.code == 2
    assert "orders.yaml:5" in result.stderr
    assert "totl" in result.stderr
    (tmp_path / "mine" / "users.yaml").write_text(
        "- tenant_id: default\n  user_id: ''\n- tenant_id: default\n  user: u\n"
    )
    lines = run("db", "seed", "--dir", "mine").stderr.splitlines()
    assert [line[:7] for line in lines] == ["error: ", "  why: ", *["       "] * (len(lines) - 3), "  try: "]
    assert len(lines) > 4
    assert all(re.search(r"(users|orders)\.yaml:\d+: ", line) for line in lines[:-1])


def test_a_misspelt_seed_file_is_named_before_anything_is_written(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "users.yaml").write_text("- user_id: u-1\n  name: Ada\n")
    (tmp_path / "mine" / "order.yaml").write_text("- order_id: 1\n")
    result = run("db", "seed", "--dir", "mine")
    assert result.code == 2
    parts = "users.yaml, orders.yaml and knowledge/"
    assert result.stderr.splitlines() == [
        "error: mine/order.yaml: is not read; did you mean orders.yaml?",
        (
            f"  try: a seed folder contains {parts} (and may contain a README); "
            "correct it and run this again; nothing was written"
        ),
    ]
    assert run("users", "list", "--json").json == []


async def test_what_the_encoding_of_stdout_does_not_have_is_written_out(store, cli_env, tmp_path):
    await store.memories.remember(UserScope(tenant_id="default", user_id="u-1"), "favorite city", "Łódź")

    def in_encoding(encoding, *more):  # a process of its own: the encoding is read when one starts
        command = [LKMONGO, "memory", "list", "u-1", *more]
        env = cli_env | {"PYTHONIOENCODING": encoding}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=True).stdout.decode(encoding)

    assert "\\u0141" in in_encoding("latin-1")
    assert json.loads(in_encoding("ascii", "--json"))[0]["content"] == "Łódź"


def test_a_mongodb_that_nobody_answers_exits_with_1_and_shows_no_password(run):
    uri = f"mongodb://app:{CANARY}@127.0.0.1:1/"
    result = run("memory", "list", "u-100", env={"MONGODB_URI": uri})
    assert result.code == 1
    assert "error: MongoDB cannot be reached" in result.stderr
    assert "127.0.0.1:1" in result.stderr
    assert CANARY not in result.stderr


def test_a_database_on_another_machine_is_not_seeded_unasked(run):
    result = run("db", "seed", env={"MONGODB_URI": "mongodb://db.invalid/"})
    assert result.code == 2
    assert "--yes" in result.stderr


def test_a_line_that_is_too_long_or_no_text_is_refused_and_the_call_goes_on(run):
    said = b"x" * 10_000 + b"\n" + b"\xff\xfe bad\n" + b"remember that my favorite color is teal\n"
    result = run("agent", "console", "--json", "--user", "u-100", input=said)
    assert result.code == 2
    assert "teal" in result.answers[-1]
    errors = [json.loads(line)["error"]["message"] for line in result.stderr.splitlines() if line.startswith("{")]
    assert len(errors) == 2
    assert errors[0].startswith("line 1 has 10000 characters; 4000 are allowed")
    assert errors[1].startswith("line 2 is not UTF-8")
    assert run("memory", "list", "u-100", "--json").json[0]["content"] == "teal"


def test_the_console_starts_without_mongodb_warns_once_and_goes_on(run):
    result = run(
        "agent",
        "console",
        "--json",
        "--user",
        "u-100",
        input="remember that my favorite color is teal\nwhat is my favorite color?\n",
        env={"MONGODB_URI": f"mongodb://app:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=200"},
    )
    assert result.code == 0
    assert len(result.answers) == 3
    assert "teal" in result.answers[2]
    assert result.stderr.count("warning:") == 1
    assert "continues without memory" in result.stderr
    assert CANARY not in result.stderr + result.stdout


def test_the_console_promises_to_keep_nothing_of_who_could_not_be_asked(run, tmp_path):
    (tmp_path / "tenants.yaml").write_text("default: {consent: ask}")
    unreachable = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
    env = {"MONGODB_URI": unreachable, "LKMONGO_TENANTS": str(tmp_path / "tenants.yaml")}
    result = run("agent", "console", "--json", "--user", "u-100", input="hello\n", env=env)
    assert result.code == 0
    assert "nothing of it is kept" in result.stderr
    assert "on this machine" not in result.stderr


def test_a_misspelt_variable_is_told(run):
    result = run("users", "list", "--json", env={"LKMONGO_EMBEDDING": "local"})
    assert result.code == 0
    assert "did you mean LKMONGO_EMBEDDINGS?" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [("sessions", "export", "-O"), ("sessions", "stats", "--html")],
    ids=" ".join,
)
def test_a_link_that_was_planted_where_a_file_is_to_be_written_is_refused(run, tmp_path, arguments):
    (tmp_path / "theirs").write_text("as it was")
    (tmp_path / "out").symlink_to("theirs")
    result = run(*arguments, "out")
    assert result.code == 2
    assert "out is a symbolic link" in result.stderr
    assert (tmp_path / "theirs").read_text() == "as it was"


def test_a_seed_folder_with_a_link_is_refused_unless_it_is_to_be_followed(run, tmp_path):
    (tmp_path / "elsewhere.md").write_text("# Secret\n\nSwordfish.\n")
    (tmp_path / "mine" / "knowledge").mkdir(parents=True)
    (tmp_path / "mine" / "knowledge" / "faq.md").symlink_to("../../elsewhere.md")
    refused = run("db", "seed", "--dir", "mine")
    assert refused.code == 2
    assert "faq.md: is not read, it is a symbolic link, which only --follow-links follows" in refused.stderr
    assert run("db", "seed", "--dir", "mine", "--follow-links").code == 0
