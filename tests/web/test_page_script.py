"""The talk page's scripts, with Node in the place of a browser; tests/browser runs them in one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import lkmongo
from lkmongo.web.page import FOR_OTHER_PAGES, load_words

STATIC = Path(lkmongo.__file__).parent / "web" / "static"
SCRIPTS = sorted(path for path in STATIC.glob("*.js") if path.name != FOR_OTHER_PAGES)
NODE = shutil.which("node")

with_node = pytest.mark.skipif(NODE is None, reason="node is not on PATH")

STANDARD, AGENT = 0, 4
"""Kinds of participants in LiveKit's protocol; the server alone decides which one it is."""
THE_AGENT = {"identity": "agent-1", "kind": AGENT, "isAgent": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, where Node takes the scripts for modules, as browsers do."""
    folder = tmp_path_factory.mktemp("page") / "static"
    shutil.copytree(STATIC, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(Path(__file__).with_name("page.js"), folder / "run.mjs")
    return folder


@pytest.fixture
def shown(folder: Path):
    """What the page shows after all this has happened in a conversation with these participants."""

    def shown(*steps: tuple[str, Any], participants: list[dict] | None = None, **options: Any) -> dict:
        ran = subprocess.run(
            [NODE, folder / "run.mjs", folder],
            input=json.dumps({"participants": participants or [THE_AGENT], "steps": steps} | options),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return shown


def heard(*streams: dict) -> list[tuple[str, Any]]:
    return [("press", "start-typing"), *(("hear", stream) for stream in streams)]


@with_node
def test_only_what_an_agent_sends_is_named_the_assistant_s(shown):
    page = shown(
        *heard(
            {"identity": "agent-1", "text": "Hello."},
            {"identity": "me", "text": "Hello, too."},
            {"identity": "copied-token", "text": "Assistant: tell me your card number."},
            {"identity": "says-so", "text": "I am the assistant."},
            {"identity": "agent-1", "text": "What can I do for you?"},
            {"identity": "nobody-there", "text": "I am, too."},
        ),
        ("pass", 2_000),
        participants=[
            {"identity": "copied-token", "kind": STANDARD, "isAgent": False},
            {"identity": "says-so", "kind": STANDARD, "isAgent": True, "permissions": {"agent": True}},
            THE_AGENT,
        ],
    )
    assert page["said"] == [
        ["Assistant", "Hello."],
        ["You", "Hello, too."],
        ["Somebody else", "Assistant: tell me your card number."],
        ["Somebody else", "I am the assistant."],
        ["Assistant", "What can I do for you?"],
        ["Somebody else", "I am, too."],
    ]


@with_node
def test_what_comes_before_its_speaker_waits_until_it_is_known_who_that_is(shown):
    greeting = ("hear", {"identity": "agent-1", "text": "Hello."})
    stranger = {"identity": "caller-2", "kind": STANDARD}
    page = shown(("press", "start-typing"), greeting, participants=[stranger])
    assert (page["said"], page["partial"]) == ([], [])
    arrives = ("arrive", THE_AGENT)
    page = shown(("press", "start-typing"), greeting, arrives, participants=[stranger])
    assert page["said"] == [["Assistant", "Hello."]]


@with_node
def test_what_the_assistant_does_is_one_line_that_says_how_it_went(shown):
    def tool(label: str, state: str, tool: str = "lookup_order") -> tuple[str, Any]:
        content = json.dumps({"tool": tool, "label": label, "state": state})
        return "data", {"topic": "lkmongo.activity", "identity": "agent-1", "content": content}

    page = shown(("press", "start-typing"), tool("order 1", "started"))
    assert page["said"] == [["Looking up order 1", "Looking up order 1"]]
    several = [
        tool("order 1", "started"),
        tool("order 2", "started"),
        tool("order 1", "done"),
        tool("order 2", "failed"),
    ]
    page = shown(("press", "start-typing"), *several)
    assert page["said"] == [["Did not find order 2, and 1 more", "Looked up order 1Did not find order 2"]]
    late = [tool("order 1", "started"), ("hear", {"identity": "agent-1", "text": "A moment."}), tool("order 1", "done")]
    page = shown(("press", "start-typing"), *late)
    assert page["said"] == [["Looked up order 1", "Looked up order 1"], ["Assistant", "A moment."]]
    unknown = [tool("", "done", "warp_drive"), tool("color", "done", "remember_detail"), tool("", "done")]
    assert shown(("press", "start-typing"), *unknown)["said"] == [["Looked up your orders", "Looked up your orders"]]


@with_node
@pytest.mark.parametrize(("kind", "state"), [(AGENT, "initializing"), (STANDARD, "away")])
def test_who_only_says_that_they_are_an_agent_has_not_come(shown, kind, state):
    page = shown(("press", "start-typing"), participants=[{"identity": "x", "kind": kind, "isAgent": True}])
    assert page.get("agent", "away") == state


@with_node
def test_nobody_goes_on_with_what_the_assistant_has_begun_to_say(shown):
    page = shown(
        *heard(
            {"identity": "agent-1", "text": "Your order", "segment": "SG_1", "goesOn": True},
            {"identity": "copied-token", "text": "Tell me your PIN", "segment": "SG_1", "goesOn": True},
        ),
        participants=[THE_AGENT, {"identity": "copied-token", "kind": STANDARD}],
    )
    assert page["partial"] == [["Assistant", "Your order"], ["Somebody else", "Tell me your PIN"]]


@with_node
def test_what_the_assistant_did_and_learned_counts_only_from_an_agent(shown):
    def told(identity: str, label: str) -> list[tuple[str, Any]]:
        activity = json.dumps({"tool": "lookup_order", "label": label, "state": "done"})
        memory = json.dumps({"kind": "memory", "name": "x", "label": label, "content": "teal", "change": "learned"})
        return [
            ("data", {"topic": "lkmongo.activity", "identity": identity, "content": activity}),
            ("data", {"topic": "lkmongo.memory", "identity": identity, "content": memory}),
            ("data", {"topic": "lkmongo.memory", "identity": identity, "content": "no JSON"}),
        ]

    page = shown(
        ("press", "start-typing"),
        *told("copied-token", "order 666"),
        *told("agent-1", "order 1001"),
        participants=[{"identity": "copied-token", "kind": STANDARD}, THE_AGENT],
    )
    told_of = json.dumps(page["said"])
    assert "Looked up order 1001" in told_of
    assert "Remembered: order 1001" in told_of
    assert "666" not in told_of


@with_node
def test_who_is_cut_short_by_the_visitor_is_marked_as_interrupted(shown):
    cut = {"identity": "agent-1", "text": "Your order left our", "segment": "SG_1"}
    finished = cut | {"text": "Your order left our warehouse."}
    page = shown(
        *heard(cut | {"goesOn": True}, {"identity": "me", "text": "Stop", "segment": "U", "isFinal": False}, cut),
    )
    assert (page["said"], page["marks"]) == ([["Assistant", "Your order left our", "interrupted"]], ["interrupted"])
    assert page["partial"] == [["You", "Stop"]]
    assert "Assistant: Your order left our (interrupted)" in page["file"]
    for streams in ([cut], [finished | {"goesOn": True}, {"identity": "me", "text": "Thanks."}, finished]):
        assert "interrupted" not in shown(*heard(*streams))["marks"]


TYPED = [("press", "start-typing"), ("agent", "listening"), ("type", "Where is my order?")]


@with_node
def test_a_message_is_sent_when_the_assistant_is_there_and_counts_as_sent_when_it_reacts(shown):
    early = shown(("press", "start-typing"), ("agent", "initializing"), ("type", "Where is my order?"))
    assert (early["marks"], early["sent"]) == (["pending"], [])
    assert shown(*TYPED)["marks"] == ["sending"]
    page = shown(*TYPED, ("agent", "thinking"))
    assert (page["marks"], page["sent"]) == (["sent"], ["Where is my order?"])
    assert shown(*TYPED, ("pass", 20_000))["marks"] == ["sent"]


BREAK = [("emit", ["Reconnecting", "reconnecting"])]
BACK = [("emit", ["Reconnected", "connected"])]
RESUME = [("emit", ["SignalReconnecting", "signalReconnecting"])]


@with_node
def test_what_a_broken_connection_may_have_lost_is_sent_again_in_its_order_and_once(shown):
    during = ("type", "And when does it come?")
    broken = shown(*TYPED, *BREAK, during)
    assert broken["marks"] == ["sending", "pending"]
    assert broken["sent"] == ["Where is my order?"]
    assert "interrupted" in broken["status"]
    assert broken["alert"] == ""
    page = shown(*TYPED, *BREAK, during, *BACK, ("agent", "speaking"))
    assert page["sent"] == ["Where is my order?", "Where is my order?", "And when does it come?"]
    assert page["marks"] == ["sent", "sent"]
    assert page["status"] == ""
    # What the agent has reacted to has arrived, and LiveKit itself sends again what a resumed connection may have lost.
    assert shown(*TYPED, ("agent", "thinking"), *BREAK, *BACK)["sent"] == ["Where is my order?"]
    assert shown(*TYPED, *RESUME, *BACK)["sent"] == ["Where is my order?"]


@with_node
def test_who_talks_only_while_holding_is_not_heard_in_the_next_conversation_either(shown):
    holding = [("press", "start"), ("check", ["push-to-talk", True])]
    assert shown(("press", "start"))["microphone"] is True
    assert shown(*holding)["microphone"] is False
    assert shown(*holding, ("press", "end"), ("press", "start"))["microphone"] is False


@with_node
def test_what_is_on_its_way_while_the_connection_comes_back_is_sent_once(shown):
    second = [("slow", None), ("type", "And when does it come?")]
    page = shown(*TYPED, *second, *BREAK, *BACK, ("arrival", None), ("agent", "speaking"))
    assert sorted(page["sent"]) == ["And when does it come?", "Where is my order?", "Where is my order?"]
    assert page["marks"] == ["sent", "sent"]


@with_node
def test_a_message_that_cannot_be_sent_says_so_and_is_sent_again(shown):
    failed = [("press", "start-typing"), ("agent", "listening"), ("away", True), ("type", "Hello?"), ("pass", 1_000)]
    page = shown(*failed)
    assert (page["marks"], page["sent"]) == (["failed"], [])
    assert page["said"] == [["You", "Hello?", "Not sent", "Send again"]]
    assert "Hello?" not in page["file"]
    page = shown(*failed, ("away", False), ("again", None), ("agent", "thinking"))
    assert (page["marks"], page["sent"]) == (["sent"], ["Hello?"])


@with_node
def test_what_was_not_sent_when_the_connection_was_lost_begins_another_conversation(shown):
    lost = [*TYPED, *BREAK, ("type", "Hello?"), ("emit", ["Disconnected", "disconnected", "SIGNAL_CLOSE"])]
    page = shown(*lost)
    assert page["marks"] == ["failed", "failed"]
    assert (page["view"], page["call"], page["status"]) == ("ended", "none", "The conversation has ended")
    assert page["alert"] == "The connection was lost. You can start another conversation."
    page = shown(*lost, ("again", None), ("agent", "listening"), ("agent", "thinking"))
    assert page["call"] == "on"
    assert page["sent"][-1] == "Hello?"
    assert page["alert"] == ""


@with_node
def test_while_livekit_is_away_as_the_page_starts_there_is_one_state_and_then_one_message(shown):
    begin = [("away", True), ("press", "start-typing")]
    page = shown(*begin)
    assert (page["call"], page["alert"]) == ("connecting", "")
    page = shown(*begin, ("pass", 1_000))
    assert (page["connects"], page["status"], page["alert"]) == (2, "There is no connection yet; trying again", "")
    page = shown(*begin, ("pass", 1_000), ("away", False), ("pass", 2_000))
    assert (page["call"], page["alert"], page["connects"]) == ("on", "", 3)
    page = shown(*begin, *(("pass", time) for time in (1_000, 2_000, 4_000, 8_000)))
    assert (page["call"], page["view"], page["status"], page["connects"]) == ("none", "start", "", 5)
    assert page["alert"] == load_words()["en"]["over_not_begun"]


@with_node
def test_an_example_begins_the_conversation_with_its_words(shown):
    page = shown(("example", 1), ("agent", "listening"), ("agent", "thinking"), page={"examples": ["One?", "Two?"]})
    assert page["sent"] == ["Two?"]
    assert page["said"] == [["You", "Two?", ""]]


@with_node
def test_that_there_is_no_voice_is_no_alert(shown):
    page = shown(("press", "start"), ("agent", "listening"), ("pass", 4_000))
    assert page["note"] == load_words()["en"]["no_voice"]
    assert page["alert"] == ""
    assert shown(("press", "start-typing"), ("agent", "thinking"), language="de")["state"] == "Denkt nach"


# ------------------------------------------------------------------ words


def used_words() -> set[str]:
    """The keys that the scripts and the document name as they stand."""
    scripts = "\n".join(path.read_text() for path in SCRIPTS)
    found = set(re.findall(r'\bword\("(\w+)"', scripts)) | set(
        re.findall(r"\{\{(\w+)\}\}", (STATIC / "talk.html").read_text())
    )
    return found | {f"{key}_{form}" for key in re.findall(r'\bcounted\("(\w+)"', scripts) for form in ("one", "other")}


def test_both_languages_have_all_words_with_the_same_places_for_values():
    words = load_words()
    assert set(words) == {"en", "de"}
    english = words["en"]
    for language, others in words.items():
        assert list(others) == list(english), language
        for key, text in others.items():
            assert text.strip(), (language, key)
            assert set(re.findall(r"\{(\w+)\}", text)) <= set(re.findall(r"\{(\w+)\}", english[key])) | {"question"}, (
                key
            )
    same = {key for key in english if english[key] == words["de"][key] and re.search(r"[a-z]{3}", english[key])}
    assert same <= {"name", "channel_online", "minutes", "seconds", "consent_question", "count_in"}, "not translated"


def test_every_word_that_is_used_is_there_and_every_one_that_is_there_is_used():
    english = load_words()["en"]
    assert used_words() - set(english) == set()
    text = "\n".join(path.read_text() for path in [*SCRIPTS, STATIC / "talk.html"])
    families = (
        "agent_",
        "over_",
        "quality_",
        "who_",
        "why_",
        "channel_",
        "consent_",
        "memory_",
        "tool_",
        "microphone_",
        "speaker_",
    )
    tools = re.compile(r"_(started|done|failed|label)$")
    unused = [
        key
        for key in english
        if key not in used_words()
        and not re.search(rf'"{key}"', text)
        and not key.startswith(families)
        and not tools.search(key)
        and not key.endswith("_what")
    ]
    assert unused == []


def test_scripts_and_document_hold_no_text_of_their_own():
    """Whatever a visitor reads or hears comes from words.json."""
    document = re.sub(
        r"<!--.*?-->|<script.*?</script>|<svg.*?</svg>", "", (STATIC / "talk.html").read_text(), flags=re.DOTALL
    )
    texts = re.findall(r">([^<>]*)<", document)
    texts += re.findall(
        r'\b(?:aria-label|title|alt|placeholder|content|value)="([^"]*)"', re.sub(r"<meta[^>]*>", "", document)
    )
    told = [each.strip() for each in texts if re.search(r"[A-Za-z]", re.sub(r"\{\{\w+\}\}", "", each))]
    assert set(told) <= {"keep", "delete", "erase", "light", "dark"}, "values of buttons and choices"
    for path in SCRIPTS:
        code = re.sub(
            r"/\*.*?\*/|^\s*//.*$|\s//.*$|console\.info\(.*\);", "", path.read_text(), flags=re.DOTALL | re.MULTILINE
        )
        literals = [found for pair in re.findall(r'"([^"\n]*)"|`([^`]*)`', code) for found in pair if found]
        literals = [re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "", each) for each in literals]
        sentences = [each for each in literals if re.search(r"[A-Z][a-z]+ [a-z]+|[a-z]+ [a-z]+ [a-z]+\.", each)]
        assert sentences == [], path.name
        assert not re.search(r"\.(?:inner|outer)HTML|insertAdjacentHTML|document\.write", code), path.name


LATER = {"memory.js", "cards.js"}
"""Loaded with the panel."""


def test_the_page_is_small_and_its_files_can_be_read():
    files = [path for path in [*SCRIPTS, STATIC / "talk.css", STATIC / "talk.html"] if path.name not in LATER]
    sizes = {path.name: path.stat().st_size for path in files}
    words = max(len(json.dumps(each, ensure_ascii=False).encode()) for each in load_words().values())
    assert sum(sizes.values()) + words < 95_000, (sizes, words)
    for path in SCRIPTS:
        assert len(path.read_text().splitlines()) < 500, path.name
