"""What trails off is told from what is finished, by the words alone."""

from __future__ import annotations

import pytest

from lkmongo.speech.patience import trails_off


@pytest.mark.parametrize(
    "text",
    [
        "I'd like to",
        "I'd like to, um.",
        "My order number is,",
        "My order number is",
        "I'm calling about, uh,",
        "Can you?",
        "Do you",
        "I want to send it back because",
        "Please remember that",
        "And the",
        "My phone number is, let me see.",
        "five five five",
        "Five, five, five,",
        "555.",
        "My phone number is, let me see, 555.",
        "Is it possible to?",
        "On Monday, or maybe",
        "I bought a coffee machine from you last week,",
        "um",
        "I",
        "What I wanted to ask is",
        "What I wanted to ask is:",
        "Hello there, this is the",
    ],
)
def test_what_wants_another_word_trails_off(text):
    assert trails_off(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "Where is order 1001?",
        "Order four thousand seven hundred eleven.",
        "Um, 4711.",
        "Five.",
        "12",
        "My phone number is 5550134.",
        "My phone number is five five five, zero one three four.",
        "What am I allergic to?",
        "Where do you ship from?",
        "Who is it for?",
        "Tell me where my order is.",
        "You can call me Sam from now on.",
        "I have checked in.",
        "Yes.",
        "No, thank you.",
        "Yes, please.",
        "Stop.",
        "Do you ship to Canada?",
        "My name is Robin.",
        "Five five five, zero one three four.",
        "Remember that I'm allergic to peanuts.",
        "I need it.",
        "Call me Ann",
        "What do you know about me?",
    ],
)
def test_what_is_said_whole_does_not(text):
    assert not trails_off(text)
