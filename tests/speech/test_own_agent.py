"""The example of the documentation: an agent of one's own, without memory, with text made for a voice."""

from __future__ import annotations

import pytest
from livekit.agents import Agent, stt

from docs import generate
from docs.examples.aloud import Desk, create_session
from lkmongo.speech.heard import as_data
from lkmongo.speech.spoken import speakable, speakable_stream


async def test_the_voice_gets_text_made_for_it():
    async with create_session() as session:
        assert session.options.tts_text_transforms == [speakable_stream]


async def test_what_is_heard_becomes_data(monkeypatch):
    async def heard(*_):
        for kind in (stt.SpeechEventType.INTERIM_TRANSCRIPT, stt.SpeechEventType.FINAL_TRANSCRIPT):
            yield stt.SpeechEvent(kind, alternatives=[stt.SpeechData("en", "order number four seven one one")])

    monkeypatch.setattr(Agent.default, "stt_node", heard)
    events = [event async for event in Desk(instructions="").stt_node(None, None)]
    assert [event.alternatives[0].text for event in events] == ["order number 4711"] * 2


@pytest.mark.parametrize(
    ("head", "change"), [("| the model writes |", speakable), ("| the caller is heard to say |", as_data)]
)
def test_the_tables_of_the_documentation_are_true(head, change):
    page = (generate.ROOT / "docs" / "your-own-agent.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in page.partition(head)[2].partition("\n\n")[0].splitlines()[2:]]
    assert len(rows) > 4
    assert [change(written) for written, _ in rows] == [becomes for _, becomes in rows]
