"""`lkmongo sessions` as operators run it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pexpect
import pytest

from lkmongo.model import now
from lkmongo.store.mongo.extended_json import loads
from tests.cli.conftest import LKMONGO
from tests.local_support import until
from tests.session_documents import said, session, used

HOSTILE = "[red]x[/x] :smile: \x1b[31mred\x1b[0m \x9b31m \u202ertl\u202c <script>alert(1)</script> =cmd()"
RECENT = now() - timedelta(hours=1)

Write = Callable[..., Awaitable[None]]


@pytest.fixture
def write(shared_home, database_name) -> Write:
    """Write sessions and turns as they are given."""
    from lkmongo.local.mongod import EmbeddedMongod
    from lkmongo.store.mongo.client import create_client

    async def insert(sessions: list[dict[str, Any]], turns: list[dict[str, Any]]) -> None:
        with EmbeddedMongod(shared_home) as mongod:
            async with create_client(mongod.uri) as client:
                await client[database_name].sessions.insert_many(sessions)
                if turns:
                    await client[database_name].turns.insert_many(turns)

    return insert


@pytest.fixture
async def two_calls(write) -> None:
    """A call with something slow and something that failed, and one that was cut off, of another person."""
    good = session("call-1", started_at=RECENT, ended_at=RECENT + timedelta(seconds=125))
    bad = session("call-2", user="v", started_at=RECENT + timedelta(seconds=300), ended_at=None, status="interrupted")
    await write(
        [good, bad],
        [
            said(0, "Hello.", of=good, role="assistant", metrics={"e2e_latency": 0.75, "llm_node_ttft": 0.5}),
            said(4, "where is my order", of=good, metrics={"transcription_delay": 0.2}),
            used(5, "lookup_order", of=good, is_error=True, output="no such order"),
            said(9, "I cannot find it.", of=good, role="assistant", metrics={"e2e_latency": 2.5}, interrupted=True),
            said(30, "anybody there?", of=bad),
        ],
    )


def test_a_conversation_is_listed_shown_searched_counted_and_exported(run):
    run("agent", "console", "--user", "u", input="remember that my car is red\nhow are you\n")
    (call,) = run("sessions", "list", "--json").json
    assert (call["user_id"], call["status"], call["close_reason"]) == ("u", "complete", "hang-up")
    shown = run("sessions", "show", call["session_id"])
    assert shown.code == 0
    assert re.search(r"0:0\d  caller  remember that my car is red", shown.stdout)
    assert "tool    remember_detail" in shown.stdout
    assert "model's first word" in shown.stdout
    told = run("sessions", "show", call["session_id"], "--json").json
    assert len(told["turns"]) == call["turns"]
    (found, *_) = run("sessions", "search", "CAR is", "--json").json
    assert found["session_id"] == call["session_id"]
    assert found["text"][found["start"] : found["end"]].lower() == "car is"
    counted = run("sessions", "stats", "--json").json
    assert (counted["calls"], counted["turns"], counted["tools"][0]["name"]) == (1, call["turns"], "remember_detail")
    (line,) = run("sessions", "export").stdout.splitlines()
    assert [turn["content"] for turn in loads(line)["turns"] if turn.get("role") == "user"] == [
        "remember that my car is red",
        "how are you",
    ]


def test_the_list(run, two_calls):
    plain = run("sessions", "list").stdout.splitlines()
    assert plain[0] == "session_id\tuser_id\tstatus\tstarted_at\tlength\tturns\tfailed\tslowest"
    rows = [line.split("\t") for line in plain[1:]]
    assert [(row[0], row[2], *row[4:8]) for row in rows] == [
        ("call-2", "interrupted", "0:30", "1", "0", ""),
        ("call-1", "complete", "2:05", "4", "1", "2.50 s"),
    ]
    only = run("sessions", "list", "--limit", "1")
    assert len(only.stdout.splitlines()) == 2
    assert "showing the newest 1 of 2" in only.stderr
    for narrowed in (
        ["--user", "u"],
        ["--status", "complete"],
        ["--min-length", "2m"],
        ["--since", "1d", "--user", "u"],
    ):
        assert [call["session_id"] for call in run("sessions", "list", "--json", *narrowed).json] == ["call-1"]
    assert run("sessions", "list", "--until", "2020-01-01", "--json").json == []
    assert run("sessions", "list", "--tenant", "acme").stderr == "There are no such sessions\n"
    assert len(run("sessions", "list", "--all-tenants", "-o", "jsonl").events) == 2


def test_the_transcript_tells_what_was_slow(run, two_calls):
    shown = run("sessions", "show", "call-1").stdout
    assert "slow (≥ 1.5 s)  0:09 answer to speech 2.50 s\n" in shown
    assert "turns           4, 1 failed\n" in shown
    assert '0:05  tool    lookup_order {"a": 1} -> no such order\n              [failed, tool 0.25 s]' in shown
    assert "[cut off, answer to speech 2.50 s (slow)]" in shown
    assert (
        "slow (≥ 0.1 s)  0:00 answer to speech 0.75 s; 0:00 model's first word 0.50 s; 0:04"
        in run("sessions", "show", "call-1", "--slow", "0.1").stdout
    )
    told = run("sessions", "show", "call-1", "--json").json
    assert [turn["slow"] for turn in told["turns"]] == [[], [], [], ["answer to speech 2.50 s"]]
    assert [turn["offset_seconds"] for turn in told["turns"]] == [0, 4, 5, 9]
    assert told["length_seconds"] == 125


def test_the_statistics(run, two_calls):
    counted = run("sessions", "stats", "--json").json
    assert (counted["calls"], counted["minutes"], counted["turns"], counted["tool_calls"]) == (2, 2.6, 5, 1)
    assert counted["answers"] == {"count": 2, "p50": 0.75, "p95": 2.5}
    assert counted["failures"]["interrupted_calls"] == counted["failures"]["tool_errors"] == 1
    assert sum(day["calls"] for day in counted["days"]) == 2
    table = run("sessions", "stats", "-o", "table").stdout
    assert "2 sessions, 3 minutes, 5 turns, 1 tool call, answers to speech after 0.75 s (p50) and 2.50 s (p95)" in table
    assert "████████████" in table
    assert re.search(r"lookup_order +1 +█+ +1", table)
    assert "tool errors" in table
    lines = run("sessions", "stats").stdout.splitlines()
    assert lines[0].startswith("day\tcalls\tminutes\t")
    past = run("sessions", "stats", "--until", "2020-03-01", "--json").json
    assert (past["since"][:10], past["calls"]) == ("2020-01-31", 0)
    assert lines[-1].startswith("total\t2\t2.6\t5\t1\t0.75\t2.5\t1\t0\t1\t")


async def test_the_statistics_tell_answers_to_typing_from_answers_to_speech(run, write):
    call = session("both", started_at=RECENT, ended_at=RECENT + timedelta(minutes=3))
    typed = [{"typed_latency": wait, "llm_node_ttft": 0.013} for wait in (0.5, 2.0, 5.0)]
    spoken = [{"e2e_latency": wait, "llm_node_ttft": 0.013} for wait in (1.25, 1.5)]
    metrics = [{"llm_node_ttft": 0.013}, *typed, *spoken]
    turns = [said(seq, "x", of=call, role="assistant", metrics=each) for seq, each in enumerate(metrics)]
    missed = session("missed", started_at=RECENT, status="no agent", close_reason="no agent", agent="our-agent")
    await write([call, missed], turns)
    counted = run("sessions", "stats", "--json").json
    assert counted["typed"] == counted["days"][0]["typed"] == {"count": 3, "p50": 2.0, "p95": 5.0}
    assert counted["spoken"] == {"count": 2, "p50": 1.25, "p95": 1.5}
    assert counted["answers"] == {"count": 5, "p50": 1.5, "p95": 5.0}
    assert counted["first_words"] == {"count": 1, "p50": 0.013, "p95": 0.013}
    assert (counted["calls"], counted["failures"]["calls_without_agent"]) == (1, 1)
    head, *_, total = (line.split("\t") for line in run("sessions", "stats").stdout.splitlines())
    plain = dict(zip(head, total, strict=True))
    waits = ("typed_p50", "typed_p95", "spoken_p50", "spoken_p95", "answer_p50", "answer_p95")
    assert [plain[name] for name in waits] == ["2.0", "5.0", "1.25", "1.5", "1.5", "5.0"]
    table = run("sessions", "stats", "-o", "table", env={"COLUMNS": "80"}).stdout
    assert "answers to typing after 2.00 s (p50) and 5.00 s (p95)" in table
    assert "answers to speech after 1.25 s (p50) and 1.50 s (p95)" in table
    assert re.search(r"answer to typing +3 +2.00 s +5.00 s", table)
    assert re.search(r"callers to whom no agent came +1", table)
    day = f"{RECENT:%Y-%m-%d}"
    one_line = rf"^{day} +1 +█+ +3 +6 +2.00 s +5.00 s +1.25 s +1.50 s +0 +1$"
    assert re.search(one_line, table, re.MULTILINE), table
    page = run("sessions", "stats", "--html", "-").stdout
    for what in ("typing", "speech"):
        assert f"How long callers waited for an answer to {what}" in page
    shown = run("sessions", "show", "missed").stdout
    assert re.search(r"^  status +no agent$", shown, re.MULTILINE)
    assert re.search(r"^  waited for +our-agent$", shown, re.MULTILINE)
    assert [each["session_id"] for each in run("sessions", "list", "--status", "no agent", "--json").json] == ["missed"]


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_stands_alone_and_what_is_stored_is_no_markup(run, write, tmp_path):
    call = session("s", started_at=RECENT)
    await write([call], [used(0, HOSTILE, of=call, is_error=True), said(1, "x", of=call, metrics={"e2e_latency": 1.5})])
    done = run("sessions", "stats", "--html", "stats.html")
    assert (done.code, done.stderr) == (0, "wrote stats.html\n")
    html = (tmp_path / "stats.html").read_text()
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "a", "form"}
    assert not re.search(r"(?:https?:)?//|@import|url\(", html)
    assert "default-src 'none'" in html
    assert not {"\x1b", "\x9b", "\u202e"} & set(html)
    assert "<script>alert(1)</script>" in page.text.replace("\\", "")
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 4
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert {"h1", "h2", "figure", "details", "table", "th", "main"} <= tags
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert "prefers-color-scheme: dark" in html


def test_a_page_may_go_to_standard_output(run, tmp_path):
    done = run("sessions", "stats", "--html", "-")
    assert done.code == 0
    assert done.stdout.startswith("<!doctype html>")
    assert list(tmp_path.glob("-*")) == []
    assert run("sessions", "stats", "--html", "-", "--json").code == 2


def test_a_page_of_nothing_says_so(run, tmp_path):
    assert run("sessions", "stats", "--html", "stats.html").code == 0
    assert "There were no sessions" in Page((tmp_path / "stats.html").read_text()).text


@pytest.mark.parametrize("output", ["table", "plain"])
async def test_stored_text_is_shown_and_never_obeyed(run, write, output):
    call = session("s", started_at=RECENT, room_name=HOSTILE, close_reason=HOSTILE, status=HOSTILE)
    await write([call], [said(0, HOSTILE, of=call), used(1, HOSTILE, of=call, output=HOSTILE)])
    shown = "[red]x[/x] :smile: \\x1b[31mred\\x1b[0m \\x9b31m \\u202ertl\\u202c"
    for arguments in (["list"], ["show", "s"], ["search", "smile"], ["stats"]):
        result = run("sessions", *arguments, "-o", output, env={"COLUMNS": "400"})
        assert result.code == 0
        assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(result.stdout)
        if arguments[0] in {"list", "show"}:
            assert shown in result.stdout
    assert run("sessions", "show", "s", "--json").json["turns"][0]["content"] == HOSTILE


async def test_what_a_caller_wanted_beyond_their_limits_is_counted(run, write):
    refused = {"messages": 1_970, "slots": 2, "unknown": 1, "bytes": "\x1b[31m"}
    await write([session("s", started_at=RECENT, close_reason="time limit", report={"limits": refused})], [])
    shown = run("sessions", "show", "s").stdout
    assert re.search("refused +1,970 by the limit of messages, 2 by the limit of slots\n", shown)
    assert "time limit" in shown
    assert run("sessions", "show", "s", "--json").json["refused"] == {"messages": 1_970, "slots": 2}


@pytest.mark.parametrize(
    ("phone", "words"),
    [
        ({"level": "named", "number": "…56"}, "…56, named"),
        ({"level": "guest", "number": "…56", "denied": True}, "…56, guest, they are not whom the number stands for"),
        ({"level": "guest", "direction": "outbound", "outcome": "busy", "x": 1}, "guest, outbound, busy"),
    ],
)
async def test_how_sure_it_was_who_telephoned_is_shown(run, write, phone, words):
    await write([session("s", started_at=RECENT, report={"phone": phone})], [])
    assert re.search(f"telephone +{words}\n", run("sessions", "show", "s").stdout)
    assert run("sessions", "show", "s", "--json").json["phone"] == phone


@pytest.mark.parametrize(
    ("speech", "words"),
    [
        ({"models": "ears", "endpointing": [0.3, 1.5]}, "ears; turns end after 0.3 to 1.5 s"),
        ({"models": "ears", "endpointing": ["soon"]}, "ears"),
        ({"models": "ears"}, "ears"),
    ],
)
async def test_who_heard_and_spoke_and_how_patiently_is_shown(run, write, speech, words):
    await write([session("s", started_at=RECENT, report={"speech": speech})], [])
    assert re.search(f"speech +{words}\n", run("sessions", "show", "s").stdout)
    assert run("sessions", "show", "s", "--json").json["speech"] == speech


@pytest.mark.parametrize("output", ["json", "jsonl"])
async def test_json_holds_it_exactly_and_no_terminal_obeys_it(run, write, tmp_path, output):
    call = session("s", started_at=RECENT, room_name=HOSTILE, close_reason=HOSTILE, status=HOSTILE)
    await write([call], [said(0, HOSTILE, of=call)])
    for arguments in (["list"], ["show", "s"], ["search", "smile"]):
        result = run("sessions", *arguments, "-o", output)
        assert result.code == 0
        assert "\\u202ertl" in result.stdout
        assert not {"\x1b", "\x9b", "\u202e"} & set(result.stdout)
    assert run("sessions", "export", "-O", "calls.jsonl").code == 0
    for written in ((tmp_path / "calls.jsonl").read_text(), run("sessions", "export").stdout):
        assert not {"\x1b", "\x9b", "\u202e"} & set(written)
        assert loads(written)["turns"][0]["content"] == HOSTILE


@pytest.mark.usefixtures("two_calls")
def test_who_made_no_such_calls_is_told_from_nobody_of_that_id(run, tmp_path):
    for arguments in (["list"], ["stats"], ["search", "lamp"], ["export"]):
        known = run("sessions", *arguments, "--user", "v", "--until", "2d")
        assert known.code == 0
        for where, place in ((["--tenant", "acme"], "tenant acme"), (["--all-tenants"], "any tenant")):
            nobody = run("sessions", *arguments, "--user", "w", *where)
            assert (nobody.code, nobody.stdout) == (5, "")
            assert f"nothing is stored about w in {place}" in nobody.stderr
    assert run("sessions", "export", "--user", "w", "-O", "calls.csv").code == 5
    assert not (tmp_path / "calls.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "nobody"], 5, "there is no session nobody in tenant default"),
        (["show", "call-1", "--tenant", "acme"], 5, "there is no session call-1 in tenant acme"),
        (["list", "--since", "soon"], 2, "'soon' is not a time"),
        (["list", "--since", "1d", "--until", "2d"], 2, "is not before"),
        (["list", "--min-length", "long"], 2, "'long' is not a duration"),
        (["list", "--tenant", "a", "--all-tenants"], 2, "contradict each other"),
        (["list", "--user", "a\x1bb"], 2, "control character"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--status", "lost"], 2, "--status"),
        (["search", ""], 2, "the text is empty"),
        (["export", "--after", "x"], 2, "is not where an export ended"),
        (["export", "--format", "csv", "--with-embeddings"], 2, "no place for embeddings"),
        (["export", "-O", "no/such/file"], 2, "there is no folder no/such"),
        (["export", "-O", "."], 2, ". is a folder"),
        (["export", "-O", "calls.csv.gz"], 2, "lkmongo sessions export --format csv | gzip > calls.csv.gz"),
        (["stats", "--html", "no/such/file"], 2, "there is no folder no/such"),
    ],
)
def test_what_is_wrong_is_said(run, two_calls, arguments, code, says):
    result = run("sessions", *arguments)
    assert result.code == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert not {"\x1b"} & set(result.stderr)


# Export


def test_an_export_to_a_file(run, two_calls, tmp_path):
    done = run("sessions", "export", "-O", "calls.jsonl")
    assert done.stdout.startswith("exported 2 sessions with 5 turns (")
    assert done.stderr == ""
    lines = (tmp_path / "calls.jsonl").read_bytes().splitlines()
    assert [loads(line)["session_id"] for line in lines] == ["call-1", "call-2"]
    told = run("sessions", "export", "-O", "calls.jsonl", "--json", "--user", "v").json
    assert (told["calls"], told["turns"], told["file"]) == (1, 1, "calls.jsonl")
    assert told["bytes"] == (tmp_path / "calls.jsonl").stat().st_size
    assert run("sessions", "export", "-O", "calls.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "calls.csv").read_text(), newline="")))
    assert [row["session_id"] for row in rows] == ["call-1"] * 4 + ["call-2"]
    assert run("sessions", "export", "-O", "calls.md").code == 0
    assert (tmp_path / "calls.md").read_text().startswith("## Session call-1\n")
    assert sorted(path.name for path in tmp_path.glob("*calls*")) == ["calls.csv", "calls.jsonl", "calls.md"]


async def test_the_command_that_it_prints_goes_on_where_it_ended(run, two_calls, write):
    first = run("sessions", "export", "--user", "u", "--since", "2d")
    assert len(first.stdout.splitlines()) == 1
    command = shlex.split(re.search(r"later sessions: (.*)", first.stderr)[1])
    assert command[:3] == ["lkmongo", "sessions", "export"]
    await write([session("later", started_at=now()), session("not hers", user="w", started_at=now())], [])
    again = run(*command[1:])
    assert [loads(line)["session_id"] for line in again.stdout.splitlines()] == ["later"]


def test_parquet(run, two_calls, tmp_path):
    from pyarrow import parquet

    assert run("sessions", "export", "-O", "calls.parquet").code == 0
    table = parquet.read_table(tmp_path / "calls.parquet")
    assert table.column("content").to_pylist()[1] == "where is my order"


def test_parquet_without_pyarrow_says_what_to_install(cli_env, tmp_path):
    script = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "sys.argv = ['lkmongo', 'sessions', 'export', '-O', 'calls.parquet']\n"
        "from lkmongo.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=cli_env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'pip install "lkmongo[parquet]"' in done.stderr
    assert list(tmp_path.glob("*calls*")) == []


@pytest.fixture
async def many_calls(write) -> int:
    """Enough to fill any pipe many times over."""
    calls = [session(f"s-{number}", started_at=RECENT) for number in range(1_500)]
    await write(calls, [said(0, "word " * 100, of=call) for call in calls])
    return len(calls)


def test_a_reader_that_has_enough_ends_it_quietly(cli_env, tmp_path, many_calls):
    script = f"'{LKMONGO}' sessions export | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, env=cli_env, cwd=tmp_path, check=True)
    line, code = done.stdout.splitlines()
    assert loads(line)["session_id"] == "s-0"
    assert (code, done.stderr) == (b"0", b"")


def test_a_full_disk_leaves_no_half_file(cli_env, tmp_path, many_calls):
    (tmp_path / "calls.jsonl").write_text("the one before")
    done = subprocess.run(
        [LKMONGO, "sessions", "export", "-O", "calls.jsonl"],
        env=cli_env,
        cwd=tmp_path,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 1
    assert b"calls.jsonl cannot be written" in done.stderr
    assert b"nothing was written to calls.jsonl" in done.stderr
    assert (tmp_path / "calls.jsonl").read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir() if "calls" in path.name] == ["calls.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_standard_output_that_is_full_is_an_error(run, many_calls):
    done = run("sessions", "export", stdout=Path("/dev/full"))
    assert done.code == 1
    assert "standard output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_an_interruption_says_how_to_go_on(run, start, many_calls, number, code):
    process = start("sessions", "export")
    out = b""
    while len(out) < 300_000:  # then it goes on writing, and waits for a reader who has stopped
        out += process.stdout.read(4_096)
    time.sleep(0.5)
    process.send_signal(number)
    rest, stderr = process.communicate()
    assert process.returncode == code
    last = re.search(rb"complete up to the session whose _id is (\w+)", stderr)[1].decode()
    *lines, _ = (out + rest).split(b"\n")  # the last may not be whole
    ids = [str(loads(line)["_id"]) for line in lines]
    whole = ids[: ids.index(last) + 1]
    command = shlex.split(re.search(rb"to continue from there: (.*)", stderr)[1].decode())
    others = [str(loads(line)["_id"]) for line in run(*command[1:]).stdout.splitlines()]
    assert whole
    assert len(set(whole + others)) == len(whole) + len(others) == many_calls


def test_an_interruption_leaves_no_file_and_the_database_as_it_was(run, start, tmp_path, many_calls):
    before = run("sessions", "export").stdout
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start("sessions", "export", "-O", "calls.jsonl")
        until(lambda: list(tmp_path.glob(".calls.jsonl.*.part")))
        process.send_signal(number)
        _, stderr = process.communicate()
        assert process.returncode in {130, 143}
        assert b"nothing was written to calls.jsonl" in stderr
        assert [path.name for path in tmp_path.iterdir() if "calls" in path.name] == []
    assert run("sessions", "export").stdout == before


async def test_on_a_terminal_it_is_still_exact_and_still_safe(at_terminal, write):
    call = session("s", started_at=RECENT, room_name=HOSTILE)
    await write([call], [])
    for arguments in (["export"], ["show", "s"], ["list"], ["stats"], ["export", "--format", "csv"]):
        child = at_terminal("sessions", *arguments, env={"COLUMNS": ""}, size=(50, 2_000))
        output = child.read()
        child.close()
        assert child.exitstatus == 0
        safe = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)  # Rich's own bold and cursor
        assert "\x1b" not in safe.replace("\x1b[1m", "")
        assert not {"\x9b", "\u202e"} & set(output)
        assert "\x1b[31m" not in output
        if arguments == ["export"]:
            assert loads(output.splitlines()[0])["room_name"] == HOSTILE


def test_progress_is_for_a_terminal_alone(run, cli_env, tmp_path, many_calls):
    assert run("sessions", "export", "-O", "calls.jsonl").stderr == ""
    child = pexpect.spawn(
        "bash",
        ["-c", f"'{LKMONGO}' sessions export -O calls.jsonl > out.txt"],
        env=cli_env | {"TERM": "xterm"},
        cwd=str(tmp_path),
    )
    assert b"documents a second" in child.read()
    child.close()
    assert "exported 1,500 sessions" in (tmp_path / "out.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_stays_small_whatever_the_calls(cli_env, tmp_path, write):
    large = session("large", started_at=RECENT)
    small = [session(f"s-{number}", started_at=RECENT) for number in range(200)]
    for start_at in range(0, 3_000, 500):  # one call of 3,000 turns of 10 KB
        turns = [said(seq, f"{seq:05} ".ljust(10_000, "x"), of=large) for seq in range(start_at, start_at + 500)]
        await write([large] if not start_at else small[start_at // 20 :][:25], turns)
    script = (
        "import runpy, sys\nsys.argv = ['lkmongo', 'sessions', 'export', '-O', 'calls.jsonl']\n"
        "try:\n    runpy.run_module('lkmongo', run_name='__main__')\nfinally:\n"
        "    print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        env=cli_env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stderr)[1]) / 1_024
    assert (tmp_path / "calls.jsonl").stat().st_size > 30_000_000
    first = json.loads((tmp_path / "calls.jsonl").read_text().split("\n", 1)[0])
    assert [turn["seq"] for turn in first["turns"]] == list(range(3_000))
    assert peak < 200


def about(text: str, at: Any, **fields: Any) -> dict[str, Any]:
    """The summary of a session, as it is stored."""
    return {"summary": {"text": text, "at": at, "topics": ["lamp"], "commitments": [], "by": "model"} | fields}


async def test_sessions_are_found_by_what_they_were_about(run, write):
    promise = {"id": "a1", "text": "send a lamp", "by": "assistant", "made_at": RECENT}
    vector = b"\x27\x00" + bytes(1024)
    long_ago = RECENT - timedelta(days=90)
    await write(
        [
            session("lamp", started_at=RECENT, **about("They ordered a lamp.", RECENT, commitments=[promise])),
            session("oak", started_at=long_ago, **about("How to oil an oak table.", long_ago, embedding=vector)),
            session("other", user="v", started_at=RECENT, **about("A lamp, too.", RECENT)),
            session("old", started_at=RECENT),
        ],
        [],
    )
    found = run("sessions", "search", "the lamp that was ordered", "--meaning", "--user", "u", "--json").json
    assert (found[0]["session_id"], found[0]["summary"]) == ("lamp", "They ordered a lamp.")
    assert (found[0]["topics"], found[0]["open"]) == ("lamp", "send a lamp")
    month = long_ago.astimezone().strftime("%B %Y")
    (found,) = run("sessions", "search", f"what was it about in {month}", "--meaning", "--user", "u", "--json").json
    assert found["session_id"] == "oak"
    refused = run("sessions", "search", "lamp", "--meaning")
    assert (refused.code, "--user" in refused.stderr) == (2, True)
    assert run("sessions", "search", "lamp", "--meaning", "--user", "nobody").code == 5
    shown = run("sessions", "show", "lamp", "--json").json
    assert (shown["summary"], shown["topics"]) == ("They ordered a lamp.", ["lamp"])
    assert [each["text"] for each in shown["commitments"]] == ["send a lamp"]
    assert "send a lamp" in run("sessions", "show", "lamp").stdout
    assert {each["session_id"]: each["summary"] for each in run("sessions", "list", "--user", "u", "--json").json} == {
        "lamp": "They ordered a lamp.",
        "oak": "How to oil an oak table.",
        "old": None,
    }
    assert "embedding" not in run("sessions", "export", "--user", "u").stdout
