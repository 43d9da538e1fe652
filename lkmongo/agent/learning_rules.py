"""Which of a model's proposals are stored: rules that hold whatever the model answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lkmongo.after_end import Kind, Proposal, proposal_id
from lkmongo.agent.learning_prompt import MAX_CONTENT, ProposedFact
from lkmongo.agent.slots import existing_label
from lkmongo.aio import aside
from lkmongo.confidential import tells, without_secrets
from lkmongo.declarations import declared
from lkmongo.errors import InvalidTextError, LkmongoError, SecretError
from lkmongo.model import MAX_SLOTS, PROFILE_FIELDS, Fact, Profile, Turn, check_memory, slot_words
from lkmongo.redact import redact
from lkmongo.store.people.users import check_profile_value
from lkmongo.store.sessions.learning import dropped
from lkmongo.summary import stems

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

MIN_CONFIDENCE = 0.7
"""The confidence of the model below which a proposal is not stored."""
MAX_PROPOSALS = 5
"""Proposals of one call."""
SAME_MEANING = 0.85
"""The cosine of two facts from which one says the same as the other, if it also has no words of its own. Of facts that
differ in a name alone, the local embedder gives some 0.87."""

_PROFILE_LABELS = {
    "full_name": "name",
    "first_name": "name",
    "own_name": "name",
    "caller_name": "name",
    "e_mail": "email",
    "email_address": "email",
    "e_mail_address": "email",
    "language": "preferred_language",
    "time_zone": "timezone",
}
_FORGETS = re.compile(
    r"\b(?:forget|delete|erase|remove|off the record|between (?:us|you and me)|"
    r"(?:do not|don'?t|never|not to) (?:\w+ ){0,2}?(?:remember|keep|store|save|note|write|record|tell)|"
    r"vergiss|vergessen|lösch\w*|nicht (?:merken|speichern|notieren|aufschreiben)|oubli\w+|n'enregistre\w*|"
    r"olvid\w+|no (?:guardes|apuntes)|dimentica\w*|esque[cç]\w+)\b",
    re.IGNORECASE,
)
"""What a caller says who does not want something to be kept."""
_AGREES = re.compile(
    r"\W*(?:yes|yeah|yep|yup|right|correct|exactly|that's (?:right|it|correct)|sure|of course|"
    r"ja|genau|richtig|stimmt|oui|sí|si|sim|certo|はい|そうです)(?!\w)",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:no|not|never|none|without|kein\w*|nicht|nie|ne|pas|jamais|sin|nunca|não|non)\b|n'?t\b", re.IGNORECASE
)
_FILLERS = frozenset("call name live like love own work".split())
"""Stems that say little beside what they are said of: "a dog called Bruno" is "a dog named Bruno"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, over what is known of a call and its caller.

    Attributes:
        session_id: the call.
        said: its messages, as the model was told.
        secrets: what the caller mentioned that must not be remembered.
        slots: what is remembered of them.
        profile: theirs.
        kept: what the agent's tools kept or forgot during the call: "label: content", or a label.
        vectors: the slots' vectors by label, of the embedder's model.
        embedder: makes vectors; what it cannot, is compared by words.
        most: memories, up to which new ones are stored.
    """

    session_id: str
    said: Sequence[Turn]
    secrets: frozenset[str]
    slots: Sequence[Fact]
    profile: Profile
    kept: Sequence[str]
    embedder: Embedder
    vectors: dict[str, Any] = field(default_factory=dict)
    most: int = MAX_SLOTS

    async def judge(self, facts: Iterable[ProposedFact]) -> list[Proposal]:
        """The proposals, the surest first; those that are dropped have lost what they said."""
        found: list[Proposal] = []
        kept: list[Proposal] = []
        for fact in sorted(facts, key=lambda each: -each.confidence):
            proposal, reason = self._checked(fact)
            if proposal is None:
                logger.debug("a proposal is left out: %s", reason)
                continue
            if proposal.id in {each.id for each in found}:
                continue  # the surer one is there
            if reason is None and proposal.kind == "new":
                added = sum(each.kind == "new" for each in kept)
                reason = "no room" if len(self.slots) + added >= self.most else None
            if reason is None:
                reason = "too many" if len(kept) >= MAX_PROPOSALS else await self._known(proposal, kept)
            if reason:
                found.append(dropped(proposal, reason))
            else:
                kept.append(proposal)
                found.append(proposal)
        return found

    def _checked(self, fact: ProposedFact) -> tuple[Proposal | None, str | None]:
        """The proposal, None if it rests on nothing, and why it is dropped, if it is."""
        turn = fact.turn
        if turn is None or turn.role != "user":
            return None, "no turn of the caller is quoted"
        try:
            name, content = check_memory(fact.label, fact.content)
            reason = self._refused(name, content, turn, fact)
        except SecretError:
            name, content, reason = "secret", "secret", "secret"
        except InvalidTextError:
            return None, "its label or content is invalid"
        kind, label = self._slot_of(name, fact.kind)
        if reason is None and kind == "profile":
            content, reason = self._profile_value(label, content)
        if reason is None and kind == "ended" and label not in {slot.memory_type for slot in self.slots}:
            reason = "unknown"
        proposal = Proposal(
            proposal_id(self.session_id, turn.item_id, kind, label),
            kind,
            label,
            content,
            turn.created_at,
            turn.item_id,
            round(fact.confidence, 3),
            fact.since,
        )
        return proposal, reason

    def _refused(self, name: str, content: str, turn: Turn, fact: ProposedFact) -> str | None:
        text = f"{slot_words(name)}: {content}"
        if tells(text, self.secrets) or without_secrets(content, self.secrets) != content or redact(text) != text:
            return "secret"
        if fact.confidence < MIN_CONFIDENCE:
            return "unsure"
        if len(content) > MAX_CONTENT:
            return "too long"
        if self._is_to_be_forgotten(text):
            return "forgotten"
        if not self._is_the_callers(content, turn):
            return "not the caller's words"
        return None

    def _is_to_be_forgotten(self, text: str) -> bool:
        """Whether the caller asked, in the call, to forget or not to keep something that shares a word with this."""
        words = stems([text])
        return any(
            turn.role == "user" and _FORGETS.search(turn.content or "") and words & stems([turn.content or ""])
            for turn in self.said
        )

    def _is_the_callers(self, content: str, turn: Turn) -> bool:
        """Whether it is not the assistant alone who said this, such as something from a document, or a guess.

        Words that nobody said are the model's: it may put what the caller said in other words. If most of the words are
        the assistant's alone, the quoted turn must agree to what the assistant said before it.
        """
        words = stems([content])
        own = stems(each.content or "" for each in self.said if each.role == "user")
        others = stems(each.content or "" for each in self.said if each.role != "user")
        theirs = (words & others) - own
        if 2 * len(theirs) <= len(words):
            return True
        before: str | None = None
        for each in self.said:
            if each is turn:
                break
            before = each.content if each.role != "user" else before
        return _AGREES.match(turn.content or "") is not None and theirs <= stems([before or ""])

    def _slot_of(self, name: str, kind: Kind) -> tuple[Kind, str]:
        """The kind and the label: a field of the profile, an existing label in another spelling, or a new one."""
        profile = _PROFILE_LABELS.get(name, name)
        if profile in PROFILE_FIELDS or profile in declared().fields:
            return "profile", profile
        known = {slot.memory_type: slot for slot in self.slots}
        label = existing_label(name, known)
        if kind in {"new", "changed"}:
            kind = "changed" if label in known else "new"
        return kind, label

    def _profile_value(self, name: str, content: str) -> tuple[str, str | None]:
        """The value as the profile takes it, and why it does not: it only fills an empty field."""
        if name in self.profile.values:
            return content, "in the profile"
        try:
            return check_profile_value(name, content), None
        except InvalidTextError:
            return content, "not a value of the profile"

    async def _known(self, proposal: Proposal, kept: Sequence[Proposal]) -> str | None:
        """Why it is nothing new, if it is not: it is stored already, or a tool kept or forgot it in the call."""
        if proposal.kind in {"ended", "profile"}:
            same = [each for each in kept if (each.kind, each.label) == (proposal.kind, proposal.label)]
            return "known" if same else None
        others = [(slot.memory_type, slot.content) for slot in self.slots]
        others += [(each.label, each.content) for each in kept]
        if await aside(sum(len(content) for _, content in others), lambda: self._is_said(proposal, others)):
            return "known"
        if any(each.label == proposal.label for each in kept):
            return "known"  # the surer of two values is kept
        return "known" if await self._is_known_by_meaning(proposal) else None

    def _is_said(self, proposal: Proposal, others: Iterable[tuple[str, str]]) -> bool:
        """Whether a tool kept it in the call, or one of `others`, label and content, says it."""
        text = _text(proposal.label, proposal.content)
        if any(_is_within(text, each) or _is_within(each, text) for each in self.kept):
            return True
        for label, content in others:
            other = _text(label, content)
            # A shorter value of the same slot may be what is left of it.
            if _is_within(text, other) and (label != proposal.label or _is_within(other, text)):
                return True
        return False

    async def _is_known_by_meaning(self, proposal: Proposal) -> bool:
        known = [slot for slot in self.slots if slot.memory_type in self.vectors and slot.memory_type != proposal.label]
        others = await aside(
            sum(len(slot.content) for slot in known),
            lambda: [slot for slot in known if _adds_nothing(proposal.content, slot)],
        )
        if not others:
            return False
        fact = Fact(proposal.label, proposal.content)
        try:
            (vector,) = await self.embedder.embed([fact.embedded_text], kind="document")
        except LkmongoError as error:
            logger.info("what was learned is compared by words alone: %s (%s)", error.message, error.why)
            return False
        return any(float(self.vectors[slot.memory_type] @ vector) >= SAME_MEANING for slot in others)


def _text(label: str, content: str) -> str:
    return f"{slot_words(label)}: {content}"


def _is_within(text: str, other: str) -> bool:
    """Whether a text says nothing that another does not say; a word like "not" makes the difference."""
    words = stems([text])
    return bool(words) and words <= stems([other]) and bool(_NEGATED.search(text)) is bool(_NEGATED.search(other))


def _adds_nothing(content: str, slot: Fact) -> bool:
    """Whether the content has no words of its own beside those of a slot, or the other way round."""
    if bool(_NEGATED.search(content)) is not bool(_NEGATED.search(slot.content)):
        return False
    new = stems([content]) - _FILLERS
    return new <= stems([_text(slot.memory_type, slot.content)]) or stems([slot.content]) - _FILLERS <= new
