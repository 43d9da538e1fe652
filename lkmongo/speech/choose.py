"""The choice of speech: LiveKit Inference, the engines on this machine, or none, as LKMONGO_SPEECH says; or servers.

A server for one of the two, LKMONGO_STT_BASE_URL or LKMONGO_TTS_BASE_URL, stands before that choice, which is then that
of the other one alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.setting_checks import ENDPOINTING, LIVEKIT_ENDPOINTING
from lkmongo.settings import Settings
from lkmongo.speech.local import HOW_TO_INSTALL, is_english, why_not_local
from lkmongo.speech.servers import create_stt, create_tts, servers_of, stt_server, tts_server
from lkmongo.speech.turn_detection import choose_turn_detection, load_vad

if TYPE_CHECKING:
    from livekit.agents import stt, tts, vad

    from lkmongo.speech.recogniser import LocalSTT
    from lkmongo.speech.voice import LocalTTS
    from lkmongo.tenants import TenantPolicy

Source = Literal["inference", "local", "server", "off"]


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech models of an AgentSession, and a description for people."""

    stt: stt.STT[Any]
    tts: tts.TTS[Any]
    vad: vad.VAD
    turn_detection: Any
    description: str
    endpointing: tuple[float, float] = ENDPOINTING
    """Seconds after the last speech at which a turn is over, and after which if it seems unfinished."""

    def speak_as(self, settings: Settings, policy: TenantPolicy) -> None:
        """Go on in the voice and the language of another tenant; the engines on this machine have only one of each."""
        from livekit.agents import inference

        (heard, *_), (said, *_), language = _models_of(settings, policy)
        model, _, voice = said.partition(":")
        spoken: dict[str, Any] = {"language": language} if language else {}
        by: dict[str, Any] = {"voice": voice} if voice else {}
        if isinstance(self.stt, inference.STT):
            self.stt.update_options(model=heard, **spoken)
        if isinstance(self.tts, inference.TTS):
            self.tts.update_options(model=model, **by, **spoken)
        for server, part in ((stt_server(settings, policy), self.stt), (tts_server(settings, policy), self.tts)):
            if server:
                server.update(part)

    def facts(self) -> dict[str, Any]:
        """What the record of a session says of its speech."""
        return {"models": self.description, "endpointing": list(self.endpointing)}

    async def close(self) -> None:
        """Close the connections."""
        await self.stt.aclose()
        await self.tts.aclose()


def speech_in_words(facts: object) -> str | None:
    """What `Speech.facts` says, as a record has it, in a line; None where it says nothing."""
    if not isinstance(facts, dict):
        return None
    match facts.get("endpointing"):
        case [int() | float() as shortest, int() | float() as longest]:
            return f"{facts.get('models')}; turns end after {shortest:g} to {longest:g} s"
    return str(facts.get("models"))


def speech_source(settings: Settings) -> Source:
    """Who hears and speaks: as set, else LiveKit Inference where there is a gateway, else this machine if it can.

    Where a server does one of the two, it is who does the other one; `server` where servers do both.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing, LiveKit Inference is wanted and
            not set up, or a server's model is not named.
        MissingExtraError: the engines on this machine are wanted, and cannot run here.
    """
    if settings.speech == "off":
        return "off"
    if len(servers_of(settings)) == 2:
        return "server"
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
    half = "".join(f"{server.variable}_BASE_URL is one of two, " for server in servers_of(settings))
    return (
        f"{half}LiveKit Inference is not set up (it needs LiveKit Cloud credentials or LIVEKIT_INFERENCE_URL), and "
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
        MissingExtraError: a server is set, and the client for it is not installed.
    """
    if why_no_speech(settings, policy):
        return None
    detectors = voice_activity or load_vad(settings), choose_turn_detection(settings)
    ears, mouth = stt_server(settings, policy), tts_server(settings, policy)
    is_local = speech_source(settings) == "local"
    stt = create_stt(ears) if ears else _local_stt(settings) if is_local else _gateway_stt(settings, policy)
    tts = create_tts(mouth) if mouth else _local_tts() if is_local else _gateway_tts(settings, policy)
    measured = stt.provider == "local" or settings.source("LKMONGO_ENDPOINTING") != "default"
    delays = settings.endpointing if measured else LIVEKIT_ENDPOINTING
    return Speech(stt, tts, *detectors, describe(settings, policy), delays)


def load_engines(settings: Settings) -> None:
    """Load the engines of this machine that are used, which takes seconds: once per process, before the job."""
    if speech_source(settings) == "local":
        if not settings.stt_base_url:
            _local_stt(settings).load()
        if not settings.tts_base_url:
            _local_tts().load()


def describe(settings: Settings, policy: TenantPolicy | None = None) -> str:
    """Who hears and who speaks, where there is speech. Raises as `speech_source`."""
    heard, said, _ = _models_of(settings, policy)
    ears, mouth = stt_server(settings, policy), tts_server(settings, policy)
    if speech_source(settings) == "local":
        if not (ears or mouth):
            return "the engines on this machine (English)"
        hears, speaks = "the recogniser on this machine (English)", "the voice on this machine (English)"
    else:
        through = " through LiveKit Inference"
        hears, speaks = f"{', '.join(heard)}{through if mouth else ''}", f"{', '.join(said)}{through}"
    return f"{ears.description if ears else hears} and {mouth.description if mouth else speaks}"


def _local_stt(settings: Settings) -> LocalSTT:
    from lkmongo.speech.recogniser import LocalSTT

    return LocalSTT(endpointing=settings.endpointing)


def _local_tts() -> LocalTTS:
    from lkmongo.speech.voice import LocalTTS

    return LocalTTS()


def _gateway_stt(settings: Settings, policy: TenantPolicy | None) -> stt.STT[Any]:
    from livekit.agents import inference

    (model, *fallbacks), _, language = _models_of(settings, policy)
    return inference.STT(model, **_gateway(settings, fallbacks, language))


def _gateway_tts(settings: Settings, policy: TenantPolicy | None) -> tts.TTS[Any]:
    from livekit.agents import inference

    _, (model, *fallbacks), language = _models_of(settings, policy)
    return inference.TTS(model, **_gateway(settings, fallbacks, language))


def _gateway(settings: Settings, fallbacks: list[str], language: str | None) -> dict[str, Any]:
    options: dict[str, Any] = dict(zip(("api_key", "api_secret"), settings.inference or (), strict=False))
    if settings.inference_url:
        options["base_url"] = settings.inference_url
    if fallbacks:  # the gateway itself falls back to the next model when one fails, on the same connection
        options["fallback"] = fallbacks
    return options | ({"language": language} if language else {})


def _models_of(settings: Settings, policy: TenantPolicy | None) -> tuple[list[str], list[str], str | None]:
    """The models that listen and that speak, each with its fallbacks, and the language if it is the tenant's."""
    stt, tts = settings.stt.split(","), settings.tts.split(",")
    if policy and policy.voice:
        tts[0] = policy.voice if "/" in policy.voice else f"{tts[0].partition(':')[0]}:{policy.voice}"
    if policy and policy.language:
        stt[0] = stt[0].partition(":")[0]
    return stt, tts, policy.language if policy else None


def spare_what_speech_needs() -> None:
    """Keep the SDK from doing in every process of a text-only worker what is for speech, unless its variables say so.

    It would load 244 MB of models, and wake two threads 50 times a second to find what holds up the event loop for a
    tenth of a second, which is heard in speech but not seen in text.
    """
    # The SDK offers no other way.
    for name in ("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS"):
        os.environ.setdefault(name, "0")
