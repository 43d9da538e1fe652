"""Words that were said and words that were heard are compared as what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.hearing import Heard, Sentence, canonical, loudness, sentences, with_noise, word_errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where is order forty seven eleven?", "where is order 4711"),
        ("one thousand one", "1001"),
        ("four thousand seven hundred eleven", "4711"),
        ("555-0134.", "5550134"),
        ("five five five, zero one three four", "5550134"),
        ("nine eight one oh one", "98101"),
        ("20,318 items", "20318 items"),
        ("robin dot fletcher at example dot com.", "robin.fletcher@example.com"),
        ("Robin.Fletcher@example.com.", "robin.fletcher@example.com"),
        ("My favourite colour", "my favorite color"),
        ("at half past two", "at half past 2"),
    ],
)
def test_numbers_and_addresses_have_one_form(text, words):
    assert canonical(text) == words.split()


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("Hi, I am Robin.", "hi i am robin", 0),
        ("Hi, I am Robin.", "", 4),
        ("Hi, I am Robin.", "Hi, I'm Robin.", 2),
        ("Yes.", "Yes, yes, yes.", 2),
        ("Where is order 1001?", "Where is the order one thousand one?", 1),
    ],
)
def test_words_that_were_changed_lost_or_added_are_counted(said, heard, errors):
    assert word_errors(said, heard) == (errors, len(canonical(said)))


def test_what_matters_survives_or_does_not():
    heard = Heard()
    heard.add(Sentence("My name is Robin.", ("robin",)), "My name is Robert.")
    heard.add(Sentence("Order 47 11, please.", ("4711", "order")), "Order four seven one one, please.")
    assert (heard.kept, heard.slots, heard.errors, heard.words) == (2, 3, 1, 7)
    assert heard.misheard == [("My name is Robin.", "My name is Robert.")]


def test_each_sentence_holds_what_has_to_survive_of_it():
    for sentence in sentences():
        heard = Heard()
        heard.add(sentence, sentence.text)
        assert heard.kept == heard.slots > 0, sentence
        assert heard.errors == 0


def test_noise_is_so_much_fainter_than_the_voice():
    voice = (8000 * np.sin(np.arange(48_000) / 9)).astype(np.int16)
    noise = with_noise(voice, 10, loudness(voice)).astype(float) - voice
    assert loudness(voice) / loudness(noise) == pytest.approx(10 ** (10 / 20), rel=0.02)
    assert with_noise(voice, None, 1.0) is voice
