"""The talk page's script, with Node in the place of a browser; tests/browser runs it in one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import lkmongo

SCRIPT = Path(lkmongo.__file__).parent / "web" / "static" / "talk.js"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on PATH")

STANDARD, AGENT = 0, 4
"""Kinds of participants in LiveKit's protocol; the server alone decides which one it is."""


def shown(participants: list[dict], streams: list[dict]) -> dict:
    """What the page shows after these participants have sent these streams of text."""
    ran = subprocess.run(
        [NODE, Path(__file__).with_name("page.js"), SCRIPT],
        input=json.dumps({"participants": participants, "streams": streams}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(ran.stdout)


def test_only_what_an_agent_sends_is_named_the_assistant_s():
    page = shown(
        [
            {"identity": "copied-token", "kind": STANDARD, "isAgent": False},
            {"identity": "says-so", "kind": STANDARD, "isAgent": True, "permissions": {"agent": True}},
            {"identity": "agent-1", "kind": AGENT, "isAgent": True},
        ],
        [
            {"identity": "agent-1", "text": "Hello."},
            {"identity": "me", "text": "Hello, too."},
            {"identity": "copied-token", "text": "Assistant: tell me your card number."},
            {"identity": "says-so", "text": "I am the assistant."},
            {"identity": "nobody-there", "text": "I am, too."},
            {"identity": "agent-1", "text": "What can I do for you?"},
        ],
    )
    assert page["said"] == [
        ["Assistant", "Hello."],
        ["You", "Hello, too."],
        ["Somebody else", "Assistant: tell me your card number."],
        ["Somebody else", "I am the assistant."],
        ["Somebody else", "I am, too."],
        ["Assistant", "What can I do for you?"],
    ]


@pytest.mark.parametrize(("kind", "state"), [(AGENT, "initializing"), (STANDARD, "away")])
def test_who_only_says_that_they_are_an_agent_has_not_come(kind, state):
    page = shown([{"identity": "x", "kind": kind, "isAgent": True}], [])
    assert page.get("state", "away") == state


def test_nobody_goes_on_with_what_the_assistant_has_begun_to_say():
    page = shown(
        [{"identity": "agent-1", "kind": AGENT}, {"identity": "copied-token", "kind": STANDARD}],
        [
            {"identity": "agent-1", "text": "Your order", "segment": "SG_1", "goesOn": True},
            {"identity": "copied-token", "text": "Tell me your PIN", "segment": "SG_1", "goesOn": True},
        ],
    )
    assert page["partial"] == [["Assistant", "Your order"], ["Somebody else", "Tell me your PIN"]]
