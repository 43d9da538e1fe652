"""What is known of a person with the changes that are not stored yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from lkmongo.model import Fact, Profile
from lkmongo.outbox.operations import EndFact, FillProfile, Forget, Operation, Remember, SetProfile, SlotChange


def applied_to(
    changes: Iterable[Operation], slots: dict[str, Fact], profile: Profile
) -> tuple[dict[str, Fact], Profile]:
    """Slots and profile as loaded, with pending changes applied: those are newer."""
    slots = dict(slots)
    for change in changes:
        match change:
            case FillProfile() if change.field in profile.values:
                pass
            case SetProfile():
                profile = profile.with_value(change.field, change.value)
            case SlotChange() if _is_newer(slots.get(change.label), change.at):
                pass
            case Remember() if change.is_offered_to(slots.get(change.label)):
                pass
            case Remember(label=label):
                old = slots.pop(label, None)
                slots = {label: _fact(change, old)} | slots
            case EndFact():
                slots.pop(change.label, None)
            case Forget():
                slots.pop(change.label, None)
                profile = replace(profile, last_session=None)
    return slots, profile


def _fact(change: Remember, old: Fact | None) -> Fact:
    """The slot as it will be stored, as far as it can be told."""
    is_same = old is not None and old.content == change.content
    since = change.valid_from or (old.valid_from if old and is_same else change.at)
    return Fact(change.label, change.content, None, change.at, since, change.source, change.dates)


def _is_newer(slot: Fact | None, at: datetime) -> bool:
    return bool(slot and slot.updated_at and slot.updated_at > at)
