"""`lkmongo knowledge` as a user runs it."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pexpect
import pytest


@pytest.fixture
def docs(tmp_path):
    """A folder with one document of each kind."""
    from tests.store.knowledge.test_formats import pdf

    folder = tmp_path / "my docs"
    (folder / "hotel").mkdir(parents=True)
    (folder / "returns.md").write_text("# Returns\n\n## How long\n\n45 days.\n\n## Gifts\n\nThe giver is not told.\n")
    (folder / "hotel" / "pets.html").write_text("<title>Pets</title><p>Dogs are welcome in garden rooms.</p>")
    (folder / "hours.txt").write_text("We open at nine and close at five.\n")
    (folder / "manual.pdf").write_bytes(pdf(["Hold the button until the light turns white."]))
    return folder


def counted(result):
    return {row["source"]: (row["added"], row["replaced"], row["unchanged"], row["removed"]) for row in result.json}


def test_a_folder_is_added_listed_searched_and_removed(run, docs):
    added = run("knowledge", "add", str(docs), "--json")
    assert (added.code, counted(added)) == (
        0,
        {
            "hotel/pets.html": (1, 0, 0, 0),
            "hours.txt": (1, 0, 0, 0),
            "manual.pdf": (1, 0, 0, 0),
            "returns.md": (2, 0, 0, 0),
        },
    )
    assert "5 passages: 5 added, 0 replaced, 0 unchanged, 0 removed" in added.stderr
    again = run("knowledge", "add", str(docs))
    assert again.stdout.splitlines()[1] == "hotel/pets.html\t1\t0\t0\t1\t0"

    listed = run("knowledge", "list", "--json").json
    assert [(row["source"], row["passages"], row["embedded"], row["origin"]) for row in listed] == [
        ("hotel/pets.html", 1, 1, "knowledge"),
        ("hours.txt", 1, 1, "knowledge"),
        ("manual.pdf", 1, 1, "knowledge"),
        ("returns.md", 2, 2, "knowledge"),
    ]
    assert {row["root"] for row in listed} == {str(docs)}

    found = run("knowledge", "search", "what color does the light turn", "--json").json
    assert (found["strategy"], found["degraded"]) == ("exact", None)
    assert (found["hits"][0]["source"], found["hits"][0]["vector_rank"]) == ("manual.pdf", 1)
    assert len(run("knowledge", "search", "dogs rooms light open", "--limit", "1", "--json").json["hits"]) == 1
    for_people = run("knowledge", "search", "are dogs welcome in rooms")
    assert for_people.stdout.splitlines()[1].startswith("hotel/pets.html\t0\tPets\tDogs are welcome in garden rooms.\t")
    assert for_people.stdout.splitlines()[1].endswith("\t1\t1")
    assert "Answered by the exact strategy" in for_people.stderr

    assert run("knowledge", "remove", "returns.md", "hours.txt", "--dry-run", "--json").json == {
        "tenant_id": "default", "sources": ["returns.md", "hours.txt"], "dry_run": True, "passages": 3, "removed": 0,
    }  # fmt: skip
    refused = run("knowledge", "remove", "returns.md")
    assert refused.code == 2
    assert "Remove 2 passages of returns.md in tenant default?" in refused.stderr
    assert (
        run("knowledge", "remove", "returns.md", "--yes").stdout
        == "Removed 2 passages of returns.md in tenant default\n"
    )
    assert len(run("knowledge", "list", "--json").json) == 3


def test_what_changed_is_replaced_and_what_vanished_is_removed(run, docs):
    run("knowledge", "add", str(docs))
    (docs / "returns.md").write_text("# Returns\n\n## How long\n\n30 days.\n")
    (docs / "hours.txt").unlink()
    dry = run("knowledge", "add", str(docs), "--dry-run", "--json")
    expected = {
        "hotel/pets.html": (0, 0, 1, 0), "manual.pdf": (0, 0, 1, 0),
        "returns.md": (0, 1, 0, 1), "hours.txt": (0, 0, 0, 1),
    }  # fmt: skip
    assert counted(dry) == expected
    assert "nothing was changed" in dry.stderr
    assert run("knowledge", "search", "45 days", "--json").json["hits"][0]["content"] == "45 days."
    assert counted(run("knowledge", "add", str(docs), "--json")) == expected
    assert run("knowledge", "search", "45 days", "--json").json["hits"][0]["content"] == "30 days."


def test_stdin_has_a_name_of_its_own(run, docs):
    assert run("knowledge", "add", "-", "--source", "notes/a.md", input="# A\n\nSome *text*.").code == 0
    assert [row["source"] for row in run("knowledge", "list", "--json").json] == ["notes/a.md"]
    both = run(
        "knowledge", "add", str(docs / "hours.txt"), "-", "--source", "notes/a.md", "--json", input="# A\n\nNew."
    )
    assert counted(both) == {"hours.txt": (1, 0, 0, 0), "notes/a.md": (0, 1, 0, 0)}
    for arguments, said in [
        (["-"], "add --source NAME"),
        ([str(docs), "--source", "a.md"], "--source names the document from stdin"),
        (["-", "--source", "a.docx"], "names no supported format"),
        (["-", "--source", "a.md"], "a.md: is empty"),
        ([str(docs), "-", "--source", "hours.txt"], "a file and stdin would both be hours.txt"),
    ]:
        refused = run("knowledge", "add", *arguments)
        assert refused.code == 2, refused
        assert said in refused.stderr


def test_a_wrong_name_changes_nothing(run, docs):
    (docs / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (docs / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    for named, said in [
        ("nowhere.md", "there is no file or folder"),
        ("photo.jpg", "must end in .md, .markdown, .txt, .html, .htm or .pdf"),
        ("latin.txt", "is not UTF-8 (line 1, byte 0xfc)"),
    ]:
        refused = run("knowledge", "add", str(docs / "returns.md"), str(docs / named))
        assert (refused.code, refused.stdout) == (2, "")
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "a path is empty" in run("knowledge", "add", "").stderr
    assert run("knowledge", "list", "--json").json == []


def test_a_folder_that_takes_over_a_name_is_told(run, docs, tmp_path):
    run("knowledge", "add", str(docs / "hours.txt"))
    (tmp_path / "hours.txt").write_text("Never.")
    assert (
        f"warning: hours.txt was previously added from {docs}"
        in run("knowledge", "add", str(tmp_path / "hours.txt")).stderr
    )


def test_what_cannot_be_read_in_a_folder_is_told_and_the_rest_is_added(run, docs):
    (docs / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
    done = run("knowledge", "add", str(docs), "--json")
    assert done.code == 1
    assert len(done.json) == 4
    assert f"{docs}/photo.jpg: skipped" in done.stderr
    assert f"warning: {docs}/broken.pdf: cannot be read as PDF" in done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["message"] == "1 files or folders could not be read; all others were added"
    (docs / "other.pdf").write_bytes(b"%PDF-1.7 no more")
    dry = run("knowledge", "add", str(docs), "--dry-run")
    assert "error: 2 files or folders could not be read\n  why: " in dry.stderr
    (why,) = re.findall("  why: (.*)", dry.stderr)
    assert "broken.pdf" in why
    assert "other.pdf" in why


def test_the_sample_data_is_not_written_over(run, docs):
    run("db", "seed")
    refused = run("knowledge", "add", str(docs))
    assert refused.code == 2
    assert "tenant default has returns.md already, from db seed or another program" in refused.stderr
    assert "try: lkmongo knowledge remove returns.md first" in refused.stderr
    assert run("knowledge", "add", str(docs), "--tenant", "mine").code == 0
    assert [row["source"] for row in run("knowledge", "list", "--tenant", "mine", "--json").json][-1] == "returns.md"
    assert run("knowledge", "search", "dogs", "--tenant", "other", "--json").json["hits"] == []


def test_a_source_that_is_not_there_is_not_found(run, docs):
    assert run("knowledge", "list").stderr == "Tenant default has no knowledge; add some with lkmongo knowledge add\n"
    run("knowledge", "add", str(docs))
    missing = run("knowledge", "remove", "retunrs.md", "--yes")
    assert missing.code == 5
    assert "tenant default has no source retunrs.md" in missing.stderr
    assert "did you mean returns.md?" in missing.stderr
    assert run("knowledge", "remove", "returns.md", "--yes", "--tenant", "other").code == 5


def test_a_list_that_is_cut_says_so(run, docs):
    run("knowledge", "add", str(docs))
    cut = run("knowledge", "list", "--limit", "2")
    assert len(cut.stdout.splitlines()) == 3
    assert "showing 2 of 4" in cut.stderr


@pytest.fixture
def refusing_service():
    """An embedding service that knows no key."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"detail": "Provided API key is invalid."}'
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_without_vectors_the_passages_are_there_and_it_says_what_to_run(run, docs, refusing_service):
    env = {"VOYAGE_API_KEY": "pa-canary-key", "VOYAGE_BASE_URL": refusing_service}
    failed = run("knowledge", "add", str(docs), "--json", env=env)
    assert failed.code == 1
    assert len(failed.json) == 4
    error = json.loads(failed.stderr.splitlines()[-1])["error"]
    assert error["message"] == "5 passages have no vector yet and are found by their words alone"
    assert error["why"] == "Voyage refused the API key"
    assert "lkmongo db embed" in error["hint"]
    assert "canary" not in failed.stderr
    by_words = run("knowledge", "search", "button light", "--json", env=env).json
    assert by_words["degraded"] == "searched by words alone: Voyage refused the API key"
    assert by_words["hits"][0]["source"] == "manual.pdf"
    assert run("knowledge", "search", "button light", "--json").json["hits"][0]["source"] == "manual.pdf"
    listed = run("knowledge", "list")
    assert "5 passages have no vector" in listed.stderr
    assert run("db", "embed").code == 0
    assert {row["embedded"] - row["passages"] for row in run("knowledge", "list", "--json").json} == {0}


