"""What is not kept of what people say: each kind of secret and personal data is kept, masked or dropped, by tenant.

Words pass here once, where they enter, before anything is stored: before the outbox, its journal and MongoDB. What the
caller hears and the model reads in the conversation under way is not changed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.confidential import WITHHELD
from lkmongo.detectors import named
from lkmongo.detectors.contacts import emails, may_hold_email, phones
from lkmongo.detectors.numbers import LEAST_DIGITS, by_shape, has_key
from lkmongo.detectors.plain import KINDS, Found, Plain, has_number_words, mask, read
from lkmongo.errors import SecretError, SettingsError
from lkmongo.imports import extra, import_string
from lkmongo.model import slot_words

if TYPE_CHECKING:
    from lkmongo.settings import Settings
    from lkmongo.summary import Summary
    from lkmongo.tenants import Tenants

logger = logging.getLogger(__name__)

Action = Literal["keep", "mask", "drop"]
Detector = Callable[[str], Iterable[tuple[int, int, str]]]
"""One's own detector: (start, end, kind) of all that it finds in a text."""

POLICY: Mapping[str, Action] = {
    "card": "mask",
    "national_id": "mask",
    "bank_account": "mask",
    "secret": "mask",
    "phone": "keep",
    "email": "keep",
}
"""What becomes of each kind unless the tenant's policy says otherwise; of kinds of a detector of one's own, `mask`."""
_STRICTNESS: Sequence[Action] = ("keep", "mask", "drop")
_PASSES = 5
"""How often a text is read again after something in it was replaced, until nothing more is found."""
_DEPTH = 20
"""Levels of nested JSON that are looked at one by one; what is deeper is looked at as one text."""
_KIND = re.compile("[a-z][a-z0-9_]{0,31}")
_WORDS_OF_KEY = re.compile(r"[_\-.\s]+|(?<=[a-z])(?=[A-Z])")


@dataclass(slots=True)
class Redactor:
    """Applies one tenant's policy.

    Attributes:
        policy: what becomes of each kind.
        detector: one's own.
        counts: how much was masked or dropped so far, by kind.
    """

    policy: Mapping[str, Action] = field(default_factory=lambda: POLICY)
    detector: Detector | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def anew(self) -> Redactor:
        """The same policy, with counts of its own."""
        return Redactor(self.policy, self.detector)

    def text(self, text: str, *, label: str = "", told: list[Found] | None = None) -> str:
        """The text as it may be stored.

        Args:
            text: what was said or written.
            label: what it is called, which may tell its kind: "pin", "card number".
            told: gets what was found.
        """
        for _ in range(_PASSES):
            found = self.find(text, label)
            if found is None:
                self.counts["withheld"] += 1
                return WITHHELD
            if not found:
                break
            text = self.replace(text, found)
            if told is not None:
                told += found
        return text

    def fact(self, name: str, text: str) -> str:
        """What is to be remembered under a label, as it may be stored. Raises SecretError if nothing is left of it."""
        kept = self.text(text, label=slot_words(name))
        if not kept.strip() or kept == WITHHELD:
            raise SecretError
        return kept

    def summary(self, summary: Summary) -> Summary:
        """A summary as it may be stored."""
        return replace(
            summary,
            text=self.text(summary.text),
            topics=tuple(kept for each in summary.topics if (kept := self.text(each))),
            commitments=tuple(replace(each, text=self.text(each.text)) for each in summary.commitments),
        )

    def find(self, text: str, label: str = "") -> list[Found] | None:
        """What is not kept of a text, by its place there; None if the text has to be withheld."""
        found: list[Found] = []
        prefix = f"{label}: " if label else ""
        if self._may_hold(prefix + text):
            plain = read(prefix + text)
            found = [each for one in self._found(plain.text) if (each := in_original(one, plain, len(prefix)))]
        if self.detector:
            own = self._own(text)
            if own is None:
                return None
            found += own
        return found

    def replace(self, text: str, found: Iterable[Found]) -> str:
        """The text with what was found masked or dropped."""
        parts: list[str] = []
        at = 0
        for each in _merged(found):
            self.counts[each.kind] += 1
            parts += [text[at : each.start], self.instead_of(each)]
            at = each.end
        return "".join([*parts, text[at:]])

    def instead_of(self, found: Found) -> str:
        """What replaces it."""
        return mask(found.kind, found.value) if self.action(found.kind) == "mask" else ""

    def action(self, kind: str) -> Action:
        return self.policy.get(kind, "mask")

    def _may_hold(self, text: str) -> bool:
        if self.action("email") != "keep" and may_hold_email(text):
            return True
        if named.may_name(text):
            return named.may_hold(text)
        # Nothing is named, so that only a shape can tell.
        return has_key(text) or sum(map(str.isdigit, text)) >= LEAST_DIGITS or has_number_words(text)

    def _found(self, plain: str) -> Iterable[Found]:
        for each in (*by_shape(plain), *named.named(plain)):
            if self.action(each.kind) != "keep":
                yield each
        if self.action("email") != "keep":
            yield from emails(plain)
        if self.action("phone") != "keep":
            yield from phones(plain)

    def _own(self, text: str) -> list[Found] | None:
        """What one's own detector finds; None if it fails: what nobody has looked at is not stored."""
        if self.detector is None:
            return []
        found: list[Found] = []
        try:
            for start, end, kind in self.detector(text):
                if not (_KIND.fullmatch(kind) and 0 <= start <= end <= len(text)):
                    raise ValueError("(start, end, kind) with places within the text, and a kind in snake_case")
                if start < end and self.action(kind) != "keep" and text[start:end] != mask(kind, text[start:end]):
                    found.append(Found(kind, start, end, text[start:end]))
        except Exception as error:  # noqa: BLE001 - a detector of one's own may raise anything, with the text in it
            name = type(error).__name__  # no traceback: it may hold the text
            logger.error("the detector of LKMONGO_REDACTOR failed (%s): the text is withheld", name)  # noqa: TRY400
            return None
        return found

    # ---------------------------------------------------------------- nested values

    def json(self, text: str) -> str:
        """JSON text with its keys and values redacted; text that is not JSON as text. Unchanged if nothing is found."""
        stripped = text.lstrip()
        if not stripped.startswith(("{", "[", '"')):
            return self.text(text)
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        kept = self.value(given)
        return text if kept == given else json.dumps(kept, ensure_ascii=False)

    def value(self, value: Any, label: str = "", depth: int = 0) -> Any:
        """A value of JSON, or of a document, with all text and numbers in it redacted."""
        if isinstance(value, Mapping) and depth < _DEPTH:
            return {
                self.text(key) if isinstance(key, str) else key: self.value(each, _words(key), depth + 1)
                for key, each in value.items()
            }
        if isinstance(value, list | tuple) and depth < _DEPTH:
            return [self.value(each, label, depth + 1) for each in value]
        if isinstance(value, str):
            nested = depth < _DEPTH and value.lstrip()[:1] in {"{", "["}
            return self.json(value) if nested else self._named(value, label)
        if isinstance(value, int | float) and not isinstance(value, bool):
            kept = self._named(str(value), label)
            return value if kept == str(value) else kept
        if isinstance(value, Mapping | list | tuple):
            kept = self.text(json.dumps(value, ensure_ascii=False, default=str))
            return value if kept == json.dumps(value, ensure_ascii=False, default=str) else kept
        return value

    def _named(self, text: str, label: str) -> str:
        if label and text.strip() and self.action("secret") != "keep" and named.is_secret_label(label):
            whole = Found("secret", 0, len(text), text)
            return text if text == self.instead_of(whole) else self.replace(text, [whole])
        return self.text(text, label=label)


