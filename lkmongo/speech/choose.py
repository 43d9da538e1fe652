"""The choice of speech: LiveKit Inference, the engines on this machine, or none, as LKMONGO_SPEECH says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.settings import Settings
from lkmongo.speech.local import HOW_TO_INSTALL, is_english, why_not_local
from lkmongo.speech.turn_detection import choose_turn_detection, load_vad

if TYPE_CHECKING:
    from livekit.agents import stt, tts, vad

    from lkmongo.tenants import TenantPolicy

Source = Literal["inference", "local", "off"]


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech models of an AgentSession, and a description for people."""

    stt: stt.STT[Any]
    tts: tts.TTS[Any]
    vad: vad.VAD
    turn_detection: Any
    description: str

    def speak_as(self, settings: Settings, policy: TenantPolicy) -> None:
        """Go on in the voice and the language of another tenant; the engines on this machine have only one of each."""
        from livekit.agents import inference

        if not isinstance(self.stt, inference.STT) or not isinstance(self.tts, inference.TTS):
            return
        (heard, *_), (said, *_), language = _models_of(settings, policy)
        model, _, voice = said.partition(":")
        spoken: dict[str, Any] = {"language": language} if language else {}
        by: dict[str, Any] = {"voice": voice} if voice else {}
        self.stt.update_options(model=heard, **spoken)
        self.tts.update_options(model=model, **by, **spoken)

    async def close(self) -> None:
        """Close the connections."""
        await self.stt.aclose()
        await self.tts.aclose()


def speech_source(settings: Settings) -> Source:
    """Who hears and speaks: as set, else LiveKit Inference where there is a gateway, else this machine if it can.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing, or LiveKit Inference is wanted and
            not set up.
        MissingExtraError: the engines on this machine are wanted, and cannot run here.
    """
    if settings.speech == "off":
        return "off"
    if settings.speech == "local":
        if why := why_not_local():
            raise MissingExtraError("LKMONGO_SPEECH is local", why=why, hint=HOW_TO_INSTALL)
        return "local"
    if settings.inference:
        return "inference"
    if settings.speech == "inference":
        raise SettingsError(
            "LKMONGO_SPEECH is inference, and LiveKit Inference is not set up",
            hint="set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET of a LiveKit Cloud project, or "
            "LIVEKIT_INFERENCE_URL and its keys",
        )
    return "off" if why_not_local() else "local"


def has_speech(settings: Settings) -> bool:
    """Whether there is any speech; without, the agent is text-only.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    return speech_source(settings) != "off"


def why_no_speech(settings: Settings, policy: TenantPolicy | None = None) -> str | None:
    """Why callers of a tenant can only type, as the rest of a sentence with "because"; None if they can talk.

    Raises:
        SettingsError, MissingExtraError: as `speech_source`.
    """
    source = speech_source(settings)
    if source == "local" and policy and policy.language and not is_english(policy.language):
        return f"the engines on this machine only know English, and the tenant's language is {policy.language}"
    if source != "off":
        return None
    if settings.speech == "off":
        return "LKMONGO_SPEECH is off"
    return (
        "LiveKit Inference is not set up (it needs LiveKit Cloud credentials or LIVEKIT_INFERENCE_URL), and "
        f"{why_not_local()}"
    )


def choose_speech(
    settings: Settings, voice_activity: vad.VAD | None = None, policy: TenantPolicy | None = None
) -> Speech | None:
    """Create what LKMONGO_SPEECH, LKMONGO_STT, LKMONGO_TTS, LKMONGO_VAD and LKMONGO_TURN_DETECTION name.

    Call it within a job: the multilingual model runs in a process that the worker shares among all jobs.

    Args:
        settings: which models, and through which gateway.
        voice_activity: the result of an earlier `load_vad`, if any.
        policy: of the caller's tenant, which may have a voice and a language of its own.

    Returns:
        The models, or None for text only: `why_no_speech` says why.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    if why_no_speech(settings, policy):
        return None
    detectors = voice_activity or load_vad(settings), choose_turn_detection(settings)
    if speech_source(settings) == "local":
        from lkmongo.speech.recogniser import LocalSTT
        from lkmongo.speech.voice import LocalTTS

        return Speech(LocalSTT(), LocalTTS(), *detectors, "the engines on this machine (English)")
    return Speech(*_gateway_models(settings, policy), *detectors, _described(settings, policy))


def _gateway_models(settings: Settings, policy: TenantPolicy | None) -> tuple[stt.STT[Any], tts.TTS[Any]]:
    from livekit.agents import inference

    gateway: dict[str, Any] = dict(zip(("api_key", "api_secret"), settings.inference or (), strict=False))
    if settings.inference_url:
        gateway["base_url"] = settings.inference_url

    def options(fallbacks: list[str]) -> dict[str, Any]:
        # The gateway itself falls back to the next model when one fails, on the same connection.
        return gateway | ({"fallback": fallbacks} if fallbacks else {})

    (stt, *stt_fallbacks), (tts, *tts_fallbacks), language = _models_of(settings, policy)
    spoken: dict[str, Any] = {"language": language} if language else {}
    return (
        inference.STT(stt, **options(stt_fallbacks), **spoken),
        inference.TTS(tts, **options(tts_fallbacks), **spoken),
    )


def _described(settings: Settings, policy: TenantPolicy | None) -> str:
    heard, said, _ = _models_of(settings, policy)
    return f"{', '.join(heard)} and {', '.join(said)} through LiveKit Inference"


def _models_of(settings: Settings, policy: TenantPolicy | None) -> tuple[list[str], list[str], str | None]:
    """The models that listen and that speak, each with its fallbacks, and the language if it is the tenant's."""
    stt, tts = settings.stt.split(","), settings.tts.split(",")
    if policy and policy.voice:
        tts[0] = policy.voice if "/" in policy.voice else f"{tts[0].partition(':')[0]}:{policy.voice}"
    if policy and policy.language:
        stt[0] = stt[0].partition(":")[0]
    return stt, tts, policy.language if policy else None


def skip_model_preload() -> None:
    """Keep the SDK from loading 244 MB of speech models into every process of a text-only worker."""
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")  # the SDK offers no other way
