"""Files are found, read within bounds, and become passages that say what the file says."""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.errors import ExitCode, MissingExtraError
from lkmongo.store.knowledge import ingest
from lkmongo.store.knowledge.formats import SUFFIXES, DocumentError, NoTextError, decode, lines_of, passages_of, unwrap
from lkmongo.store.knowledge.ingest import find_documents, read_file, read_stream
from lkmongo.store.knowledge.reader import Reader


def said(data, source):
    return [(p.title, p.content) for p in passages_of(data if isinstance(data, bytes) else data.encode(), source)]


def put(folder: Path, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def sources(found):
    return [file.source for file in found.files]


def pdf(*pages, bookmarks=(), password=None):
    """A PDF of these pages, each a list of lines; bookmarks are (title, page, parent's place or None)."""
    from pypdf import PdfReader, PdfWriter

    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for lines in pages:
        escaped = [re.sub(r"([()])", r"\\\1", line) for line in lines]
        shown = "".join(f"({line}) Tj T*\n" for line in escaped)
        stream = f"BT /F1 12 Tf 14 TL 50 750 Td\n{shown}ET".encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
        kids.append(len(objects))
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(kids)} >>".encode()
    body, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    body += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, body.index(b"xref\n"))
    if not bookmarks and password is None:
        return body
    writer = PdfWriter(clone_from=PdfReader(BytesIO(body)))
    made = []
    for title, page, parent in bookmarks:
        made.append(
            writer.add_outline_item(title=title, page_number=page, parent=None if parent is None else made[parent])
        )
    if password is not None:
        writer.encrypt(password, algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


class TestFolders:
    def test_documents_are_named_by_their_path_below_the_folder(self, tmp_path):
        put(tmp_path, b_md="B", a__deep__c_txt="C", A_HTML="<p>A", x_pdf="")
        assert sources(find_documents([tmp_path])) == ["A.HTML", "a/deep/c.txt", "b.md", "x.pdf"]

    def test_a_file_that_is_named_has_the_name_it_has_in_its_folder(self, tmp_path):
        put(tmp_path, returns_md="Text.")
        (by_file,) = find_documents([tmp_path / "returns.md"]).files
        (by_folder,) = find_documents([tmp_path]).files
        assert (by_file.source, by_file.root) == (by_folder.source, by_folder.root) == ("returns.md", str(tmp_path))

    def test_hidden_files_and_folders_are_passed_over(self, tmp_path):
        put(tmp_path, a_md="A")
        for hidden in (".git/x.md", ".b.md", "sub/.c.md"):
            (tmp_path / hidden).parent.mkdir(exist_ok=True)
            (tmp_path / hidden).write_text("hidden")
        found = find_documents([tmp_path])
        assert (sources(found), found.skipped) == (["a.md"], [])

    def test_other_files_are_passed_over_with_a_note(self, tmp_path):
        put(tmp_path, a_md="A", sub__photo_jpg="x")
        found = find_documents([tmp_path])
        assert sources(found) == ["a.md"]
        (note,) = found.skipped
        assert note.startswith(f"{tmp_path}/sub/photo.jpg: skipped")
        assert all(suffix in note for suffix in SUFFIXES)

    def test_links_do_not_lead_in_circles(self, tmp_path):
        put(tmp_path, a_md="A", sub__b_md="B")
        (tmp_path / "sub" / "loop").symlink_to(tmp_path)
        (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
        (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
        (tmp_path / "linked.md").symlink_to(tmp_path / "a.md")
        found = find_documents([tmp_path])
        assert sources(found) == ["a.md", "sub/b.md"]
        assert len(found.skipped) == 4
        assert {note.partition(": ")[2] for note in found.skipped} == {
            "skipped, it is a symbolic link, which only --follow-links follows"
        }
        found = find_documents([tmp_path], follow_links=True)
        assert sources(found) == ["a.md", "linked.md", "sub/b.md"]
        assert sorted(note.partition(": ")[2] for note in found.skipped) == [
            "skipped, it is a broken link",
            "skipped, it is a broken link",
            "skipped, it is a link to a folder that is read already",
        ]

    def test_folders_may_be_nested_deeply(self, tmp_path):
        deep = tmp_path
        for _ in range(60):
            deep /= "d"
        put(deep, a_md="A")
        assert sources(find_documents([tmp_path])) == ["d/" * 60 + "a.md"]

    def test_a_pipe_in_a_folder_is_not_waited_for(self, tmp_path):
        put(tmp_path, a_md="A")
        os.mkfifo(tmp_path / "pipe.md")
        found = find_documents([tmp_path])
        assert sources(found) == ["a.md"]
        assert found.skipped == [f"{tmp_path}/pipe.md: skipped, it is not a regular file"]

    def test_a_folder_with_nothing_in_it_is_refused(self, tmp_path):
        put(tmp_path, photo_jpg="x")
        with pytest.raises(DocumentError, match="has no documents") as caught:
            find_documents([tmp_path])
        assert caught.value.exit_code == ExitCode.USAGE

    def test_only_a_folder_that_was_read_whole_tells_what_has_gone(self, tmp_path, monkeypatch):
        put(tmp_path, a_md="A", locked__b_md="B")
        assert find_documents([tmp_path]).folders == [str(tmp_path)]
        scandir = os.scandir

        def refuse(path):
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)  # root, who runs tests in containers, may read everything
        found = find_documents([tmp_path])
        assert (sources(found), found.folders) == (["a.md"], [])
        assert found.problems == [f"{tmp_path}/locked: cannot be read: Permission denied"]

    def test_a_name_that_is_no_text_is_a_problem_of_its_own(self, tmp_path):
        put(tmp_path, a_md="A")
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.md")).write_text("x")
        except OSError:
            pytest.skip("this file system has no such names")
        (tmp_path / "line\nbreak.md").write_text("x")
        found = find_documents([tmp_path])
        assert sources(found) == ["a.md"]
        assert [problem.rpartition(": ")[2] for problem in found.problems] == [
            "'line\\nbreak.md' cannot be the name of a source",
            "its name is not UTF-8",
        ]

    def test_what_is_named_twice_is_read_once(self, tmp_path):
        put(tmp_path, a_md="A")
        assert sources(find_documents([tmp_path, tmp_path / "a.md", tmp_path])) == ["a.md"]

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        put(tmp_path, one__a_md="A", two__a_md="B")
        with pytest.raises(DocumentError, match=r"one/a\.md and .*two/a\.md would both be a\.md"):
            find_documents([tmp_path / "one", tmp_path / "two"])


class TestNamedFiles:
    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(DocumentError, match=r"there is no file or folder .*gone\.md"):
            find_documents([tmp_path / "gone.md"])

    def test_another_kind_of_file_is_refused_and_the_kinds_are_named(self, tmp_path):
        put(tmp_path, photo_jpg="x")
        with pytest.raises(DocumentError) as caught:
            find_documents([tmp_path / "photo.jpg"])
        assert caught.value.hint == "it must end in .md, .markdown, .txt, .html, .htm or .pdf"

    def test_a_device_is_refused(self):
        with pytest.raises(DocumentError, match="/dev/null is not a regular file"):
            find_documents([Path("/dev/null")])

    def test_a_file_may_hold_so_much_and_no_more(self, tmp_path, monkeypatch, reader):
        monkeypatch.setattr(ingest, "MAX_BYTES", 2 * 1024**2)
        put(tmp_path, a_txt="word " * 400_000)
        (file,) = find_documents([tmp_path]).files
        assert len(read_file(file, reader).passages) > 1_000
        put(tmp_path, a_txt="word " * 500_000)
        with pytest.raises(DocumentError, match=r"a\.txt: is larger than 2 MB"):
            read_file(file, reader)

    def test_the_message_begins_with_the_path_and_keeps_its_kind(self, tmp_path, reader):
        put(tmp_path, a_md="# Only a heading\n", b_md="")
        first, second = find_documents([tmp_path]).files
        with pytest.raises(NoTextError, match=r"a\.md: holds no text"):
            read_file(first, reader)
        with pytest.raises(NoTextError, match=r"b\.md: is empty"):
            read_file(second, reader)

    def test_a_file_that_vanishes_meanwhile_is_said(self, tmp_path, reader):
        put(tmp_path, a_md="A")
        (file,) = find_documents([tmp_path]).files
        (tmp_path / "a.md").unlink()
        with pytest.raises(DocumentError, match=r"a\.md: cannot be read: No such file"):
            read_file(file, reader)


class TestStreams:
    def test_the_name_says_what_it_is(self, reader):
        document = read_stream(BytesIO(b"# A\n\nText."), "notes/today.md", reader)
        assert document.root is None
        assert [(p.source, p.title) for p in document.passages] == [("notes/today.md", "A")]
        assert read_stream(BytesIO(b"# A\n\nText."), "notes.txt", reader).passages[0].title == "Notes"

    @pytest.mark.parametrize("name", ["notes", "notes.docx", "", "a\nb.md", "x" * 600 + ".md", "\ud800.md"])
    def test_a_name_that_cannot_be_one_is_refused(self, reader, name):
        with pytest.raises(DocumentError):
            read_stream(BytesIO(b"text"), name, reader)

    def test_what_is_too_much_is_refused(self, monkeypatch, reader):
        monkeypatch.setattr(ingest, "MAX_BYTES", 1024**2)
        with pytest.raises(DocumentError, match=r"notes\.md: is larger than 1 MB"):
            read_stream(BytesIO(b"x" * (1024**2 + 1)), "notes.md", reader)


class TestText:
    @pytest.mark.parametrize(
        "data",
        ["Grüße".encode(), "\ufeffGrüße".encode(), "Grüße".encode("utf-16"), b"\xfe\xff" + "Grüße".encode("utf-16-be")],
    )
    def test_utf_8_and_utf_16_are_read(self, data):
        assert decode(data) == "Grüße"

    def test_another_encoding_is_refused_with_its_line(self):
        with pytest.raises(DocumentError, match=r"is not UTF-8 \(line 2, byte 0xfc\)"):
            decode("ok\nGrüße".encode("latin-1"))

    @pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"a\0b", bytes(range(256))])
    def test_what_is_no_text_is_said_to_be_none(self, data):
        with pytest.raises(DocumentError, match="is not text"):
            decode(data)

    def test_plain_text_is_no_markdown(self):
        assert said("Not *this* #1.\n\n    Not code.\n", "price_list.txt") == [
            ("Price list", "Not *this* #1.\n\n    Not code.")
        ]

    def test_full_lines_are_joined_and_short_ones_are_not(self):
        text = (
            "The days are counted from the delivery date on the carrier's\n"
            "record. If the last day falls on a week-\n"
            "end, the return counts on the next working day.\n"
            "Opening hours\n"
            "- Monday to Friday until eight, and on every first Saturday of\n"
            "  the month\n"
            "- Sunday closed\n"
        )
        assert unwrap(lines_of(text)).split("\n") == [
            "The days are counted from the delivery date on the carrier's record. If the last day falls on a week-",
            "end, the return counts on the next working day.",
            "Opening hours",
            "- Monday to Friday until eight, and on every first Saturday of the month",
            "- Sunday closed",
        ]

    def test_a_word_that_was_parted_at_a_full_line_is_whole_again(self):
        assert unwrap(
            ["The carrier's record says when it was deliv-", "ered, and to whom, and who signed for it."]
        ) == ("The carrier's record says when it was delivered, and to whom, and who signed for it.")

    @given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), max_size=30), max_size=20))
    def test_no_letter_is_lost_by_joining(self, lines):
        def letters(text):
            return "".join(char for char in text if char.isalnum())

        assert letters(unwrap(lines_of("\n".join(lines)))) == letters("".join(lines))


