"""What the briefing tells of the caller, read out of its fence in the chat context, whatever that holds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lkmongo.demo.intents import american
from lkmongo.model import PROFILE_FIELDS

_FENCE = "<caller_data>"
_MORE_THAN_ONE_FACT = re.compile(
    r"[,;:.!?]\s|\n|\b(?:and|but|or|also|with|since|because|plus|who|which)\b", re.IGNORECASE
)
_MOST_OF_ONE_FACT = 8
"""Words of a content that is taken for one fact."""


@dataclass(frozen=True, slots=True)
class CallerData:
    """The caller as far as the briefing goes.

    Attributes:
        status: "known", "new", "guest", "loading"; "absent" when there is no briefing.
        profile: what is filled in of name, email, preferred_language and timezone.
        memories: content by label.
        has_more: whether there are memories that the briefing has no room for.
        gist: what the last session was about; empty when nothing is known of one.
    """

    status: str = "absent"
    profile: Mapping[str, str] = field(default_factory=dict)
    memories: Mapping[str, str] = field(default_factory=dict)
    has_more: bool = False
    gist: str = ""

    @property
    def is_at_hand(self) -> bool:
        """Whether what is not in the briefing is not stored, or is told to be more."""
        return self.status not in {"absent", "loading"}

    def stored_as(self, labels: Iterable[str]) -> str | None:
        """The label that is in use of these, be it in British spelling; None when none is."""
        return next((known for label in labels for known in self.memories if american(known) == label), None)

    def holds_more(self, label: str) -> bool:
        """Whether the memory of this label holds more than the one fact that the label names."""
        content = self.memories[label]
        return bool(_MORE_THAN_ONE_FACT.search(content)) or len(content.split()) > _MOST_OF_ONE_FACT


def read_caller_data(texts: Iterable[str]) -> CallerData:
    """Read the last briefing among the system messages of a context; broken ones are passed over."""
    found: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    for text in texts:
        position = text.find(_FENCE)
        while position >= 0:
            start = position + len(_FENCE)
            start += len(text[start:]) - len(text[start:].lstrip())
            try:
                data, _ = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                data = None  # the marks are also named where the instructions explain them
            if isinstance(data, dict):
                found = data
            position = text.find(_FENCE, start)
    return _checked(found) if found else CallerData()


def _checked(data: dict[str, Any]) -> CallerData:
    profile, memories, last = data.get("profile"), data.get("memories"), data.get("last_call")
    status = data.get("status")
    return CallerData(
        status=status if isinstance(status, str) else "known",
        profile={
            name: value.strip()
            for name in PROFILE_FIELDS
            if isinstance(profile, dict) and isinstance(value := profile.get(name), str) and value.strip()
        },
        memories={
            item["memory_type"]: item["content"]
            for item in (memories if isinstance(memories, list) else [])
            if isinstance(item, dict)
            and isinstance(item.get("memory_type"), str)
            and isinstance(item.get("content"), str)
        },
        has_more=bool(data.get("more_memories")),
        gist=last["gist"].strip() if isinstance(last, dict) and isinstance(last.get("gist"), str) else "",
    )
