"""What was cut into words once is not cut again."""

from __future__ import annotations

from lkmongo.search import exact
from lkmongo.search.exact import TextIndex, Tokenizer


def test_an_index_with_what_was_cut_before_is_the_same():
    tokenizer = Tokenizer()
    before = ["a red dog bed", "parcels that arrived", "a red dog bed", ""]
    after = ["a red dog bed", "the parcel was lost", "", "opening hours"]
    TextIndex(before, tokenizer)
    for query in ("red beds", "lost parcels", "hours of opening", "arrived"):
        assert TextIndex(after, tokenizer).search(query, 5) == TextIndex(after).search(query, 5)


def test_only_what_is_new_is_cut_and_what_is_gone_is_not_kept(monkeypatch):
    cut = []
    monkeypatch.setattr(exact, "words", lambda each: cut.append(each) or each.split())
    tokenizer = Tokenizer()
    tokenizer(["one text", "other"])
    assert tokenizer(["other", "a third"]) == [["other"], ["a", "third"]]
    assert cut == ["one text", "other", "a third"]
    tokenizer(["one text"])
    assert cut[3:] == ["one text"], "it was forgotten with the index that it was in"
