"""An agent without memory that is spelled for its voice, and that gets what is heard as words as data."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, ModelSettings

from lkmongo.speech.heard import as_data
from lkmongo.speech.spoken import speakable_stream


def create_session(**models: Any) -> AgentSession[Any]:
    """An AgentSession with these models, whose voice gets text made for it."""
    return AgentSession(**models, tts_text_transforms=[speakable_stream])


class Desk(Agent):
    """Hears order numbers, addresses and the like as data."""

    async def stt_node(self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings) -> AsyncIterable[Any]:
        async for event in Agent.default.stt_node(self, audio, model_settings):
            for heard in event.alternatives:
                heard.text = as_data(heard.text)
            yield event