class TestHtml:
    def test_headings_part_it_and_the_frame_of_the_page_is_left_out(self):
        html = """<!doctype html><html><head><title>Help</title><style>p {}</style><script>alert(1)</script></head>
        <body><nav>Home About</nav><header><h1>Returns</h1></header><p>Within <b>45</b> days.</p>
        <h2>Gifts <a class="headerlink" href="#g">¶</a></h2><p>Also &amp; <a href="/x">later</a>.</p>
        <ul><li>Card</li><li>Cash</li></ul><aside>Ad</aside><form><p>In a form.</p><button>Send</button></form>
        <p hidden>secret</p><footer>Imprint</footer></body></html>"""
        assert said(html, "returns.html") == [
            ("Returns", "Within 45 days."),
            ("Returns: Gifts", "Also & later.\n\n- Card\n- Cash\n\nIn a form."),
        ]

    def test_parts_that_are_left_out_may_lie_in_one_another(self):
        assert said("<footer><nav><svg hidden></svg>x</nav></footer><p>Text.</p>", "a.html") == [("A", "Text.")]

    def test_the_main_part_is_enough(self):
        assert said("<body><div>Menu</div><main><h1>A</h1><p>Text.</p></main><div>More</div>", "a.html") == [
            ("A", "Text.")
        ]

    def test_the_title_of_the_page_stands_above_its_first_heading(self):
        html = "<title>Our *best*\n returns_policy</title><p>One.</p><h2>Gifts</h2><p>Two.</p>"
        assert said(html, "a.html") == [
            ("Our *best* returns_policy", "One."),
            ("Our *best* returns_policy: Gifts", "Two."),
        ]
        html = "<title>Shop</title><p>One.</p><h1>Returns</h1><h2>Gifts</h2><p>Two.</p>"
        assert said(html, "a.html") == [("Shop", "One."), ("Returns: Gifts", "Two.")]
        assert said("<p>One.</p>", "opening_hours.htm") == [("Opening hours", "One.")]

    def test_a_table_names_its_columns_and_terms_stand_with_their_meaning(self):
        html = (
            "<table><tr><th>Speed</th><th>Price</th></tr><tr><td>Slow</td><td>5 | 6</td></tr></table>"
            "<dl><dt>Packed</dt><dd>In its box.</dd></dl>"
        )
        assert said(html, "a.html") == [("A", "Speed: Slow; Price: 5 | 6.\n\nPacked\n\nIn its box.")]

    def test_an_answer_that_unfolds_is_titled_by_its_question(self):
        html = (
            "<h1>FAQ</h1><details><summary>How long?</summary><p>45 days.</p></details>"
            "<details><summary>Where?</summary>Ohio.</details>"
        )
        assert said(html, "faq.html") == [("FAQ: How long?", "45 days."), ("FAQ: Where?", "Ohio.")]

    def test_text_that_looks_like_markdown_stays_as_it_is(self):
        html = "<p># no heading</p><p>1. no list</p><p>snake_case *star* [x](y) `tick` &lt;b&gt;</p><p>- 3 degrees</p>"
        assert said(html, "a.html")[0][1] == (
            "# no heading\n\n1. no list\n\nsnake_case *star* [x](y) `tick` <b>\n\n- 3 degrees"
        )

    def test_the_encoding_that_the_page_names_is_used(self):
        html = '<meta charset="iso-8859-1"><p>Grüße aus Köln</p>'.encode("latin-1")
        assert said(html, "a.html") == [("A", "Grüße aus Köln")]

    def test_a_page_that_is_nested_too_deeply_is_said(self):
        with pytest.raises(DocumentError, match="nested too deeply"):
            passages_of(b"<div>" * 5_000 + b"x", "a.html")

    @settings(max_examples=60)
    @given(
        st.binary(max_size=200)
        | st.lists(st.sampled_from([*"<>/=&;'\" a", "<p>", "<h1>", "<table>", "<li>", "<pre>"]))
        .map("".join)
        .map(str.encode)
    )
    def test_any_page_is_read_or_refused(self, data):
        try:
            passages = passages_of(data, "a.html")
        except DocumentError:
            return
        assert all(passage.content.strip() for passage in passages)


