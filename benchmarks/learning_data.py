"""The forty calls of `learning_cases.yaml`: read, and told as a call and as what is known of its caller."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from lkmongo.model import Turn, TurnKind

FILE = Path(__file__).with_name("learning_cases.yaml")
BEGAN = datetime(2026, 11, 5, 10, tzinfo=UTC)
"""A Thursday."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call, and what is to be learned from it; `spec` is as in the file."""

    name: str
    spec: dict[str, Any]

    @property
    def turns(self) -> list[Turn]:
        """The conversation, a turn each five seconds, and the calls of tools after it."""
        said = [next(iter(each.items())) for each in self.spec["turns"]]
        turns = [
            Turn(number, f"item-{number + 1}", TurnKind.MESSAGE, at, role=_ROLES[who], content=text)
            for number, (who, text) in enumerate(said)
            for at in [BEGAN + timedelta(seconds=5 * (number + 1))]
        ]
        for number, tool in enumerate(self.spec.get("tools", ()), len(turns)):
            given = {name: value for name, value in tool.items() if name != "name"}
            at = BEGAN + timedelta(seconds=6)
            turns.append(
                Turn(
                    number,
                    f"tool-{number}",
                    TurnKind.TOOL,
                    at,
                    name=tool["name"],
                    arguments=json.dumps(given),
                    output="Yes.",
                )
            )
        return turns

    @property
    def ended(self) -> datetime:
        return BEGAN + timedelta(minutes=5)

    def expected(self, name: str) -> list[Any]:
        """What is to be learned: `facts`, `commitments` or `closed`."""
        return list(self.spec.get(name, ()))

    def answer(self, *, tempting: bool = True) -> str:
        """What a model answers that makes no mistake but the `tempting` ones."""
        facts = [{"confidence": 0.95, **each} for each in self.expected("facts")]
        facts += self.expected("tempting") if tempting else []
        for fact in facts:
            fact["kind"] = "new" if fact["kind"] == "profile" else fact["kind"]
        told = {
            "summary": f"The caller called: {self.name}.",
            "topics": ["a topic"],
            "commitments": [self._quoting(each) for each in self.expected("commitments")],
            "closed": self.expected("closed"),
            "facts": [self._quoting(each) for each in facts],
        }
        return json.dumps(told, default=str)

    def _quoting(self, each: dict[str, Any]) -> dict[str, Any]:
        """With the id of the quoted turn as the model is told it."""
        number = each["quote"]
        turns = self.spec["turns"]
        who = "c" if number > len(turns) or "caller" in turns[number - 1] else "a"
        return {**each, "quote": f"{who}{number}"}


_ROLES = {"caller": "user", "assistant": "assistant"}


def load() -> list[Case]:
    """All cases, in the order of the file."""
    return [Case(spec["name"], spec) for spec in yaml.safe_load(FILE.read_text(encoding="utf-8"))]
