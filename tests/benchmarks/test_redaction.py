"""The benchmark of redaction: its data, and that the documents say what it measures."""

from __future__ import annotations

from benchmarks import redaction
from lkmongo.detectors.plain import KINDS


def test_the_lines_are_many_distinct_and_hold_every_kind_in_both_halves():
    halves = {half: redaction.load(half) for half in redaction.HALVES}
    texts = [line.text for lines in halves.values() for line in lines]
    assert len(texts) >= 400
    assert len(set(texts)) == len(texts)
    for lines in halves.values():
        kinds = [kind for line in lines for _, _, kind in line.marked]
        assert all(kinds.count(kind) >= 12 for kind in KINDS)
        assert sum(not line.marked for line in lines) >= 70


def test_what_was_measured_last_is_what_is_measured_now():
    found = redaction.results()
    for half in redaction.HALVES:
        report = redaction.judge(redaction.load(half))
        told = {kind: redaction.Score(**score) for kind, score in found["halves"][half]["scores"].items()}
        assert report.scores == told, f"run python -m benchmarks.redaction, then make docs: {report.misses}"
    assert found["microseconds"]["everyday"] < 200


def test_each_kind_is_found_in_lines_that_it_was_not_tuned_on():
    scores = redaction.judge(redaction.load("held_out")).scores
    assert all(score.recall >= 0.9 and score.precision >= 0.9 for score in scores.values())


def test_a_value_counts_as_found_only_as_a_whole_and_what_is_masked_elsewhere_as_wrong():
    lines = [
        redaction._parsed(line)
        for line in ("my pin is {secret|1234 and more}", "my pin is 1234", "{card|4111 1111 1111 1111} it is")
    ]
    report = redaction.judge(lines)
    assert (report.scores["secret"].found, report.scores["secret"].wrong) == (0, 1)
    assert (report.scores["card"].found, report.scores["card"].of_kind) == (1, 1)
