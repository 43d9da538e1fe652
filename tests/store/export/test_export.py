"""An export: whole calls, exact, each once, whatever their size and whoever's they are."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.int64 import Int64
from bson.objectid import ObjectId

from lkmongo.cli.output import visible
from lkmongo.errors import DatabaseUnavailableError, UsageError
from lkmongo.model import SessionStatus
from lkmongo.store.export import export as export_module
from lkmongo.store.export import writers
from lkmongo.store.export.export import Export, Sink, parse_after
from lkmongo.store.export.writers import COLUMNS, CsvWriter, JsonlWriter, MarkdownWriter, ParquetWriter
from lkmongo.store.mongo.client import create_client
from lkmongo.store.mongo.extended_json import loads
from lkmongo.store.sessions.listing import SessionFilter
from tests.session_documents import BEGAN, said, session, used

HOSTILE = "[red]x[/red] :smile: \x1b[31mred\x1b[0m \x9b31m \u202ertl\u202c <img src=x onerror=y> ![a](http://b) `c` *d*"


def to(take: Callable[[bytes], object]) -> Sink:
    """A sink that hands over what is flushed."""

    async def write(data: bytes) -> None:
        take(data)

    return Sink(write)


async def run(db, writer=JsonlWriter, wanted=None, **options) -> bytes:
    parts: list[bytes] = []
    sink = to(parts.append)
    await Export(db, wanted or SessionFilter(), **options).run(writer(sink), sink)
    assert sink.size == sum(map(len, parts))
    return b"".join(parts)


async def exported(db, **options) -> list[dict[str, Any]]:
    return [loads(line) for line in (await run(db, **options)).splitlines()]


async def fill(db, calls: int, *, seed: int = 1, most: int = 12, tenants: int = 2) -> list[dict[str, Any]]:
    """Calls of all sizes, their turns stored in any order; returns them as they should be exported."""
    rng = random.Random(seed)
    whole, turns = [], []
    for number in range(calls):
        call = session(f"s-{rng.randrange(10**6)}-{number}", user=f"u-{number % 5}", tenant=f"t-{number % tenants}")
        call["_id"] = ObjectId()
        own = [
            said(seq, "x" * rng.randrange(300), of=call, metrics={"e2e_latency": rng.random()}) | {"_id": ObjectId()}
            for seq in range(rng.choice([0, 1, rng.randrange(most), rng.randrange(most)]))
        ]
        whole.append(call | {"turns": own})
        turns += own
    rng.shuffle(turns)
    await db.sessions.insert_many([{k: v for k, v in call.items() if k != "turns"} for call in whole])
    if turns:
        await db.turns.insert_many(turns)
    return whole


async def test_a_line_is_a_whole_call_and_every_type_comes_back(store):
    call = session(
        report={"n": Int64(5), "big": 2**60, "nan": float("nan"), "none": None, "list": [1, 2.0, {"at": BEGAN}]},
        extra=Binary(b"\x00\x01", 5),
    )
    turns = [said(1, HOSTILE, of=call), used(2, "lookup_order", of=call), said(0, "first", of=call)]
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_many(turns)
    lines = (await run(store.db)).splitlines()
    assert len(lines) == 1
    line = loads(lines[0])
    in_line = line.pop("turns")
    assert bson.encode(line) == bson.encode(await store.db.sessions.find_one())
    stored = await store.db.turns.find().sort("seq").to_list()
    assert [bson.encode(turn) for turn in in_line] == [bson.encode(turn) for turn in stored]
    assert [turn["seq"] for turn in in_line] == [0, 1, 2]


LIMITS = [
    {},
    {"_HELD": 500, "_WANTED": 300, "_TURNS_A_REPLY": 3, "_SESSIONS_A_REPLY": 7},
    {"_HELD": 5_000, "_WANTED": 50_000, "_SESSIONS_A_REPLY": 5},
    {"_HELD": 2**22, "_WANTED": 1, "_TURNS_A_REPLY_OF_ONE": 2},
    {"_FLUSH": 1, "_FLUSH_WITHIN_A_SESSION": 100},
]


@pytest.mark.parametrize("limits", LIMITS, ids=["usual", "held", "halved", "one by one", "torn"])
async def test_however_much_is_read_at_once_the_export_is_the_same(store, monkeypatch, limits):
    whole = await fill(store.db, 120)
    for name, value in limits.items():
        monkeypatch.setattr(export_module, name, value)
    assert await exported(store.db, wanted=SessionFilter(None)) == whole


async def test_a_call_that_is_larger_than_memory_should_hold_is_written_in_parts(store, monkeypatch):
    monkeypatch.setattr(export_module, "_HELD", 10_000)
    monkeypatch.setattr(export_module, "_FLUSH_WITHIN_A_SESSION", 20_000)
    monkeypatch.setattr(export_module, "_TURNS_A_REPLY_OF_ONE", 10)
    large, small = session("large"), session("small")
    await store.db.sessions.insert_many([large, small])
    await store.db.turns.insert_many([said(seq, "y" * 1_000, of=large) for seq in range(300)])
    await store.db.turns.insert_one(said(0, "z", of=small))
    monkeypatch.setattr(export_module, "_TURNS_AT_ONCE", 7)
    sizes: list[int] = []
    sink = to(lambda data: sizes.append(len(data)))
    await Export(store.db, SessionFilter()).run(JsonlWriter(sink), sink)
    assert len(sizes) > 10
    assert max(sizes) < 35_000
    lines = await exported(store.db)
    assert [len(line["turns"]) for line in lines] == [300, 1]


async def test_calls_of_the_same_id_keep_their_own_turns(store):
    alike = [session("same", user=user, tenant=tenant) for user in ("u", "v") for tenant in ("a", "b")]
    await store.db.sessions.insert_many(alike)
    for call in alike:
        await store.db.turns.insert_one(said(0, f"{call['user_id']} of {call['tenant_id']}", of=call))
    for line in await exported(store.db, wanted=SessionFilter(None)):
        assert [turn["content"] for turn in line["turns"]] == [f"{line['user_id']} of {line['tenant_id']}"]
    assert {line["user_id"] for line in await exported(store.db, wanted=SessionFilter("a"))} == {"u", "v"}
    assert {line["tenant_id"] for line in await exported(store.db, wanted=SessionFilter("a"))} == {"a"}


async def test_an_export_is_narrowed_as_a_list_is(store):
    await store.db.sessions.insert_many(
        [
            session("early", started_at=BEGAN - timedelta(days=1)),
            session("hers", user="v"),
            session("cut off", status="interrupted"),
            session("elsewhere", tenant="acme"),
        ]
    )

    async def ids(**wanted: Any) -> list[str]:
        return [line["session_id"] for line in await exported(store.db, wanted=SessionFilter(**wanted))]

    assert await ids() == ["early", "hers", "cut off"]
    assert await ids(user_id="v") == ["hers"]
    assert await ids(since=BEGAN, until=BEGAN + timedelta(seconds=1)) == ["hers", "cut off"]
    assert await ids(status=SessionStatus.INTERRUPTED) == ["cut off"]
    assert await ids(tenant_id="acme") == ["elsewhere"]


async def test_going_on_after_any_call_gives_exactly_the_rest(store):
    whole = await fill(store.db, 30)
    for place in (0, 7, 29):
        after = parse_after(str(whole[place]["_id"]))
        assert await exported(store.db, wanted=SessionFilter(None), after=after) == whole[place + 1 :]
    with pytest.raises(UsageError, match="is not where an export ended"):
        parse_after("s-1")


async def test_where_a_broken_export_went_on_nothing_is_missing_or_twice(store, monkeypatch):
    """What came out up to the last call that is known to be out, and what comes after it, are the whole."""
    whole = await fill(store.db, 60)
    monkeypatch.setattr(export_module, "_FLUSH", 2_000)
    complete = await run(store.db, wanted=SessionFilter(None))
    out: list[bytes] = []

    def write(data: bytes) -> None:
        if sum(map(len, out)) > len(complete) // 2:
            raise OSError("the other end is gone")
        out.append(data)

    work = Export(store.db, SessionFilter(None))
    sink = to(write)
    with pytest.raises(OSError, match="the other end"):
        await work.run(JsonlWriter(sink), sink)
    assert whole[0]["_id"] < work.done.last_id < whole[-1]["_id"]
    rest = await run(store.db, wanted=SessionFilter(None), after=work.done.last_id)
    assert b"".join(out) + rest == complete


async def test_done_says_where_it_ended(store):
    whole = await fill(store.db, 9)
    sink = to(len)
    work = Export(store.db, SessionFilter(None))
    await work.run(JsonlWriter(sink), sink)
    assert (work.done.sessions, work.done.last_id) == (9, whole[-1]["_id"])
    assert work.done.turns == sum(len(call["turns"]) for call in whole)
    again = Export(store.db, SessionFilter(None), after=work.done.last_id)
    await again.run(JsonlWriter(to(len)), to(len))
    assert (again.done.sessions, again.done.last_id) == (0, whole[-1]["_id"])


async def test_a_cursor_that_the_server_has_dropped_is_opened_again(store, monkeypatch):
    """As it is when whoever reads the output takes more than ten minutes over it."""
    whole = await fill(store.db, 80)
    monkeypatch.setattr(export_module, "_SESSIONS_A_REPLY", 10)
    monkeypatch.setattr(export_module, "_WANTED", 1)
    killed = 0
    parts: list[bytes] = []
    sink = to(parts.append)
    work = Export(store.db, SessionFilter(None))
    work._group = 1
    real = work._write

    async def write(*arguments: Any) -> None:
        nonlocal killed
        if work.done.sessions in {22, 44}:
            idle = await store.db.client.admin.aggregate(
                [
                    {"$currentOp": {"idleCursors": True}},
                    {"$match": {"type": "idleCursor", "ns": store.db.sessions.full_name}},
                ]
            )
            cursors = [operation["cursor"]["cursorId"] async for operation in idle]
            killed += len((await store.db.command("killCursors", "sessions", cursors=cursors))["cursorsKilled"])
        await real(*arguments)

    monkeypatch.setattr(work, "_write", write)
    await work.run(JsonlWriter(sink), sink)
    assert killed == 2
    assert [loads(line) for line in b"".join(parts).splitlines()] == whole


async def test_embeddings_are_left_out_unless_asked_for(store):
    vector = Binary.from_vector([0.5, 0.25], bson.binary.BinaryVectorDtype.FLOAT32)
    call = session(embedding=vector)
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, "x", of=call, embedding=vector))
    (line,) = await exported(store.db)
    assert "embedding" not in line
    assert "embedding" not in line["turns"][0]
    (line,) = await exported(store.db, with_embeddings=True)
    assert line["embedding"] == line["turns"][0]["embedding"] == vector


async def test_nothing_is_written_to_the_database(store):
    await fill(store.db, 20)
    before = (await store.db.command("dbHash"))["md5"]
    await run(store.db, wanted=SessionFilter(None))
    assert (await store.db.command("dbHash"))["md5"] == before


async def test_a_database_that_is_away_is_told_as_such():
    async with create_client("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100") as client:
        with pytest.raises(DatabaseUnavailableError):
            await run(client["x"])


# The other formats


def as_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def csv_writer(sink: Sink) -> CsvWriter:
    return CsvWriter(sink, visible)


def markdown_writer(sink: Sink) -> MarkdownWriter:
    return MarkdownWriter(sink, visible)


async def test_csv_has_a_row_a_turn_and_one_for_a_call_without(store):
    call, silent = session("a"), session("b", ended_at=None)
    await store.db.sessions.insert_many([call, silent])
    await store.db.turns.insert_many(
        [
            said(0, 'a, "b"\nc', of=call, metrics={"e2e_latency": 1.25, "extra": 1}),
            used(1, "t", of=call, is_error=True),
        ]
    )
    rows = as_csv(await run(store.db, csv_writer))
    assert [(row["session_id"], row["seq"], row["kind"]) for row in rows] == [
        ("a", "0", "message"),
        ("a", "1", "tool"),
        ("b", "", ""),
    ]
    assert rows[0]["content"] == 'a, "b"\nc'
    assert (rows[0]["e2e_latency"], rows[1]["seconds"], rows[1]["is_error"]) == ("1.25", "0.25", "true")
    assert rows[0]["started_at"] == "2026-11-01T09:00:00.000Z"
    assert (rows[2]["room_name"], rows[2]["ended_at"]) == ("room", "")


@pytest.mark.parametrize("between", [";", "\t", "|", ","])
async def test_a_spreadsheet_that_separates_otherwise_makes_no_cells_of_what_was_said(store, between):
    """Excel separates by semicolons where a comma is a decimal mark, and sees no quotes then."""
    said_so = f"yes{between}=HYPERLINK(A1){between} +no\n-1"
    call = session("s", room_name=said_so, close_reason=f'"{between}=1')
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, said_so, of=call, metrics={"e2e_latency": 0.5}))
    text = (await run(store.db, csv_writer)).decode()
    cells = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=between) for cell in row]
    assert not [cell for cell in cells if re.match('["\\s]*[=+@-]', cell)]
    for line in text.removesuffix("\r\n").split("\r\n"):
        assert line.startswith('"')
        assert line.endswith('"')
        assert line.count('","') >= len(COLUMNS) - 1, "numbers and empty cells are quoted, too"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
async def test_no_cell_of_csv_is_a_formula(store, start):
    formula = f"{start}cmd|' /C calc'!A0"
    call = session("s", room_name=formula, close_reason=formula)
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, formula, of=call, metrics={"e2e_latency": 0.5}) | {"name": formula})
    (row,) = as_csv(await run(store.db, csv_writer))
    for column in ("room_name", "close_reason", "content", "name"):
        assert row[column].startswith("'")
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for value in row.values())


@pytest.mark.parametrize("writer", [csv_writer, markdown_writer])
async def test_stored_text_steers_no_terminal(store, writer):
    call = session("s", room_name=HOSTILE, close_reason="\r\x07")
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, HOSTILE, of=call))
    text = (await run(store.db, writer)).decode()
    assert "\\x1b" in text
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(text)
    assert text.replace("\r\n", "").count("\r") == 0


async def test_markdown_is_a_transcript_whose_text_is_no_markup(store):
    call = session("s-1")
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_many(
        [
            said(0, HOSTILE + "\n# not a heading\n- no list\n1. none\n===\n> no quote", of=call),
            said(75, "Hello.", of=call, role="assistant", metrics={"e2e_latency": 2.0}, interrupted=True),
            used(80, "lookup_order", of=call),
        ]
    )
    text = (await run(store.db, markdown_writer)).decode()
    assert text.startswith("## Session s-1\n")
    assert "**agent** 1:15 (cut off, answer to speech 2.00 s (slow))" in text
    assert "- length: 1:00" in text
    quoted = [line for line in text.splitlines() if line.startswith("> ")]
    for raw in ("<img", "![", "[red]", "`c`", "*d*", "> # ", "> - ", "> 1. ", "> ===", "> > "):
        assert not any(re.search(rf"(?<!\\){re.escape(raw)}", line) for line in quoted), raw
    assert "\\<img src=x onerror=y\\>" in text


async def test_parquet_has_typed_columns_and_the_exact_text(store, monkeypatch, tmp_path):
    from pyarrow import parquet

    monkeypatch.setattr(writers, "_ROWS", 7)
    whole = await fill(store.db, 20)
    call = session("last", tenant="t-0", started_at=BEGAN, ended_at=None)
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, HOSTILE, of=call, interrupted=True, metrics={"e2e_latency": "odd"}))
    path = tmp_path / "calls.parquet"
    path.write_bytes(await run(store.db, ParquetWriter, SessionFilter(None)))
    file = parquet.ParquetFile(path)
    assert file.num_row_groups > 2
    rows = file.read().to_pylist()
    assert len(rows) == sum(max(1, len(call["turns"])) for call in whole) + 1
    assert [row["content"] for row in rows[:-1]] == [
        content for call in whole for content in ([turn["content"] for turn in call["turns"]] or [None])
    ]
    last = rows[-1]
    assert (last["content"], last["interrupted"], last["e2e_latency"], last["seq"]) == (HOSTILE, True, None, 0)
    assert last["started_at"] == BEGAN == datetime(2026, 11, 1, 9, tzinfo=UTC)
    assert last["ended_at"] is None


async def test_an_export_to_parquet_that_is_given_up_writes_nothing_more(store):
    await fill(store.db, 5)
    out: list[bytes] = []
    sink = to(out.append)
    writer = ParquetWriter(sink)
    work = Export(store.db, SessionFilter(None))

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await work.run(writer, sink, stop)
    writer.close()
    assert out == []


async def test_values_of_another_type_than_their_column_end_no_export(store):
    await store.db.sessions.insert_one(
        {
            "tenant_id": "default",
            "user_id": "u",
            "session_id": "odd",
            "room_name": 5,
            "started_at": "soon",
            "status": None,
        }
    )
    await store.db.turns.insert_one(
        {"tenant_id": "default", "user_id": "u", "session_id": "odd", "seq": "x", "content": {"a": 1}, "is_error": "no"}
    )
    (row,) = as_csv(await run(store.db, csv_writer))
    assert (row["room_name"], row["started_at"], row["seq"], row["content"], row["is_error"]) == (
        "5",
        "",
        "",
        '{"a":1}',
        "",
    )
    assert b"odd" in await run(store.db, markdown_writer)
    assert (await exported(store.db))[0]["turns"][0]["content"] == {"a": 1}
    assert (await run(store.db, ParquetWriter)).startswith(b"PAR1")
