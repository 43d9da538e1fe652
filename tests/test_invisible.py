"""What nobody sees in a text is escaped where people read it, and is not there for a model."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.invisible import safe_json, visible, without_unseen
from lkmongo.store.mongo.extended_json import dumps, loads

CONTROLS = [*map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"]
CONTROLS += ["\u2066", "\u2067", "\u2068", "\u2069"]
texts = st.text(st.one_of(st.sampled_from(CONTROLS), st.characters(codec="utf-8")))


@given(st.dictionaries(texts, texts))
def test_json_means_the_same_and_holds_no_control_character(document):
    text = safe_json(json.dumps(document, ensure_ascii=False))
    assert json.loads(text) == document
    assert not set(CONTROLS) & set(text)
    assert not [each for each in text if unicodedata.category(each) == "Cc"]


@given(st.dictionaries(texts.filter(lambda key: not key.startswith("$")), texts))
def test_a_line_of_an_export_or_a_journal_holds_none_either(document):
    line = dumps(document)
    assert loads(line) == document
    assert not set(CONTROLS) & set(line.decode())


@given(st.text())
def test_what_is_shown_holds_none(text):
    assert not set(CONTROLS) & set(visible(text))


@pytest.mark.parametrize("text", ["Bjørn's café, 東京", "می‌خواهم", "👩‍🚀 ❤️‍🔥 ☺️", "क्‍ष", "two\nlines\tand a tab"])
def test_what_is_written_stays(text):
    assert without_unseen(text) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ig\u200bno\u2060re\ufeff", "ignore"),
        ("tea\U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065l", "teal"),  # "ignore" in tags
        ("x\u200d\u200c\u200d\u200d\u200cy", "x\u200dy"),
        ("x\ufe01\ufe0e\U000e0101\U000e01efy", "xy"),
        ("a\u202egnihton\u202c b\x9b31m", "agnihton b31m"),
        ("\u3164\u115f\u2800\u00ad\u034f", ""),
    ],
)
def test_what_is_not_seen_is_not_read(text, read):
    assert without_unseen(text) == read


@given(st.text())
def test_text_without_it_holds_no_character_that_a_font_leaves_out(text):
    left = without_unseen(text)
    assert without_unseen(left) == left
    hidden = [each for each in left if unicodedata.category(each) in {"Cf", "Cc", "Cs"}]
    allowed = set("\n\t\u200c\u200d")
    visible_formats = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
    shorthand = {chr(code) for code in range(0x13430, 0x13440)}  # they lay out hieroglyphs, and are drawn
    assert not set(hidden) - allowed - visible_formats - shorthand