def test_a_person_is_asked_before_anything_is_removed(run, at_terminal, docs):
    run("knowledge", "add", str(docs))

    def answer(text):
        child = at_terminal("knowledge", "remove", "returns.md")
        child.expect_exact("Remove 2 passages of returns.md in tenant default? [y/N] ")
        child.sendline(text)
        child.expect(pexpect.EOF)
        child.close()
        return child.exitstatus

    assert answer("n") == 1
    assert len(run("knowledge", "list", "--json").json) == 4
    assert answer("y") == 0
    assert len(run("knowledge", "list", "--json").json) == 3


def test_progress_is_shown_on_a_terminal_alone(run, at_terminal, docs):
    assert "adding" not in run("knowledge", "add", str(docs)).stderr
    child = at_terminal("knowledge", "add", str(docs))
    child.expect("adding")
    child.expect_exact("5 passages: 0 added, 0 replaced, 5 unchanged, 0 removed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_what_a_document_holds_cannot_reach_the_terminal(run, tmp_path):
    (tmp_path / "a.md").write_text("# A\n\nRed \x1b[31malert\x1b[0m and \u202egnihtemos.\n")
    run("knowledge", "add", str(tmp_path / "a.md"))
    shown = run("knowledge", "search", "red alert").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert run("knowledge", "search", "red alert", "--json").json["hits"][0]["content"].startswith("Red \x1b[31malert")


def test_links_are_followed_only_when_that_is_asked(run, docs, tmp_path):
    (tmp_path / "secrets").write_text("The password is swordfish.")
    (docs / "faq.md").symlink_to(tmp_path / "secrets")
    added = run("knowledge", "add", str(docs), "--json")
    assert added.code == 0
    assert "faq.md" not in counted(added)
    assert "faq.md: skipped, it is a symbolic link, which only --follow-links follows" in added.stderr
    named = run("knowledge", "add", str(docs / "faq.md"))
    assert named.code == 2
    assert "faq.md is a symbolic link" in named.stderr
    assert counted(run("knowledge", "add", str(docs), "--follow-links", "--json"))["faq.md"] == (1, 0, 0, 0)
    assert "faq.md" not in counted(run("knowledge", "add", str(docs), "--json")), "it stays as it is"
    assert "faq.md" in run("knowledge", "list").stdout
