"""What the demo responder knows of the caller, from the briefing, and what it says or which one tool it calls."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lkmongo.confidential import REFUSAL
from lkmongo.consent import QUESTION
from lkmongo.demo.intents import (
    AskField,
    AskKnowledge,
    AskPastCalls,
    Forget,
    Intent,
    ListAll,
    LookUpOrder,
    Recall,
    Remember,
    SetField,
    Talk,
    TalkKind,
    american,
)
from lkmongo.model import PROFILE_FIELDS, profile_words, slot_words

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
        status: "known", "new", "guest", "loading", or "recognised" by a telephone number alone; "absent" when there
            is no briefing.
        profile: what is filled in of name, email, preferred_language and timezone.
        memories: content by label.
        has_more: whether there are memories that the briefing has no room for.
        gist: what the last session was about; empty when nothing is known of one.
        consent: "asked", "agreed" or "refused" where callers are asked whether anything of them may be kept.
    """

    status: str = "absent"
    profile: Mapping[str, str] = field(default_factory=dict)
    memories: Mapping[str, str] = field(default_factory=dict)
    has_more: bool = False
    gist: str = ""
    consent: str = ""

    @property
    def is_at_hand(self) -> bool:
        """Whether what is not in the briefing is not stored, or is told to be more."""
        return self.status not in {"absent", "loading", "recognised"}

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
            label: text
            for label, value in (memories.items() if isinstance(memories, dict) else ())
            # With the day since when it is true, it is a list.
            if isinstance(text := value[0] if isinstance(value, list) and value else value, str)
        },
        has_more=bool(data.get("more_memories")),
        consent=str(data.get("consent") or ""),
        gist=last["gist"].strip() if isinstance(last, dict) and isinstance(last.get("gist"), str) else "",
    )


