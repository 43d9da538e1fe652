"""Which mind answers: an OpenAI-compatible server, LiveKit Inference, or the built-in responder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from livekit.agents import llm

from lkmongo.settings import Settings


@dataclass(frozen=True, slots=True)
class Mind:
    """A language model, or what stands in for one, and a sentence that says what it is."""

    llm: llm.LLM[Any]
    description: str
    is_responder: bool = False


def choose_mind(settings: Settings) -> Mind:
    """Pick by the settings: LKMONGO_LLM_BASE_URL first, then LiveKit Inference, then the built-in responder.

    LiveKit Inference is there for LiveKit Cloud projects, and wherever LIVEKIT_INFERENCE_URL points to a gateway;
    it refuses the keys of a self-hosted LiveKit server.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    if settings.llm_base_url:
        from livekit.plugins import openai

        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        model: llm.LLM[Any] = openai.LLM(model=settings.llm, base_url=settings.llm_base_url, api_key=key)
        return Mind(model, f"{settings.llm} at {settings.llm_base_url}")
    if credentials := inference_credentials(settings):
        from livekit.agents import inference

        key, secret = credentials
        model = inference.LLM(model=settings.llm, base_url=settings.inference_url, api_key=key, api_secret=secret)
        return Mind(model, f"{settings.llm} through LiveKit Inference")
    from lkmongo.agent.responder import Responder

    return Mind(
        Responder(),
        "the built-in responder: no language model, but it understands plain requests "
        "(set LKMONGO_LLM_BASE_URL or LiveKit Cloud credentials for one)",
        is_responder=True,
    )


def inference_credentials(settings: Settings) -> tuple[str, str] | None:
    """Key and secret for LiveKit Inference, or None where it cannot be used.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    livekit = settings.livekit
    if settings.inference_url or settings.inference_api_key:
        key = settings.inference_api_key or (livekit.api_key if livekit else None)
        secret = settings.inference_api_secret or (livekit.api_secret if livekit else None)
        if not key or not secret:
            from lkmongo.errors import SettingsError

            missing = "LIVEKIT_INFERENCE_API_KEY" if not key else "LIVEKIT_INFERENCE_API_SECRET"
            raise SettingsError(f"{missing} is not set", hint="set it, or unset the other LIVEKIT_INFERENCE variables")
        return key, secret.get_secret_value()
    if livekit and re.match(r"wss?://[^/]*\.livekit\.cloud(/|:|$)", livekit.url):
        return livekit.api_key, livekit.api_secret.get_secret_value()
    return None
