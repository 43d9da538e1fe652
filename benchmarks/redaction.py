"""How much of what must not be stored is found, how much else is hit, and what it costs; writes docs/privacy.md.

    python -m benchmarks.redaction [--half tuned|held_out] [--misses] [--json FILE]

The lines in `redaction_data` are of our own making, with fictional values marked: `my PIN is {secret|1234}`. The
detectors were tuned on one half; the other half was written before, and only measured. A value counts as found if all
of its letters and digits are masked, whichever kind it was taken for (`of its kind` says how many were taken for
theirs); what is masked where nothing is marked counts against precision. All kinds are masked, also those that are
kept by default. `--misses` prints what went wrong, of the tuned half only unless the other one is asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import tell
from lkmongo.conversation import Conversation
from lkmongo.detectors.plain import KINDS, Found
from lkmongo.model import Turn, TurnKind
from lkmongo.redaction import POLICY, Redactor

DATA = Path(__file__).with_name("redaction_data")
HALVES = ("tuned", "held_out")
RESULTS = Path(__file__).with_name("redaction_results.json")
STRICT = Redactor(dict.fromkeys(POLICY, "mask"))
_MARK = re.compile(r"\{(\w+)\|([^{}]*)\}")
_ROUNDS = 30
CALL = """
Hello, this is the shop's assistant. How can I help you?
hi, I ordered a kettle two weeks ago and the handle broke off yesterday
I am sorry to hear that. Could you tell me the number of your order, please?
yes it's A-1001, from the 3rd of November
Thank you. I can see the order: one kettle, 39.90 euros, delivered on 6 November.
right, so what about the guarantee, is it still covered
The guarantee covers two years. I can send you a new one, or refund the price.
I'd rather have a new one, but in blue if that is possible
A blue one is in stock. Shall I send it to the address on your account?
yes please, and can you tell me when it will arrive, I am away from the 14th to the 20th
It would arrive on Thursday the 12th, between nine and noon.
perfect, remember that I prefer deliveries in the morning
I will remember that you prefer deliveries in the morning.
do I have to send the old one back
No, you can keep it or recycle it. You get a message with the number of the parcel.
great, thanks for your help, bye
You are welcome. Have a nice day!
""".strip().split("\n")
"""The turns of a call in which nothing is told that must not be stored, as in most."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and what in it must not be stored: (start, end, kind)."""

    text: str
    marked: tuple[tuple[int, int, str], ...]


@dataclass(slots=True)
class Score:
    """What was found of one kind.

    Attributes:
        marked: how many values there are.
        found: how many of them are masked as a whole.
        of_kind: how many of these were taken for this kind.
        wrong: what was masked as this kind where nothing is marked.
    """

    marked: int = 0
    found: int = 0
    of_kind: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float:
        return self.found / self.marked if self.marked else 1.0

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.wrong) if self.found + self.wrong else 1.0


@dataclass(slots=True)
class Report:
    """Scores of one half, by kind, and the lines that went wrong."""

    lines: int = 0
    scores: dict[str, Score] = field(default_factory=lambda: {kind: Score() for kind in KINDS})
    misses: list[str] = field(default_factory=list)


def load(half: str) -> list[Line]:
    return [_parsed(each) for each in (DATA / f"{half}.txt").read_text(encoding="utf-8").splitlines() if each.strip()]


def _parsed(line: str) -> Line:
    text, marked, at = "", [], 0
    for mark in _MARK.finditer(line):
        text += line[at : mark.start()]
        marked.append((len(text), len(text) + len(mark[2]), mark[1]))
        text += mark[2]
        at = mark.end()
    return Line(text + line[at:], tuple(marked))


def judge(lines: Iterable[Line]) -> Report:
    report = Report()
    for line in lines:
        report.lines += 1
        found = STRICT.find(line.text) or []
        masked = {place for each in found for place in range(each.start, each.end)}
        for start, end, kind in line.marked:
            told = {place for place in range(start, end) if line.text[place].isalnum()}
            score = report.scores[kind]
            score.marked += 1
            if told <= masked:
                score.found += 1
                score.of_kind += any(each.kind == kind and each.start < end and each.end > start for each in found)
            else:
                report.misses.append(f"missed {kind}: {line.text}")
        for each in _unmarked(found, line):
            report.scores[each.kind].wrong += 1
            report.misses.append(f"wrongly {each.kind}: {line.text} ({line.text[each.start : each.end]})")
    return report


