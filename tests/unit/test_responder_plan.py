"""What is called and what is said, step by step, without a session."""

from __future__ import annotations

import json

import pytest

from lkmongo.agent.responder import say
from lkmongo.agent.responder.caller_data import CallerData, read_caller_data
from lkmongo.agent.responder.intents import Forget, Intent, Recall
from lkmongo.agent.responder.outcome import Output
from lkmongo.agent.responder.plan import Situation, Step, next_step
from lkmongo.agent.responder.understand import understand

TOOLS = [
    "update_profile",
    "remember_detail",
    "recall_detail",
    "search_memories",
    "list_user_memories",
    "forget_detail",
    "lookup_order",
    "search_knowledge",
]
KNOWN = CallerData(
    "known", {"name": "Robin"}, {"dog_name": "Rex", "dog_age": "five", "allergy_nuts": "nuts"}, "order 7"
)


def step(
    intents: list[Intent] | str, done: dict[int, dict[int, list[Output]]] | None = None, **options: object
) -> Step:
    options = {"caller": KNOWN, "tools": TOOLS} | options
    wanted = understand(intents) if isinstance(intents, str) else intents
    return next_step(wanted, Situation(done=done or {}, **options))  # type: ignore[arg-type]


def called(text: str, **options: object) -> list[tuple[str, dict[str, str]]]:
    return [(call.tool, dict(call.arguments)) for call in step(text, **options).calls]


def test_several_requests_are_called_side_by_side_and_answered_in_their_order() -> None:
    text = "where is order 1001 and my name is Bob"
    first = step(text)
    assert [(call.tool, call.intent, call.rung) for call in first.calls] == [
        ("lookup_order", 0, 0),
        ("update_profile", 1, 0),
    ]
    done = {1: {0: [Output("update_profile", "Saved.")]}, 0: {0: [Output("lookup_order", "It is shipped.")]}}
    assert step(text, done) == Step(text="It is shipped. Saved.")


def test_a_label_that_is_not_there_leads_to_a_search_and_then_to_an_answer() -> None:
    question = "what is my favorite color"
    assert called(question) == [("recall_detail", {"memory_type": "favorite_color"})]
    missing = {0: {0: [Output("recall_detail", "I have nothing stored about your favorite color.", is_error=True)]}}
    assert [call.tool for call in step(question, missing).calls] == ["search_memories"]
    found = {0: missing[0] | {1: [Output("search_memories", "Your colors: teal.")]}}
    assert step(question, found).text == "Your colors: teal."
    nothing = {0: missing[0] | {1: [Output("search_memories", "I remember nothing about that.")]}}
    assert step(question, nothing).text == "I have nothing stored about your favorite color."


def test_a_question_of_business_goes_on_to_the_knowledge_base() -> None:
    question = "what is my return deadline"
    none = (
        [Output("recall_detail", "Nothing.", is_error=True)],
        [Output("search_memories", "I remember nothing about that.")],
    )
    done = {0: dict(enumerate(none))}
    assert [call.tool for call in step(question, done).calls] == ["search_knowledge"]
    passage = {"title": "Returns", "content": "The return deadline is 30 days.", "source": "r"}
    found = [Output("search_knowledge", json.dumps({"results": [passage]}))]
    assert step(question, {0: done[0] | {2: found}}).text == "The return deadline is 30 days."


def test_no_more_than_three_steps_call_tools() -> None:
    for said in ("what is my return deadline", "what is my name", "where do i live", "can i eat nuts"):
        done: dict[int, dict[int, list[Output]]] = {0: {}}
        steps = 0
        while calls := step(said, done, caller=CallerData()).calls:
            done[0][calls[0].rung] = [Output(calls[0].tool, "I have nothing.", is_error=True)]
            steps += 1
        assert 1 <= steps <= 3


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_not_there_is_not_called_and_said_to_be_missing(tool: str) -> None:
    said = {
        "update_profile": "call me Bob",
        "remember_detail": "I like tea",
        "recall_detail": "what is my shoe size",
        "search_memories": "where do I live",
        "list_user_memories": "what do you know about me",
        "forget_detail": "forget my shoe size",
        "lookup_order": "where is order 7",
        "search_knowledge": "what is your return policy",
    }[tool]
    others = [name for name in TOOLS if name != tool]
    assert tool in [call.tool for call in step(said).calls]
    assert tool not in [call.tool for call in step(said, tools=others).calls]
    alone = step(said, tools=[])
    assert alone.calls == ()
    assert "in this conversation" in alone.text


def test_nothing_is_called_when_that_is_over() -> None:
    assert step("where is order 1001", may_call=False) == Step(text="I can't look up orders in this conversation.")


def test_the_profile_is_told_from_the_briefing() -> None:
    assert step("what's my name?") == Step(text="Your name is Robin.")
    assert step("what's my email?").text.startswith("I don't know your e-mail address yet.")
    assert say.asked_field(step("what's my email?").text) == "email"


def test_the_profile_is_looked_up_while_there_is_no_briefing() -> None:
    assert called("what's my name?", caller=CallerData(status="loading")) == [
        ("recall_detail", {"memory_type": "name"})
    ]


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ("forget my dog's name", ["dog_name"]),
        ("forget everything about my dog", ["dog_name", "dog_age"]),
        ("forget my allergy", ["allergy_nuts"]),
        ("please don't remember my allergies any more", ["allergy_nuts"]),
        ("forget what you know about nuts", ["allergy_nuts"]),
        ("forget my hat size", ["hat_size"]),
    ],
)
def test_what_is_to_be_forgotten_is_found_in_the_briefing(said: str, labels: list[str]) -> None:
    assert called(said) == [("forget_detail", {"memory_type": label}) for label in labels]


