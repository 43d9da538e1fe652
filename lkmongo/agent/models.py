"""The language model of a session, and its AgentSession."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livekit.agents import AgentSession
from livekit.agents.llm import LLM, FallbackAdapter

from lkmongo.errors import SettingsError
from lkmongo.imports import extra
from lkmongo.settings import Settings
from lkmongo.speech.choose import has_speech
from lkmongo.speech.servers import import_server_plugin
from lkmongo.speech.turn_detection import import_detectors

if TYPE_CHECKING:
    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.speech.choose import Speech


def import_plugins(settings: Settings) -> None:
    """Import the plugins that the settings choose; in the worker, this makes LiveKit run the multilingual model.

    Raises:
        MissingExtraError: a server is set, for the language model or speech, and the client for it is not installed.
        SettingsError: the multilingual model is chosen, but its files are not on this machine.
    """
    if settings.llm_base_url:
        with extra("openai", "LKMONGO_LLM_BASE_URL"):
            import livekit.plugins.openai  # noqa: F401
    if has_speech(settings):
        import_server_plugin(settings)
        import_detectors(settings)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A language model or the demo responder, and a description for people."""

    llm: LLM[Any]
    description: str
    is_responder: bool = False
    parts: tuple[LLM[Any], ...] = ()

    async def close(self) -> None:
        """Close the connections; a FallbackAdapter does not close its models itself."""
        for model in (self.llm, *self.parts):
            await model.aclose()


class CallerAgentSession(AgentSession["CallerSession"]):
    """An AgentSession that notes whether the agent itself ended it, which the SDK's close reason does not say."""

    def shutdown(self, *, drain: bool = True) -> None:
        """End the session on the agent's behalf."""
        self.userdata.ended_by_agent = True
        super().shutdown(drain=drain)


def create_agent_session(
    caller_session: CallerSession, model: ModelChoice, speech: Speech | None = None
) -> CallerAgentSession:
    """Create the AgentSession; text-only without `speech`."""
    if speech is None:
        return CallerAgentSession(
            llm=model.llm, userdata=caller_session, vad=None, turn_handling={"turn_detection": None}
        )
    shortest, longest = speech.endpointing
    caller_session.recorder.facts["speech"] = speech.facts
    return CallerAgentSession(
        llm=model.llm,
        stt=speech.stt,
        tts=speech.tts,
        vad=speech.vad,
        userdata=caller_session,
        turn_handling={
            "turn_detection": speech.turn_detection,
            "endpointing": {"min_delay": shortest, "max_delay": longest},
            # An answer that nobody hears costs nothing where the voice is this machine's.
            "preemptive_generation": {"enabled": True, "preemptive_tts": speech.tts.provider == "local"},
        },
    )


def choose_model(settings: Settings) -> ModelChoice | None:
    """Choose by the settings: LKMONGO_LLM_BASE_URL first, then LiveKit Inference; None without a language model.

    LiveKit Inference is available to LiveKit Cloud projects, and through the gateway in LIVEKIT_INFERENCE_URL; it
    refuses the keys of a self-hosted LiveKit server. Several models are fallbacks, in their order.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing, or LKMONGO_LLM is not a model of
            LiveKit Inference.
        MissingExtraError: LKMONGO_LLM_BASE_URL is set, and the client for it is not installed.
    """
    names = settings.llm.split(",")
    described = ", else ".join(names)
    if settings.llm_base_url:
        with extra("openai", "LKMONGO_LLM_BASE_URL"):
            from livekit.plugins import openai

        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        models = [openai.LLM(model=name, base_url=settings.llm_base_url, api_key=key) for name in names]
        return _with_fallbacks(models, f"{described} at {settings.llm_base_url}")
    if credentials := settings.inference:
        from livekit.agents import inference

        check_inference_llm(settings)
        key, secret = credentials
        gateway_models = [
            inference.LLM(model=name, base_url=settings.inference_url, api_key=key, api_secret=secret) for name in names
        ]
        return _with_fallbacks(gateway_models, f"{described} through LiveKit Inference")
    return None


def check_language_model(settings: Settings) -> None:
    """Check that there is a language model: the demo responder answers callers only with `--demo`.

    Raises:
        SettingsError: there is none, or some of the LiveKit variables are set and others are missing.
    """
    if not (settings.llm_base_url or settings.inference):
        raise SettingsError(
            "there is no language model to answer callers",
            why="neither LKMONGO_LLM_BASE_URL nor LiveKit Inference is set up",
            hint="set LKMONGO_LLM_BASE_URL to a language model's server, or use lkmongo agent run --demo to answer by "
            "fixed rules",
        )


def _with_fallbacks(models: list[Any], description: str) -> ModelChoice:
    if len(models) == 1:
        return ModelChoice(models[0], description)
    return ModelChoice(FallbackAdapter(models), description, parts=tuple(models))


def check_inference_llm(settings: Settings) -> None:
    """Check that LKMONGO_LLM names models as LiveKit Inference does.

    Raises:
        SettingsError: it does not, so the gateway would refuse every request.
    """
    for name in settings.llm.split(","):
        if not re.fullmatch(r"[\w.-]+/[\w.:/-]+", name):
            raise SettingsError(
                f"LKMONGO_LLM names {name}, which is not a model of LiveKit Inference",
                hint="write it as provider/model, such as openai/gpt-5.3-chat-latest, separating several by commas; "
                "or set LKMONGO_LLM_BASE_URL for a server of your own",
            )
