"""Which language model answers: one of an OpenAI-compatible server, or of LiveKit Inference; and its session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livekit.agents import AgentSession
from livekit.agents.llm import LLM, FallbackAdapter

from lkmongo.errors import SettingsError
from lkmongo.imports import extra
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from lkmongo.agent.call import CallerSession
    from lkmongo.agent.speech import Speech


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A language model, or what stands in for one, and a sentence that says what it is."""

    llm: LLM[Any]
    description: str
    is_responder: bool = False
    parts: tuple[LLM[Any], ...] = ()

    async def close(self) -> None:
        """Let go of connections; an adapter over several models does not close them itself."""
        for model in (self.llm, *self.parts):
            await model.aclose()


class CallSession(AgentSession["CallerSession"]):
    """An AgentSession that knows whether the agent itself ended the call; the SDK's close reason does not say."""

    def shutdown(self, *, drain: bool = True) -> None:
        """End the call for the agent's part."""
        self.userdata.ended_by_agent = True
        super().shutdown(drain=drain)


def create_session(call: CallerSession, mind: ModelChoice, speech: Speech | None = None) -> CallSession:
    """Make the session of a call, in text alone where there is no speech."""
    if speech is None:
        return CallSession(llm=mind.llm, userdata=call, vad=None, turn_handling={"turn_detection": None})
    return CallSession(
        llm=mind.llm,
        stt=speech.stt,
        tts=speech.tts,
        vad=speech.vad,
        userdata=call,
        turn_handling={"turn_detection": speech.turn_detection, "preemptive_generation": {"enabled": True}},
    )


def choose_model(settings: Settings) -> ModelChoice | None:
    """Pick by the settings: LKMONGO_LLM_BASE_URL first, then LiveKit Inference; None when there is no language model.

    LiveKit Inference is there for LiveKit Cloud projects, and wherever LIVEKIT_INFERENCE_URL points to a gateway;
    it refuses the keys of a self-hosted LiveKit server. Of several models each is tried when those before it failed.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing, or LKMONGO_LLM is no model of
            LiveKit Inference.
        MissingExtraError: LKMONGO_LLM_BASE_URL is set, and the client for it is not installed.
    """
    names = settings.llm.split(",")
    said = ", else ".join(names)
    if settings.llm_base_url:
        with extra("openai", "LKMONGO_LLM_BASE_URL"):
            from livekit.plugins import openai

        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        models = [openai.LLM(model=name, base_url=settings.llm_base_url, api_key=key) for name in names]
        return _mind(models, f"{said} at {settings.llm_base_url}")
    if credentials := settings.inference:
        from livekit.agents import inference

        check_inference_llm(settings)
        key, secret = credentials
        through = [
            inference.LLM(model=name, base_url=settings.inference_url, api_key=key, api_secret=secret) for name in names
        ]
        return _mind(through, f"{said} through LiveKit Inference")
    return None


def check_language_model(settings: Settings) -> None:
    """See that there is a language model: the demo responder answers callers only where `--demo` asks for it.

    Raises:
        SettingsError: there is none, or some of the LiveKit variables are set and others are missing.
    """
    if not (settings.llm_base_url or settings.inference):
        raise SettingsError(
            "there is no language model to answer callers",
            why="neither LKMONGO_LLM_BASE_URL nor LiveKit Inference is set up",
            hint="set LKMONGO_LLM_BASE_URL to a language model's server; or, to answer by fixed rules, "
            "start lkmongo agent run --demo",
        )


def _mind(models: list[Any], description: str) -> ModelChoice:
    if len(models) == 1:
        return ModelChoice(models[0], description)
    return ModelChoice(FallbackAdapter(models), description, parts=tuple(models))


def check_inference_llm(settings: Settings) -> None:
    """See that LKMONGO_LLM names models as LiveKit Inference does.

    Raises:
        SettingsError: it does not; the gateway would refuse each request.
    """
    for name in settings.llm.split(","):
        if not re.fullmatch(r"[\w.-]+/[\w.:/-]+", name):
            raise SettingsError(
                f"LKMONGO_LLM names {name}, which is not a model of LiveKit Inference",
                hint="write it as provider/model, such as openai/gpt-5.3-chat-latest, several with commas between; "
                "or set LKMONGO_LLM_BASE_URL for a server of your own",
            )
