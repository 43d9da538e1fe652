"""The table of phrases: languages as profiles name them, and lines that do not repeat themselves."""

from __future__ import annotations

import itertools

import pytest

from lkmongo.agent.status_line import StatusLines, language_code, languages


@pytest.mark.parametrize(
    ("preferred", "code"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT", "de"),
        ("pt_BR", "pt"),
        ("German", "de"),
        (" DEUTSCH ", "de"),
        ("Français", "fr"),
        ("Spanish (Mexico)", "es"),
        ("Klingon", "en"),
        ("xx", "en"),
        ("italians", "en"),
    ],
)
def test_a_language_is_understood_as_profiles_write_it(preferred, code):
    assert language_code(preferred) == code


def test_seven_languages_have_lines_of_their_own_that_a_voice_can_read():
    assert {"en", "de", "fr", "es", "it", "pt", "nl"} <= set(languages())
    for language in languages().values():
        assert len(set(language.wait)) == len(language.wait) >= 3
        for line in language.wait:
            assert len(line) <= 60
            assert line.endswith(".")


def test_no_line_comes_twice_before_all_had_their_turn_nor_twice_running():
    for _ in range(50):
        lines = StatusLines()
        said = [lines.next("Deutsch") for _ in range(12)]
        count = len(languages()["de"].wait)
        assert set(said[:count]) == set(languages()["de"].wait)
        assert all(one != other for one, other in itertools.pairwise(said))


def test_a_change_of_language_is_followed_at_once():
    lines = StatusLines()
    assert lines.next("en") in languages()["en"].wait
    assert lines.next("it") in languages()["it"].wait
    assert lines.next(None) in languages()["en"].wait
