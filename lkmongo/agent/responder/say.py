"""What the responder says of its own accord. Everything else it says comes out of a tool."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lkmongo.agent.responder.caller_data import CallerData
from lkmongo.confidential import REFUSAL

ASK_ORDER = "Which order is it? Please tell me its number."
ORDER_MARK = "tell me its number"
"""Part of `ASK_ORDER`; by it the next turn knows that a number is an answer."""
ONLY_ENGLISH = "I can only speak English myself, though."
NO_REMINDERS = "I can't remind you at a time, though."
NOTHING_FOUND = "I found nothing in the knowledge base that answers that."
NOT_UNDERSTOOD = "I did not understand that, and I found nothing about it in the knowledge base."
CLOSEST = "I'm not sure that this answers it, but it is the closest I found."
FIELD_WORDS = {
    "name": "name",
    "email": "e-mail address",
    "preferred_language": "preferred language",
    "timezone": "time zone",
}
_TAGS = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch", "ja": "Japanese", "zh": "Chinese"}  # fmt: skip
_ABLE = (
    ({"remember_detail", "recall_detail"}, "remember what you tell me", "remember that my favorite color is teal"),
    ({"lookup_order"}, "look up an order", "where is my order"),
    ({"search_knowledge"}, "answer questions from the knowledge base", "what is your return policy"),
    ({"list_user_memories"}, "tell you what I know about you", "what do you know about me"),
)
_SENTENCES = {
    "greet": "Hello. What can I do for you?",
    "goodbye": "Goodbye.",
    "thanks": "You're welcome.",
    "ok": "All right. What can I do for you?",
    "never_mind": "All right.",
    "nothing": "I did not hear anything. What can I do for you?",
    "sorry": "No problem.",
    "how_are_you": "Fine, thank you. What can I do for you?",
    "compliment": "Thank you. What else can I do for you?",
    "insult": "I'm sorry that I am not of more help. I answer by fixed rules, so plain short sentences work best.",
    "feeling": "I see. Tell me if there is anything I can do for you.",
    "hearing": "Yes, I'm here.",
    "human": "No, I'm a program: the built-in responder. There is no human and no language model behind me, only fixed rules.",
    "identity": "I'm the built-in responder of lkmongo. I answer by fixed rules, without a language model.",
    "person": "I can't connect you with a person or call you. I'm a program that answers by fixed rules.",
    "languages": "I only understand and speak English. I can note another preferred language for you, though.",
    "foreign": "I'm sorry, I only understand English.",
    "forget_all": "I can't delete everything at once here. I can forget one thing after the other, such as \"forget my favorite color\"; for everything, ask support, or use the command lkmongo memory forget.",
    "what_to_remember": 'What should I remember? Say it in one sentence, such as "remember that my favorite color is teal".',
    "what_to_forget": 'What should I forget? Say it with its name, such as "forget my favorite color".',
    "orders_by_number": f"I can't list your orders, only look one up by its number. {ASK_ORDER}",
    "no_order_number": "Without its number I can't look up an order.",
    "cannot_change_order": "I can't change or cancel orders, only look them up.",
    "too_long": "That was too long for me. I answer by fixed rules, so plain short sentences work best.",
    "too_much": "That was a lot at once, and I stopped there. Please tell me the rest again.",
    "repeat": "I have not said anything yet.",
    "last_call": "I know of no earlier call with you.",
    "capabilities": "I answer by fixed rules, without a language model.",
    "cannot": "I can't do that: I have no language model here, and no access to the web or your devices.",
    "unknown": "I did not understand that: I have no language model here, only fixed rules.",
    "secret": REFUSAL,
}  # fmt: skip


def abilities(tools: Collection[str]) -> str:
    """One sentence on what can be done with these tools, with examples."""
    able = [(what, example) for needed, what, example in _ABLE if needed <= set(tools)]
    if not able:
        return "There is nothing that I could look up or store in this conversation."
    examples = [f'"{example}"' for _, example in able[:3]]
    return f"I can {_join([what for what, _ in able])}. Try {_join(examples, 'or')}."


def _join(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def talk(kind: str, about: str, caller: CallerData, tools: Collection[str], last_said: str) -> str:
    """What is said without a tool.

    Args:
        kind: one of those that the grammar names.
        about: what it is about, in the caller's words.
        caller: the briefing.
        tools: the names of the tools that are there.
        last_said: what the agent said before.
    """
    text = _SENTENCES.get(kind, "")
    if kind == "repeat":
        text = last_said or text
    elif kind in {"capabilities", "cannot", "unknown"}:
        text = f"{text} {abilities(tools)}"
    elif kind == "last_call" and caller.gist:
        text = f"Last time it was about this: {shorten(caller.gist, 200)}"
    elif kind == "tell_field":
        text = ask_field(about)
    elif kind == "forget_field":
        text = f"Your {FIELD_WORDS[about]} is part of your profile: I can change it, but not delete it. Ask support for that."
    elif kind in {"greet", "goodbye"} and (name := caller.profile.get("name")):
        text = text.replace(".", f", {name}.", 1)
    return text


def aside(about: str) -> str:
    """What was left over beside requests that were understood."""
    return f'I did not understand "{shorten(about, 80)}".'


def which_of(label: str, labels: Sequence[str]) -> str:
    """Ask which of several memories is meant."""
    said = [known.replace("_", " ") for known in labels[:5]]
    about = label.replace("_", " ")
    return f'I remember several things there: {_join(said)}. Say which, or "forget everything about my {about}".'


def ask_field(field: str) -> str:
    """Ask for a field of the profile; `asked_field` recognises it."""
    return f"Please tell me your {FIELD_WORDS[field]}."


def asked_field(said: str) -> str:
    """The field that a sentence of the agent asks for; empty when none."""
    for field, spoken in FIELD_WORDS.items():
        if f"tell me your {spoken}" in said:
            return field
    return ""


def profile_field(field: str, value: str | None) -> str:
    """What the profile says, or that it does not."""
    if value:
        return f"Your {FIELD_WORDS[field]} is {_TAGS.get(value, value)}."
    return f"I don't know your {FIELD_WORDS[field]} yet. {ask_field(field)}"


def greeting(caller: CallerData, tools: Collection[str]) -> str:
    """The first words of a call."""
    name = caller.profile.get("name")
    if caller.status == "known" or name:
        hello = f"Hello {name}, good to hear you again." if name else "Hello, good to hear you again."
        last = f" Last time it was about this: {shorten(caller.gist, 90)}" if caller.gist else ""
        return f"{hello}{last} What can I do for you?"
    able = [what for needed, what, _ in _ABLE[:3] if needed <= set(tools)]
    for_what = f", and I can {_join(able)}" if able else ""
    return f"Hello, I'm the built-in responder: I answer by fixed rules, without a language model{for_what}."


def going_on(caller: CallerData) -> str:
    """What is said when a conversation that has begun goes on without the caller having spoken."""
    name = caller.profile.get("name")
    return f"I'm here{f', {name}' if name else ''}. Please go on."


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words, ending like a sentence."""
    text = " ".join(text.split())
    if len(text) > limit:
        text = text[:limit].rsplit(" ", 1)[0].rstrip(" ,;:.") + " ..."
    return text if text[-1:] in {".", "!", "?"} else f"{text}."
