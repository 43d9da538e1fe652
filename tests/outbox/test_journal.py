"""The journal: whole lines, readable by the owner only, whatever happens to the file."""

from __future__ import annotations

import fcntl
import math
import os
import resource
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal, JournalError, database_of, journal_folder

ROBIN = UserScope(tenant_id="default", user_id="u-100")
AT = datetime(2026, 11, 3, 12, 30, 15, 250_000, UTC)
ENTRIES = [
    {"op": "turn", "content": "line\nbreak \u2028 and é", "at": AT},
    {"op": "remember", "label": "colour", "content": "teal", "at": AT},
    {"op": "end", "report": {"nested": [1, None, {"deep": 2.5}]}},
]


def record(session_id: str = "call-1", scope: UserScope = ROBIN, room: str = "room") -> SessionRecord:
    return SessionRecord(session_id, scope, room, SessionStatus.ACTIVE, AT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journal_folder(tmp_path / "home")


def begin(folder: Path, **of) -> Journal:
    return Journal.create(folder, record(**of), owner="host/boot/1", database="db")


def left_by_a_call(folder: Path, entries=ENTRIES) -> Path:
    call = begin(folder)
    if entries:
        call.append(entries)
    call.close(delete=False)
    return call.path


def test_entries_are_read_back(folder):
    path = left_by_a_call(folder)
    left = journal.read(path)
    assert (left.record, left.owner, left.database) == (record(), "host/boot/1", "db")
    assert (left.entries, left.damaged) == (ENTRIES, 0)


def test_only_the_owner_can_read_a_journal(folder):
    before = os.umask(0)
    try:
        path = left_by_a_call(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name", ["../../etc", "a/b", "\ud800", "\x00", '"}\n{"op":"end"}', "{$gt: ''}", "名前", "x" * 10_000, "%s%n", "."]
)
def test_no_room_or_session_name_escapes_its_folder_or_line(folder, name):
    call = begin(folder, session_id=name, room=name)
    call.append([{"op": "turn", "content": name}])
    left = journal.read(call.path)
    clean = name.replace("\ud800", "\ufffd")
    assert (left.record.session_id, left.record.room_name) == (clean, clean)
    assert left.entries == [{"op": "turn", "content": clean}]
    assert [path.parent for path in journal.files(folder)] == [folder]
    call.close(delete=True)
    assert list(folder.iterdir()) == []


def test_numbers_beyond_json_are_read_back(folder):
    path = left_by_a_call(folder, [{"op": "turn", "metrics": {"a": math.nan, "b": -math.inf, "c": 2**62, "d": 2**80}}])
    metrics = journal.read(path).entries[0]["metrics"]
    assert math.isnan(metrics["a"])
    assert metrics == {"a": metrics["a"], "b": -math.inf, "c": 2**62, "d": str(2**80)}


def test_a_journal_torn_at_any_byte_holds_the_lines_before(folder):
    path = left_by_a_call(folder)
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lines = sum(end < length for end in ends)
        if lines == 0:
            with pytest.raises(JournalError):
                journal.read(path)
            continue
        left = journal.read(path)
        assert (left.entries, left.damaged) == (ENTRIES[: lines - 1], 0), length


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 50,
        b"\xff\xfe",
        b"[]",
        b"3",
        b"null",
        b'{"op": 3}',
        b'{"no": "op"}',
        b"[" * 200_000,
        b'{"op": "turn", "a": {"$oid": "nonsense"}}',
        b'{"op": "turn", "a": {"$date": {"$numberLong": "9"}, "more": 1}}',
        b'{"op": "turn", "a": {"$date": "never"}}',
        b"",
    ],
)
def test_a_damaged_line_affects_no_other(folder, line):
    path = left_by_a_call(folder)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:]]))
    left = journal.read(path)
    assert (left.entries, left.damaged) == (ENTRIES, 1)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"session_id": 1}',
        b'{"tenant_id": {"$gt": ""}, "user_id": "u"}',
        b"[" * 10**5,
    ],
)
def test_a_file_without_a_valid_header_is_refused_and_left_alone(folder, first):
    path = left_by_a_call(folder)
    path.write_bytes(first + b"\n" + b'{"op": "end"}\n')
    with pytest.raises(JournalError, match="not the journal of a session"):
        journal.read(path)


def test_an_invalid_id_in_the_header_is_refused(folder):
    path = left_by_a_call(folder)
    path.write_bytes(path.read_bytes().replace(b'"u-100"', b'{"$gt":""}'))
    with pytest.raises(JournalError, match="not the journal of a session"):
        journal.read(path)