def _words(key: Any) -> str:
    return " ".join(_WORDS_OF_KEY.sub(" ", str(key)).casefold().split())


def in_original(found: Found, plain: Plain, skipped: int) -> Found | None:
    """What was found in the plain form, by its place in the text that follows `skipped` characters of the original."""
    start, end = plain.original(found.start, found.end)
    if end <= skipped:
        return None
    return Found(found.kind, max(start - skipped, 0), end - skipped, found.value)


def _merged(found: Iterable[Found]) -> list[Found]:
    """In order; what overlaps becomes one, of the kind that begins first, or the longer of these."""
    merged: list[Found] = []
    for each in sorted(
        found, key=lambda one: (one.start, -one.end, KINDS.index(one.kind) if one.kind in KINDS else 99)
    ):
        last = merged[-1] if merged else None
        if last and each.start < last.end:
            if each.end > last.end:
                merged[-1] = Found(last.kind, last.start, each.end, last.value)
        else:
            merged.append(each)
    return merged


@dataclass(frozen=True)
class Redaction:
    """The policies of all tenants."""

    tenants: Tenants | None = None
    detector: Detector | None = None

    @classmethod
    def of(cls, settings: Settings) -> Redaction:
        """What LKMONGO_TENANTS and LKMONGO_REDACTOR say.

        Raises:
            SettingsError: a policy names a kind that does not exist, or the detector cannot be imported.
            MissingExtraError: a policy is about phone numbers, and the extra `phone` is not installed.
        """
        tenants, detector = settings.tenant_policies(), None
        if settings.redactor:
            detector = import_string("LKMONGO_REDACTOR", settings.redactor, "callable")
            if not callable(detector):
                raise SettingsError(f"LKMONGO_REDACTOR names {settings.redactor}, which cannot be called")
        policies = {"default": tenants.default, **{f"tenants.{name}": each for name, each in tenants.named.items()}}
        for place, policy in policies.items():
            unknown = sorted(policy.redaction.keys() - POLICY.keys())
            if unknown and detector is None:  # the kinds of a detector of one's own are not known before it finds them
                raise SettingsError(
                    f"LKMONGO_TENANTS: {place}.redaction: there is no kind {unknown[0]}",
                    hint=f"the kinds are {', '.join(POLICY)}, and those of a detector that LKMONGO_REDACTOR names",
                )
            if policy.redaction.get("phone", "keep") != "keep" and not importlib.util.find_spec("phonenumbers"):
                with extra("phone", f"redacting phone numbers (LKMONGO_TENANTS: {place}.redaction)"):
                    importlib.import_module("phonenumbers")
        return cls(tenants, detector)

    def redactor(self, tenant_id: str) -> Redactor:
        """What redacts for a tenant, with counts of its own."""
        said = self.tenants.policy(tenant_id).redaction if self.tenants else {}
        return Redactor({**POLICY, **said}, self.detector)

    @property
    def strictest(self) -> Redactor:
        """What redacts where it is not known whose words these are: for each kind as the strictest tenant has it."""
        policies = [self.tenants.default, *self.tenants.named.values()] if self.tenants else []
        strict: dict[str, Action] = dict(POLICY)
        for policy in policies:
            for kind, action in ({**POLICY, **policy.redaction}).items():
                strict[kind] = max(strict.get(kind, "keep"), action, key=_STRICTNESS.index)
        return Redactor(strict, self.detector)