class TestPdf:
    def test_pages_become_passages_titled_by_the_file(self):
        data = pdf(["Setting up takes ten minutes."], ["Plug it in (gently)."])
        assert said(data, "alder_300.pdf") == [("Alder 300", "Setting up takes ten minutes.\nPlug it in (gently).")]

    def test_a_sentence_goes_on_across_pages(self):
        data = pdf(
            ["Hold the speaker within ten feet of the router and turn"],
            ["off any network tunnel on the phone before you begin."],
        )
        assert said(data, "a.pdf")[0][1] == (
            "Hold the speaker within ten feet of the router "
            "and turn off any network tunnel on the phone before you begin."
        )

    def test_what_stands_on_every_page_is_left_out(self):
        pages = [
            ["Alder manual", f"Text of page {word}.", f"Page {n} of 4"]
            for n, word in enumerate(["one", "two", "three", "four"], 1)
        ]
        assert (
            said(pdf(*pages), "a.pdf")[0][1]
            == "Text of page one.\nText of page two.\nText of page three.\nText of page four."
        )

    def test_bookmarks_are_headings(self):
        data = pdf(
            ["Before.", "1 Setup", "Plug it in."],
            ["Then wait.", "1.1 Wi-Fi", "Choose a network."],
            ["Call us."],
            bookmarks=[("Setup", 0, None), ("1.1 Wi-Fi", 1, 0), ("Help", 2, None)],
        )
        assert said(data, "alder.pdf") == [
            ("Alder", "Before."),
            ("Setup", "Plug it in.\nThen wait."),
            ("Setup: 1.1 Wi-Fi", "Choose a network."),
            ("Help", "Call us."),
        ]

    def test_a_chapter_and_its_first_part_on_the_top_of_a_page_are_both_in_the_title(self):
        data = pdf(["Text."], bookmarks=[("Setup", 0, None), ("Wi-Fi", 0, 0)])
        assert said(data, "a.pdf") == [("Setup: Wi-Fi", "Text.")]

    def test_an_empty_password_opens_it(self):
        assert said(pdf(["Anybody may read this."], password=""), "a.pdf") == [("A", "Anybody may read this.")]

    def test_a_password_keeps_it_closed(self):
        with pytest.raises(DocumentError, match="is encrypted") as caught:
            passages_of(pdf(["Secret."], password="swordfish"), "a.pdf")
        assert "swordfish" not in f"{caught.value.why}{caught.value.hint}"

    def test_a_scan_is_a_problem_and_no_empty_document(self):
        with pytest.raises(DocumentError, match="holds no text") as caught:
            passages_of(pdf([]), "a.pdf")
        assert not isinstance(caught.value, NoTextError)
        assert "images" in caught.value.why

    @pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"no pdf at all", pdf(["Text."])[:200]])
    def test_a_damaged_file_is_said(self, data):
        with pytest.raises(DocumentError, match=r"cannot be read as PDF|holds no text"):
            passages_of(data, "a.pdf")

    @settings(max_examples=40)
    @given(st.integers(0, 900), st.binary(min_size=1, max_size=8))
    def test_any_damage_is_survived(self, at, noise):
        data = bytearray(pdf(["Some text to read."], ["And more."]))
        data[at : at + len(noise)] = noise
        try:
            passages_of(bytes(data), "a.pdf")
        except DocumentError:
            return


