"""Whether a caller agreed that something is kept of them: what they are asked, and their answer.

Where a tenant asks (`consent: ask` in the file of LKMONGO_TENANTS), nothing of a caller is stored beyond the call until
they agree: see `lkmongo.agent.consent` for a call, `lkmongo.web` for the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

WORDING = "2026-11"
"""The version of the question, which is kept with the answer: whoever changes the one changes the other."""
QUESTION = "May I keep a record of our conversations and what you tell me about yourself, so that I know you next time?"
WITHDRAWN = (
    "From now on nothing more is kept. What was kept before stays until it is erased, which is a request of its own."
)

Answer = Literal["agreed", "declined", "withdrawn"]
By = Literal["voice", "page", "staff", "program"]


@dataclass(frozen=True, slots=True)
class Consent:
    """An answer.

    Attributes:
        state: they agreed, said no, or withdrew what they had agreed to.
        at: when.
        by: how it was given: said in a call, on the talk page, recorded by staff, or by a program.
        wording: the version of the question.
    """

    state: Answer
    at: datetime
    by: By
    wording: str = WORDING

    @property
    def allows(self) -> bool:
        """Whether something may be stored of them."""
        return self.state == "agreed"

    @property
    def fields(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)


def consent_of(value: Any) -> Consent | None:
    """The answer in a document or a journal; None for anything else."""
    if not isinstance(value, Mapping):
        return None
    state, by, wording = (value.get(name) for name in ("state", "by", "wording"))
    at: Any = value.get("at")
    if state not in get_args(Answer) or by not in get_args(By) or not isinstance(at, datetime):
        return None
    return Consent(cast("Answer", state), at, cast("By", by), str(wording or ""))
