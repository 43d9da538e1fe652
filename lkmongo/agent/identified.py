"""A guest of whom something is known: what is lent to them, and what they take along when they become a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from lkmongo.agent.gate import Gate
from lkmongo.errors import SecretError
from lkmongo.model import Fact, Profile
from lkmongo.outbox.operations import Change, FillProfile, Remember
from lkmongo.store.people.users import kept_profile_value


@dataclass(frozen=True, slots=True)
class Lent:
    """What a guest may have of the person whose number they call from: it never becomes the guest's."""

    values: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[str, Fact] = field(default_factory=dict)

    def holds(self, fact: Fact) -> bool:
        """Whether a value is lent, and not the guest's own."""
        return self.slots.get(fact.memory_type) is fact

    def instead_of(self, before: Lent, profile: Profile, slots: Mapping[str, Fact]) -> tuple[Profile, dict[str, Fact]]:
        """The guest's profile and slots with this in the place of what was lent before; what they said stays."""
        own = {label: each for label, each in slots.items() if not before.holds(each)}
        said = {name: value for name, value in profile.values.items() if before.values.get(name) != value}
        profile = Profile(profile.scope, consent=profile.consent)
        for name, value in {**self.values, **said}.items():
            profile = profile.with_value(name, value)
        return profile, {**self.slots, **own}


def told_by_guest(
    profile: Profile, slots: Iterable[Fact], *, since: datetime, kept: Callable[[str, str], str], gate: Gate
) -> Iterator[Change]:
    """What a guest has told, as changes of the person they turned out to be: where they have a value, theirs stays.

    Args:
        profile: the guest's.
        slots: the guest's, the oldest first.
        since: when the session began.
        kept: what the policy of the person's tenant keeps of a value, by its label; raises SecretError.
        gate: what is closed to them is left out.
    """
    for name, value in profile.values.items():
        with suppress(SecretError):
            # Does not overwrite the person's profile: somebody else may have spoken before they were identified.
            yield FillProfile(since, name, kept_profile_value(name, value, kept))
    for memory in slots:
        if gate.opens(memory.memory_type):
            with suppress(SecretError):
                content = kept(memory.memory_type, memory.content)
                yield replace(Remember.fact(memory, memory.valid_from), content=content, of_guest=True)
