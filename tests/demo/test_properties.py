"""What must hold for the demo responder whatever is said, stored or answered."""

from __future__ import annotations

import json
import subprocess
import sys

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lkmongo.demo.intents import Recall, understand
from lkmongo.demo.replies import CallerData, Output, ToolCall, greeting, quote, read_caller_data, reply
from lkmongo.model import MAX_CONTENT, MAX_ID, MAX_LABEL, check_content, check_id, slot_name
from tests.demo.stored import ARGUMENTS, CHANGING, ROBIN, answer
from tests.demo.test_utterances import ROWS

PHRASES = [text for text, _ in ROWS]
CHANGES = [text.rstrip(".!") for text, expected in ROWS if expected.split()[0] in CHANGING]
WORDS = sorted({word for phrase in PHRASES for word in phrase.split()})
CORRECTIONS = ["no wait", "wait", "actually", "sorry", "I mean", "no", "oops", "scratch that", "or rather", "uh", "nah"]
NEGATIONS = ["don't", "do not", "never", "I don't want you to", "please do not", "you must not", "nobody said"]
PERSONS = ["son", "daughter", "wife", "husband", "mom", "dad", "grandson", "brother", "dog", "boss"]
FACTS = ["birthday", "name", "favorite color", "shoe size", "phone", "address"]

any_text = st.text(max_size=200) | st.text(st.characters(categories=["L", "N", "P", "Cs", "Zs"]), max_size=80)
led_in = st.tuples(
    st.sampled_from(["remember that my ", "my name is ", "forget my ", "what is my ", "order "]), any_text
)
utterances = (
    any_text
    | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
    | led_in.map("".join)
    | st.tuples(st.sampled_from(PHRASES), any_text).map(" ".join)
)
labels = st.sampled_from([*ROBIN.memories, "daughter_birthday", "sons_birthday", "wife_name", "x"])
callers = st.builds(
    CallerData,
    status=st.sampled_from(["known", "new", "guest", "loading", "absent"]),
    profile=st.just({"name": "Robin"}) | st.just({}),
    memories=st.dictionaries(labels, any_text.filter(str.strip), max_size=4),
    has_more=st.booleans(),
    gist=any_text,
)


def changes(text: str) -> bool:
    step = answer(text)
    return isinstance(step, ToolCall) and step.tool in CHANGING


def test_what_is_understood_needs_nothing_of_livekit():
    code = "import sys, lkmongo.demo.replies; print([name for name in sys.modules if 'livekit' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(max_examples=150)
@given(text=utterances, caller=callers, output=any_text, is_error=st.booleans())
@example(text="what did we talk about last time", caller=ROBIN, output="", is_error=False)
def test_any_text_leads_to_a_sound_call_or_to_words(text, caller, output, is_error):
    step = answer(text, caller)
    assert step
    if isinstance(step, str):
        return
    assert set(step.arguments) in (ARGUMENTS[step.tool], set() if step.tool == "lookup_order" else ARGUMENTS[step.tool])
    for name, value in step.arguments.items():
        assert value.strip()
        if name == "memory_type":
            assert len(slot_name(value)) <= MAX_LABEL
        elif name == "content":
            assert check_content(value)
        elif name == "order_id":
            assert len(check_id("order", value)) <= MAX_ID
        else:
            assert len(value) <= MAX_CONTENT
    said = reply(understand(text), Output(step.tool, output, is_error))
    assert said or not output.strip()
    greeting(caller, set(ARGUMENTS))


@settings(max_examples=100)
@given(
    st.sampled_from(CHANGES), st.sampled_from(CORRECTIONS), st.sampled_from([" ", ", ", ". ", "... ", " - "]), st.data()
)
def test_a_correction_changes_nothing_wherever_it_stands(change, correction, joint, data):
    after = data.draw(st.sampled_from(["", "green", "Sam", "my shoe size", change]))
    assert not changes(f"{change}{joint}{correction}{joint}{after}")
    assert not changes(f"{correction}{joint}{change}")


@given(st.sampled_from(CHANGES), st.sampled_from(NEGATIONS))
def test_a_negation_changes_nothing(change, negation):
    assert not changes(f"{negation} {change}")
    for verb in (" is ", " to ", " are ", " am "):
        if verb in change:
            assert not changes(change.replace(verb, f"{verb}not ", 1))


@given(
    st.sampled_from(CHANGES), st.sampled_from(CHANGES), st.sampled_from([" and ", ", ", ". ", "; ", " but ", " ", "\n"])
)
def test_several_changes_in_one_utterance_are_none(first, second, joint):
    assert not changes(f"{first}{joint}{second}")


@given(st.sampled_from(CHANGES))
def test_a_question_changes_nothing(change):
    for text in (f"{change}?", f"can you {change}", f"what if {change}", f"did I say {change}?", f'"{change}"'):
        assert not changes(text)


@settings(max_examples=100)
@given(*[st.sampled_from(PERSONS)] * 2, st.sampled_from(FACTS), st.sampled_from(["{}_{}", "{}s_{}"]), st.booleans())
def test_of_one_person_nothing_is_told_or_deleted_that_is_stored_of_another(person, other, fact, label, has_more):
    """The tool itself takes a label that is near, so what it answers is looked at as well."""
    assume(person != other)
    stored = label.format(other, slot_name(fact))
    caller = CallerData("known", {"name": "Robin"}, {stored: "SECRET OF ANOTHER"}, has_more=has_more)
    step = answer(f"what is my {person}'s {fact}", caller)
    if isinstance(step, ToolCall):
        assert (step.tool, has_more) == ("recall_detail", True)
        of_another = Output("recall_detail", f"Your {stored.replace('_', ' ')}: SECRET OF ANOTHER.")
        step = reply(understand(f"what is my {person}'s {fact}"), of_another)
    assert "SECRET" not in step
    assert "Robin" not in step
    assert isinstance(answer(f"forget my {person}'s {fact}", caller), str)
    assert isinstance(answer(f"forget my {person}", caller), str)
    assert isinstance(answer(f"forget my {fact}", caller), str)
    own = answer(f"what is my {other}'s {fact}", caller)
    assert own == ToolCall("recall_detail", {"memory_type": stored})


@given(st.sampled_from(CHANGES), callers)
def test_what_is_confirmed_and_stored_is_what_was_said(change, caller):
    step = answer(change, caller)
    if isinstance(step, ToolCall) and step.tool in CHANGING:
        value = step.arguments.get("content") or step.arguments.get("value") or ""
        assert value.casefold().replace("_", " ") in change.casefold()


@settings(max_examples=100)
@given(any_text, any_text, any_text)
def test_a_passage_is_quoted_whole_or_not_at_all(title, content, question):
    output = json.dumps({"results": [{"title": title, "content": content, "source": "s"}]})
    said = quote(output, question)
    assert content.strip() in said or said == "I found nothing certain about that in the knowledge base."
    quote(content, question)


@given(st.lists(any_text))
def test_whatever_the_context_holds_it_is_read(texts):
    read_caller_data(texts)
    read_caller_data(f"<caller_data>{text}</caller_data>" for text in texts)
    read_caller_data(f"<caller_data>\n{json.dumps(text)}" for text in [{"profile": texts, "memories": texts}, texts])


def test_labels_of_recall_are_never_empty():
    assert all(intent.labels for text in PHRASES if isinstance(intent := understand(text), Recall))
