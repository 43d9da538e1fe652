"""What the commands print: data on stdout in four formats, safe to show, and everything else on stderr."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from lkmongo.cli.output import visible
from lkmongo.store.mongo.schema import INDEXES
from tests.cli.conftest import LKMONGO

FULL = Path("/dev/full")
"""A file on a disk that is full."""

MINE = """
from livekit.agents import function_tool
from lkmongo.agent.assistant import Assistant

class Mine(Assistant):
    @function_tool
    async def check_stock(self, product: str) -> str:
        return "There are some."

    @function_tool
    async def lookup_order(self, order_id: str) -> str:
        return {}["weather"]
"""


def test_help_answers_without_the_heavy_libraries(tmp_path):
    script = (
        "import sys\n"
        "sys.argv = ['lkmongo', '--help']\n"
        "from lkmongo.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'livekit', 'voyageai', 'numpy', 'pymongo', 'aiohttp', 'wordllama'}\n"
        "heavy &= {m.split('.')[0] for m in sys.modules}\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: lkmongo" in done.stdout


def test_indexes_are_made_once(run):
    first = run("db", "indexes", "--json").json
    assert {row["action"] for row in first} == {"create"}
    assert len(first) == len(INDEXES)
    second = run("db", "indexes", "--json").json
    assert {row["action"] for row in second} == {"unchanged"}


def test_seeding_twice_changes_nothing_the_second_time(run):
    first = {row["collection"]: row for row in run("db", "seed", "--json").json}
    assert first["knowledge"]["inserted"] >= 30
    assert first["orders"]["inserted"] > 3
    second = run("db", "seed", "--json").json
    for row in second:
        assert row["inserted"] == row["updated"] == row["removed"] == row["kept"] == 0
        assert row["unchanged"] == first[row["collection"]]["inserted"]


def test_seeding_brings_nobody_back_who_was_erased_unless_it_is_said(run, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "users.yaml").write_text("- user_id: u-1\n  name: Ada\n- user_id: u-2\n  name: Bo\n")
    seed = ["db", "seed", "--dir", "shop"]
    run(*seed)
    run("users", "erase", "u-1", "--confirm", "u-1", "--by", "Sam")
    again = run(*seed, "--json")
    assert (again.json[0]["unchanged"], again.json[0]["left_out"]) == (1, 1)
    assert again.stderr.splitlines()[-1] == (
        "warning: erased from this database, so left out: u-1 in tenant default; --erased loads them as new"
    )
    assert [row["user_id"] for row in run("users", "list", "--json").json] == ["u-2"]
    assert run(*seed, "--erased", "--json").json[0]["inserted"] == 1


def test_what_goes_wrong_in_a_tool_of_ones_own_is_shown(run, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    told = run("agent", "console", input="where is my order 77?\n", env={"LKMONGO_AGENT": "mine:Mine"})
    assert told.stdout.endswith("agent> An internal error occurred.\n")
    assert "ERROR livekit.agents: exception occurred while executing tool" in told.stderr
    assert "KeyError: 'weather'" in told.stderr


def test_tools_of_ones_own_are_said_to_need_a_language_model(run, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    told = run("agent", "console", input="is the lamp in stock?\n", env={"LKMONGO_AGENT": "mine:Mine"})
    assert "The tools that Mine adds (check_stock) are not called: they need a language model." in told.stderr
    assert "check_stock" not in told.stdout
    assert "need a language model" not in run("agent", "console", input="hello\n").stderr


def test_a_worker_without_a_language_model_is_refused_unless_it_is_a_demo(run):
    livekit = {"LIVEKIT_URL": "ws://127.0.0.1:1", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32}
    refused = run("agent", "run", "--dev", env=livekit)
    assert (refused.code, refused.stdout) == (2, "")
    assert "error: there is no language model to answer callers" in refused.stderr
    assert "--demo" in refused.stderr
    assert "LKMONGO_LLM_BASE_URL" in refused.stderr
    for taken in (["--demo"], []):  # as far as LiveKit, where nobody is
        env = livekit if taken else livekit | {"LKMONGO_LLM_BASE_URL": "http://127.0.0.1:1/v1"}
        assert run("agent", "run", "--dev", *taken, env=env).code == 1


def test_forgetting_one_slot(run):
    run("agent", "console", "--user", "u", input="remember that my shoe size is 42\nremember that my city is Oslo\n")
    assert run("memory", "forget", "u", "--type", "no such thing", "--yes").code == 5
    done = run("memory", "forget", "u", "--type", "Shoe Size", "--yes", "--json").json
    assert (done["memory_types"], done["forgotten"]) == (["shoe_size"], 1)
    assert [row["memory_type"] for row in run("memory", "list", "u", "--json").json] == ["city"]


def test_the_formats(run):
    run("agent", "console", "--user", "u", input="remember that my shoe size is 42\n")
    plain = run("memory", "list", "u").stdout.splitlines()
    assert plain[0] == "memory_type\tcontent\tvalid_from\tcreated_at\tupdated_at"
    assert plain[1].startswith("shoe_size\t42\t")
    assert run("memory", "list", "u", "-o", "jsonl").events[0]["content"] == "42"
    assert run("memory", "list", "u", env={"LKMONGO_OUTPUT": "json"}).json[0]["content"] == "42"
    table = run("memory", "list", "u", "-o", "table").stdout
    assert "memory_type" in table
    assert "42" in table


HOSTILE = "[red]x[/x] :smile: \x1b[31mred\x1b[0m \u202ertl\u202c =cmd()"


@pytest.mark.parametrize("output", ["table", "plain"])
async def test_stored_text_is_shown_and_never_obeyed(run, shared_home, database_name, output):
    from lkmongo.local.mongod import EmbeddedMongod
    from lkmongo.model import UserScope
    from lkmongo.store.mongo.client import create_client
    from lkmongo.store.people.memories import Memories

    with EmbeddedMongod(shared_home) as mongod:
        async with create_client(mongod.uri) as client:
            await Memories(client[database_name]).remember(UserScope(tenant_id="default", user_id="u"), "note", HOSTILE)
    shown = run("memory", "list", "u", "-o", output, env={"COLUMNS": "250"}).stdout
    assert "[red]x[/x] :smile: \\x1b[31mred\\x1b[0m \\u202ertl\\u202c =cmd()" in " ".join(shown.split())
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert run("memory", "list", "u", "--json").json[0]["content"] == HOSTILE


def test_control_characters_are_written_out():
    assert visible("a\x1b]0;title\x07b\nc\td", one_line=True) == "a\\x1b]0;title\\x07b c d"
    assert visible("line\nnext") == "line\nnext"
    obeyed = {"Cc", "Cs", "Zl", "Zp"}  # of Unicode's categories; and of its classes, what changes direction
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    marks = {0x200E, 0x200F, 0x061C}
    for code in (each for each in range(sys.maxunicode + 1) if each != ord("\n")):
        char = chr(code)
        is_obeyed = unicodedata.category(char) in obeyed or unicodedata.bidirectional(char) in turning or code in marks
        assert is_obeyed == (visible(char) != char), hex(code)


def test_a_reader_that_has_enough_ends_the_command_quietly(start):
    with start("db", "indexes", "-o", "plain") as process:
        process.stdout.close()  # long before it writes
        told = process.stderr.read()
        assert process.wait() == 0
    assert b"Traceback" not in told
    assert b"BrokenPipe" not in told


def is_told(code, stderr):
    assert code == 1
    assert stderr.startswith("error: standard output ")
    assert stderr.splitlines()[-1].startswith("  try: ")
    assert len(stderr.splitlines()) <= 3


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", ["--help", "db retention -o table"])
def test_standard_output_that_takes_nothing_is_told(run, words):
    done = run(*words.split(), stdout=FULL)
    is_told(done.code, done.stderr)


def test_standard_output_that_is_closed_is_told(cli_env, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"'{LKMONGO}' db retention >&-"],
        capture_output=True,
        text=True,
        env=cli_env,
        cwd=tmp_path,
        check=False,
    )
    is_told(done.returncode, done.stderr)


def test_python_m_lkmongo_is_lkmongo(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lkmongo", "--version"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.startswith("lkmongo ")
