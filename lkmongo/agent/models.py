"""The models of a session: language model, speech to text, text to speech, voice activity and turn detection."""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livekit.agents import AgentSession
from livekit.agents.llm import LLM, FallbackAdapter

from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.imports import extra
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from livekit.agents import inference, vad

    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.settings import Settings
    from lkmongo.tenants import TenantPolicy

TEXT_ONLY = (
    "the agent joins in text only, without speech: LiveKit Inference is not set up "
    "(it needs LiveKit Cloud credentials or LIVEKIT_INFERENCE_URL)"
)
MULTILINGUAL = "the turn detector livekit/turn-detector (multilingual)"
_HUB_TIMEOUT = 10.0


class DownloadError(LkmongoError):
    """A model's files could not be downloaded."""

    code = "download"


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech models of an AgentSession, and a description for people."""

    stt: inference.STT
    tts: inference.TTS
    vad: vad.VAD
    turn_detection: Any
    description: str

    def speak_as(self, settings: Settings, policy: TenantPolicy) -> None:
        """Go on in the voice and the language of another tenant."""
        (heard, *_), (said, *_), language = _speech_of(settings, policy)
        model, _, voice = said.partition(":")
        spoken: dict[str, Any] = {"language": language} if language else {}
        by: dict[str, Any] = {"voice": voice} if voice else {}
        self.stt.update_options(model=heard, **spoken)
        self.tts.update_options(model=model, **by, **spoken)

    async def close(self) -> None:
        """Close the connections."""
        await self.stt.aclose()
        await self.tts.aclose()


def has_speech(settings: Settings) -> bool:
    """Whether there is an inference gateway for speech; without one, the agent is text-only.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    return settings.inference is not None


def choose_speech(
    settings: Settings, voice_activity: vad.VAD | None = None, policy: TenantPolicy | None = None
) -> Speech | None:
    """Create what LKMONGO_STT, LKMONGO_TTS, LKMONGO_VAD and LKMONGO_TURN_DETECTION name; None for text only.

    Call it within a job: the multilingual model runs in a process that the worker shares among all jobs.

    Args:
        settings: which models, and through which gateway.
        voice_activity: the result of an earlier `load_vad`, if any.
        policy: of the caller's tenant, which may have a voice and a language of its own.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    credentials = settings.inference
    if credentials is None:
        return None
    from livekit.agents import inference

    gateway: dict[str, Any] = dict(zip(("api_key", "api_secret"), credentials, strict=True))
    if settings.inference_url:
        gateway["base_url"] = settings.inference_url

    def options(fallbacks: list[str]) -> dict[str, Any]:
        # The gateway itself falls back to the next model when one fails, on the same connection.
        return gateway | ({"fallback": fallbacks} if fallbacks else {})

    (stt, *stt_fallbacks), (tts, *tts_fallbacks), language = _speech_of(settings, policy)
    spoken: dict[str, Any] = {"language": language} if language else {}
    return Speech(
        inference.STT(stt, **options(stt_fallbacks), **spoken),
        inference.TTS(tts, **options(tts_fallbacks), **spoken),
        voice_activity or load_vad(settings),
        _turn_detection(settings),
        f"{', '.join((stt, *stt_fallbacks))} and {', '.join((tts, *tts_fallbacks))} through LiveKit Inference",
    )


def _speech_of(settings: Settings, policy: TenantPolicy | None) -> tuple[list[str], list[str], str | None]:
    """The models that listen and that speak, each with its fallbacks, and the language if it is the tenant's."""
    stt, tts = settings.stt.split(","), settings.tts.split(",")
    if policy and policy.voice:
        tts[0] = policy.voice if "/" in policy.voice else f"{tts[0].partition(':')[0]}:{policy.voice}"
    if policy and policy.language:
        stt[0] = stt[0].partition(":")[0]
    return stt, tts, policy.language if policy else None


def load_vad(settings: Settings) -> vad.VAD:
    """Load the voice activity detector; once per process, before the job."""
    if settings.vad == "silero":
        from livekit.plugins import silero

        return silero.VAD.load()
    from livekit.agents import inference

    return inference.VAD()


def import_plugins(settings: Settings) -> None:
    """Import the plugins that the settings choose; in the worker, this makes LiveKit run the multilingual model.

    Raises:
        MissingExtraError: LKMONGO_LLM_BASE_URL is set, and the client for it is not installed.
        SettingsError: the multilingual model is chosen, but its files are not on this machine.
    """
    if settings.llm_base_url:
        with extra("openai", "LKMONGO_LLM_BASE_URL"):
            import livekit.plugins.openai
    if not has_speech(settings):
        return
    if settings.vad == "silero":
        import livekit.plugins.silero  # noqa: F401
    if settings.turn_detection == "multilingual":
        if not _multilingual_is_downloaded():
            raise SettingsError(
                "LKMONGO_TURN_DETECTION is multilingual, but the model's files are not on this machine",
                hint="run lkmongo agent download-files, or unset LKMONGO_TURN_DETECTION",
            )
        _multilingual()


def skip_model_preload() -> None:
    """Keep the SDK from loading 244 MB of speech models into every process of a text-only worker."""
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")  # the SDK offers no other way


def download_multilingual() -> None:
    """Download the files of the multilingual turn detector into Hugging Face's cache.

    Raises:
        DownloadError: Hugging Face cannot be reached, or does not have them.
    """
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns about each attempt
    try:
        repository, revision = _multilingual_repository()
        HfApi().model_info(repository, revision=revision, timeout=_HUB_TIMEOUT)  # the download retries for a minute
        _multilingual()._EUORunnerMultilingual._download_files()  # noqa: SLF001 - the public way downloads for all plugins
    except Exception as error:  # the libraries below raise what they like
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise DownloadError(
            f"{MULTILINGUAL} could not be downloaded from Hugging Face",
            why=f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}",
            hint="check the network and HTTPS_PROXY, or download it elsewhere and copy the cache that HF_HOME names",
        ) from error


def _multilingual() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the user asked for it
        from livekit.plugins.turn_detector import multilingual

    return multilingual


def _multilingual_repository() -> tuple[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from livekit.plugins.turn_detector.models import HG_MODEL, MODEL_REVISIONS

    return HG_MODEL, MODEL_REVISIONS["multilingual"]


def _multilingual_is_downloaded() -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _multilingual_repository()
    names = ("onnx/model_q8.onnx", "languages.json", "tokenizer_config.json")
    return all(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names)


def _turn_detection(settings: Settings) -> Any:
    if settings.turn_detection == "multilingual":
        return _multilingual().MultilingualModel()
    from livekit.agents import inference

    return inference.TurnDetector()


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
    return CallerAgentSession(
        llm=model.llm,
        stt=speech.stt,
        tts=speech.tts,
        vad=speech.vad,
        userdata=caller_session,
        turn_handling={"turn_detection": speech.turn_detection, "preemptive_generation": {"enabled": True}},
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
