"""What the briefing tells of the caller: read out of the fence in the chat context, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lkmongo.model import PROFILE_FIELDS

_FENCE = "<caller_data>"


@dataclass(frozen=True, slots=True)
class CallerData:
    """The caller as far as the briefing goes.

    Attributes:
        status: "known", "new", "guest", "loading"; "absent" when there is no briefing.
        profile: what is filled in of name, email, preferred_language and timezone.
        memories: content by label.
        gist: what the last call was about; empty when nothing is known of one.
    """

    status: str = "absent"
    profile: Mapping[str, str] = field(default_factory=dict)
    memories: Mapping[str, str] = field(default_factory=dict)
    gist: str = ""


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
        gist=last["gist"].strip() if isinstance(last, dict) and isinstance(last.get("gist"), str) else "",
    )
