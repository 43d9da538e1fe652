"""Speech recognition and a voice from any server with OpenAI's API: LKMONGO_STT_BASE_URL and LKMONGO_TTS_BASE_URL.

`POST /audio/transcriptions` gets what was said as a WAV once the caller has paused, for such a server recognises no
stream; `POST /audio/speech` gets a sentence and answers with a WAV.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.errors import AuthenticationError, LkmongoError, SettingsError, UnreachableError
from lkmongo.imports import extra

if TYPE_CHECKING:
    from livekit.agents import stt, tts

    from lkmongo.settings import Settings
    from lkmongo.tenants import TenantPolicy

VOICE = "alloy"
"""What a voice is called where LKMONGO_TTS names none: OpenAI's first, which other servers know as well."""
_PARTS = {"stt": "speech recognition", "tts": "the voice"}
_EXAMPLES = {"stt": "whisper-1, or whisper-1:en", "tts": "tts-1, or tts-1:alloy"}


class SpeechServerError(LkmongoError):
    """The server for speech answers, and cannot do what it is asked for."""

    code = "speech_server"


@dataclass(frozen=True, slots=True)
class SpeechServer:
    """A server, and what of it is used.

    Attributes:
        kind: whether it recognises (`stt`) or speaks (`tts`).
        url: its address, up to what `/audio` follows.
        key: its key, or None.
        model: as the server calls it.
        detail: the language that is spoken to it, None for any; or the voice.
    """

    kind: Literal["stt", "tts"]
    url: str
    key: str | None
    model: str
    detail: str | None

    @property
    def variable(self) -> str:
        """The setting that names the model; with `_BASE_URL` and `_API_KEY` behind it, the others."""
        return f"LKMONGO_{self.kind.upper()}"

    @property
    def part(self) -> str:
        """What it does, in words."""
        return _PARTS[self.kind]

    @property
    def description(self) -> str:
        """The model and where it is."""
        return f"{self.model} at {self.url}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request of one's own has to carry."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def update(self, part: Any) -> None:
        """Go on with this model, and language or voice, in what `create_stt` or `create_tts` made."""
        part.update_options(**self.options())

    def options(self) -> dict[str, Any]:
        """Model, and language or voice, as `update_options` of LiveKit's plugin takes them."""
        if self.kind == "tts":
            return {"model": self.model, "voice": self.detail or VOICE}
        return {"model": self.model} | ({"language": self.detail} if self.detail else {"detect_language": True})


def stt_server(settings: Settings, policy: TenantPolicy | None = None) -> SpeechServer | None:
    """Who recognises speech, in the language of a tenant; None without LKMONGO_STT_BASE_URL.

    Raises:
        SettingsError: LKMONGO_STT names no model of it.
    """
    if not settings.stt_base_url:
        return None
    named = _named(settings, "stt")
    model, _, language = named.rpartition(":")
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})*", language) or not model:
        model, language = named, ""  # as Ollama and others have it, model:variant
    if policy and policy.language:
        language = policy.language
    key = settings.stt_api_key.get_secret_value() if settings.stt_api_key else None
    return SpeechServer("stt", settings.stt_base_url, key, model, language or None)


def tts_server(settings: Settings, policy: TenantPolicy | None = None) -> SpeechServer | None:
    """Who speaks, in the voice of a tenant; None without LKMONGO_TTS_BASE_URL.

    Raises:
        SettingsError: LKMONGO_TTS names no model of it.
    """
    if not settings.tts_base_url:
        return None
    model, voice = _model_and_voice(_named(settings, "tts"))
    if policy and policy.voice:
        other, own = _model_and_voice(policy.voice)
        model, voice = (other, own) if "/" in policy.voice else (model, policy.voice)
    key = settings.tts_api_key.get_secret_value() if settings.tts_api_key else None
    return SpeechServer("tts", settings.tts_base_url, key, model, voice)


def servers_of(settings: Settings, policy: TenantPolicy | None = None) -> list[SpeechServer]:
    """The servers that are set: none, one or both. Raises as `stt_server` and `tts_server` do."""
    return [server for server in (stt_server(settings, policy), tts_server(settings, policy)) if server]


def import_server_plugin(settings: Settings) -> None:
    """Import LiveKit's plugin for servers, which only the main thread may do, if one is set.

    Raises:
        MissingExtraError: the extra `openai` is not installed.
    """
    for variable, url in (
        ("LKMONGO_STT_BASE_URL", settings.stt_base_url),
        ("LKMONGO_TTS_BASE_URL", settings.tts_base_url),
    ):
        if url:
            with extra("openai", variable):
                import livekit.plugins.openai  # noqa: F401


def create_stt(server: SpeechServer) -> stt.STT[Any]:
    """The recogniser; an AgentSession cuts what is said into utterances for it by its voice activity detector.

    Raises:
        MissingExtraError: the extra `openai` is not installed.
    """
    with extra("openai", f"{server.variable}_BASE_URL"):
        from livekit.plugins import openai

    class Recogniser(openai.STT):
        """As the plugin's, which leaves its connections open (1.8.9)."""

        async def aclose(self) -> None:
            await super().aclose()
            await self._client.close()

    return Recogniser(**server.options(), base_url=server.url, api_key=server.key or "none", use_realtime=False)


def create_tts(server: SpeechServer) -> tts.TTS[Any]:
    """The voice, a sentence at a time.

    Raises:
        MissingExtraError: the extra `openai` is not installed.
    """
    with extra("openai", f"{server.variable}_BASE_URL"):
        from livekit.plugins import openai
    # A WAV says its rate, which differs between servers; PCM does not, and decoding MP3 takes time.
    return openai.TTS(**server.options(), base_url=server.url, api_key=server.key or "none", response_format="wav")


def failure(server: SpeechServer, *, status: int | None, why: str) -> LkmongoError:
    """What a failed request means, and what to do about it.

    Args:
        server: who was asked.
        status: of the HTTP response, or None if there was none.
        why: what the library or the server says; "" for nothing.
    """
    if status is None:
        return UnreachableError(
            f"{server.part}: {server.url} cannot be reached",
            why=why,
            hint=f"start the server, or correct {server.variable}_BASE_URL",
        )
    if status in {401, 403}:
        return AuthenticationError(
            f"{server.part}: {server.url} refused the key",
            why=f"HTTP status {status}",
            hint=f"check {server.variable}_API_KEY",
        )
    if status == 404:
        return SpeechServerError(
            f"{server.part}: {server.url} has no model {server.model}, or is not such a server",
            why=f"HTTP status {status}",
            hint=f"check {server.variable}, and {server.variable}_BASE_URL, which often ends in /v1",
        )
    return SpeechServerError(
        f"{server.part}: {server.url} does not do it",
        why=f"HTTP status {status}{f': {why}' if why else ''}",
        hint=f"check {server.variable} against what the server has",
    )


def _named(settings: Settings, kind: Literal["stt", "tts"]) -> str:
    named = str(getattr(settings, kind))
    if named == type(settings).model_fields[kind].default:
        variable = f"LKMONGO_{kind.upper()}"
        raise SettingsError(
            f"{variable}_BASE_URL is set, and {variable} does not name a model of that server",
            why=f"it is {named}, which is LiveKit Inference's",
            hint=f"set {variable} to what the server calls its model, such as {_EXAMPLES[kind]}",
        )
    return named


def _model_and_voice(named: str) -> tuple[str, str | None]:
    model, _, voice = named.rpartition(":")
    return (model, voice) if model else (named, None)
