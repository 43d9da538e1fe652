"""Redacts a conversation turn by turn, as what one turn says may depend on those before it.

Beyond what each turn tells by itself, it finds the answer to a question for a secret ("What is your PIN?", "1234"), the
value after a turn that broke off ("my card number is", "4111 ..."), a number that is read out over several turns of the
caller, and what was told before when somebody says it again. What it cannot find: a number of which the pieces are more
than `_TOGETHER` turns of the caller apart, or that is told one digit at a time in turns with other words.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lkmongo.confidential import REFUSAL, grouped
from lkmongo.detectors import named
from lkmongo.detectors.numbers import RUN, by_shape, digits, is_harmless_number
from lkmongo.detectors.plain import MASK, Found, Plain, kind_of_mask, mask, read
from lkmongo.model import Turn, TurnKind
from lkmongo.redaction import Redactor, in_original

_TOGETHER = 4
"""Turns of the caller in which a number may be told in pieces."""
_WINDOW = 10
"""Turns, of both sides, that are kept to be changed when a number turns out to have been told in pieces."""
_MAX_KNOWN = 50
_LEAST_KNOWN, _LEAST_PIECE = 4, 3
"""Digits or letters that a value has at least that is looked for in what is said later."""
_LEAST_OF_OTHERS, _LONGEST = 6, 40
_WHOLE = 9
"""Digits that the number of a card, an account or a person has, all of it."""
_WHOLE_ANSWER = {"card": 16, "national": 15, "account": 34, "pin": 4, "code": 6, "word": 0, "key": 0}
"""Digits after which an answer is complete, by group of kinds: what is said next is something else."""
_GOES_ON = re.compile(
    r"(?:\W|\d|\b(?:and|then|go|on|next|the|rest|yes|okay|ok|got|it|mhm|continue|please|is|that|all|right|more|so|far|und|"
    r"weiter|et|puis|y|luego)\b)*",
    re.IGNORECASE,
)
"""With this the agent asks for the next part of a number, or whether it has heard right, not for something else."""
_LIKE_A_PIN = range(3, 9)
"""Digits of a PIN, or of one in which the recogniser has missed one."""
_GROUP_OF = {"card": "card", "bank_account": "account", "national_id": "national"}
_TAIL = 200
"""Characters at the end of an earlier turn in which a number may begin."""


@dataclass(slots=True)
class _Said:
    """A message as it is stored so far."""

    turn: Turn

    @property
    def text(self) -> str:
        return self.turn.content or ""

    @property
    def is_callers(self) -> bool:
        return self.turn.role == "user"


def masks_of(turn: Turn) -> Counter[str]:
    """How many masks a turn holds, by kind."""
    texts = filter(None, (turn.content, turn.arguments, turn.output))
    return Counter(kind_of_mask(found[0]) for text in texts for found in MASK.finditer(text))


def _pins(text: str) -> tuple[Plain, list[Found]]:
    """The numbers in a text, wherever they stand, that can be a PIN or most of one."""
    plain = read(text)
    return plain, [
        Found("secret", *run.span(), number)
        for run in RUN.finditer(plain.text)
        if len(number := digits(run[0])) in _LIKE_A_PIN and not is_harmless_number(plain.text, run.start())
    ]


class Conversation:
    """One conversation; `redactor` has its counts."""

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self._said: deque[_Said] = deque(maxlen=_WINDOW)
        self._known: dict[str, str] = {}
        self._last: Found | None = None
        self._told = 0
        """Digits that were told so far of what is expected."""
        self._pieces: list[tuple[str, str]] = []
        """Parts of numbers that the caller has just told, with their kinds: the agent may repeat them."""
        self._expected: str | None = None
        """The group of kinds whose value the caller may say next: see `named.asked`."""
        self._awaits_pin = False

    def turn(self, turn: Turn) -> tuple[Turn, list[Turn]]:
        """A turn as it may be stored, and earlier ones to be stored anew, as they hold a piece of a number."""
        if turn.kind is TurnKind.TOOL:
            amended = self._refused(turn)
            return self._tool(turn), amended
        if turn.kind is not TurnKind.MESSAGE or not turn.content:
            return turn, []
        text = self._known_again(self._alone(turn.content))
        amended = []
        if turn.role == "user":
            self._pieces = []
            text = self._answered(text)
            text, amended = self._joined(text)
            self._expected = self._expected or self._unfinished(text)
        else:
            text = self._without_pieces(text)
            if (group := self._group(text)) or ("?" in text and not _GOES_ON.fullmatch(MASK.sub("", text))):
                self._told = self._told if self._expected else 0
                self._expected = group
        kept = turn if text == turn.content else replace(turn, content=text)
        self._said.append(_Said(kept))
        return kept, amended

    def text(self, text: str, *, label: str = "") -> str:
        """Other text of this conversation, such as its gist or what is to be remembered."""
        return self._known_again(self.redactor.text(text, label=label))

    def fact(self, name: str, text: str) -> str:
        """What is to be remembered under a label, as it may be stored. Raises SecretError if nothing is left of it."""
        return self._known_again(self.redactor.fact(name, text))

    def turns(self, turns: Iterable[Turn]) -> list[Turn]:
        """All turns of a conversation, in order, as they may be stored."""
        kept: dict[str, Turn] = {}
        for turn in turns:
            one, amended = self.turn(turn)
            kept |= {each.item_id: each for each in (one, *amended)}
        return list(kept.values())

    def resume(self, turns: Iterable[Turn]) -> None:
        """Go on after turns that another process has stored: count what it has masked, as far as that shows."""
        for turn in turns:
            self.redactor.counts.update(masks_of(turn))
            if turn.kind is TurnKind.MESSAGE:
                self._said.append(_Said(turn))

    def await_pin(self, awaited: bool, *, settled: bool = False) -> None:
        """Somebody waits for a PIN on the keypad, or no more: each number that the caller says meanwhile may be it.

        Unless that is `settled`, what they say next is still taken for the answer.
        """
        self._awaits_pin = awaited
        self._expected = None if settled or self.redactor.action("secret") == "keep" else "pin"

    def for_model(self, words: str) -> str:
        """What the caller has just said as a model may have it: without what may be a PIN while one is waited for."""
        if not (self._awaits_pin or self._expected == "pin") or self.redactor.action("secret") == "keep":
            return words
        return self._replace(words, *_pins(words))

    def clear(self) -> None:
        """Forget what was said."""
        self._said.clear()
        self._known.clear()
        self._expected = None
        self.redactor = self.redactor.anew()

    def _tool(self, turn: Turn) -> Turn:
        arguments = self._known_again(self.redactor.json(turn.arguments or ""))
        output = self._known_again(self.redactor.json(turn.output or ""))
        if (arguments, output) == (turn.arguments or "", turn.output or ""):
            return turn
        return replace(
            turn,
            arguments=turn.arguments if turn.arguments is None else arguments,
            output=turn.output if turn.output is None else output,
        )

    def _refused(self, turn: Turn) -> list[Turn]:
        """What was not remembered as it is a secret is one from now on, and in what was said before."""
        if REFUSAL not in (turn.output or "") or self.redactor.action("secret") == "keep":
            return []
        try:
            given = json.loads(turn.arguments or "")
        except ValueError:
            return []
        told = [given.get(name) for name in ("content", "value")] if isinstance(given, dict) else []
        for text in told:
            if isinstance(text, str) and len(text) <= _LONGEST and not self.redactor.find(text):
                self._learn(Found("secret", 0, len(text), text))
        return [turn for said in self._said for turn in self._amend(said, self._known_again(said.text))]

    def _alone(self, text: str) -> str:
        """The text as it is redacted by itself; what is found in it is known from now on."""
        told: list[Found] = []
        kept = self.redactor.text(text, told=told)
        for found in told:
            self._learn(found)
        self._last = max(told, key=lambda each: each.end, default=None)
        return kept

    def _learn(self, found: Found) -> None:
        least = _LEAST_KNOWN if found.kind == "secret" and re.search(r"\d", found.value) else _LEAST_OF_OTHERS
        if len(found.value) >= least and len(self._known) < _MAX_KNOWN:
            self._known.setdefault(found.value, found.kind)

    def _known_again(self, text: str) -> str:
        """Without what was told before."""
        if not self._known or not text:
            return text
        plain = read(text)
        there, folded = digits(plain.text), plain.text.casefold()
        found = []
        for value, kind in self._known.items():
            if value not in there and value.casefold() not in folded:
                continue
            if value.isdigit():
                places = [
                    each.span()
                    for each in grouped(value).finditer(plain.text)
                    if not is_harmless_number(plain.text, each.start())
                ]
            else:
                pattern = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
                places = [each.span() for each in pattern.finditer(plain.text)]
            found += [Found(kind, *place, value) for place in places]
        return self._replace(text, plain, found)

    def _replace(self, text: str, plain: Plain, found: list[Found]) -> str:
        placed = [each for one in found if (each := in_original(one, plain, 0))]
        return self.redactor.replace(text, placed) if placed else text

    def _group(self, text: str) -> str | None:
        """The group of kinds that the agent asks for, if such a value is not kept."""
        group = named.asked(read(text).text) if named.may_name(text) else None
        return group if group and self.redactor.action(named.kind_of(group)) != "keep" else None

    def _answered(self, text: str) -> str:
        """The caller's words without the value that was asked for, or that their last words announced."""
        expected, self._expected = self._expected, None
        if self._awaits_pin and self.redactor.action("secret") != "keep":
            text, expected = self._without_pins(text), "pin"
        self._told = self._told if expected else 0
        plain = read(text)
        if expected and (value := named.answer(expected, plain.text)):
            self._learn(value)
            self._pieces.append((value.value, value.kind))
            text = self._replace(text, plain, [value])
            plain = read(text)
            self._told += len(digits(value.value))
            self._expected = expected if self._told < _WHOLE_ANSWER[expected] else None
        if named.may_name(text) and (group := named.left_open(plain.text)):
            self._expected = group if self.redactor.action(named.kind_of(group)) != "keep" else None
        return text

    def _without_pins(self, text: str) -> str:
        """The caller's words without any number, wherever it stands, that can be a PIN or most of one."""
        plain, found = _pins(text)
        for each in found:
            self._learn(each)
        return self._replace(text, plain, found)

    # ---------------------------------------------------------------- a number in pieces

    def _unfinished(self, text: str) -> str | None:
        """The group of kinds of which the words end in a number that was masked before it was complete."""
        last = self._last
        self._last = None
        ended = last is not None and re.search(rf"{re.escape(self.redactor.instead_of(last))}[\s.,]*$", text)
        if last is None or not ended or last.kind not in _GROUP_OF:
            return None
        is_valid = any(each.value == last.value for each in by_shape(last.value))
        is_long = len(digits(last.value)) >= _WHOLE and not last.value[:2].isalpha()  # of an IBAN that is half
        return None if is_valid or is_long else _GROUP_OF[last.kind]

    def _joined(self, text: str) -> tuple[str, list[Turn]]:
        """The caller's words, and what they said before, without a number that goes on from one to the other."""
        before = [each for each in self._said if each.is_callers][1 - _TOGETHER :]
        if not before or not named.has_digits(text) or not named.has_digits(before[-1].text):
            return text, []
        parts = [*(each.text[-_TAIL:] for each in before), text]
        starts = [sum(len(part) + 1 for part in parts[:number]) for number in range(len(parts))]
        crossing = [
            each
            for each in self.redactor.find(" ".join(parts)) or ()
            if each.start < starts[-1] - 1 and each.end > starts[-1]
        ]
        if not crossing:
            return text, []
        whole = max(crossing, key=lambda each: len(each.value))
        self._learn(whole)
        amended = []
        for said, start, part in zip(before, starts, parts, strict=False):
            cut = len(said.text) - len(part)
            first, last = max(whole.start - start, 0) + cut, min(whole.end - start, len(part)) + cut
            if first < last:
                self._pieces.append((digits(read(said.text[first:last]).text), whole.kind))
                amended += self._amend(said, said.text[:first] + self._piece(whole.kind) + said.text[last:])
        amended += [
            each
            for said in self._said
            if not said.is_callers
            for each in self._amend(said, self._without_pieces(said.text))
        ]
        rest = Found(whole.kind, 0, whole.end - starts[-1], whole.value)
        self._pieces.append((digits(read(text[: rest.end]).text), whole.kind))
        return self.redactor.replace(text, [rest]), amended

    def _piece(self, kind: str) -> str:
        return mask(kind, "") if self.redactor.action(kind) == "mask" else ""

    def _amend(self, said: _Said, text: str) -> list[Turn]:
        if text == said.text:
            return []
        said.turn = replace(said.turn, content=text)
        return [said.turn]

    def _without_pieces(self, text: str) -> str:
        """What the agent says, without the parts of a number that the caller has just told."""
        if not self._pieces or not named.has_digits(text):
            return text
        plain = read(text)
        found = [
            Found(kind, *each.span(), "")
            for number, kind in self._pieces
            if number.isdigit() and len(number) >= _LEAST_PIECE
            for each in grouped(number).finditer(plain.text)
        ]
        return self._replace(text, plain, found)
