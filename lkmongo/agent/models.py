"""The models a session runs on: the language model, speech to text, text to speech, voice activity, turn detection."""

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
    from livekit.agents import stt, tts, vad

    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.settings import Settings

TEXT_ONLY = (
    "the agent joins in text alone, without ears and voice: there is no LiveKit Inference for speech "
    "(it comes with LiveKit Cloud credentials, or with LIVEKIT_INFERENCE_URL)"
)


MULTILINGUAL = "the turn detector livekit/turn-detector (multilingual)"


_REACH = 10.0


class DownloadError(LkmongoError):
    """The files of a model could not be fetched."""

    code = "download"


@dataclass(frozen=True, slots=True)
class Speech:
    """What an AgentSession needs to hear and to speak, and a sentence that says what it is."""

    stt: stt.STT[Any]
    tts: tts.TTS[Any]
    vad: vad.VAD
    turn_detection: Any
    description: str

    async def close(self) -> None:
        """Let go of connections."""
        await self.stt.aclose()
        await self.tts.aclose()


def has_speech(settings: Settings) -> bool:
    """Whether there is an inference gateway to hear and to speak through; without, the agent is text alone.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    return settings.inference is not None


def choose_speech(settings: Settings, voice_activity: vad.VAD | None = None) -> Speech | None:
    """Build what LKMONGO_STT, LKMONGO_TTS, LKMONGO_VAD and LKMONGO_TURN_DETECTION name; None for text alone.

    Call it within a job: the multilingual model works in a process that the worker runs for all jobs.

    Args:
        settings: which models, and through which gateway.
        voice_activity: what `load_vad` made, where that was done before.

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

    def options(others: list[str]) -> dict[str, Any]:
        # The gateway itself goes over to the next model when one fails, on the same connection.
        return gateway | ({"fallback": others} if others else {})

    ears, *other_ears = settings.stt.split(",")
    voice, *other_voices = settings.tts.split(",")
    return Speech(
        inference.STT(ears, **options(other_ears)),
        inference.TTS(voice, **options(other_voices)),
        voice_activity or load_vad(settings),
        _turn_detection(settings),
        f"{settings.stt} and {settings.tts} through LiveKit Inference",
    )


def load_vad(settings: Settings) -> vad.VAD:
    """Load who hears that somebody speaks; done once a process, before the job."""
    if settings.vad == "silero":
        from livekit.plugins import silero

        return silero.VAD.load()
    from livekit.agents import inference

    return inference.VAD()


def import_plugins(settings: Settings) -> None:
    """Import what the settings choose, in the worker too: there it makes LiveKit run the multilingual model.

    Raises:
        MissingExtraError: LKMONGO_LLM_BASE_URL is set, and the client for it is not installed.
        SettingsError: the multilingual model is chosen, and its files are not on this machine.
    """
    if settings.llm_base_url:
        with extra("openai", "LKMONGO_LLM_BASE_URL"):
            import livekit.plugins.openai
    if not has_speech(settings):
        return
    if settings.vad == "silero":
        import livekit.plugins.silero  # noqa: F401
    if settings.turn_detection == "multilingual":
        if not _multilingual_is_here():
            raise SettingsError(
                "LKMONGO_TURN_DETECTION is multilingual, and the model's files are not on this machine",
                hint="run lkmongo agent download-files, or unset LKMONGO_TURN_DETECTION",
            )
        _multilingual()


def leave_models_out() -> None:
    """Keep the SDK from loading models of speech into every process of a worker that hears nothing, 244 MB of them."""
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")  # it offers no other way


def download_multilingual() -> None:
    """Fetch the files of the multilingual turn detector from Hugging Face into its cache.

    Raises:
        DownloadError: it cannot be reached, or does not have them.
    """
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each try
    try:
        repository, revision = _multilingual_repository()
        HfApi().model_info(repository, revision=revision, timeout=_REACH)  # the download itself tries for a minute
        _multilingual()._EUORunnerMultilingual._download_files()  # noqa: SLF001 - its public way fetches all plugins'
    except Exception as error:  # the libraries below raise what they like
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise DownloadError(
            f"{MULTILINGUAL} could not be fetched from Hugging Face",
            why=f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:200]}",
            hint="check the network and HTTPS_PROXY, or fetch it elsewhere and copy the cache that HF_HOME names",
        ) from error


def _multilingual() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what was asked for
        from livekit.plugins.turn_detector import multilingual

    return multilingual


def _multilingual_repository() -> tuple[str, str]:
    """The repository of the multilingual model, and its revision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from livekit.plugins.turn_detector.models import HG_MODEL, MODEL_REVISIONS

    return HG_MODEL, MODEL_REVISIONS["multilingual"]


def _multilingual_is_here() -> bool:
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
