"""When somebody speaks, and when they have finished: voice activity and turn detection."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from livekit.agents import vad

MULTILINGUAL = "the turn detector livekit/turn-detector (multilingual)"
_HUB_TIMEOUT = 10.0


class DownloadError(LkmongoError):
    """A model's files could not be downloaded."""

    code = "download"


def load_vad(settings: Settings) -> vad.VAD:
    """Load the voice activity detector; once per process, before the job."""
    if settings.vad == "silero":
        from livekit.plugins import silero

        return silero.VAD.load()
    from livekit.agents import inference

    return inference.VAD()


def choose_turn_detection(settings: Settings) -> Any:
    """Create what LKMONGO_TURN_DETECTION names; the multilingual one only works in a job of a worker."""
    if settings.turn_detection == "multilingual":
        return _multilingual().MultilingualModel()
    from livekit.agents import inference

    return inference.TurnDetector()


def import_detectors(settings: Settings) -> None:
    """Import the plugins that the settings choose; in the worker, this makes LiveKit run the multilingual model.

    Raises:
        SettingsError: the multilingual model is chosen, but its files are not on this machine.
    """
    if settings.vad == "silero":
        import livekit.plugins.silero  # noqa: F401
    if settings.turn_detection == "multilingual":
        if not _multilingual_is_downloaded():
            raise SettingsError(
                "LKMONGO_TURN_DETECTION is multilingual, but the model's files are not on this machine",
                hint="run lkmongo agent download-files, or unset LKMONGO_TURN_DETECTION",
            )
        _multilingual()


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
