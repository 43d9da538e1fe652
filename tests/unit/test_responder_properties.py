"""What must hold for any text at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.agent.responder.caller_data import CallerData
from lkmongo.agent.responder.outcome import Output
from lkmongo.agent.responder.passages import best_answer
from lkmongo.agent.responder.plain_text import plain
from lkmongo.agent.responder.plan import Situation, next_step
from lkmongo.agent.responder.understand import MAX_INTENTS, Before, understand
from lkmongo.model import MAX_CONTENT, MAX_ID, MAX_LABEL, check_content, check_id, slot_name

ARGUMENTS = {
    "update_profile": {"field", "value"},
    "remember_detail": {"memory_type", "content"},
    "recall_detail": {"memory_type"},
    "search_memories": {"query"},
    "list_user_memories": set(),
    "forget_detail": {"memory_type"},
    "lookup_order": {"order_id"},
    "search_knowledge": {"query"},
}
LINES = Path(__file__).with_name("test_responder_phrasings.txt").read_text(encoding="utf-8").splitlines()
PHRASES = [line.rpartition(" => ")[0] for line in LINES if " => " in line and not line.startswith("#")]
WORDS = sorted({word for phrase in PHRASES for word in phrase.split()})

any_text = st.text(max_size=200) | st.text(st.characters(categories=["L", "N", "P", "Cs", "Zs"]), max_size=80)
talk_like = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
led_in = st.tuples(
    st.sampled_from(
        [
            "remember that ",
            "my name is ",
            "forget ",
            "my ",
            "I like ",
            "what is my ",
            "order ",
            "call me ",
            "note: ",
            "i am ",
        ]
    ),
    any_text,
).map("".join)
utterances = any_text | talk_like | led_in | st.tuples(st.sampled_from(PHRASES), any_text).map(" ".join)
befores = st.builds(
    Before,
    asked_for=st.sampled_from(["", "order", "name", "email", "timezone", "preferred_language"]),
    order=st.booleans(),
    labels=st.sampled_from([(), ("a_label",)]),
)
outputs = st.sampled_from(
    ["", "Done.", "I remember nothing about that.", '{"results": [{"title": "T", "content": "A b c."}]}', "{"]
)


def test_the_grammar_needs_nothing_of_livekit() -> None:
    code = "import sys, lkmongo.agent.responder.plan; print([name for name in sys.modules if 'livekit' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(max_examples=200)
@given(utterances, befores, st.data())
def test_any_text_leads_to_sound_calls_and_in_the_end_to_words(text: str, before: Before, data: st.DataObject) -> None:
    tools = data.draw(st.sets(st.sampled_from(sorted(ARGUMENTS))))
    caller = CallerData("known", {"name": "Robin"}, {"dog_name": "Rex", "dog_age": "five"})
    intents = understand(text, before)
    assert 1 <= len(intents) <= MAX_INTENTS + 1
    assert understand(text, before) == intents
    done: dict[int, dict[int, list[Output]]] = {}
    for _ in range(4):
        step = next_step(intents, Situation(caller, tools, done))
        if not step.calls:
            break
        for call in step.calls:
            assert call.tool in tools
            assert set(call.arguments) == ARGUMENTS[call.tool]
            check_arguments(call.arguments)
            output = Output(call.tool, data.draw(outputs), is_error=data.draw(st.booleans()))
            done.setdefault(call.intent, {}).setdefault(call.rung, []).append(output)
    assert not step.calls
    assert step.text or any(not output.text for rungs in done.values() for rung in rungs.values() for output in rung)


def check_arguments(arguments: object) -> None:
    assert isinstance(arguments, dict)
    for name, value in arguments.items():
        assert isinstance(value, str)
        assert value.strip()
        if name == "memory_type":
            assert len(slot_name(value)) <= MAX_LABEL
        elif name == "content":
            assert check_content(value)
        elif name == "order_id":
            assert len(check_id("order", value)) <= MAX_ID
        else:
            assert len(value) <= MAX_CONTENT


@settings(max_examples=200)
@given(any_text, any_text)
def test_any_text_of_the_knowledge_base_can_be_spoken(content: str, question: str) -> None:
    import json

    found = best_answer(json.dumps({"results": [{"title": question, "content": content}]}), question)
    assert found is None or found.text
    plain(content)
    best_answer(content, question)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(PHRASES), min_size=2, max_size=4))
def test_phrases_in_sentences_of_their_own_are_all_heard(phrases: list[str]) -> None:
    """Small talk may be dropped beside requests, and of several values for one thing the last counts."""
    from lkmongo.agent.responder.intents import Forget, LookUpOrder, Remember

    together = understand(". ".join(phrase.rstrip(" .!?") for phrase in phrases))
    if len(together) > MAX_INTENTS or any(getattr(intent, "kind", "") == "foreign" for intent in together):
        return
    kinds = {(type(intent), getattr(intent, "label", getattr(intent, "order_id", None))) for intent in together}
    for phrase in phrases:
        for intent in understand(phrase.rstrip(" .!?")):
            if isinstance(intent, Remember):
                assert {(Remember, intent.label), (Forget, intent.label)} & kinds
            elif isinstance(intent, LookUpOrder) and intent.order_id:
                assert (LookUpOrder, intent.order_id) in kinds