def test_which_of_several_memories_is_meant_is_asked() -> None:
    asked = step("forget my dog")
    assert asked.calls == ()
    assert "dog name and dog age" in asked.text


def test_several_deletions_are_all_reported() -> None:
    done = {0: {0: [Output("forget_detail", "Forgot one."), Output("forget_detail", "Forgot two.")]}}
    assert step([Forget("dog", every=True)], done).text == "Forgot one. Forgot two."


def test_what_is_no_longer_so_is_forgotten_or_else_remembered() -> None:
    likes = CallerData("known", {}, {"eats_meat": "meat"})
    assert called("i no longer eat meat", caller=likes) == [("forget_detail", {"memory_type": "eats_meat"})]
    assert [tool for tool, _ in called("i no longer eat meat")] == ["remember_detail"]


def test_a_label_is_completed_from_the_briefing_only_when_that_is_sure() -> None:
    (allergy,) = step([Recall("allergy", "what is my allergy")]).calls
    assert allergy.arguments == {"memory_type": "allergy_nuts"}
    (dog,) = step([Recall("dog", "what is my dog")]).calls
    assert dog.arguments == {"memory_type": "dog"}


def test_what_a_tool_says_of_a_failure_is_spoken() -> None:
    done = {0: {0: [Output("lookup_order", "There is no order 9 of yours.", is_error=True)]}}
    assert step("where is order 9", done).text == "There is no order 9 of yours."


def test_what_cannot_be_done_is_said_beside_what_was_done() -> None:
    told = {0: {0: [Output("update_profile", "Saved. Your preferred language is German.")]}}
    assert step("I speak German", told).text.endswith(say.ONLY_ENGLISH)
    noted = {0: {0: [Output("remember_detail", "I will remember that.")]}}
    assert step("remind me to call Anna", noted).text.endswith(say.NO_REMINDERS)
    saved = {0: {0: [Output("update_profile", "Saved.")]}}
    assert (
        'I did not understand "the grass is always greener somewhere.'
        in step("my name is Bob. the grass is always greener somewhere", saved).text
    )


@pytest.mark.parametrize(
    "said",
    [
        "hi",
        "bye",
        "how are you",
        "who are you",
        "are you an AI",
        "play some music",
        "forget everything",
        "forget my name",
        "what can you do",
        "say that again",
        "let me talk to a human",
        "what did we talk about last time",
        "xx yy",
        "thanks",
        "yes",
    ],
)
def test_small_talk_is_answered_at_once(said: str) -> None:
    answer = step(said, tools=[tool for tool in TOOLS if tool != "search_knowledge"])
    assert answer.calls == ()
    assert answer.text.endswith((".", "?"))


def test_what_it_can_do_is_only_what_there_are_tools_for() -> None:
    assert "order" in step("what can you do").text
    assert "order" not in step("what can you do", tools=["search_knowledge"]).text
    assert "nothing" in step("what can you do", tools=[]).text


def test_the_last_call_is_told_from_the_briefing() -> None:
    assert "order 7" in step("what did we talk about last time").text
    assert "no earlier call" in step("what did we talk about last time", caller=CallerData()).text


def test_what_was_said_is_said_again() -> None:
    assert step("say that again", last_said="It is shipped.").text == "It is shipped."


def test_the_greeting_knows_the_caller_or_introduces_itself() -> None:
    assert say.greeting(KNOWN, TOOLS).startswith("Hello Robin, good to hear you again.")
    assert "order 7" in say.greeting(KNOWN, TOOLS)
    for status in ("new", "guest", "loading", "absent"):
        assert "without a language model" in say.greeting(CallerData(status), TOOLS)
    assert "order" not in say.greeting(CallerData(), [])


# ---------------------------------------------------------------------- the briefing


def test_the_briefing_is_read_out_of_its_fence() -> None:
    data = {
        "status": "known",
        "profile": {"name": "Ana"},
        "memories": [{"memory_type": "tea", "content": "</caller_data>"}],
        "last_call": {"gist": "g"},
    }
    read = read_caller_data(
        [
            "The data stands between <caller_data> and </caller_data>.",
            f"Hi\n<caller_data>\n{json.dumps(data)}\n</caller_data>",
        ]
    )
    assert read == CallerData("known", {"name": "Ana"}, {"tea": "</caller_data>"}, "g")


def test_of_two_briefings_the_later_counts() -> None:
    texts = [
        f'<caller_data>{{"status": "known", "profile": {{"name": "{name}"}}}}</caller_data>' for name in ("A", "B")
    ]
    assert read_caller_data(texts).profile == {"name": "B"}
    assert read_caller_data([" ".join(texts)]).profile == {"name": "B"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<caller_data>",
        "<caller_data>\n[1]\n</caller_data>",
        "<caller_data>{not json}</caller_data>",
        "<caller_data>" + "[" * 5000,
    ],
)
def test_a_briefing_that_is_none_is_passed_over(text: str) -> None:
    assert read_caller_data([text]) == CallerData()


def test_a_briefing_of_wrong_types_gives_what_is_right_in_it() -> None:
    data = {
        "status": 1,
        "profile": {"name": 2, "email": " "},
        "memories": [1, {"memory_type": "a"}, {"memory_type": "b", "content": "c"}],
        "last_call": [],
    }
    read = read_caller_data([f"<caller_data>\n{json.dumps(data)}\n</caller_data>"])
    assert read == CallerData("known", {}, {"b": "c"}, "")
