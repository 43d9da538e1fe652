"""Redacts the journal of a release that did not redact what it wrote, before it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lkmongo.conversation import Conversation
from lkmongo.errors import InvalidTextError
from lkmongo.model import Turn
from lkmongo.outbox.operations import (
    AddTurn,
    CountRedacted,
    End,
    ForgetCalls,
    Operation,
    Remember,
    SaveGist,
    SetProfile,
)
from lkmongo.store.people.users import kept_profile_value


def redacted(operations: Sequence[Operation], conversation: Conversation) -> list[Operation]:
    """The operations as they may be stored, without those of which nothing is left."""
    turns = sorted((each.turn for each in operations if isinstance(each, AddTurn)), key=lambda turn: turn.created_at)
    kept = {turn.item_id: turn for turn in conversation.turns(turns)}
    return list(_redacted(operations, conversation, kept))


def counted(conversation: Conversation) -> list[Operation]:
    """What notes how much was redacted."""
    counts = conversation.redactor.counts
    return [CountRedacted(dict(counts))] if counts else []


def _redacted(
    operations: Sequence[Operation], conversation: Conversation, kept: dict[str, Turn]
) -> Iterator[Operation]:
    for each in operations:
        try:
            match each:
                case AddTurn(turn=turn):
                    yield replace(each, turn=kept[turn.item_id])
                case Remember(label=label, content=content):
                    yield replace(each, content=conversation.fact(label, content))
                case SetProfile(field=field, value=value):
                    yield replace(each, value=kept_profile_value(field, value, conversation.fact))
                case SaveGist(gist=gist):
                    yield replace(each, gist=conversation.text(gist))
                case ForgetCalls(words=words):
                    yield replace(each, words=tuple(map(conversation.text, words)))
                case End(summary=summary):
                    yield replace(each, summary=conversation.redactor.value(summary))
                case _:
                    yield each
        except InvalidTextError:  # a secret that no release stores, or one that the policy does not keep
            continue