class TestWithoutTheExtra:
    @pytest.mark.parametrize(
        ("module", "name", "extra"),
        [("bs4", "faq.html", "html"), ("markdownify", "faq.htm", "html"), ("pypdf", "leaflet.pdf", "pdf")],
    )
    def test_the_file_and_the_extra_are_named(self, tmp_path, monkeypatch, module, name, extra):
        self.leave_out(monkeypatch, tmp_path, module)
        (tmp_path / name).write_bytes(b"<p>Open.")
        (file,) = find_documents([tmp_path / name]).files
        with Reader() as reader:
            for read in (lambda: read_file(file, reader), lambda: read_stream(BytesIO(b"<p>Open."), name, reader)):
                with pytest.raises(MissingExtraError, match=rf"{name}: \w+ needs the extra {extra}") as caught:
                    read()
                assert caught.value.hint == f'pip install "lkmongo[{extra}]"'

    def test_text_needs_none(self, tmp_path, monkeypatch):
        self.leave_out(monkeypatch, tmp_path, "bs4", "markdownify", "pypdf")
        with Reader() as reader:
            assert read_stream(BytesIO(b"# Hours\n\nFrom nine."), "hours.md", reader).passages

    def leave_out(self, monkeypatch, folder, *modules):
        for module in modules:
            (folder / f"{module}.py").write_text("raise ImportError('it is not installed')")
        monkeypatch.syspath_prepend(folder)
