"""Text to terms, and terms near a term."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.standin.analysis import analyze
from tests.standin.errors import CommandError
from tests.standin.fuzzy import Expansion, expand

CASES = {
    "Favorite Color": ["favorite", "color"],
    "favorite_color": ["favorite_color"],
    "favorite-color": ["favorite", "color"],
    "it's ann’s": ["it's", "ann’s"],  # noqa: RUF001  the typographic apostrophe is meant
    "example.com a.b. end.": ["example.com", "a.b", "end"],
    "1,000.50 and 3/4": ["1,000.50", "and", "3", "4"],
    "ann@example.com": ["ann", "example.com"],
    "v2 2nd": ["v2", "2nd"],
    "Ünïcödé ÉCOLE": ["ünïcödé", "école"],
    "東京 tower": ["東", "京", "tower"],
    "привет мир": ["привет", "мир"],
    "कि नमस्ते": ["कि", "नमस्ते"],
    "ภาษาไทย 5": ["ภาษาไทย", "5"],
    "ab\u200dc x\u00ady": ["ab\u200dc", "x\u00ady"],
    "тест.тест, 3,5 1.2": ["тест.тест", "3,5", "1.2"],
    "カタカナabc ひら": ["カタカナ", "abc", "ひ", "ら"],
    "ok👍🏽👩‍👧 🇩🇪🇫🇷": ["ok", "👍🏽", "👩‍👧", "🇩🇪", "🇫🇷"],
    "½ x² İ ΛΌΓΟΣ Ⅳ": ["x", "i", "λόγοσ", "ⅳ"],
    "  ?! _ … ": [],
    "": [],
}


@pytest.mark.parametrize(("text", "terms"), CASES.items())
def test_terms_of_the_standard_analyzer(text, terms):
    assert analyze(text) == terms


def test_other_analyzers():
    assert analyze("Green-Tea 2go", "lucene.simple") == ["green", "tea", "go"]
    assert analyze("Green-Tea  2go", "lucene.whitespace") == ["Green-Tea", "2go"]
    assert analyze("Green Tea", "lucene.keyword") == ["Green Tea"]


def test_a_term_has_no_more_than_255_characters():
    assert [len(term) for term in analyze("x" * 600)] == [255, 255, 90]


@given(st.text(max_size=60))
def test_terms_are_never_empty_and_analyzing_one_again_keeps_its_letters(text):
    terms = analyze(text)
    assert all(terms)
    assert all(term == term.lower() for term in terms)
    assert analyze(text + " " + text) == terms * 2


WORDS = st.lists(st.text("abc", min_size=2, max_size=5), max_size=12, unique=True)


@given(st.text("abc", min_size=2, max_size=5), WORDS, st.integers(1, 2), st.integers(0, 3), st.integers(1, 5))
def test_expansions_keep_the_prefix_the_distance_and_the_cap(term, words, edits, prefix, cap):
    found = expand(term, words, Expansion(edits, prefix, cap))
    assert len(found) <= cap
    assert all(word.startswith(term[:prefix]) and abs(len(word) - len(term)) <= edits for word in found)
    assert all(0 <= worth <= 1 for worth in found.values())
    if term in words:
        assert found[term] == 1


def test_a_transposition_is_one_edit():
    assert set(expand("green", ["grene", "genre"], Expansion(max_edits=1))) == {"grene"}


def test_a_word_that_changes_as_a_whole_is_found_and_worth_nothing():
    assert expand("ab", ["ab", "cd", "bc"], Expansion()) == {"ab": 1.0, "cd": 0.0, "bc": 0.0}
    assert expand("a", ["a", "b", "by"], Expansion(max_edits=1)) == {"a": 1.0, "b": 0.0}
    with pytest.raises(CommandError, match="worth less than nothing"):
        expand("a", ["by"], Expansion(max_edits=2))
