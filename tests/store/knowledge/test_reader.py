"""A document that would never end, or fill the memory, ends the process that reads it and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from lkmongo.store.knowledge import reader as module
from lkmongo.store.knowledge.formats import DocumentError, NoTextError, passages_of
from lkmongo.store.knowledge.ingest import find_documents, read_documents
from lkmongo.store.knowledge.reader import DocumentLimitError, Limits, Reader
from tests.waiting import until

NEVER_ENDS = b"<!--" * 48_000
"""195 KB of comments in HTML that do not end: each is looked for to the end of the file."""
MB = 1024**2
SOON = Limits(seconds=0.5)


def pdf(pages: int, content: bytes) -> bytes:
    """A PDF whose pages all show one compressed stream."""
    stream = zlib.compress(content, 9)
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F 3 0 R >> >> >>"
    )
    kids = b" ".join(b"%d 0 R" % number for number in range(5, 5 + pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
        *[page] * pages,
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + end


LINE = b"(Some words of a line.) Tj T*\n"
PDF_BOMB = pdf(400, b"BT /F 12 Tf 14 TL 50 750 Td\n" + LINE * 2_000 + b"ET")


@pytest.mark.parametrize(
    ("data", "source"),
    [(NEVER_ENDS, "a.html"), (b"<" * 200_000, "a.html"), (b"<div>\n" + b"<" * 200_000, "a.md"), (PDF_BOMB, "a.pdf")],
    ids=["comments", "brackets", "brackets in Markdown", "PDF"],
)
def test_a_small_document_that_takes_for_ever_is_given_up(monkeypatch, data, source):
    assert len(data) < 250_000
    monkeypatch.setattr(module, "_BY_THE_CLOCK", 1_000_000)  # the time of the processor is what counts
    with Reader(SOON) as reader, pytest.raises(DocumentLimitError, match=r"takes more than 0\.5 s to read"):
        reader.read(data, source)


def test_a_child_that_gets_no_time_is_given_up_by_the_clock(starts):
    with Reader(Limits(seconds=0.1)) as reader:
        reader.start()
        starts[0].send_signal(signal.SIGSTOP)
        with pytest.raises(DocumentLimitError, match=r"takes more than 0\.1 s to read"):
            reader.read(b"Text.", "a.md")


def test_a_small_document_that_fills_the_memory_is_given_up():
    bomb = pdf(1, b"BT /F 12 Tf 14 TL 50 750 Td\n" + LINE * 400_000 + b"ET")
    assert len(bomb) < 100_000
    with Reader(Limits(memory=128 * MB)) as reader:
        with pytest.raises(DocumentLimitError, match="takes more than 128 MB of memory to read"):
            reader.read(bomb, "a.pdf")
        assert reader.read(b"Text.", "b.md")


def test_a_document_with_too_much_text_is_given_up():
    with Reader(Limits(output=1 * MB)) as reader:
        with pytest.raises(DocumentLimitError, match="holds more than 1 MB of text"):
            reader.read(b"word " * 300_000, "a.txt")
        assert reader.read(b"Text.", "b.md")


async def test_the_rest_of_the_folder_is_read(tmp_path):
    for name, data in {"a.md": b"A.", "b.html": NEVER_ENDS, "c.md": b"C.", "d.pdf": PDF_BOMB, "e.md": b"E."}.items():
        (tmp_path / name).write_bytes(data)
    with Reader(SOON) as reader:
        library = await read_documents(find_documents([tmp_path]), reader)
        assert [document.source for document in library.documents] == ["a.md", "c.md", "e.md"]
        assert library.problems == [
            f"{tmp_path}/b.html: takes more than 0.5 s to read",
            f"{tmp_path}/d.pdf: takes more than 0.5 s to read",
        ]
        assert library.present == {"a.md", "b.html", "c.md", "d.pdf", "e.md"}
        with pytest.raises(DocumentLimitError, match=r"b\.html: takes more than"):
            await read_documents(find_documents([tmp_path / "b.html"]), reader)


def test_what_it_answers_is_what_the_parsers_say(reader):
    documents = {
        "a/b.md": "# Grüße\n\nZwei \ud7ff\U0001f600 Sätze.\n\n## C\n\nText.".encode(),
        "c.txt": b"One.\n\nTwo.",
        "d.html": b"<h1>D</h1><p>Text",
        "e.pdf": pdf(2, b"BT /F 12 Tf 50 750 Td (Words.) Tj ET"),
    }
    for source, data in documents.items():
        assert reader.read(data, source) == passages_of(data, source)


def test_errors_are_of_the_kind_that_they_were(reader):
    with pytest.raises(NoTextError, match="is empty"):
        reader.read(b"", "a.md")
    with pytest.raises(DocumentError, match="is not UTF-8") as caught:
        reader.read(b"\xff", "a.md")
    assert caught.value.hint == "save it as UTF-8"
    with pytest.raises(DocumentError, match="cannot be read as PDF"):
        reader.read(b"%PDF", "a.pdf")


@pytest.fixture
def starts(monkeypatch):
    """The children that were started."""
    started = []
    start = module._start

    def note(limits):
        child, life = start(limits)
        started.append(child)
        return child, life

    monkeypatch.setattr(module, "_start", note)
    return started


def test_one_child_reads_many_documents_and_ends_with_the_reader(starts):
    with Reader() as reader:
        for _ in range(5):
            reader.read(b"Text.", "a.md")
    (child,) = starts
    assert child.returncode is not None


def test_a_child_that_has_grown_is_replaced(starts):
    with Reader(Limits(memory=192 * MB)) as reader:
        reader.read(b"word " * 2_000_000, "a.txt")
        assert reader.read(b"Text.", "a.md")
    assert len(starts) == 2


def test_a_child_that_somebody_ended_is_replaced(starts):
    with Reader() as reader:
        reader.read(b"Text.", "a.md")
        starts[0].kill()
        starts[0].wait()
        assert reader.read(b"Text.", "a.md")


async def test_closing_ends_a_reading_that_is_under_way(starts):
    reader = Reader()
    raised = []

    def read():
        try:
            reader.read(NEVER_ENDS, "a.html")
        except DocumentError as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    await until(lambda: starts and _cpu(starts[0].pid) > 0.3)
    reader.close()
    thread.join()
    (error,) = raised
    assert error.why == "the process that reads it ended with SIGKILL"


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


PARENT = """
import sys
from lkmongo.store.knowledge.reader import Limits, Reader
reader = Reader(Limits(seconds=3_600))
reader.start()
print(reader._child.pid, flush=True)
reader.read(sys.stdin.buffer.read(), "a.html")
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
async def test_it_ends_with_its_parent_whatever_it_is_doing():
    with _parent() as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(NEVER_ENDS)
        parent.stdin.close()
        child = int(parent.stdout.readline())
        await until(lambda: _cpu(child) > 0.5)
        parent.send_signal(signal.SIGKILL)
    await until(lambda: not _alive(child))


def _parent() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_it_inherits_no_secret_and_no_file(monkeypatch, tmp_path, starts):
    secret = "sk-not-for-the-child"
    monkeypatch.setenv("LIVEKIT_API_SECRET", secret)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "no.so"))
    with (tmp_path / "open").open("w") as file, Reader() as reader:
        os.set_inheritable(file.fileno(), True)
        reader.read(b"Text.", "a.md")
        proc = Path(f"/proc/{starts[0].pid}")
        environment = proc.joinpath("environ").read_text()
        assert secret not in environment
        assert "LD_PRELOAD" not in environment
        assert not [each for each in proc.joinpath("fd").iterdir() if str(tmp_path) in str(each.readlink())]
        assert "Max file size             0 " in proc.joinpath("limits").read_text()
