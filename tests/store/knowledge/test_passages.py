"""Markdown is split where a reader would pause, and nothing that is said in it is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.model import Passage
from lkmongo.store.knowledge.passages import MAX_PASSAGE, MAX_TITLE, content_hash, split_markdown, split_plain


def contents(markdown):
    return [passage.content for passage in split_markdown(markdown, "file.md")]


def titles(markdown, source="file.md"):
    return [passage.title for passage in split_markdown(markdown, source)]


def sentence(number, length=100):
    return (f"Sentence {number} " + "word " * length)[: length - 1].strip() + "."


class TestTitles:
    def test_a_title_is_the_path_of_headings(self):
        markdown = (
            "# Returns\n\n## How long\n\n45 days.\n\n### Gifts\n\nLonger.\n\n## Where to\n\nOhio.\n\n# Other\n\nText."
        )
        assert titles(markdown) == ["Returns: How long", "Returns: How long: Gifts", "Returns: Where to", "Other"]

    def test_a_skipped_level_does_not_join_its_neighbors(self):
        assert titles("# A\n\n### C\n\none\n\n## B\n\ntwo") == ["A: C", "A: B"]

    def test_an_underlined_heading_is_a_heading(self):
        assert titles("Returns\n=======\n\nHow long\n--------\n\n45 days.") == ["Returns: How long"]

    def test_emphasis_and_a_colon_at_the_end_are_not_part_of_a_title(self):
        assert titles("# *Our* `returns`:\n\ntext") == ["Our returns"]

    def test_text_above_the_first_heading_is_titled_by_the_file(self):
        assert titles("Before.\n\n# Heading\n\nAfter.", "hotel/check-in_times.md") == ["Check in times", "Heading"]

    def test_a_file_with_a_name_of_signs_alone_is_titled_by_its_path(self):
        assert titles("Text.", "---.md") == ["---.md"]

    def test_a_long_title_is_cut_between_words(self):
        (title,) = titles("# " + "heading " * 60 + "\n\ntext")
        assert len(title) <= MAX_TITLE
        assert title.endswith(" heading…")

    def test_chunks_count_through_the_whole_file(self):
        passages = split_markdown("# A\n\none\n\n# B\n\ntwo\n\n# C\n\nthree", "a/b.md")
        assert passages == [
            Passage("a/b.md", 0, "A", "one"),
            Passage("a/b.md", 1, "B", "two"),
            Passage("a/b.md", 2, "C", "three"),
        ]

    def test_headings_without_text_make_no_passage(self):
        assert split_markdown("# A\n\n## B\n", "file.md") == []
        assert split_markdown("", "file.md") == []
        assert titles("# A\n\n## B\n\ntext") == ["A: B"]


class TestText:
    @pytest.mark.parametrize(
        ("markdown", "text"),
        [
            ("Within **45** days, `used` or _not_.", "Within 45 days, used or not."),
            ("Write [to us](https://shop.example/help) now.", "Write to us now."),
            ("Write to <help@shop.example>.", "Write to help@shop.example."),
            ("A ![blue lamp](lamp.png) here.", "A blue lamp here."),
            ("One line\ngoes on here.", "One line goes on here."),
            ("First<br>second, x<sup>2</sup>.", "First second, x2."),
            ("Salt &amp; pepper, 5 &lt; 6.", "Salt & pepper, 5 < 6."),
            ("Seen.\n\n<!-- not\n\nseen -->\n\nSeen too.", "Seen.\n\nSeen too."),
            ("<div>In <b>HTML</b> &amp; here</div>", "In HTML & here"),
            ("Above.\n\n---\n\nBelow.", "Above.\n\nBelow."),
            ("> Quoted.\n>\n> Twice.", "Quoted.\n\nTwice."),
            ("Say [it][1].\n\n[1]: https://shop.example", "Say it."),
            ("Lone \ud800 surrogate.", "Lone \ufffd surrogate."),
            ("\ufeff# A\n\nText.", "Text."),
        ],
    )
    def test_what_is_not_said_is_left_out(self, markdown, text):
        assert contents(markdown) == [text]

    def test_lists_keep_their_marks_and_their_order(self):
        markdown = "- Milk\n- Bread\n  - rye\n  - white\n\n3. Third\n4. Fourth\n   goes on"
        assert contents(markdown) == ["- Milk\n- Bread\n  - rye\n  - white\n\n3. Third\n4. Fourth goes on"]

    def test_a_table_row_names_its_columns(self):
        markdown = "| Speed | Price | |\n|---|---|---|\n| Slow | 5 | free from 60. |\n| Fast | | |\n| | | |"
        assert contents(markdown) == ["Speed: Slow; Price: 5; free from 60.\nSpeed: Fast."]

    def test_a_table_of_a_header_alone_is_its_names(self):
        assert contents("| Speed | Price |\n|---|---|") == ["Speed; Price"]

    def test_a_code_block_keeps_its_lines(self):
        assert contents("```sh\nif a\n\n  then b\n```") == ["if a\n\n  then b"]

    def test_front_matter_is_skipped(self):
        assert contents("---\ntitle: Returns\ntags: [a, b]\n---\n# A\n\nText.") == ["Text."]

    @pytest.mark.parametrize("line", ["title: Our returns", "title:  'Our returns' ", 'title: "Our returns"'])
    def test_a_title_in_the_front_matter_is_the_heading_at_the_top(self, line):
        front = f"---\nweight: 3\n{line}\nsubtitle: no\n---\n"
        assert titles(f"{front}Text.\n\n## How long\n\nText.") == ["Our returns", "Our returns: How long"]
        assert titles(f"{front}# Another\n\n## How long\n\nText.") == ["Another: How long"]

    def test_an_empty_title_in_the_front_matter_is_none(self):
        assert titles("---\ntitle:\nweight: 3\n---\nText.", "returns.md") == ["Returns"]

    def test_text_between_two_rules_is_no_front_matter(self):
        assert contents("---\n\nIs this seen?\n\n---\n\nYes.") == ["Is this seen?\n\nYes."]

    @pytest.mark.parametrize("newline", ["\r\n", "\r"])
    def test_any_line_end_will_do(self, newline):
        markdown = "---\nkey: value\n---\n# A\n\nOne\ntwo.\n\n## B\n\n- three\n- four\n"
        assert split_markdown(markdown.replace("\n", newline), "f.md") == split_markdown(markdown, "f.md")


class TestSize:
    def test_what_fits_exactly_is_one_passage(self):
        markdown = "x" * 1_000 + "\n\n" + "y" * (MAX_PASSAGE - 1_002)
        assert contents(markdown) == [markdown]

    def test_long_text_is_split_between_paragraphs(self):
        paragraphs = [" ".join(sentence(n * 10 + m) for m in range(5)) for n in range(4)]
        assert contents("# A\n\n" + "\n\n".join(paragraphs)) == [
            "\n\n".join(paragraphs[:2]),
            "\n\n".join(paragraphs[2:]),
        ]

    def test_a_long_paragraph_is_split_between_sentences(self):
        pieces = contents(" ".join(sentence(n) for n in range(30)))
        assert len(pieces) == 3
        assert all(re.fullmatch(r"Sentence .*\.", piece, re.DOTALL) for piece in pieces)

    def test_the_pieces_have_about_one_length(self):
        pieces = contents(" ".join(sentence(n) for n in range(13)))
        assert [round(len(piece), -2) for piece in pieces] == [700, 600]

    def test_a_quotation_mark_stays_with_its_sentence(self):
        pieces = contents(" ".join(f'He said: "{sentence(n, 300)}"' for n in range(8)))
        assert all(piece.startswith("He said") and piece.endswith('"') for piece in pieces)

    def test_a_long_sentence_is_split_between_words(self):
        pieces = contents("word " * 600)
        assert set(" ".join(pieces).split()) == {"word"}
        assert len(" ".join(pieces).split()) == 600

    def test_what_is_no_word_is_cut_anywhere(self):
        pieces = contents("k" * 3_000)
        assert [len(piece) for piece in pieces] == [1000, 1000, 1000]

    def test_text_without_spaces_is_split_between_its_sentences(self):
        pieces = contents("我们的商店每天营业。" * 200)
        assert "".join(pieces) == "我们的商店每天营业。" * 200
        assert all(piece.endswith("。") for piece in pieces)

    def test_a_table_or_code_that_fits_is_kept_whole(self):
        rows = "\n".join(f"| row {n} | {'x' * 50} |" for n in range(9))
        code = "\n".join(f"line {n}" + ("\n" if n % 3 == 0 else "") for n in range(80))
        for block, expected in (
            (f"| A | B |\n|---|---|\n{rows}", "\n".join(f"A: row {n}; B: {'x' * 50}." for n in range(9))),
            (f"```\n{code}\n```", code.strip("\n")),
        ):
            assert 500 < len(expected) < MAX_PASSAGE
            pieces = contents(f"{sentence(1, 1000)}\n\n{block}\n\n{sentence(2, 1000)}")
            assert any(expected in piece for piece in pieces)

    def test_long_code_is_split_between_lines_and_keeps_its_indents(self):
        code = [f"    say({n}) and then wait" for n in range(100)]
        pieces = contents("```\n" + "\n".join(code) + "\n```")
        assert len(pieces) > 1
        assert [line for piece in pieces for line in piece.split("\n")] == code

    def test_a_long_table_is_split_between_rows(self):
        rows = [f"| row {n} | {'x' * 90} |" for n in range(30)]
        pieces = contents("| A | B |\n|---|---|\n" + "\n".join(rows))
        assert len(pieces) > 1
        assert [line for piece in pieces for line in piece.split("\n")] == [
            f"A: row {n}; B: {'x' * 90}." for n in range(30)
        ]


class TestPlainText:
    def test_paragraphs_are_parted_by_empty_lines(self):
        (passage,) = split_plain([((), "\n\nOne # not a heading.\n \n\n* Two\n\n")], "opening_hours.txt")
        assert (passage.title, passage.content) == ("Opening hours", "One # not a heading.\n\n* Two")

    def test_sections_are_titled_by_their_headings_and_counted_through(self):
        sections = [((), "Before."), (("Alder", "Setup"), "Plug it in."), (("Alder", "Nothing"), " \n ")]
        assert split_plain(sections, "a.pdf") == [
            Passage("a.pdf", 0, "A", "Before."),
            Passage("a.pdf", 1, "Alder: Setup", "Plug it in."),
        ]

    def test_long_text_is_cut_as_markdown_is(self):
        text = " ".join(sentence(n) for n in range(30))
        assert [p.content for p in split_plain([((), text)], "a.txt")] == contents(text)


def test_a_very_long_text_without_sentences_loses_no_word():
    pieces = contents("word " * 100_000)
    assert max(map(len, pieces)) <= MAX_PASSAGE
    assert sum(len(piece.split()) for piece in pieces) == 100_000


words = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=30)
paragraphs = st.lists(words, min_size=1, max_size=150).map(" ".join)


class TestEveryDocument:
    @given(
        st.text()
        | st.lists(st.sampled_from([*"#-*|`>[]()<!~=+_\\&\n\t 1.", "a word", "\n\n", "```", "---\n"])).map("".join)
    )
    def test_passages_are_small_whole_and_numbered(self, markdown):
        passages = split_markdown(markdown, "file.md")
        assert [passage.chunk for passage in passages] == list(range(len(passages)))
        for passage in passages:
            assert passage.content.strip()
            assert len(passage.content) <= MAX_PASSAGE
            assert 0 < len(passage.title) <= MAX_TITLE
            passage.embedded_text.encode()

    @given(st.lists(paragraphs, min_size=1, max_size=6))
    def test_no_word_is_lost_cut_or_moved(self, texts):
        markdown = "# Heading\n\n" + "\n\n".join(texts)
        assert " ".join(contents(markdown)).split() == " ".join(texts).split()


def test_the_hash_covers_title_and_content():
    one = Passage("a.md", 0, "Title", "Content")
    assert content_hash(one) == content_hash(Passage("b.md", 7, "Title", "Content"))
    assert content_hash(one) != content_hash(Passage("a.md", 0, "Other", "Content"))
    assert content_hash(one) != content_hash(Passage("a.md", 0, "Title", "Changed"))