ASK_WHO = "Who is speaking?"
"""What is asked of who calls from a known telephone number, without a name."""
NOTHING_CERTAIN = "I found nothing certain about that in the knowledge base."
NOT_AT_HAND = "What I remember is not at hand right now; please tell me again in a moment."
_LIST_HINT = 'Say "what do you know about me" to hear everything that I remember.'
_EXAMPLE = '"remember that my favorite color is teal"'
_ABILITIES = (
    ("remember_detail", "remember what you tell me", _EXAMPLE),
    ("lookup_order", "look up an order", '"where is my order"'),
    ("search_knowledge", "answer questions from the knowledge base", '"what is your return policy"'),
    ("list_user_memories", "tell you what I know about you", '"what do you know about me"'),
)
_DOING = {
    "update_profile": "change your profile",
    "remember_detail": "remember things",
    "recall_detail": "recall what I was told",
    "forget_detail": "forget things",
    "list_user_memories": "list what I know about you",
    "lookup_order": "look up orders",
    "search_past_calls": "look up earlier calls",
    "search_knowledge": "search the knowledge base",
}
_SENTENCES: Mapping[TalkKind, str] = {
    "hello": "Hello. What can I do for you?",
    "how are you": "Fine, thank you. What can I do for you?",
    "thanks": "You're welcome.",
    "goodbye": "Goodbye.",
    "all right": "All right. What can I do for you?",
    "help": "I'm the demo responder of lkmongo: I answer by fixed rules, without a language model.",
    "silence": "I did not hear anything. What can I do for you?",
    "secret": REFUSAL,
    "too long": "That was too much at once, so I changed nothing: please say one thing in one short sentence.",
    "forget that": 'I changed nothing; to have something deleted, name it, such as "forget my favorite color".',
    "forget all": (
        'I delete one thing at a time, such as "forget my favorite color", and have changed nothing; '
        "to have everything deleted, ask support."
    ),
    "forget field": "That is part of your profile: I can change it, but not delete it.",
    "say again": f"I did not get all of that, so I changed nothing: please say one thing at a time, like {_EXAMPLE}.",
    "ask order": 'For your orders, say "my orders", or "order" and its number.',
    "ask name": 'Please tell me your name and nothing else, such as "my name is Robin".',
    "ask email": 'Please tell me your whole e-mail address, such as "my email is robin@example.com".',
    "ask preferred_language": 'Please tell me your language by its English name, such as "my language is German".',
    "ask timezone": 'Please tell me your time zone by its full name, such as "my time zone is Europe/Berlin".',
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool to be called."""

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool has answered."""

    tool: str
    text: str
    is_error: bool = False


def next_step(intent: Intent, caller: CallerData, tools: Collection[str], *, lists_orders: bool) -> ToolCall | str:
    """The tool that an intent takes, or what is said without one.

    Args:
        intent: what is wanted.
        caller: the briefing.
        tools: names of the tools that may be called.
        lists_orders: whether orders can be looked up without a number.
    """
    step = _step(intent, caller, lists_orders=lists_orders)
    if isinstance(step, ToolCall) and step.tool not in tools:
        return f"I can't {_DOING[step.tool]} in this conversation."
    if isinstance(intent, Talk) and intent.kind == "help":
        return f"{step} {abilities(tools)}"
    return step


_YES = re.compile(
    r"(?:yes|yeah|yep|sure|ok|okay|of course|certainly|absolutely|please do|go ahead|(?:yes,? )?(?:i agree|you may))"
    r"(?:,? (?:please|please do|of course|you may|i agree|thanks|thank you|that is fine|that's fine))?[.! ]*",
    re.IGNORECASE,
)
_NO = re.compile(
    r"(?:no|nope|no,? (?:thanks|thank you|please don't|i don't|you may not)|i'd rather not|rather not|please don't|"
    r"i don't agree|i do not agree|don't|do not)[.! ]*",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"(?:yes,? )?(?:i agree|you may remember me|please remember me|remember me again)[.! ]*", re.IGNORECASE
)
_WITHDRAWS = re.compile(
    r"(?:please )?(?:stop remembering me|do not remember me(?: any more)?|don't remember me(?: any more)?|"
    r"keep nothing (?:of|about) me|i withdraw my consent|withdraw my consent)[.! ]*",
    re.IGNORECASE,
)


def on_consent(said: str, before: str, tools: Collection[str]) -> ToolCall | None:
    """The tool that an answer about consent takes; a bare yes or no is one only if that was asked just `before`."""
    text = said.replace("\u2019", "'").strip()
    if "withdraw_consent" in tools and _WITHDRAWS.fullmatch(text):
        return ToolCall("withdraw_consent")
    was_asked = QUESTION in before
    if "give_consent" in tools and (_AGREES.fullmatch(text) or (was_asked and _YES.fullmatch(text))):
        return ToolCall("give_consent")
    if "decline_consent" in tools and ((was_asked and _NO.fullmatch(text)) or _WITHDRAWS.fullmatch(text)):
        return ToolCall("decline_consent")
    return None


def _step(intent: Intent, caller: CallerData, *, lists_orders: bool) -> ToolCall | str:  # noqa: C901, PLR0911 - by kind
    match intent:
        case SetField(name, value):
            return ToolCall("update_profile", {"field": name, "value": value})
        case AskField(name):
            return _tell_field(name, caller)
        case Remember():
            return _remember(intent, caller)
        case Recall(labels):
            return _recall(labels, caller)
        case Forget():
            return _forget(intent, caller)
        case ListAll():
            return ToolCall("list_user_memories")
        case LookUpOrder(order_id):
            if order_id is None and not lists_orders:
                return _SENTENCES["ask order"]
            return ToolCall("lookup_order", {"order_id": order_id} if order_id else {})
        case AskPastCalls(query):
            return ToolCall("search_past_calls", {"query": query})
        case AskKnowledge(query):
            return ToolCall("search_knowledge", {"query": query})
        case Talk(kind, about):
            return _talk(kind, about, caller)


def _remember(fact: Remember, caller: CallerData) -> ToolCall | str:
    words = slot_words(fact.labels[0])
    label = caller.stored_as(fact.labels)
    # A favorite, and an allergy to one thing, are one value by what they are; of anything else there may be more.
    has_one_value = fact.labels[0].startswith(("favorite_", "allergy_to_"))
    if label is None:
        if not caller.is_at_hand and not has_one_value:
            return NOT_AT_HAND
        if fact.is_change:
            begin = f'; to have me remember it, begin with "remember that my {words} is"'
            return _nothing_stored(fact.labels, begin)
        return ToolCall("remember_detail", {"memory_type": fact.labels[0], "content": fact.content})
    stored = caller.memories[label]
    if stored.casefold() != fact.content.casefold():
        if caller.holds_more(label):
            return (
                f'I have more than that stored as "{words}", so I changed nothing: {_sentence(stored)} '
                f'To replace it, say "forget everything stored as my {words}" first.'
            )
        if not (has_one_value or fact.is_change):
            return (
                f'As "{words}" I have: {_sentence(stored)} To replace it, say "change my {words} to" and the new value.'
            )
    return ToolCall("remember_detail", {"memory_type": label, "content": fact.content})


def _recall(labels: Sequence[str], caller: CallerData) -> ToolCall | str:
    label = caller.stored_as(labels)
    if label is None and caller.is_at_hand and not caller.has_more:
        return _nothing_stored(labels)
    return ToolCall("recall_detail", {"memory_type": label or labels[0]})


def _forget(wish: Forget, caller: CallerData) -> ToolCall | str:
    label, words = caller.stored_as(wish.labels), slot_words(wish.labels[0])
    if label is None:
        return _nothing_stored(wish.labels, ", so I deleted nothing") if caller.is_at_hand else NOT_AT_HAND
    if caller.holds_more(label) and not wish.whole:
        return (
            f'I have more than that stored as "{words}", so I deleted nothing: {_sentence(caller.memories[label])} '
            f'To delete all of it, say "forget everything stored as my {words}".'
        )
    return ToolCall("forget_detail", {"memory_type": label})


def _nothing_stored(labels: Sequence[str], therefore: str = "") -> str:
    return f'I have nothing stored as "{slot_words(labels[0])}"{therefore}. {_LIST_HINT}'


def _tell_field(name: str, caller: CallerData) -> str:
    words = profile_words(name)
    if value := caller.profile.get(name):
        return f"Your {words} is {value}."
    return f"I don't know your {words} yet." if caller.is_at_hand else NOT_AT_HAND


def _talk(kind: TalkKind, about: str, caller: CallerData) -> str:
    if kind == "ask name" and about:
        return f'Please write your name with a capital letter, such as "my name is {about}".'
    name = caller.profile.get("name")
    return _SENTENCES[kind].replace(".", f", {name}.", 1) if name and kind in {"hello", "goodbye"} else _SENTENCES[kind]


# ---------------------------------------------------------------------- what the tools have answered


def reply(intent: Intent, output: Output) -> str:
    """What is said when the tool of an intent has answered."""
    match intent:
        case AskKnowledge(query) if output.tool == "search_knowledge" and not output.is_error:
            return quote(output.text, query)
        case Recall(labels) if output.tool == "recall_detail":
            return _recalled(output, labels)
        case SetField("preferred_language", value) if not output.is_error and value != "English":
            return f"{_sentence(output.text)} I can only speak English myself, though."
        case _:
            return _sentence(output.text)


def _recalled(output: Output, labels: Sequence[str]) -> str:
    """What was recalled, if it is what was asked for: the tool takes a label that is near, of whomever that tells."""
    if output.is_error:
        is_missing = output.text.startswith("I have nothing stored")
        return _nothing_stored(labels) if is_missing else _sentence(output.text)
    head, colon, _ = output.text.partition(": ")
    if colon and head.startswith("Your ") and american(head.removeprefix("Your ").replace(" ", "_")) not in labels:
        return _nothing_stored(labels)
    return _sentence(output.text)


_OF_NO_PASSAGE = frozenset("policy policies rule rules information info".split())
"""Words of a question that the passage which answers it need not hold."""
_NEEDED = {"how much": r"[$€£]|\b(?:costs?|prices?|dollars|free)\b", "how many": r"\d"}
"""What a passage must hold to answer a question that begins like that."""


def quote(output: str, question: str) -> str:
    """The first passage that is sure to be about a question, whole.

    It holds every content word of the question, one of them in its title; a single word has to be all of its title.

    Args:
        output: `{"results": [{"title", "content", "source"}]}`, best first; anything else is a sentence already.
        question: what was asked.
    """
    from lkmongo.search.words import content_words, stem, words

    try:
        found = json.loads(output)
        passages = [(str(each["title"]), str(each["content"])) for each in found["results"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return _sentence(output) or NOTHING_CERTAIN
    asked = set(content_words(question)[0])
    topic = asked - {stem(word) for word in _OF_NO_PASSAGE}
    needed = next((form for opening, form in _NEEDED.items() if question.casefold().startswith(opening)), "")
    for title, content in passages:
        of_title = {stem(word) for word in words(title)}
        held = of_title | {stem(word) for word in words(content)}
        is_about = len(asked) > 1 and asked <= held and asked & of_title
        is_title = topic and topic == set(content_words(title)[0])
        if (is_about or is_title) and _is_negated(question) == _is_negated(title) and re.search(needed, content):
            return f'The knowledge base says under "{title}": {_sentence(content)}'
    return NOTHING_CERTAIN


def _is_negated(text: str) -> bool:
    """What is covered and what is not have the same content words."""
    return re.search(r"\b(?:no|not|cannot|never|nothing|without)\b|n['\u2019]t\b", text, re.IGNORECASE) is not None


# ---------------------------------------------------------------------- of its own accord


def greeting(caller: CallerData, tools: Collection[str], words: str | None = None) -> str:
    """The first words of a session; those of the tenant, where it has some."""
    if caller.status == "recognised":
        return " ".join([words or "Hello.", *([QUESTION] if caller.consent == "asked" else []), ASK_WHO])
    if words:
        return f"{words} {QUESTION}" if caller.consent == "asked" else words
    name = caller.profile.get("name")
    if caller.status == "known" or name:
        hello = f"Hello {name}, good to hear you again." if name else "Hello, good to hear you again."
        last = f" Last time it was about this: {shorten(caller.gist, 90)}" if caller.gist else ""
        return f"{hello}{last} {QUESTION if caller.consent == 'asked' else 'What can I do for you?'}"
    able = [what for tool, what, _ in _ABILITIES[:3] if tool in tools]
    what_for = f", and I can {_joined(able, 'and')}" if able else ""
    hello = f"Hello, I'm the demo responder: I answer by fixed rules, without a language model{what_for}."
    return f"{hello} {QUESTION}" if caller.consent == "asked" else hello


def going_on(caller: CallerData) -> str:
    """What is said when a session that has begun goes on without the caller having spoken."""
    name = caller.profile.get("name")
    return f"I'm here{f', {name}' if name else ''}. Please go on."


def abilities(tools: Collection[str]) -> str:
    """One sentence on what can be done with these tools, with examples."""
    able = [(what, example) for tool, what, example in _ABILITIES if tool in tools]
    if not able:
        return "There is nothing that I could look up or store in this conversation."
    examples = [example for _, example in able[:3]]
    return f"I can {_joined([what for what, _ in able], 'and')}. Try {_joined(examples, 'or')}."


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words, ending like a sentence."""
    text = " ".join(text.split())
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0].rstrip(" ,;:.") + " ..."
    return _sentence(text)


def _joined(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?\"')" else f"{text}."
