"""Learn from the forty calls of `learning_cases.yaml` with a real language model, and report precision and recall.

    python -m benchmarks.learning [--runs N] [--only NAME ...] [--json FILE]

The model is the one that the settings choose: LKMONGO_LLM_BASE_URL and LKMONGO_LLM with LKMONGO_LLM_API_KEY, or
LiveKit Inference. Without one it says so and exits with 2. A fact counts as found if the quoted turn and the words of
the expected content agree, and whether it is one that ended; under which label is reported apart. What a call should
not teach counts against precision, before and after the rules that hold whatever a model answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.learning_data import BEGAN, Case, load
from benchmarks.measure import tell
from lkmongo.agent.learning import ask
from lkmongo.agent.learning_prompt import Answer, AnswerError, ProposedFact, Question
from lkmongo.agent.learning_rules import Rules
from lkmongo.agent.turns import redact_secrets, stored_by
from lkmongo.errors import LkmongoError
from lkmongo.model import Fact, Profile, UserScope
from lkmongo.settings import Settings
from lkmongo.summary import Commitment, stems

if TYPE_CHECKING:
    from livekit.agents.llm import LLM

    from lkmongo.after_end import Proposal
    from lkmongo.embed.base import Embedder

SCOPE = UserScope(tenant_id="default", user_id="u-100")
_NO_MODEL = """\
error: there is no language model to learn with
  try: set LKMONGO_LLM_BASE_URL, LKMONGO_LLM and LKMONGO_LLM_API_KEY, or LiveKit Cloud's credentials"""
_AT_ONCE = 4


@dataclass(slots=True)
class Score:
    """What was expected, what was proposed, and how much of it agrees."""

    expected: int = 0
    proposed: int = 0
    right: int = 0

    def add(self, other: Score) -> None:
        self.expected += other.expected
        self.proposed += other.proposed
        self.right += other.right

    def __str__(self) -> str:
        precision = f"{self.right / self.proposed:.2f}" if self.proposed else "-"
        recall = f"{self.right / self.expected:.2f}" if self.expected else "-"
        counts = f"{self.right} right of {self.expected} expected and {self.proposed} proposed"
        return f"precision {precision}  recall {recall}  ({counts})"


@dataclass(slots=True)
class Result:
    """What a model made of the cases."""

    answered: Score = field(default_factory=Score)
    stored: Score = field(default_factory=Score)
    commitments: Score = field(default_factory=Score)
    same_label: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def learn(case: Case, model: LLM[Any], embedder: Embedder) -> tuple[Answer, list[Proposal]]:
    """What a model answers to a case, and what the rules make of it. Raises AnswerError."""
    told = redact_secrets(case.turns)
    slots = [Fact(label, content) for label, content in case.spec.get("known", {}).items()]
    profile = Profile(SCOPE, **case.spec.get("profile", {}))
    opened = tuple(Commitment(each["id"], each["text"], each["by"], BEGAN) for each in case.spec.get("open", ()))
    question = Question(told.turns, BEGAN, case.ended, slots, profile, opened, stored_by(case.turns))
    answer = question.read(await ask(model, question))
    known: dict[str, Any] = {}
    if slots:
        vectors = await embedder.embed([slot.embedded_text for slot in slots], kind="document")
        known = {slot.memory_type: vector for slot, vector in zip(slots, vectors, strict=True)}
    rules = Rules("s-1", told.turns, told.secrets, slots, profile, question.noted, embedder, known)
    return answer, await rules.judge(answer.facts)


def judge(case: Case, answer: Answer, proposals: Sequence[Proposal], result: Result) -> None:
    """Compare an answer with what is expected."""
    expected = case.expected("facts")
    result.answered.add(_matched(expected, answer.facts)[0])
    stored = [each for each in proposals if each.state == "proposed"]
    score, pairs = _matched(expected, stored)
    result.stored.add(score)
    result.same_label += sum(fact["label"] == proposal.label for fact, proposal in pairs)
    if score.right < max(score.expected, score.proposed):
        told = [f"{each.kind} {each.label}: {each.content}" for each in stored]
        wanted = [f"{each['kind']} {each['label']}: {each['content']}" for each in expected]
        result.wrong.append(f"{case.name}: {told} instead of {wanted}")
    agreed = case.expected("commitments")
    left = list(answer.commitments)
    for each in agreed:
        for found in left:
            if found.by == each["by"] and stems([each["text"]]) & stems([found.text]):
                left.remove(found)
                break
    right = len(answer.commitments) - len(left) + len(set(answer.closed) & set(case.expected("closed")))
    result.commitments.add(
        Score(len(agreed) + len(case.expected("closed")), len(answer.commitments) + len(answer.closed), right)
    )


def _matched(
    expected: Sequence[dict[str, Any]], found: Iterable[ProposedFact | Proposal]
) -> tuple[Score, list[tuple[dict[str, Any], Any]]]:
    """How many agree, each expected one with the first that does."""
    left, pairs = list(found), []
    score = Score(len(expected), len(left))
    for fact in expected:
        for each in left:
            if _agrees(fact, each):
                left.remove(each)
                pairs.append((fact, each))
                break
    score.right = len(pairs)
    return score, pairs


def _agrees(fact: dict[str, Any], found: ProposedFact | Proposal) -> bool:
    item = found.item_id if hasattr(found, "item_id") else found.turn.item_id if found.turn else None
    if item != f"item-{fact['quote']}" or (fact["kind"] == "ended") is not (found.kind == "ended"):
        return False
    wanted, given = stems([str(fact["content"])]), stems([found.content])
    return 2 * len(wanted & given) >= len(wanted) or wanted <= stems([found.label, found.content])


async def run(settings: Settings, *, runs: int, only: Sequence[str]) -> Result:
    """Ask the model about each case so many times."""
    from lkmongo.agent.models import choose_model
    from lkmongo.embed.choose import create_embedder

    choice, embedder = choose_model(settings), create_embedder("local")
    if choice is None:
        raise LookupError
    tell(f"{choice.description}, {len(load())} calls, {runs} {'run' if runs == 1 else 'runs'}")
    result, few = Result(), asyncio.Semaphore(_AT_ONCE)

    async def one(case: Case) -> None:
        async with few:
            try:
                judge(case, *await learn(case, choice.llm, embedder), result)
            except AnswerError as error:
                result.failed.append(f"{case.name}: {error.message}")

    try:
        chosen = [case for case in load() if not only or case.name in only]
        await asyncio.gather(*(one(case) for _ in range(runs) for case in chosen))
    finally:
        await choice.close()
        await embedder.close()
    return result


def main() -> int:
    """Read the options, ask, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    try:
        settings = Settings.load()
        if not settings.has_language_model:
            tell(_NO_MODEL)
            return 2
        result = asyncio.run(run(settings, runs=options.runs, only=options.only))
    except LkmongoError as error:
        tell(f"error: {error.message}")
        return int(error.exit_code)
    tell(f"facts, as answered:      {result.answered}")
    tell(f"facts, after the rules:  {result.stored}")
    tell(f"  under the expected label: {result.same_label} of {result.stored.right}")
    tell(f"commitments:             {result.commitments}")
    for line in (*result.failed, *result.wrong):
        tell(f"  {line}")
    if options.json:
        scores = {"answered": result.answered, "stored": result.stored, "commitments": result.commitments}
        figures: dict[str, Any] = {name: asdict(score) for name, score in scores.items()}
        options.json.write_text(json.dumps(figures | {"failed": len(result.failed)}, indent=1) + "\n", encoding="utf-8")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
