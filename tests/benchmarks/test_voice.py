"""The benchmark of turns: its arithmetic, its sentences, and that the document says what was measured."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from benchmarks import voice, voice_cases, voice_report
from benchmarks.voice_cases import RATE, Sentence
from benchmarks.voice_listen import survives, wrong_words
from benchmarks.voice_turns import HESITATING, Heard, Pause, Setting, Turn, expected, measured

BOTH = Setting(0.5, 1.5)
ALONE = Setting(0.5, 0.5, detector=False, words=False)


def pause(probability: float, resumed: float | None, *, trails: bool = False, start: float = 1.0) -> Pause:
    return Pause(start, 0.26, probability, resumed, "text", trails)


def heard(*pauses: Pause, end: float = 1.9, text: str = "said", kind: str = "hesitation") -> Heard:
    return Heard(kind, text, end, pauses)


def turn(audible: float | None, *, cut: bool = False, text: str = "said", kind: str = "hesitation") -> Turn:
    return Turn(kind, text, cut, 0.4, 0.6, audible)


@pytest.mark.parametrize(
    ("setting", "probability", "trails", "over"),
    [
        (BOTH, 0.9, False, 0.5),
        (BOTH, 0.1, False, 1.5),
        (BOTH, 0.9, True, 1.5),
        (ALONE, 0.1, True, 0.5),
        (Setting(0.5, 1.5, words=False), 0.9, True, 0.5),
        (Setting(0.5, 1.5, detector=False), 0.1, False, 0.5),
        (Setting(0.1, 1.5), 0.9, False, 0.26),  # not before it is noticed that nobody speaks
    ],
)
def test_a_turn_is_over_after_the_delay_that_detector_and_words_call_for(setting, probability, trails, over):
    assert pause(probability, None, trails=trails).over(setting) == pytest.approx(over)


def test_a_turn_is_not_over_before_it_is_known_what_was_said():
    assert pause(0.9, None).over(BOTH, known=0.8) == pytest.approx(0.8)
    assert pause(0.1, None).over(BOTH, known=0.8) == pytest.approx(1.5)


@pytest.mark.parametrize(("resumed", "cut"), [(0.4, False), (0.6, True)])
def test_who_goes_on_in_time_is_not_cut_off(resumed, cut):
    assert heard(pause(0.9, resumed), pause(0.9, None, start=3.0)).is_cut(BOTH) is cut


def test_the_end_of_the_sentence_cuts_nobody_off():
    assert not heard(pause(0.9, None)).is_cut(BOTH)


def test_the_wait_counts_from_the_end_of_speech_and_not_from_when_it_was_heard():
    one = heard(pause(0.9, None, start=2.0), end=1.9)
    assert one.waits(BOTH, known=0.3) == pytest.approx(0.6)
    assert one.waits(BOTH, known=0.9) == pytest.approx(0.9)


def test_what_a_session_did_is_counted_with_cut_ins_and_without_an_answer():
    turns = [turn(0.8), turn(1.0), turn(1.2), turn(3.0, cut=True), turn(0.9, kind="name")]
    figures = measured(turns)
    assert (figures.median, figures.cut_ins, figures.hesitating) == (pytest.approx(0.95), 0.2, 0.25)
    assert figures.misses == ["cut-ins"]
    assert math.isinf(measured([turn(None), turn(1.0)]).p95)
    assert measured([turn(3.0)]).misses == ["median", "p95"]
    assert measured([turn(1.0)]).misses == []


def test_another_setting_is_worked_out_from_the_turns_of_this_one():
    said = heard(pause(0.9, 1.0), pause(0.1, None, start=1.9))
    figures = expected(Setting(0.2, 2.0), [turn(0.8)], [said, heard(pause(0.9, None), kind="name", text="other")])
    assert figures.median == pytest.approx(2.0 + 0.8 - 0.6)  # the answer takes as long after the end of the turn
    assert (figures.cut_ins, figures.hesitating, figures.turns, figures.heard) == (0.5, 1.0, 1, 2)


def test_what_memory_adds_is_the_difference_of_the_two_calls():
    def turns(late: float) -> list[dict[str, object]]:
        one = {"kind": "name", "sentence": "said", "cut": False, "known": 0.4, "over": 0.6}
        return [one | {"audible": 0.8 + late, "cpu": late} for _ in range(3)]

    both = {"turns": {"memory": turns(0.014), "bare": turns(0.010)}, "pss_mb": {"memory": 520.0, "bare": 500.0}}
    both["thought_ms"] = {"memory": [14.0, 14.0, 14.0], "bare": [10.0, 10.0, 10.0]}
    added = voice.added(both)
    assert {name: round(value, 3) for name, value in added.items()} == {
        "median_ms": 4.0,
        "p95_ms": 4.0,
        "audible_ms": 4.0,
        "mb": 20.0,
        "cpu_ms": 4.0,
        "bare_cpu_ms": 10.0,
        "bare_mb": 500.0,
        "turns": 3,
    }


def says(text: str, *slots: str) -> voice_cases.Said:
    return voice_cases.Said(Sentence("name", text, slots), "hibari", np.zeros(0, np.int16), 0.0, (), noisy=False)


def test_fillers_are_no_words_and_any_spelling_of_what_matters_will_do():
    assert wrong_words(says("I'd like to, um, change my order."), "I'd like to change an order. Uh,") == (1, 6)
    order = says("Where is order 1001?", "1001", "a thousand and one")
    assert survives(order, "where is order one thousand one")
    assert not survives(order, "where is order ten")


def tones(*lengths: float) -> np.ndarray:
    """Sound and silence in turns, beginning with silence."""
    pieces = [np.full(round(seconds * RATE), 5000 * (number % 2), np.int16) for number, seconds in enumerate(lengths)]
    return np.concatenate(pieces)


def test_the_longest_breaks_become_stops_to_think():
    sound = tones(0.3, 0.5, 0.1, 0.5, 0.2, 0.5, 0.15, 0.5, 0.4)
    longer, stops = voice_cases.hesitating(sound, [0.9, 0.7])
    assert stops == (0.9, 0.7)
    assert [round((end - start) / RATE, 2) for start, end in voice_cases.breaks(longer)] == [0.1, 0.9, 0.7]
    assert voice_cases.spoken(longer)[1] / RATE == pytest.approx(0.3 + 4 * 0.5 + 0.1 + 0.9 + 0.7)
    assert voice_cases.hesitating(tones(0.3, 0.5, 0.3), [0.9])[1] == ()


def test_noise_is_as_loud_as_it_is_said_to_be():
    sound = tones(0.5, 2.0)
    noise = voice_cases.noisy_sound(sound).astype(float) - sound
    power = np.square(noise[: RATE // 2]).mean(), np.square(sound[RATE:].astype(float)).mean()
    assert 10 * np.log10(power[1] / power[0]) == pytest.approx(voice_cases.NOISE_DB, abs=1.5)


def test_the_sentences_are_distinct_and_half_of_those_that_stop_were_never_looked_at():
    sentences = voice_cases.load()
    assert len({each.text for each in sentences}) == len(sentences) >= 60
    kinds = [each.kind for each in sentences]
    assert min(kinds.count(kind) for kind in HESITATING) >= 14
    assert all("," in each.text for each in sentences if each.kind in HESITATING)
    assert all(slot == slot.lower() for each in sentences for slot in each.slots)


def test_a_setting_that_misses_nothing_is_told_from_one_that_does():
    rows = [voice_report.row(BOTH.name, measured([turn(0.8)]), "in the call")]
    rows.append(voice_report.row(ALONE.name, measured([turn(None)]), "in the call"))
    first, second = voice_report.settings_table(rows).splitlines()[2:]
    assert first.endswith("| **meets all** |")
    assert "| never | never |" in second
    assert second.endswith("| not the median, p95 |")


def test_settings_are_named_apart():
    names = [each.name for each in [*voice.GRID, *voice.OTHERS]]
    assert len(set(names)) == len(names)
    assert all(re.search(r": [\d.]+(, [\d.]+)?$", name) for name in names)
    assert all(one.shortest <= other.shortest for one, other in pairwise(voice.GRID))


def test_the_document_is_made_of_the_last_results():
    told = voice_report.results()
    shown = voice_report.blocks(told)
    if told:
        assert len(shown["voice-turns"].splitlines()) == len(told["rows"]) + 2
    else:
        assert set(shown.values()) == {"Not measured yet."}