def _unmarked(found: Sequence[Found], line: Line) -> Iterator[Found]:
    for each in found:
        if not any(start < each.end and each.start < end for start, end, _ in line.marked):
            yield each


def microseconds(calls: Sequence[Sequence[str]], redactor: Redactor) -> list[float]:
    """What each turn of some calls takes, in microseconds of the processor, as the recorder has it redacted."""
    times = []
    for texts in calls:
        roles = [("assistant", "user")[number % 2] for number in range(len(texts))] if len(texts) > 1 else ["user"]
        turns = [
            Turn(number, str(number), TurnKind.MESSAGE, datetime.now(UTC), role=role, content=text)
            for number, (role, text) in enumerate(zip(roles, texts, strict=True))
        ]
        best = [float("inf")] * len(turns)
        for _ in range(_ROUNDS):
            conversation = Conversation(redactor.anew())
            for number, turn in enumerate(turns):
                began = time.process_time()
                conversation.turn(turn)
                best[number] = min(best[number], (time.process_time() - began) * 1e6)
        times += best
    return times


def measured() -> dict[str, Any]:
    """Everything, as it is kept in `redaction_results.json`."""
    halves = {half: judge(load(half)) for half in HALVES}
    everyday, telling = (
        microseconds([CALL], Redactor()),
        microseconds([[each.text] for each in load("tuned")], Redactor()),
    )
    return {
        "halves": {
            half: {"lines": report.lines, "scores": {kind: asdict(score) for kind, score in report.scores.items()}}
            for half, report in halves.items()
        },
        "microseconds": {
            "everyday": round(statistics.median(everyday)),
            "telling": round(statistics.median(telling)),
            "slowest": round(max(telling)),
        },
    }


def results() -> dict[str, Any]:
    """The results of the last run."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def table(found: dict[str, Any]) -> str:
    """What docs/privacy.md says of it: a row for each kind."""
    tuned, held_out = (found["halves"][half] for half in HALVES)
    head = f"| | {tuned['lines']} lines tuned on: found | wrong | {held_out['lines']} lines held out: found | wrong |"
    rows = [head, "|---|---:|---:|---:|---:|"]
    for kind in KINDS:
        cells = [_cell(Score(**half["scores"][kind])) for half in (tuned, held_out)]
        rows.append(f"| {kind.replace('_', ' ')} | {' | '.join(cells)} |")
    totals = [_cell(_total(half["scores"].values())) for half in (tuned, held_out)]
    rows.append(f"| **all** | {' | '.join(totals)} |")
    times = found["microseconds"]
    told = (
        f"A turn of an everyday call takes {times['everyday']} µs of the processor (median), one of these lines "
        f"{times['telling']} µs, the slowest of them {times['slowest']} µs."
    )
    return "\n".join([*rows, "", told])


def _total(scores: Iterable[dict[str, int]]) -> Score:
    total = Score()
    for each in scores:
        for name, count in each.items():
            setattr(total, name, getattr(total, name) + count)
    return total


def _cell(score: Score) -> str:
    return f"{score.found} of {score.marked} ({score.recall:.0%}) | {score.wrong} ({score.precision:.0%} precision)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redaction", description=__doc__)
    parser.add_argument("--half", choices=HALVES, help="print the scores of one half, and write nothing")
    parser.add_argument("--misses", action="store_true", help="print what went wrong")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    given = parser.parse_args(arguments)
    if given.half or given.misses:
        report = judge(load(given.half or "tuned"))
        for kind, score in report.scores.items():
            sys.stdout.write(f"{kind:14} {score.found:3} of {score.marked:3}, {score.wrong} wrong\n")
        sys.stdout.writelines(f"{each}\n" for each in report.misses if given.misses)
        return 0
    given.json.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    tell(f"wrote {given.json}: make docs writes it into docs/privacy.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
