"""The choice of speech models, and errors for invalid settings."""

from __future__ import annotations

import sys

import pytest
from livekit.agents import inference, llm

from lkmongo.agent import models
from lkmongo.agent.models import (
    DownloadError,
    check_inference_llm,
    choose_model,
    choose_speech,
    download_multilingual,
    has_speech,
    import_plugins,
)
from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.settings import Settings
from lkmongo.tenants import TenantPolicy
from tests.livekit_api import KEY, SECRET

CLOUD = {"LIVEKIT_URL": "wss://x.livekit.cloud", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}


@pytest.mark.parametrize("name", ["LKMONGO_STT", "LKMONGO_TTS"])
@pytest.mark.parametrize("value", ["nova-3", "deepgram/", "deepgram/nova-3:", "deepgram/nova 3", "a/b,", "a/b:c:d"])
def test_a_speech_model_that_cannot_be_one_is_refused_with_the_accepted_form(name, value):
    with pytest.raises(SettingsError, match=f"{name} must be provider/model or provider/model:"):
        Settings.load({name: value})


@pytest.mark.parametrize("value", ["gpt-5", "openai/", "openai/a b", "openai/a,gpt-5"])
def test_a_language_model_that_inference_cannot_know_is_refused(value):
    with pytest.raises(SettingsError) as caught:
        check_inference_llm(Settings.load(CLOUD | {"LKMONGO_LLM": value}))
    assert "LKMONGO_LLM" in caught.value.message
    if caught.value.hint and "provider/model" not in caught.value.hint:
        assert "provider/model" in caught.value.message


def test_a_server_of_ones_own_may_call_its_models_as_it_likes():
    assert (
        Settings.load({"LKMONGO_LLM": "llama3:8b", "LKMONGO_LLM_BASE_URL": "http://localhost:1/v1"}).llm == "llama3:8b"
    )


def test_the_defaults_are_models_of_livekit_inference():
    settings = Settings.load(CLOUD)
    check_inference_llm(settings)
    assert (settings.stt, settings.tts) == (
        "deepgram/nova-3:multi",
        "cartesia/sonic-3:9626c31c-bec5-4cca-baa8-f8ba9e84c8bc",
    )
    assert settings.agent_name == "lkmongo-agent"


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_agent_name_is_the_default(value):
    assert Settings.load({"LKMONGO_AGENT_NAME": value}).agent_name == "lkmongo-agent"


async def test_the_second_language_model_is_a_fallback():
    mind = choose_model(Settings.load(CLOUD | {"LKMONGO_LLM": "openai/gpt-4.1-mini, google/gemini-3-flash"}))
    assert isinstance(mind.llm, llm.FallbackAdapter)
    assert [each.model for each in mind.parts] == ["openai/gpt-4.1-mini", "google/gemini-3-flash"]
    assert mind.description.startswith("openai/gpt-4.1-mini, else google/gemini-3-flash")
    await mind.close()


async def test_speech_needs_an_inference_gateway():
    own = {"LIVEKIT_URL": "ws://localhost:7880", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
    assert not has_speech(Settings.load(own))
    assert choose_speech(Settings.load(own)) is None
    assert has_speech(Settings.load(own | {"LIVEKIT_INFERENCE_URL": "http://localhost:1/v1"}))


@pytest.mark.parametrize(("value", "made"), [("bundled", "livekit.agents.inference"), ("silero", "silero")])
def test_the_voice_activity_detector_is_as_set(value, made):
    assert made in type(models.load_vad(Settings.load({"LKMONGO_VAD": value}))).__module__


async def test_the_bundled_turn_detector_is_the_default(monkeypatch):
    from livekit.agents.utils import http_context

    async with http_context.open():
        talk = choose_speech(Settings.load(CLOUD))
        assert isinstance(talk.turn_detection, inference.TurnDetector)
        await talk.close()


def test_the_multilingual_model_is_asked_for_before_it_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_multilingual_is_downloaded", lambda: False)
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


@pytest.mark.parametrize("use", [choose_model, import_plugins])
def test_a_server_of_ones_own_needs_an_extra(use, monkeypatch):
    import livekit.plugins

    monkeypatch.delattr(livekit.plugins, "openai", raising=False)
    monkeypatch.setitem(sys.modules, "livekit.plugins.openai", None)
    with pytest.raises(MissingExtraError, match="LKMONGO_LLM_BASE_URL needs the extra openai") as caught:
        use(Settings.load({"LKMONGO_LLM_BASE_URL": "http://127.0.0.1:9/v1"}))
    assert caught.value.hint == 'pip install "lkmongo[openai]"'


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
