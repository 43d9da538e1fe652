"""The choice of speech, and errors for invalid settings."""

from __future__ import annotations

import pytest
from livekit.agents import inference

from lkmongo.agent.models import check_inference_llm, import_plugins
from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.settings import Settings
from lkmongo.speech import choose, turn_detection
from lkmongo.speech.choose import choose_speech, has_speech, speech_source, why_no_speech
from lkmongo.speech.turn_detection import DownloadError, download_multilingual, load_vad
from lkmongo.tenants import TenantPolicy
from tests.livekit_api import KEY, SECRET

CLOUD = {"LIVEKIT_URL": "wss://x.livekit.cloud", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}


@pytest.mark.parametrize("name", ["LKMONGO_STT", "LKMONGO_TTS"])
@pytest.mark.parametrize("value", ["nova-3", "deepgram/", "deepgram/nova-3:", "deepgram/nova 3", "a/b,", "a/b:c:d"])
def test_a_speech_model_that_cannot_be_one_is_refused_with_the_accepted_form(name, value):
    with pytest.raises(SettingsError, match=f"{name} must be provider/model or provider/model:"):
        Settings.load({name: value})


def test_the_defaults_are_models_of_livekit_inference():
    settings = Settings.load(CLOUD)
    check_inference_llm(settings)
    assert (settings.stt, settings.tts) == (
        "deepgram/nova-3:multi",
        "cartesia/sonic-3:9626c31c-bec5-4cca-baa8-f8ba9e84c8bc",
    )
    assert settings.agent_name == "lkmongo-agent"


