"""What a caller can want of the responder, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetProfile:
    """Store `value` in one of the profile's fields."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class AskProfile:
    """Tell what the profile holds in `field`."""

    field: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Store a fact under a label; `reminder` when they wanted to be reminded at a time, which nobody here can do."""

    label: str
    content: str
    reminder: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Tell the fact of this label; `query` is the whole question, for a search when there is no such label."""

    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Search:
    """Search what is remembered; with `general`, what the knowledge base says when nothing is."""

    query: str
    general: bool = False


@dataclass(frozen=True, slots=True)
class ListAll:
    """Tell everything that is known."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the fact of this label; `every` means all facts about that, `unless` what to store if there is none."""

    label: str
    every: bool = False
    unless: Remember | None = None


@dataclass(frozen=True, slots=True)
class LookUpOrder:
    """Look up an order; without an id it has to be asked for."""

    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Search the knowledge base; `topic` when it was a bare phrase, which may as well be no request at all."""

    query: str
    topic: bool = False


@dataclass(frozen=True, slots=True)
class Talk:
    """What is answered without a tool: `kind` names a sentence, `about` what it is about."""

    kind: str
    about: str = ""


Intent = SetProfile | AskProfile | Remember | Recall | Search | ListAll | Forget | LookUpOrder | Knowledge | Talk