def test_a_live_sessions_journal_is_locked_and_a_dead_ones_is_not(folder):
    code = (
        "import sys, pathlib; from tests.outbox.test_journal import begin; call = begin(pathlib.Path(sys.argv[1]));"
        "call.append([{'op': 'end'}]); print(call.path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        path = Path(process.stdout.readline().strip())
        with journal.locked(path) as is_ours:
            assert not is_ours
        process.kill()
        process.wait()
    with journal.locked(path) as is_ours:
        assert is_ours
        with journal.locked(path) as once_more:
            assert not once_more
    assert journal.read(path).entries == [{"op": "end"}]


def test_a_journal_deleted_by_its_owner_cannot_be_locked(folder):
    call = begin(folder)
    descriptor = os.open(call.path, os.O_RDWR)
    call.close(delete=True)
    os.close(descriptor)
    with journal.locked(call.path) as is_ours:
        assert not is_ours


def test_a_journal_is_never_visible_without_its_header(folder, monkeypatch):
    seen = []
    write = journal.write_all

    def watched(descriptor, data):
        seen.append(journal.files(folder))
        write(descriptor, data)

    monkeypatch.setattr(journal, "write_all", watched)
    call = begin(folder)
    assert seen == [[]]
    assert journal.files(folder) == [call.path]
    call.close(delete=True)


def test_a_journal_deleted_while_it_is_created_is_created_again(folder, monkeypatch):
    flock, cleaned = fcntl.flock, []

    def late(descriptor, how):
        if not cleaned and how == fcntl.LOCK_EX:
            cleaned.append(descriptor)
            monkeypatch.setattr(fcntl, "flock", flock)
            journal.remove_expired(folder)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    call = begin(folder)
    assert cleaned
    assert journal.files(folder) == [call.path]
    call.close(delete=True)
    assert list(folder.iterdir()) == []


def limited(size: int):
    """Let no file of this process grow beyond `size` bytes, as on a disk that is full."""

    class Limit:
        def __enter__(self):
            self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.before[1]))

        def __exit__(self, *_):
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    return Limit()


def test_on_a_full_disk_an_append_is_all_or_nothing(folder):
    call = begin(folder)
    call.append(ENTRIES[:1])
    size = call.path.stat().st_size
    with limited(size + 20), pytest.raises(JournalError, match="cannot be accessed"):
        call.append(ENTRIES)
    assert call.path.stat().st_size == size
    call.append(ENTRIES[1:])
    assert journal.read(call.path).entries == ENTRIES
    call.close(delete=True)


def test_on_a_full_disk_a_failed_create_leaves_nothing(folder):
    with limited(10), pytest.raises(JournalError):
        begin(folder)
    assert list(folder.iterdir()) == []


def test_the_size_limits_refuse_entries_and_keep_existing_ones(folder, monkeypatch):
    call = begin(folder)
    call.append(ENTRIES)
    monkeypatch.setattr(journal, "MAX_FILE", call.path.stat().st_size + 10)
    with pytest.raises(JournalError, match="at most"):
        call.append(ENTRIES)
    monkeypatch.setattr(journal, "MAX_ALL", 10)
    with pytest.raises(JournalError, match="has not stored"):
        begin(folder)
    assert journal.read(call.path).entries == ENTRIES
    call.clear()
    assert call.is_empty
    assert journal.read(call.path).entries == []
    call.close(delete=True)


def test_an_unusable_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be accessed"):
        begin(tmp_path / "file" / "spool")
    with pytest.raises(JournalError, match="cannot be read"):
        journal.files(tmp_path / "file")
    assert journal.files(tmp_path / "nowhere") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(folder):
    path = left_by_a_call(folder)
    folder.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="cannot be accessed"):
            begin(folder)
        with pytest.raises(JournalError):
            journal.remove(path)
    finally:
        folder.chmod(0o700)


def test_only_regular_files_are_journals(folder):
    path = left_by_a_call(folder)
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "link.jsonl").symlink_to("/etc/passwd")
    (folder / "notes.txt").write_text("")
    journal.remove_expired(folder)
    assert journal.files(folder) == [path]


def test_expired_journals_are_deleted_unless_their_session_is_alive(folder):
    old, young, live = left_by_a_call(folder), left_by_a_call(folder), begin(folder)
    half = folder / "x.begun"
    half.write_bytes(b"")
    long_ago = (datetime.now(UTC) - journal.MAX_AGE - timedelta(hours=1)).timestamp()
    for path in (old, live.path):
        os.utime(path, (long_ago, long_ago))
    journal.remove_expired(folder)
    assert sorted(folder.iterdir()) == sorted([young, live.path])
    live.close(delete=True)


def test_journals_are_listed_in_the_order_their_sessions_began(folder):
    paths = []
    for seconds in (50, 3, 20):
        call = Journal.create(
            folder,
            SessionRecord("c", ROBIN, "r", SessionStatus.ACTIVE, AT + timedelta(seconds=seconds)),
            owner="o",
            database="d",
        )
        call.close(delete=False)
        paths.append(call.path)
    assert journal.files(folder) == [paths[1], paths[2], paths[0]]


def test_databases_are_distinguished_without_their_passwords():
    same = [
        "mongodb://db.example/",
        "mongodb://db.example",
        "mongodb://app:s3cret@db.example/?appName=a@b",
        "mongodb://ops:other@db.example?retryWrites=true",
    ]
    assert len({database_of(uri, "lkmongo") for uri in same}) == 1
    others = {
        database_of(None, "lkmongo"),
        database_of(same[0], "other"),
        database_of("mongodb://db2.example", "lkmongo"),
    }
    assert len(others | {database_of(same[0], "lkmongo")}) == 4