OWN = {"LIVEKIT_URL": "ws://localhost:7880", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
GATEWAY = {"LIVEKIT_INFERENCE_URL": "http://localhost:1/v1"}


@pytest.fixture
def engines(monkeypatch, request):
    """Whether the engines can run on this machine."""
    monkeypatch.setattr(choose, "why_not_local", lambda: None if request.param else "the extra voice is not installed")


@pytest.mark.parametrize(
    ("engines", "chosen", "source"),
    [
        (False, {}, "off"),
        (True, {}, "local"),
        (False, OWN, "off"),
        (True, OWN, "local"),
        (True, OWN | GATEWAY, "inference"),
        (True, CLOUD, "inference"),
        (True, CLOUD | {"LKMONGO_SPEECH": "local"}, "local"),
        (True, CLOUD | {"LKMONGO_SPEECH": "off"}, "off"),
        (False, CLOUD | {"LKMONGO_SPEECH": "inference"}, "inference"),
        (True, {"LIVEKIT_URL": "ws://localhost:7880", "LKMONGO_SPEECH": "local"}, "local"),
    ],
    indirect=["engines"],
)
def test_who_speaks_is_as_set_else_inference_else_this_machine(engines, chosen, source):
    settings = Settings.load(chosen)
    assert speech_source(settings) == source
    assert has_speech(settings) == (source != "off")
    assert (why_no_speech(settings) is None) == (source != "off")


@pytest.mark.parametrize("engines", [False], indirect=True)
def test_what_is_wanted_and_is_not_there_is_an_error_and_not_silence(engines):
    with pytest.raises(MissingExtraError, match="LKMONGO_SPEECH is local") as missing:
        speech_source(Settings.load(CLOUD | {"LKMONGO_SPEECH": "local"}))
    assert missing.value.hint == 'pip install "lkmongo[voice]"'
    with pytest.raises(SettingsError, match="LKMONGO_SPEECH is inference"):
        speech_source(Settings.load(OWN | {"LKMONGO_SPEECH": "inference"}))
    assert "the extra voice is not installed" in why_no_speech(Settings.load(OWN))
    assert why_no_speech(Settings.load({"LKMONGO_SPEECH": "off"})) == "LKMONGO_SPEECH is off"


@pytest.mark.parametrize("engines", [True], indirect=True)
@pytest.mark.parametrize(
    ("chosen", "language", "can_talk"),
    [({}, None, True), ({}, "en-GB", True), ({}, "de", False), (CLOUD, "de", True), ({}, "enm", False)],
)
def test_the_engines_on_this_machine_only_know_english(engines, chosen, language, can_talk):
    why = why_no_speech(Settings.load(chosen), TenantPolicy(language=language))
    assert why is None if can_talk else language in why


@pytest.mark.parametrize(("value", "made"), [("bundled", "livekit.agents.inference"), ("silero", "silero")])
def test_the_voice_activity_detector_is_as_set(value, made):
    assert made in type(load_vad(Settings.load({"LKMONGO_VAD": value}))).__module__


async def test_the_bundled_turn_detector_is_the_default(monkeypatch):
    from livekit.agents.utils import http_context

    async with http_context.open():
        talk = choose_speech(Settings.load(CLOUD))
        assert isinstance(talk.turn_detection, inference.TurnDetector)
        await talk.close()


def test_the_multilingual_model_is_asked_for_before_it_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(turn_detection, "_multilingual_is_downloaded", lambda: False)
    with pytest.raises(SettingsError) as caught:
        import_plugins(Settings.load(CLOUD | {"LKMONGO_TURN_DETECTION": "multilingual"}))
    assert "download-files" in caught.value.hint


def test_a_download_that_fails_says_what_and_why(monkeypatch):
    def model_info(*_, **__):
        raise RuntimeError("outer") from OSError("no route to huggingface")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    with pytest.raises(DownloadError) as caught:
        download_multilingual()
    assert "no route" in caught.value.why


@pytest.mark.parametrize(
    ("policy", "stt", "tts"),
    [
        ({}, ("deepgram/nova-3", "multi"), ("cartesia/sonic-3", "anna", None)),
        ({"language": "de"}, ("deepgram/nova-3", "de"), ("cartesia/sonic-3", "anna", "de")),
        ({"voice": "otto"}, ("deepgram/nova-3", "multi"), ("cartesia/sonic-3", "otto", None)),
        (
            {"voice": "elevenlabs/flash:otto", "language": "de-AT"},
            ("deepgram/nova-3", "de-AT"),
            ("elevenlabs/flash", "otto", "de-AT"),
        ),
    ],
)
@pytest.mark.parametrize("moved", [False, True])
async def test_a_tenant_has_a_voice_and_a_language_of_its_own(policy, stt, tts, moved):
    from livekit.agents.utils import http_context

    named = {"LKMONGO_STT": "deepgram/nova-3:multi,openai/whisper", "LKMONGO_TTS": "cartesia/sonic-3:anna,rime/arcana"}
    settings = Settings.load(CLOUD | named)
    async with http_context.open():
        talk = choose_speech(settings, policy=None if moved else TenantPolicy(**policy))
        if moved:
            talk.speak_as(settings, TenantPolicy(**policy))
        heard, said = talk.stt._opts, talk.tts._opts
        assert (heard.model, heard.language, heard.fallback[0]["model"]) == (*stt, "openai/whisper")
        assert (said.model, said.voice, said.language or None) == tts
        assert said.fallback[0]["model"] == "rime/arcana"
        await talk.close()


# ---------------------------------------------------------------------- servers of one's own

STT = {"LKMONGO_STT_BASE_URL": "http://localhost:8000/v1", "LKMONGO_STT": "small:en"}
TTS = {"LKMONGO_TTS_BASE_URL": "http://localhost:8880/v1", "LKMONGO_TTS": "kokoro:anna"}


@pytest.mark.parametrize(
    ("engines", "chosen", "source"),
    [
        (False, STT | TTS, "server"),
        (True, STT | TTS | CLOUD, "server"),
        (True, STT | TTS | {"LKMONGO_SPEECH": "off"}, "off"),
        (True, STT, "local"),
        (True, STT | CLOUD, "inference"),
        (True, TTS | CLOUD | {"LKMONGO_SPEECH": "local"}, "local"),
        (False, TTS, "off"),
    ],
    indirect=["engines"],
)
def test_a_server_stands_before_the_choice_of_the_other_one(engines, chosen, source):
    assert speech_source(Settings.load(chosen)) == source


@pytest.mark.parametrize("engines", [False], indirect=True)
def test_half_of_a_conversation_is_none_and_that_is_said(engines):
    why = why_no_speech(Settings.load(TTS))
    assert why.startswith("LKMONGO_TTS_BASE_URL is one of two, LiveKit Inference is not set up")


@pytest.mark.parametrize("engines", [True], indirect=True)
def test_servers_know_other_languages(engines):
    assert why_no_speech(Settings.load(STT | TTS), TenantPolicy(language="de")) is None
    assert "only know English" in why_no_speech(Settings.load(STT), TenantPolicy(language="de"))


@pytest.mark.parametrize(
    ("chosen", "ears", "mouth", "described"),
    [
        (
            STT | TTS,
            "lkmongo.speech.servers",
            "livekit.plugins.openai.tts",
            "small at http://localhost:8000/v1 and kokoro at http://localhost:8880/v1",
        ),
        (
            STT,
            "lkmongo.speech.servers",
            "lkmongo.speech.voice",
            "small at http://localhost:8000/v1 and the voice on this machine (English)",
        ),
        (
            TTS,
            "lkmongo.speech.recogniser",
            "livekit.plugins.openai.tts",
            "the recogniser on this machine (English) and kokoro at http://localhost:8880/v1",
        ),
        (
            TTS | CLOUD,
            "livekit.agents.inference.stt",
            "livekit.plugins.openai.tts",
            "deepgram/nova-3:multi through LiveKit Inference and kokoro at http://localhost:8880/v1",
        ),
    ],
)
@pytest.mark.parametrize("engines", [True], indirect=True)
async def test_who_hears_and_who_speaks_need_not_be_the_same(engines, chosen, ears, mouth, described):
    from livekit.agents.utils import http_context

    async with http_context.open():
        speech = choose_speech(Settings.load(chosen))
        assert (type(speech.stt).__module__, type(speech.tts).__module__) == (ears, mouth)
        assert speech.description == described
        await speech.close()


async def test_a_tenant_has_a_voice_and_a_language_of_its_own_with_servers_too():
    from livekit.agents.utils import http_context

    settings = Settings.load(STT | TTS)
    async with http_context.open():
        speech = choose_speech(settings)
        speech.speak_as(settings, TenantPolicy(voice="otto", language="de"))
        assert speech.stt._opts.languages == ["de"]
        assert (speech.tts._opts.model, speech.tts._opts.voice) == ("kokoro", "otto")
        await speech.close()


@pytest.mark.parametrize(
    ("chosen", "loaded"),
    [
        ({}, ["LocalSTT", "LocalTTS"]),
        (STT, ["LocalTTS"]),
        (TTS, ["LocalSTT"]),
        (STT | TTS, []),
        (CLOUD, []),
        ({"LKMONGO_SPEECH": "off"}, []),
    ],
)
@pytest.mark.parametrize("engines", [True], indirect=True)
def test_only_the_engines_that_are_used_are_loaded_ahead(engines, monkeypatch, chosen, loaded):
    from lkmongo.speech.recogniser import LocalSTT
    from lkmongo.speech.voice import LocalTTS

    found = []
    for engine in (LocalSTT, LocalTTS):
        monkeypatch.setattr(engine, "load", staticmethod(lambda name=engine.__name__: found.append(name)))
    choose.load_engines(Settings.load(chosen))
    assert found == loaded
